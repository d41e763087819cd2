"""The short training loop does what Lightning's does, to the bit, and leaves what it does not know to it."""

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
from {PACKAGE}.runtime.speed import STEP_HOOKS, ShortLoop


class Recorder(Callback):
    def __init__(self):
        self.seen = []

    def on_train_end(self, trainer, pl_module):
        if not trainer.is_global_zero:
            return
        loop = trainer.fit_loop.epoch_loop
        short = isinstance(loop, ShortLoop) and loop._ordinary
        folder = Path(trainer.default_root_dir)
        (folder / "hooks.txt").write_text("\\n".join(self.seen))
        (folder / "loop.txt").write_text("short" if short else "lightning")


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
UNUSUAL = {"a dict or nothing": ("Unusual", "short"), "a hook of the module": ("Clipping", "lightning")}


OFF = ("--speed.short_loop=false", "--speed.keep_freed_memory=false")


@pytest.fixture
def project(bake_project):
    """Return a project with a callback that records its hooks."""
    project = bake_project({"logger": "csv"})
    (project / "recorder.py").write_text(RECORDER)
    return project


def train_with_both(project, options, before="", processes=1):
    """Train with both options of speed, and without them; return the run folders."""
    runs = []
    for name, speed in (("short", ()), ("plain", OFF)):
        command = ["fit", f"--run={name}", *SMALL, "--trainer.limit_train_batches=9", RECORDED, *options, *speed]
        started = shared().start(project, [command], before=before, processes=processes)
        # not `results`: what the second process writes as it ends may stand in the line with the exit code
        assert started.wait() == 0, started.output()
        runs.append(project / "runs" / name)
    return runs


def loop_of(run):
    return (run / "loop.txt").read_text()


def assert_same(short, plain):
    assert differences(short, plain) == []
    assert (short / "hooks.txt").read_text() == (plain / "hooks.txt").read_text()
    assert len((short / "hooks.txt").read_text().splitlines()) > 10
    assert loop_of(plain) == "lightning"


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_run_is_the_same_to_the_bit(project, name):
    short, plain = train_with_both(project, ORDINARY[name])

    assert loop_of(short) == "short"
    assert_same(short, plain)


@pytest.mark.parametrize("name", LEFT_TO_LIGHTNING)
def test_what_changes_a_step_is_left_to_lightning(project, name):
    short, plain = train_with_both(project, LEFT_TO_LIGHTNING[name], processes=2 if name == "two processes" else 1)

    assert loop_of(short) == "lightning"
    assert_same(short, plain)


@pytest.mark.parametrize("name", UNUSUAL)
def test_a_module_that_does_steps_its_own_way_is_the_same_too(project, name):
    module, loop = UNUSUAL[name]
    before = f"import recorder; from {PACKAGE} import train; train.ImageClassifier = recorder.{module}"
    short, plain = train_with_both(project, (), before)

    assert loop_of(short) == loop
    assert_same(short, plain)


def test_a_release_of_lightning_that_was_not_compared_has_its_own_loop(project):
    before = f"from {PACKAGE}.runtime import speed; speed.COMPARED = ('2.6.5',)"
    started = shared().start(project, [["fit", "--run=a", *SMALL, RECORDED]], before=before)

    assert started.wait() == 0, started.output()
    assert loop_of(project / "runs" / "a") == "lightning"


# Trains in a process that has only Lightning imported, and looks for what the project has changed in it.
PLAIN_TRAINER = f"""
import inspect, sys
import pytorch_lightning as pl, pytorch_lightning.cli
from pytorch_lightning.demos.boring_classes import BoringModel

LIBRARIES = ("pytorch_lightning", "lightning_fabric", "torchmetrics", "torch.utils.data")

def functions():
    found = {{}}
    for module in [m for name, m in sys.modules.items() if name.startswith(LIBRARIES)]:
        for name, value in list(vars(module).items()):
            members = vars(value) if inspect.isclass(value) else {{"": value}}
            kinds = (property, classmethod, staticmethod)
            members = {{n: v for n, v in members.items() if inspect.isfunction(v) or isinstance(v, kinds)}}
            found |= {{(module.__name__, name, n): v for n, v in members.items()}}
    return found

before = functions()
sys.path.insert(1, "src")
from {PACKAGE} import train
assert train.main({["fit", "--run=a", *SMALL]!r}) == 0
after = functions()
print("changed:", [key for key in before if after.get(key) is not before[key]])
print("compared:", len(before) > 1000, any(names[1:] == ("_ResultMetric", "to") for names in before))

class Model(BoringModel):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)["loss"]
        self.log("loss", loss)
        return loss

class Look(pl.Callback):
    def on_train_batch_end(self, trainer, *args):
        loop = trainer.fit_loop.epoch_loop
        results = [type(result).__name__ for result in loop._results.values()]
        print("plain:", type(loop).__name__, type(loop._results).__name__, *results)

quiet = {{"enable_progress_bar": False, "enable_model_summary": False, "logger": False}}
trainer = pl.Trainer(max_steps=1, limit_val_batches=0, callbacks=[Look()], enable_checkpointing=False, **quiet)
trainer.fit(Model())
"""


def test_a_plain_trainer_in_the_same_process_is_lightning_s_own(project):
    started = shared(own=True).start(project, [], before=PLAIN_TRAINER)
    started.wait()
    output = started.output()

    assert "changed: []" in output, output
    assert "compared: True True" in output
    assert "plain: _TrainingEpochLoop _ResultCollection _ResultMetric" in output, output


SLOW = {
    "data": ("loading batches", f"from {PACKAGE} import datasets as d; slow(d.ImageTensors, '__getitem__')"),
    "computation": ("forward, backward", f"from {PACKAGE} import network as n; slow(n.ConvNet, 'forward')"),
    "framework": (
        "callbacks",
        f"from {PACKAGE}.runtime import resume as r; slow(r.ExactResume, 'on_train_batch_start')",
    ),
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
def test_the_profile_tells_in_ten_lines_where_the_time_goes(project, limit):
    started = shared().start(
        project, [["fit", "-c", "configs/profile.yaml", "--run=a", *SMALL]], before=SLOWLY + SLOW[limit][1]
    )
    assert started.wait() == 0, started.output()
    output = started.output()
    report = (project / "runs" / "a" / "fit-profile.txt").read_text()
    assert report in output
    assert len(report.splitlines()) <= 10
    parts = [line.strip() for line in report.splitlines()[1:]]
    assert next(part for part in parts if not part.startswith("validation")).startswith(SLOW[limit][0])
    assert "with 6 training steps" in report
    shares = [float(line.split()[-2]) for line in report.splitlines() if line.endswith(" %")]
    assert sum(shares) == pytest.approx(100, abs=0.5)
    assert not (project / "runs" / "a" / "test-profile.txt").exists()
