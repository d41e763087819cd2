"""The short loop does what Lightning's loop does, to the bit, and leaves unusual runs to it."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from lightning_runs.training import speed
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from resume.test_exact import Plateau, RandomSteps
from toy import Toy
from written import assert_same


class Recorder(Callback):
    """Records each hook of a step: when it was called, with what loss, and inside which hook of the module."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        loop = trainer.fit_loop.epoch_loop
        is_short = isinstance(loop, speed.ShortLoop) and loop._ordinary
        folder = Path(trainer.default_root_dir)
        (folder / "hooks.txt").write_text("\n".join(self.seen))
        (folder / "loop.txt").write_text("short" if is_short else "lightning")


def recording(name: str) -> Any:
    def hook(self: Recorder, trainer: Any, pl_module: Any, *args: Any) -> None:
        first = args[0] if args else None
        loss = first["loss"].item() if isinstance(first, dict) and first else ""
        gradients = sum(parameter.grad is not None for parameter in pl_module.parameters())
        self.seen.append(f"{name} {trainer.global_step} {pl_module._current_fx_name} {loss} {gradients}")
        if name in ("on_train_batch_start", "on_train_batch_end"):
            pl_module.log(f"seen/{name}", float(len(self.seen)), on_step=True, on_epoch=True)

    return hook


for name in speed.STEP_HOOKS:
    setattr(Recorder, name, recording(name))


class DictOrNothing(Toy):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return None if batch_idx % 3 == 2 else {"loss": loss, "size": len(batch[0])}


class Clipping(Toy):
    def on_before_optimizer_step(self, optimizer: Any) -> None:
        for parameter in self.parameters():
            parameter.grad.clamp_(-0.01, 0.01)  # pyright: ignore


class TwoOptimizers(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for optimizer in self.optimizers():  # pyright: ignore
            optimizer.zero_grad()
            self.manual_backward(self.step(batch, "train"))
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD([parameter], 0.01) for parameter in self.parameters()]


def compare(run: Any, *options: str, module: type = Toy) -> str:
    """Train with the options of speed and without them, compare the runs, and return which loop the first one had."""
    off = ("--speed.short_loop=false", "--speed.keep_freed_memory=false")
    recorded = f"--trainer.callbacks+={__name__}.Recorder"
    assert run("fit", "--run=short", recorded, *options, module=module) == 0
    assert run("fit", "--run=plain", recorded, *options, *off, module=module) == 0
    assert_same("short", "plain")
    hooks = [Path(f"runs/{name}/hooks.txt").read_text() for name in ("short", "plain")]
    assert hooks[0] == hooks[1]
    assert len(hooks[0].splitlines()) > 10
    assert Path("runs/plain/loop.txt").read_text() == "lightning"
    return Path("runs/short/loop.txt").read_text()


ORDINARY = {
    "clipped gradients": ("--trainer.gradient_clip_val=0.01",),
    "clipped values": ("--trainer.gradient_clip_val=0.001", "--trainer.gradient_clip_algorithm=value"),
    "bfloat16": ("--trainer.precision=bf16-mixed",),
    "validation inside an epoch": ("--trainer.val_check_interval=4",),
    "steps": ("--trainer.max_steps=10", "--trainer.max_epochs=-1"),
    "one batch": ("--trainer.overfit_batches=1",),
    "workers": ("--data.num_workers=1", "--trainer.max_epochs=2"),
}


@pytest.mark.parametrize("options", ORDINARY.values(), ids=ORDINARY)
def test_an_ordinary_run_is_the_same_to_the_bit(options, run) -> None:
    assert compare(run, *options) == "short"


MODULES = {
    RandomSteps: "short",
    Plateau: "short",
    DictOrNothing: "short",
    Clipping: "lightning",
    TwoOptimizers: "lightning",
}


@pytest.mark.parametrize(("module", "loop"), MODULES.items(), ids=lambda value: getattr(value, "__name__", value))
def test_a_module_with_its_own_steps_is_the_same_too(module, loop, run) -> None:
    assert compare(run, module=module) == loop


UNUSUAL = {
    "accumulated gradients": ("--trainer.accumulate_grad_batches=3",),
    "a profiler": ("--trainer.profiler=pytorch_lightning.profilers.SimpleProfiler",),
}


@pytest.mark.parametrize("options", UNUSUAL.values(), ids=UNUSUAL)
def test_an_unusual_step_is_left_to_lightning(options, run) -> None:
    assert compare(run, *options) == "lightning"


def test_a_release_that_was_not_compared_is_named_once(run, monkeypatch, capsys) -> None:
    monkeypatch.setattr(speed, "COMPARED_RELEASES", ("2.6.5",))
    speed._print_that_loop_is_off.__wrapped__.cache_clear()  # pyright: ignore
    for name in ("a", "b"):
        assert run("fit", f"--run={name}", f"--trainer.callbacks+={__name__}.Recorder", "--trainer.max_epochs=1") == 0
        assert Path(f"runs/{name}/loop.txt").read_text() == "lightning"
    assert run("test", "--run=a") == 0
    output = capsys.readouterr().out
    assert output.count("speed.short_loop is off") == 1
    assert "2.6.5" in output
    assert pl.__version__ in output


def test_a_plain_trainer_keeps_lightning_s_loop(run) -> None:
    before = dict(vars(_TrainingEpochLoop))
    assert run("fit", "--run=a", "--trainer.max_epochs=1") == 0
    assert dict(vars(_TrainingEpochLoop)) == before
    loop = pl.Trainer(accelerator="cpu", logger=False).fit_loop.epoch_loop
    assert (type(loop).__name__, type(loop._results).__name__) == ("_TrainingEpochLoop", "_ResultCollection")
