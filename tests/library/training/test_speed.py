"""The short loop does what Lightning's loop does, to the bit, and leaves unusual runs to it."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from lightning_runs.training import speed
from pytorch_lightning.callbacks import Callback
from resume.test_exact import Plateau, RandomSteps
from toy import Toy
from written import assert_same

RECORDER = f"--trainer.callbacks+={__name__}.Recorder"


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


class Hooked(Toy):
    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.layer.weight.grad *= 0.5  # pyright: ignore


ORDINARY = {
    "clipped gradients": (Toy, "--trainer.gradient_clip_val=0.01"),
    "clipped values": (Toy, "--trainer.gradient_clip_val=0.001 --trainer.gradient_clip_algorithm=value"),
    "bfloat16": (Toy, "--trainer.precision=bf16-mixed"),
    "validation inside an epoch": (Toy, "--trainer.val_check_interval=4"),
    "steps": (Toy, "--trainer.max_steps=10 --trainer.max_epochs=-1"),
    "random steps": (RandomSteps, "--data.num_workers=1"),
    "a schedule": (Plateau, ""),
    "a dict or nothing": (DictOrNothing, ""),
}
UNUSUAL = {
    "hooks of the module": (Hooked, ""),
    "accumulated gradients": (Toy, "--trainer.accumulate_grad_batches=3"),
    "a profiler": (Toy, "--trainer.profiler=pytorch_lightning.profilers.SimpleProfiler"),
}


@pytest.mark.parametrize("case", [*ORDINARY, *UNUSUAL])
def test_a_run_with_the_short_loop_is_the_same_to_the_bit(case, run) -> None:
    module, options = (ORDINARY | UNUSUAL)[case]
    off = ("--speed.short_loop=false", "--speed.keep_freed_memory=false")
    assert run("fit", "--run=short", RECORDER, *options.split(), module=module) == 0
    assert run("fit", "--run=plain", RECORDER, *options.split(), *off, module=module) == 0
    assert_same("short", "plain")
    assert Path("runs/short/hooks.txt").read_text() == Path("runs/plain/hooks.txt").read_text()
    loops = [Path(f"runs/{name}/loop.txt").read_text() for name in ("short", "plain")]
    assert loops == ["short" if case in ORDINARY else "lightning", "lightning"]


def test_a_release_that_was_not_compared_is_named_once(run, monkeypatch, capsys) -> None:
    monkeypatch.setattr(speed, "COMPARED_RELEASES", ("2.6.5",))
    assert run("fit", RECORDER, "--trainer.max_epochs=1") == 0
    output = capsys.readouterr().out
    assert output.count("speed.short_loop is off") == 1
    assert [release for release in ("2.6.5", pl.__version__) if release not in output] == []
