"""A task of these tests' own, so that they hold whatever a project's classes learn, and how it is run."""

import io
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import lightning_runs
import pytest
import pytorch_lightning as pl
import torch
from acting import acting
from lightning_runs.errors import UserError
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset


class Toy(pl.LightningModule):
    """Learn the sum of four numbers."""

    def __init__(self, lr: float = 0.02) -> None:
        super().__init__()
        self.lr = lr
        self.layer = nn.Linear(4, 1)

    def step(self, batch: list[Tensor], split: str) -> Tensor:
        loss = (self.layer(batch[0])[:, 0] - batch[1]).square().mean()
        self.log(f"{split}/loss", loss)
        return loss

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.step(batch, "train")

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.step(batch, "val")

    def test_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.step(batch, "test")

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> object:
        return self.layer(batch[0])[:, 0]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), self.lr, momentum=0.9)


class ToyData(pl.LightningDataModule):
    """Random numbers and their sums."""

    def __init__(self, batch_size: int = 8, num_workers: int = 0) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.num_workers = num_workers

    def dataset(self, count: int, seed: int) -> Dataset:
        numbers = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
        return TensorDataset(numbers, numbers.sum(dim=1))

    def loader(self, count: int, seed: int, shuffle: bool = False) -> DataLoader:
        dataset = self.dataset(count, seed)
        return DataLoader(dataset, batch_size=self.batch_size, shuffle=shuffle, num_workers=self.num_workers)

    def train_dataloader(self) -> DataLoader:
        return self.loader(48, 0, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return self.loader(16, 1)

    def test_dataloader(self) -> DataLoader:
        return self.loader(16, 2)

    def predict_dataloader(self) -> DataLoader:
        return self.test_dataloader()


CONFIG = """
seed_everything: 1
trainer:
  accelerator: cpu
  devices: 1
  max_epochs: 3
  log_every_n_steps: 1
  default_root_dir: runs
  enable_model_summary: false
  enable_progress_bar: false
  callbacks:
    - class_path: pytorch_lightning.callbacks.ModelCheckpoint
      init_args:
        monitor: val/loss
"""


Command = Callable[..., int]


def answer(module: type, data: type | None, arguments: list[str], package: str) -> tuple[int, str]:
    """Run a command, and return its exit code and what it printed."""
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        try:
            code = lightning_runs.run(module, data, arguments, package=package)
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, output.getvalue()


def command(name: str, *options: str, module: type = Toy, data: type | None = ToyData) -> int:
    return lightning_runs.run(module, data, [name, *options], package="toy_project")


def assert_fails(named: str | list[str], *args: str, code: int = 1, module: type = Toy, data: type = ToyData) -> None:
    """A command ends with this code, and names one text or all of several."""
    found, said = answer(module, data, list(args), "toy_project")
    assert found == code, said
    assert [text for text in ([named] if isinstance(named, str) else named) if text not in said] == []


def begin_and_interrupt(name: str, *options: str, module: Any = Toy, data: type = ToyData) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # the third batch of the second epoch
        step = acting(module.training_step, 9, lambda: signal.raise_signal(signal.SIGINT))
        patch.setattr(module, "training_step", step)
        assert command("fit", "--run", name, *options, module=module, data=data) == 130


def refused(*named: str) -> Any:
    return pytest.raises(UserError, match="(?s)" + "".join(f"(?=.*{re.escape(text)})" for text in named))


class Death(BaseException):
    """What nothing catches, like the end of a process."""


def begin_and_die(
    name: str, *options: str, at: tuple[str, int] = ("training_step", 10), module: Any = Toy, data: type = ToyData
) -> None:
    hook, call = at

    def die() -> None:
        raise Death

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Death):
        patch.setattr(module, hook, acting(getattr(module, hook), call, die))
        command("fit", "--run", name, *options, module=module, data=data)


@contextmanager
def working_in(folder: Path) -> Iterator[Path]:
    """A folder with a configuration for the toy task, in which Ctrl-C arrives even under ``nohup``."""
    (folder / "configs").mkdir()
    (folder / "configs" / "default.yaml").write_text(CONFIG, encoding="utf-8")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with chdir(folder):
        yield folder
    signal.signal(signal.SIGINT, before)
