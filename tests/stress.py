"""Kill trainings at random moments, resume them, and compare the end with that of a training that was never killed.

``python tests/stress.py --kills 300`` (or ``make stress``) goes on until so many kills were made.
``python tests/stress.py --own --kills 60`` does so with a user's own classes.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import datasets
from combinations import VALUES
from project import FIRST, PACKAGE, clean_environment, task_of
from swap import project_with
from test_render import render
from warm import Command, shared

PLATEAU = (
    "--model.scheduler=pytorch_lightning.cli.ReduceLROnPlateau",
    *("--model.scheduler.init_args.monitor=val/loss", "--model.scheduler.init_args.patience=0"),
)
TWO_BEST = (
    "--trainer.callbacks+=pytorch_lightning.callbacks.ModelCheckpoint",
    *("--trainer.callbacks.monitor=val/accuracy", "--trainer.callbacks.mode=max", "--trainer.callbacks.save_top_k=2"),
    "--trainer.callbacks.filename=high-{epoch}",
)
DDP = ("--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp")
PRECISIONS = ("64-true", "bf16-mixed", "bf16-true")  # the others that a CPU has: it refuses those of 16 bits
STOPPED_EARLY = ("monitor=val/accuracy", "mode=max", "patience=1", "min_delta=0.9")  # two epochs, whatever is learned


def callback(name: str, *options: str) -> tuple[str, ...]:
    """Options that add one of Lightning's callbacks."""
    added = f"--trainer.callbacks+=pytorch_lightning.callbacks.{name}"
    return (added, *(f"--trainer.callbacks.{option}" for option in options))


# Each alone, and each two of them together. `repeat` trains such folds; what kills it is in test_repeat.py.
TOGETHER = {
    "averaged weights": callback("EMAWeightAveraging", "decay=0.9"),
    "mixup": ("--data.mix=mixup", "--model.label_smoothing=0.1"),
    "fine-tuning": (
        f"--trainer.callbacks+={PACKAGE}.runtime.finetune.Unfreezing",
        *("--trainer.callbacks.epochs=[0,1]", "--model.layer_rate_decay=0.5"),
    ),
    "a fold": ("--data.fold=1", "--data.num_folds=3", "--trainer.limit_test_batches=0"),
}
# Each: the data set, and options. What a resumed run may get wrong stands here.
VARIANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "plain": ("digits", ()),
    "workers": ("digits", ("--data.num_workers=2",)),
    "accumulated gradients": ("digits", ("--trainer.accumulate_grad_batches=3",)),
    "plateau": ("digits", PLATEAU),
    "validation inside an epoch": ("digits", ("--trainer.val_check_interval=0.3",)),
    "validation every second epoch": ("digits", ("--trainer.check_val_every_n_epoch=2",)),
    "two best": ("digits", TWO_BEST),
    "two processes": ("digits", DDP),
    "two processes, all at once": (
        "digits",
        (*DDP, "--data.num_workers=2", "--trainer.accumulate_grad_batches=2", "--trainer.val_check_interval=0.5"),
    ),
    "mnist": ("mnist", ()),
    "fashion_mnist": ("fashion_mnist", ("--data.num_workers=2",)),
    "cifar10": ("cifar10", ("--trainer.accumulate_grad_batches=2",)),
    "corrupt_mnist": ("corrupt_mnist", ()),
    "image_folder": ("image_folder", ("--data.num_workers=2",)),
    **{kind: ("digits", (f"--trainer.precision={kind}",)) for kind in PRECISIONS},
    "early stopping": ("digits", callback("EarlyStopping", *STOPPED_EARLY)),
    "stochastic averaging": ("digits", callback("StochasticWeightAveraging", "swa_lrs=0.01", "swa_epoch_start=1")),
    "cutmix": ("digits", ("--data.mix=cutmix",)),
    "strong augmentation": ("digits", ("--data.augment=strong",)),
    "an average that begins late": ("digits", callback("EMAWeightAveraging", "update_starting_at_step=50")),
    "accumulation by epoch": ("digits", callback("GradientAccumulationScheduler", 'scheduling={"0": 1, "2": 2}')),
    "batch size that is found": ("digits", callback("BatchSizeFinder", "max_trials=2", "init_val=16")),
    "spike detection": ("digits", callback("SpikeDetection")),
    "timer": ("digits", callback("Timer", "duration=00:01:00:00")),
}
VARIANTS |= {name: ("digits", options) for name, options in TOGETHER.items()}
VARIANTS |= {f"{a} and {b}": ("digits", (*TOGETHER[a], *TOGETHER[b])) for a, b in combinations(TOGETHER, 2)}
# Classes that count the same: alone, with mixtures of images, with folds, and with both.
BALANCED = {
    f"{name}{more}": ("digits", (f"--data.balance={kind}", *options))
    for name, kind in (("classes drawn as often", "sampling"), ("classes weighted", "weights"))
    for more, options in (
        ("", ()),
        (", mixed", ("--data.mix=mixup",)),
        (", folds", ("--data.fold=1", "--data.num_folds=3")),
        (", mixed, folds", ("--data.mix=mixup", "--data.fold=1", "--data.num_folds=3")),
    )
}
VARIANTS |= BALANCED
# Batches of texts of like length, and masks, from the projects of other fronts.
FEW_TEXTS = ("--data.max_vocabulary=500", "--data.max_tokens=32", "--trainer.limit_train_batches=12")
VARIANTS |= {
    "texts, two processes": ("glosses", (*DDP, *FEW_TEXTS)),
    "texts drawn as often, two processes": ("glosses", (*DDP, *FEW_TEXTS, "--data.balance=sampling")),
    "masks drawn as often": ("digit_scenes", ("--data.balance=sampling", "--data.augment=strong")),
    "masks weighted": ("digit_scenes", ("--data.balance=weights", "--trainer.limit_train_batches=12")),
}
OTHER_FRONTS = {name for name, (dataset, _) in VARIANTS.items() if task_of({"dataset": dataset}) != task_of({})}
# Killed by themselves in a step that is drawn: of a validation, of the test, of the report's predictions.
INSIDE = {"validation": "validation_step", "test": "test_step", "report": "predict_step"}
VARIANTS |= {f"killed in the {place}": ("digits", ()) for place in (*INSIDE, "export")}
EXPORTED = {"README.md", "model.onnx", "model.pt2", "reference.json"}
# Lightning's callbacks that no variant has, and why.
NOT_STRESSED = {
    "BackboneFinetuning": "wants a network with a backbone: tests/promises/test_resume.py has one",
    "LearningRateFinder": "is refused at the start: tests/library/cli/test_mistakes.py",
    "DeviceStatsMonitor": "keeps nothing",
    "ModelPruning": "is refused at the start: tests/promises/test_resume.py",
    "LambdaCallback": "does what its functions do, which no option can name",
    "OnExceptionCheckpoint": "writes when something fails, which a kill is not",
    "RichModelSummary": "keeps nothing",
    "RichProgressBar": "keeps nothing",
    "ThroughputMonitor": "wants a function, which no option can name",
    "WeightAveraging": "is the base of EMAWeightAveraging",
    **dict.fromkeys(("BaseFinetuning", "BasePredictionWriter", "Callback", "Checkpoint", "ProgressBar"), "is a base"),
    **dict.fromkeys(("LearningRateMonitor", "ModelSummary", "ModelCheckpoint", "TQDMProgressBar"), "every run has it"),
}
# The same with classes of `own_classes` in the place of the project's: the two files, and options.
OWN: dict[str, tuple[tuple[str, str], tuple[str, ...]]] = {
    "own loaders": (("classifier", "plain_data"), ("--data.num_workers=0",)),
    "own loaders, workers": (("classifier", "plain_data"), ("--data.num_workers=2",)),
    "own loaders, two processes": (("classifier", "plain_data"), (*DDP, "--data.num_workers=0")),
    "own augmentation": (("mixup", "augmented_data"), ("--data.num_workers=0",)),
    "own augmentation, workers": (("mixup", "augmented_data"), ("--data.num_workers=2",)),
    "own augmentation, two processes": (("mixup", "augmented_data"), (*DDP, "--data.num_workers=2")),
}
ALWAYS = ("--save_every_n_steps=4", "--trainer.max_epochs=4", "--trainer.log_every_n_steps=3", "--logger=csv")


COLD_CIFAR = f"""{datasets.WITHOUT_CIFAR_SUMS}
import runpy, sys
sys.argv[0] = {PACKAGE!r}
runpy.run_module({PACKAGE!r}, run_name="__main__")
"""


def deadly(hook: str, call: int) -> str:
    """Python that has the process kill itself in a call of a step."""
    return f"""
import functools, os, signal
from {PACKAGE}.module import ImageClassifier
step, calls = ImageClassifier.{hook}, []
@functools.wraps(step)
def kill(self, *args):
    calls.append(None)
    if len(calls) == {call}:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *args)
ImageClassifier.{hook} = kill
"""


@dataclass
class Tally:
    """What a series of kills came to."""

    kills: int = 0
    cold: int = 0
    runs: int = 0
    identical: int = 0

    def add(self, other: Tally) -> None:
        """Count what another series came to."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)

    def __str__(self) -> str:
        """What is reported."""
        return f"{self.kills} kills ({self.cold} of cold processes), {self.runs} runs, {self.identical} identical"


class ColdCommand:
    """A command in a process of its own, which imports everything anew; `Command`'s counterpart."""

    def __init__(self, project: Path, arguments: Sequence[str], variant: str) -> None:
        program = ["-c", COLD_CIFAR] if variant == "cifar10" else ["-m", PACKAGE]
        self._process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            cwd=project,
            env=clean_environment(project),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def ended(self) -> int | None:
        """Return the exit code of a process that has ended."""
        return self._process.poll()

    def kill(self) -> None:
        """Kill the process, and what it has started, as nothing can be caught."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def output(self) -> str:
        """What an ended process has written."""
        return self._process.communicate()[0].decode()


def project_of(variant: str, folder: Path) -> tuple[Path, list[str]]:
    """Bake a project for a variant, with its data, and return it and the options."""
    if variant in OWN:
        (module, data), options = OWN[variant]
        # an epoch has only 10 steps: with more epochs, most kills come while it trains
        return project_with(module, data, folder, "val_loss"), [*ALWAYS, "--trainer.max_epochs=12", *options]
    dataset, options = VARIANTS[variant]
    answers = {field: values[0] for field, values in VALUES.items()} | {"dataset": dataset}
    project = render(answers, folder)
    bundled = dataset in FIRST.values()
    small = [] if bundled else [*datasets.write(dataset, folder / "files"), "--data.batch_size=8"]
    return project, [*small, *ALWAYS, *options]


def start(project: Path, arguments: Sequence[str], variant: str, cold: bool, before: str = "") -> Command | ColdCommand:
    if cold:
        return ColdCommand(project, arguments, variant)
    processes = 2 if "--trainer.devices=2" in (VARIANTS | OWN)[variant][1] else 1
    warm = shared(variant in OWN or variant in OTHER_FRONTS)
    return warm.start(project, [list(arguments)], before=datasets.WITHOUT_CIFAR_SUMS + before, processes=processes)


def killed_run(
    variant: str, project: Path, options: Sequence[str], name: str, cold: bool, delays: Iterator[float]
) -> tuple[int, float]:
    """Train under a name, killed after each of the delays until it ends by itself.

    Returns:
        The number of kills, and the seconds that the last of its commands took.
    """
    arguments, kills = ["fit", f"--run={name}", *options], 0
    folder = project / "runs" / name
    while True:
        begun = time.monotonic()
        command = start(project, arguments, variant, cold)
        # some die while they start, some in their first steps and some later
        end, code = begun + next(delays, 1e9), None
        while code is None and (time.monotonic() < end or not folder.exists()):
            time.sleep(0.01)
            code = command.ended()
        if code is None:
            command.kill()
            kills += 1
            arguments = ["fit", f"--resume={name}"]
        elif code == 0:
            return kills, time.monotonic() - begun
        else:
            raise AssertionError(f"{variant}: exit {code} after {kills} kills\n{command.output()}")


def run_killed_inside(variant: str, project: Path, options: Sequence[str], name: str, choose: random.Random) -> int:
    """Train under a name, killed twice in steps of one kind that are drawn, and return the number of kills."""
    place = variant.removeprefix("killed in the ")
    if place == "export":
        return export_killed(variant, project, options, name, choose)
    arguments, kills = ["fit", f"--run={name}", *options], 0
    for calls in (3, 3, 0):  # a validation of the digits has 3 batches, and there are others before the test
        before = deadly(INSIDE[place], choose.randint(1, calls)) if calls else ""
        command = start(project, arguments, variant, cold=False, before=before)
        while (code := command.ended()) is None:
            time.sleep(0.01)
        assert code == (-signal.SIGKILL if calls else 0), f"{variant}: exit {code}\n{command.output()}"
        kills += bool(calls)
        # the report is written when the run has ended, so that there is nothing to resume
        arguments = ["report", name] if place == "report" else ["fit", f"--resume={name}"]
    assert (project / "runs" / name / "report.html").is_file()
    return kills


def export_killed(variant: str, project: Path, options: Sequence[str], name: str, choose: random.Random) -> int:
    """Train under a name, and export: once, twice killed, and once more; return the number of kills."""
    kills, exports, longest = 0, project / "runs" / name / "export", 0.0
    for arguments in (["fit", f"--run={name}", *options], *[["export", name]] * 4):
        command, begun = start(project, arguments, variant, cold=False), time.monotonic()
        end = begun + choose.uniform(0, longest) if longest and kills < 2 else math.inf
        while (code := command.ended()) is None and time.monotonic() < end:
            time.sleep(0.01)
        if code is None:
            command.kill()
            kills += 1
            # the export before it is still there, and whole
            assert {file.name for file in exports.iterdir()} == EXPORTED, variant
            continue
        assert code == 0, f"{variant}: exit {code}\n{command.output()}"
        longest = time.monotonic() - begun if arguments[0] == "export" else longest
    assert {file.name for file in exports.iterdir()} == EXPORTED, variant
    return kills


def differences(one: Path, other: Path) -> list[str]:
    """Compare two runs field by field: checkpoints, the rows of all metrics, the test's result."""
    import torch

    def load(file: Path) -> Any:
        return torch.load(file, weights_only=True)

    found: list[str] = []
    names = [{f.name for f in (run / "checkpoints").iterdir()} - {"previous.ckpt"} for run in (one, other)]
    if names[0] != names[1]:
        found.append(f"checkpoints: {names[0]} and {names[1]}")
    for name in sorted(names[0] & names[1]):
        found += _differ(load(one / "checkpoints" / name), load(other / "checkpoints" / name), name)
    if (one / "metrics.csv").read_text() != (other / "metrics.csv").read_text():
        found.append("metrics.csv")
    # a module without a test_step has no result, and one of the two may have been validated by itself
    validated = all((run / "validate.json").is_file() for run in (one, other))
    for name in ("test.json", *(["validate.json"] if validated else [])):
        results = [json.loads(f.read_text()) if (f := run / name).is_file() else {} for run in (one, other)]
        a, b = ({k: v for k, v in result.items() if k != "checkpoint"} for result in results)
        found += _differ(a, b, name)
    return found


def _differ(a: Any, b: Any, where: str) -> list[str]:
    import torch

    if where.endswith((".current_score", ".ExactResume.options", ".Timer.time_elapsed")):
        # what ModelCheckpoint forgets when it is loaded, until it measures again; what may differ without effect; time
        return []
    if isinstance(a, str) and isinstance(b, str):
        a, b = Path(a).name, Path(b).name  # the runs have different folders
    if type(a) is not type(b):
        return [f"{where}: {a!r:.80} and {b!r:.80}"]
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [where]
    if isinstance(a, Mapping):
        a, b = ({Path(k).name if isinstance(k, str) and os.sep in k else k: v for k, v in m.items()} for m in (a, b))
        if a.keys() != b.keys():
            return [f"{where}: {a.keys() ^ b.keys()}"]
        return [difference for key in a for difference in _differ(a[key], b[key], f"{where}.{key}")]
    if isinstance(a, list | tuple):
        pairs = zip(a, b, strict=False)
        lengths = [] if len(a) == len(b) else [f"{where}: {len(a)} and {len(b)} items"]
        return lengths + [d for i, pair in enumerate(pairs) for d in _differ(*pair, f"{where}[{i}]")]
    return [] if a == b else [f"{where}: {a!r:.80} and {b!r:.80}"]


def stress(variant: str, folder: Path, kills: int, cold: bool, seed: int, tally: Tally) -> None:
    """Kill runs of a variant until so many kills were made, and compare each with one that was left alone.

    Raises:
        AssertionError: A run ended otherwise; the fields are named.
    """
    choose = random.Random(seed)
    project, options = project_of(variant, folder)
    _, longest = killed_run(variant, project, options, "whole", cold, iter(()))
    number, left = 0, kills
    while left > 0:
        number += 1
        if variant.startswith("killed in the "):
            killed, took = run_killed_inside(variant, project, options, f"killed{number}", choose), longest
        else:
            delays = (choose.uniform(0, 0.9 * longest) for _ in range(left))
            killed, took = killed_run(variant, project, options, f"killed{number}", cold, delays)
        left -= killed
        tally.add(Tally(killed, killed if cold else 0, 1))
        if not killed:  # a machine that is less busy than before
            longest = min(longest, took)
        different = differences(project / "runs" / "whole", project / "runs" / f"killed{number}")
        assert not different, f"{variant}, seed {seed}: {killed} kills\n" + "\n".join(different)
        tally.identical += 1


def attempt(variant: str, kills: int, cold: bool, seed: int) -> tuple[str, Tally, str]:
    """Do `stress` in a temporary folder; return a name for it, the tally, and what was wrong."""
    tally, wrong = Tally(), ""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # a killed run's workers may still write
        try:
            stress(variant, Path(folder), kills, cold, seed, tally)
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
    return f"{variant}{' (cold)' if cold else ''}", tally, wrong


def main() -> None:
    """Go through all variants, two at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300, help="how many in all; a tenth of cold processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--own", action="store_true", help="train a user's own classes")
    parser.add_argument("--only", choices=[*VARIANTS, *OWN], help="one variant alone")
    options = parser.parse_args()
    chosen = [options.only] if options.only else list(OWN if options.own else VARIANTS)
    total, failed = Tally(), False
    # processes that have loaded nothing, for each forks its trainings from one of its own
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        attempts = []
        for number, variant in enumerate(chosen):
            for cold, share in ((False, options.kills * 9), (True, options.kills)):
                if cold and variant.startswith("killed in the "):
                    continue  # a process that kills itself is a forked one
                kills = -(-share // (10 * len(chosen)))
                attempts.append(pool.submit(attempt, variant, kills, cold, options.seed + number))
        for done in as_completed(attempts):
            name, tally, wrong = done.result()
            total.add(tally)
            failed |= bool(wrong)
            print(f"{name}: {tally}\n{wrong}".strip(), flush=True)
    print(total)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
