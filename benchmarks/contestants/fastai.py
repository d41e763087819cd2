"""fastai's Learner on PyTorch's own DataLoaders, as its documentation has it for existing code."""
# pyright: reportMissingImports=false

from functools import partial

import torch
from common import Stopwatch, Task, accuracy_of, documented_loader, main, network_of, size_of


def train(task: Task) -> dict:
    from fastai.callback.core import Callback
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper

    class Timer(Callback):
        def before_epoch(self):
            watch.epoch()

    watch, network, loader = Stopwatch(), network_of(task), documented_loader(task)
    optimizer = partial(OptimWrapper, opt=torch.optim.AdamW)
    learner = Learner(
        DataLoaders(loader, []), network, torch.nn.CrossEntropyLoss(), opt_func=optimizer, cbs=[Timer()], wd=0.01
    )
    with learner.no_bar(), learner.no_logging():
        learner.fit(task.epochs, lr=task.lr)
    watch.epoch()
    return watch.result(len(loader) * task.batch_size, size_of(network), accuracy_of(task, network))


if __name__ == "__main__":
    main(train)
