"""Runs end the same, to the bit, whether something ended the process on their way or not."""

import random
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from comparison import differences
from project import callback
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torchmetrics import MeanMetric
from toy import Toy, ToyData
from written import record


class Noise(TensorDataset):
    """Each item is changed by random numbers whenever it is read."""

    def __init__(self, *tensors: Tensor) -> None:
        super().__init__(*tensors)
        self.generator = np.random.default_rng(0)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        numbers, total = super().__getitem__(index)
        noise = random.random() + np.random.rand() + self.generator.random()
        return numbers + 0.1 * (noise + torch.randn(4)), total


class NoisyData(ToyData):
    def dataset(self, count: int, seed: int) -> Noise:
        return Noise(*super().dataset(count, seed).tensors)


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(48):
            numbers = torch.randn(4)
            yield numbers, numbers.sum()


class StreamData(ToyData):
    def train_dataloader(self) -> DataLoader:
        return DataLoader(Stream(), batch_size=self.batch_size, num_workers=self.num_workers)


class OwnLoader:
    def __init__(self) -> None:
        self.generator = np.random.default_rng(0)

    def __iter__(self) -> Iterator[list[Tensor]]:
        for _ in range(6):
            yield [torch.randn(8, 4) + self.generator.random(), torch.randn(8)]


class OwnLoaderData(ToyData):
    def train_dataloader(self) -> OwnLoader:
        return OwnLoader()


class RandomSteps(Toy):
    """The step itself draws random numbers, and logs what is summed over an epoch."""

    def __init__(self, lr: float = 0.02) -> None:
        super().__init__(lr)
        self.mean = MeanMetric()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        scale = 1 + 0.1 * random.random() + 0.1 * np.random.rand()
        numbers = torch.nn.functional.dropout(batch[0], 0.2) * scale
        loss = super().training_step([numbers, batch[1]], batch_idx)
        self.log("train/epoch_loss", loss, on_step=False, on_epoch=True)
        self.mean.update(loss.detach())
        self.log("train/mean", self.mean, on_step=False, on_epoch=True)
        return loss


class Plateau(Toy):
    """The learning rate is halved after each epoch with a lower loss."""

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "val/loss"}}


class Normalized(Toy):
    """A network whose averaged weights need statistics of batches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1))


class Backbone(Toy):
    """As Lightning's page on fine-tuning has it: a backbone, and an optimizer of what is not frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(4, 4)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step([self.backbone(batch[0]), batch[1]], batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([p for p in self.parameters() if p.requires_grad], self.lr)


class Scales(pl.Callback):
    def __init__(self) -> None:
        self.factor = 1.0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.factor *= 0.95
        trainer.optimizers[0].param_groups[0]["lr"] = 0.02 * self.factor


class Counts(nn.Linear):
    """A module of the user's within the LightningModule."""

    count = 0

    def forward(self, input: Tensor) -> Tensor:
        self.count += self.training
        return super().forward(input) * (1 + self.count / 100)


class Schedule:
    """An object of the user's in the LightningModule."""

    def __init__(self) -> None:
        self.weight = 1.0


class Attributes(Toy):
    """Its losses depend on attributes that Lightning does not save, and the first epoch is the best."""

    def __init__(self, lr: float = 0.02) -> None:
        super().__init__(lr)
        self.layer = Counts(4, 1)
        self.seen: dict[str, Any] = {"losses": [], "mean": torch.zeros(1)}
        self.array = np.zeros(3)
        self.last = deque([0.0], maxlen=3)
        self.kinds = Counter("a")
        self.schedule = Schedule()
        self.schedules = {"first": Schedule()}
        self.teacher = [nn.Linear(4, 1)]
        self.generator = torch.Generator()
        self.register_buffer("scale", torch.ones(1), persistent=False)

    def on_train_start(self) -> None:
        self.ramp = 1.0

    def step(self, batch: Any, split: str) -> Tensor:
        values = [getattr(self, "ramp", 1.0), self.array.sum(), sum(self.last), self.kinds["a"], self.seen["mean"]]
        values += [self.schedule.weight, self.schedules["first"].weight, self.scale]
        loss = super().step(batch, f"raw_{split}") * sum(map(float, values))
        self.log(f"{split}/loss", loss)
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.ramp *= 1.5
        self.schedule.weight += 0.1
        self.schedules["first"].weight += 0.2
        self.trainer.datamodule.level += 0.01  # pyright: ignore[reportAttributeAccessIssue]
        self.scale += torch.rand(1, generator=self.generator)
        self.array = self.array + 0.1
        self.last.append(loss.item())
        self.kinds["a"] += 1
        self.seen["losses"].append(loss.detach())
        self.seen["mean"] = torch.stack(self.seen["losses"]).mean()
        return loss / self.ramp / 100

    def configure_callbacks(self) -> list[pl.Callback]:
        return [Scales()]


class Growing(ToyData):
    level = 1.0  # the module raises it

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [batch[0] * self.level, batch[1]]


SWA = callback("StochasticWeightAveraging", "swa_lrs=0.01", "swa_epoch_start=1")
CHECKPOINTS = (
    *callback("ModelCheckpoint", "every_n_train_steps=3", "save_top_k=-1", "filename=step-{step}"),
    *callback("ModelCheckpoint", "monitor=train/loss", "filename=low-{epoch}"),
    *callback("ModelCheckpoint", "save_last=true", "filename=new-{epoch}"),
)
EXACT: dict[str, tuple[str, ...]] = {
    "plain": (),
    "ordinary loop": ("--speed.short_loop", "false"),
    "gradients": ("--trainer.accumulate_grad_batches", "2"),
    "schedule": ("--trainer.val_check_interval", "3"),  # a validation has just been
    "random": ("--data.num_workers", "2"),
    "attributes": ("--save_every_n_steps", "2"),
    "stream": ("--data.num_workers", "1"),
    "own loader": (),
    "SWA": SWA,
    "statistics": SWA,  # a pass for those of batches
    "late EMA": callback("EMAWeightAveraging", "decay=0.9", "update_starting_at_step=8"),
    "accumulation": callback("GradientAccumulationScheduler", 'scheduling={"0": 1, "1": 2, "2": 3}'),
    "second_epoch": callback("GradientAccumulationScheduler", 'scheduling={"1": 2}'),
    "timer": callback("Timer", "duration=00:01:00:00"),
    "early_stopping": callback("EarlyStopping", "monitor=val/loss", "patience=1", "min_delta=100"),
    "checkpoints": ("--save_every_n_steps", "4", *CHECKPOINTS),
    "backbone": callback("BackboneFinetuning", "unfreeze_backbone_at_epoch=1"),
}
CLASSES: dict[str, dict[str, Any]] = {
    "schedule": {"module": Plateau},
    "random": {"module": RandomSteps, "data": NoisyData},
    "attributes": {"module": Attributes, "data": Growing},
    "stream": {"data": StreamData},
    "own loader": {"data": OwnLoaderData},
    "statistics": {"module": Normalized},
    "backbone": {"module": Backbone},
}
ENDS = {"statistics": ("training_step", 20), "early_stopping": ("test_step", 1), "checkpoints": ("training_step", 14)}


@pytest.mark.parametrize("name", EXACT)
def test_a_run_that_dies_and_is_moved_ends_like_a_whole_one(name, run, die, interrupt) -> None:
    options = ("--save_every_n_steps", "1", *EXACT[name])
    classes = CLASSES.get(name, {})
    if name == "gradients":
        interrupt("dead", *options)  # between two batches whose gradients are summed
    else:
        die("dead", *options, at=ENDS.get(name, ("training_step", 10)), **classes)
    Path("runs/dead").rename("runs/moved")
    assert run("fit", "--resume", "moved", **classes) == 0
    assert run("fit", "--run", "whole", *options, **classes) == 0
    assert differences(Path("runs/whole"), Path("runs/moved")) == []
    assert ("loaders" in record("moved")) == (name in ("stream", "own loader"))  # a note on reading them again


def test_fewer_workers_and_a_death_without_a_step_change_nothing(run, die) -> None:
    classes = CLASSES["random"]
    die("a", "--save_every_n_steps=1", "--data.num_workers=1", **classes)
    die("a", "--resume", "--data.num_workers=0", at=("training_step", 1), **classes)
    assert run("fit", "--resume", **classes) == 0
    assert run("fit", "--run", "whole", **classes) == 0
    assert differences(Path("runs/whole"), Path("runs/a")) == []


@pytest.mark.parametrize("only", ["false", "true"])
def test_a_checkpoint_has_all_that_it_was_chosen_by(only, run, capsys) -> None:
    options = ("--trainer.callbacks=[]", "--checkpoint.monitor=val/loss", f"--checkpoint.save_weights_only={only}")
    assert run("fit", "--run", "a", *options, **CLASSES["attributes"]) == 0
    assert run("validate", "--run", "a", **CLASSES["attributes"]) == 0
    assert record("a", "validate.json")["val/loss"] == pytest.approx(record("a")["best_score"])
    best = torch.load(Path("runs/a/checkpoints", record("a")["best_checkpoint"]), weights_only=True)
    assert ("optimizer_states" in best) == (only == "false")
    assert "teacher[0] of module is in no checkpoint" in capsys.readouterr().out
