"""fastai as in its guide for those who come from plain PyTorch: a Learner of existing loaders; validation left out."""
# pyright: reportMissingImports=false

from functools import partial

import torch
from fastai.callback.core import CancelValidException
from fastai.data.core import DataLoaders
from fastai.learner import Callback, Learner
from fastai.optimizer import OptimWrapper
from task import OPTIMIZER, Stopwatch, Task
from torch import nn

DISTRIBUTION = "fastai"


class NoValidation(Callback):
    """Skip validation, which fastai does after every epoch and the others do not."""

    def before_validate(self) -> None:
        raise CancelValidException


def train(task: Task, watch: Stopwatch) -> None:
    loader = task.loader()
    adamw = partial(OptimWrapper, opt=torch.optim.AdamW, weight_decay=OPTIMIZER["weight_decay"])
    learner = Learner(
        DataLoaders(loader, loader), task.network(), loss_func=nn.CrossEntropyLoss(), opt_func=adamw, cbs=NoValidation()
    )
    learner.fit(task.epochs, lr=OPTIMIZER["lr"])
