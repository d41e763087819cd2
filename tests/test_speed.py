"""The project's own training loop does what Lightning's does, to the bit, and leaves what it does not know to it."""

from __future__ import annotations

import pytest
from project import PACKAGE, SMALL
from stress import PLATEAU, differences
from warm import shared

# A module in the project's folder: it logs in every hook, and writes down which were called, when, with what loss.
RECORDER = f'''
from pathlib import Path

from pytorch_lightning.callbacks import Callback

from {PACKAGE}.module import ImageClassifier
from {PACKAGE}.speed import STEP_HOOKS, FastLoop


class Recorder(Callback):
    def __init__(self):
        self.seen = []

    def on_train_end(self, trainer, pl_module):
        if not trainer.is_global_zero:
            return
        loop = trainer.fit_loop.epoch_loop
        fast = isinstance(loop, FastLoop) and loop._ordinary
        folder = Path(trainer.default_root_dir)
        (folder / "hooks.txt").write_text("\\n".join(self.seen))
        (folder / "loop.txt").write_text("fast" if fast else "lightning")


def recording(name):
    def hook(self, trainer, pl_module, *args):
        first = args[0] if args else None
        loss = first["loss"].item() if isinstance(first, dict) and first else ""
        grads = sum(p.grad is not None for p in pl_module.parameters())
        self.seen.append(f"{{name}} {{trainer.global_step}} {{pl_module._current_fx_name}} {{loss}} {{grads}}")
        if name in ("on_train_batch_start", "on_train_batch_end"):
            pl_module.log(f"seen/{{name}}", float(len(self.seen)), on_step=True, on_epoch=True)
    return hook


for name in STEP_HOOKS:
    setattr(Recorder, name, recording(name))


class Unusual(ImageClassifier):
    """Returns a dict, and nothing for each third batch."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return None if batch_idx % 3 == 2 else {{"loss": loss, "size": len(batch[0])}}


class Clipping(ImageClassifier):
    def on_before_optimizer_step(self, optimizer):
        for parameter in self.parameters():
            parameter.grad.clamp_(-0.01, 0.01)
'''
RECORDED = "--trainer.callbacks+=recorder.Recorder"
ORDINARY = {
    "default": (),
    "csv alone": ("--trainer.log_every_n_steps=1",),
    "clipped gradients": ("--trainer.gradient_clip_val=0.01",),
    "clipped values": ("--trainer.gradient_clip_val=0.001", "--trainer.gradient_clip_algorithm=value"),
    "bfloat16": ("--trainer.precision=bf16-mixed",),
    "plateau": PLATEAU,
    "constant rate": ("--model.scheduler=null", "--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.1"),
    "validation inside an epoch": ("--trainer.val_check_interval=0.3",),
    "steps": ("--trainer.max_steps=17", "--trainer.max_epochs=-1"),
    "one batch": ("--trainer.overfit_batches=1",),
    "workers": ("--data.num_workers=2",),
}
LEFT_TO_LIGHTNING = {
    "accumulated gradients": ("--trainer.accumulate_grad_batches=3",),
    "a profiler": ("--trainer.profiler=pytorch_lightning.profilers.SimpleProfiler",),
    "two processes": ("--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp"),
}
UNUSUAL = {"a dict or nothing": ("Unusual", "fast"), "a hook of the module": ("Clipping", "lightning")}


LIGHTNINGS = f"from {PACKAGE} import speed; speed.COMPARED = ('none',)"


@pytest.fixture
def project(bake_project):
    """Return a project with a callback that records its hooks."""
    project = bake_project({"logger": "csv"})
    (project / "recorder.py").write_text(RECORDER)
    return project


def train_with_both(project, options, before="", processes=1):
    """Train with the project's loop and with Lightning's, and return the run folders."""
    runs = []
    for name, first in (("fast", before), ("plain", f"{before}\n{LIGHTNINGS}")):
        command = ["fit", f"--run={name}", *SMALL, "--trainer.limit_train_batches=9", RECORDED, *options]
        started = shared().start(project, [command], before=first, processes=processes)
        # not `results`: what the second process writes as it ends may stand in the line with the exit code
        assert started.wait() == 0, started.output()
        runs.append(project / "runs" / name)
    return runs


def assert_same(fast, plain):
    assert differences(fast, plain) == []
    assert (fast / "hooks.txt").read_text() == (plain / "hooks.txt").read_text()
    assert len((fast / "hooks.txt").read_text().splitlines()) > 10
    assert (plain / "loop.txt").read_text() == "lightning"


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_run_is_the_same_to_the_bit(project, name):
    fast, plain = train_with_both(project, ORDINARY[name])

    assert (fast / "loop.txt").read_text() == "fast"
    assert_same(fast, plain)


@pytest.mark.parametrize("name", LEFT_TO_LIGHTNING)
def test_what_changes_a_step_is_left_to_lightning(project, name):
    fast, plain = train_with_both(project, LEFT_TO_LIGHTNING[name], processes=2 if name == "two processes" else 1)

    assert (fast / "loop.txt").read_text() == "lightning"
    assert_same(fast, plain)


@pytest.mark.parametrize("name", UNUSUAL)
def test_a_module_that_does_steps_its_own_way_is_the_same_too(project, name):
    module, loop = UNUSUAL[name]
    before = f"import recorder; from {PACKAGE} import train; train.ImageClassifier = recorder.{module}"
    fast, plain = train_with_both(project, (), before)

    assert (fast / "loop.txt").read_text() == loop
    assert_same(fast, plain)


SLOW = {
    "data": f"from {PACKAGE} import datasets as d; slow(d.ImageTensors, '__getitem__')",
    "computation": f"from {PACKAGE} import network as n; slow(n.ConvNet, 'forward')",
    "framework": f"from {PACKAGE} import callbacks as c; slow(c.SeedSteps, 'on_train_batch_start')",
}
SLOWLY = """
import time

def slow(owner, name):
    before = getattr(owner, name)

    def slowly(*args):
        time.sleep(0.2)
        return before(*args)

    setattr(owner, name, slowly)

"""


@pytest.mark.parametrize("limit", SLOW)
def test_the_profile_tells_in_ten_lines_what_the_limit_is(project, limit):
    started = shared().start(
        project, [["fit", "-c", "configs/profile.yaml", "--run=a", *SMALL]], before=SLOWLY + SLOW[limit]
    )
    assert started.wait() == 0, started.output()
    output = started.output()
    report = (project / "runs" / "a" / "fit-profile.txt").read_text()
    assert report in output
    assert len(report.splitlines()) <= 10
    assert f"The limit is the {limit}: " in report
    assert "in 6 training steps" in report
    shares = [float(line.split()[-2]) for line in report.splitlines() if line.endswith(" %")]
    assert sum(shares) == pytest.approx(100, abs=0.5)
    assert not (project / "runs" / "a" / "test-profile.txt").exists()
