"""fastai's tabular learner on its own TabularPandas, with the project's network; validation left out."""
# pyright: reportMissingImports=false

from functools import partial

import pandas
import torch
from fastai.data.block import CategoryBlock
from fastai.optimizer import OptimWrapper
from fastai.tabular.core import Categorify, TabularPandas
from fastai.tabular.learner import TabularLearner
from tables import Loss, TableTask
from task import OPTIMIZER, Stopwatch
from torch import Tensor, nn

from contestants.fastai import NoValidation

DISTRIBUTION = "fastai"


class Swapped(nn.Module):
    """fastai gives words before numbers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, words: Tensor, numbers: Tensor) -> Tensor:
        """Return the logits ``(B, C)``."""
        return self.network(numbers, words - 1)  # its own position 0 is for a word that is missing


def train(task: TableTask, watch: Stopwatch) -> None:
    numbers, words, classes = task.rows()
    frame = pandas.DataFrame(numbers.numpy()).add_prefix("number")
    for i, of in enumerate(words.unbind(1)):
        frame[f"word{i}"] = pandas.Categorical(of.numpy(), categories=range(int(of.max()) + 1))
    frame["tree"] = classes.numpy()
    table = TabularPandas(
        frame,
        procs=[Categorify],
        cat_names=[name for name in frame if name.startswith("word")],
        cont_names=[name for name in frame if name.startswith("number")],
        y_names="tree",
        y_block=CategoryBlock(),
        splits=(list(range(len(frame))), [0]),
    )
    adamw = partial(OptimWrapper, opt=torch.optim.AdamW, weight_decay=OPTIMIZER["weight_decay"])
    learner = TabularLearner(
        table.dataloaders(bs=task.batch_size, device=torch.device("cpu")),
        Swapped(task.network()),
        loss_func=Loss(),
        opt_func=adamw,
        cbs=NoValidation(),
    )
    learner.fit(task.epochs, lr=OPTIMIZER["lr"])
