"""Kill trainings at random moments, resume them, and compare the end with that of a training that was never killed.

``python tests/stress.py --kills 300`` (or ``make stress``) goes on until so many kills were made.
"""

import argparse
import multiprocessing
import os
import random
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import datasets
from comparison import differences
from processes import NOWHERE, Command, Place, as_ranks, classes_folder
from project import STARTS, bake, bake_start, callback

DDP = ("--trainer.devices=2", "--trainer.strategy=ddp")
PLATEAU = (
    "--model.scheduler=pytorch_lightning.cli.ReduceLROnPlateau",
    *("--model.scheduler.init_args.monitor=val/loss", "--model.scheduler.init_args.patience=0"),
)
# Each alone, and each two of them together. `repeat` trains such folds.
TOGETHER = {
    "averaged weights": callback("EMAWeightAveraging", "decay=0.9"),
    "mixup": ("--data.mix=mixup", "--model.label_smoothing=0.1"),
    "fine-tuning": (
        "--trainer.callbacks+=lightning_runs.training.finetuning.Unfreezing",
        *("--trainer.callbacks.epochs=[0,1]", "--model.layer_rate_decay=0.5"),
    ),
    "a fold": ("--data.fold=1", "--data.num_folds=3", "--trainer.limit_test_batches=0"),
}
# What a resumed run may get wrong: a start, or two files of `own_classes`, and options.
VARIANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "plain": ("images", ()),
    "workers": ("images", ("--data.num_workers=2",)),
    "accumulated gradients": ("images", ("--trainer.accumulate_grad_batches=3",)),
    "plateau": ("images", PLATEAU),
    "validation inside an epoch": ("images", ("--trainer.val_check_interval=0.3",)),
    "validation every second epoch": ("images", ("--trainer.check_val_every_n_epoch=2",)),
    "two best": (
        "images",
        callback("ModelCheckpoint", "monitor=val/accuracy", "mode=max", "save_top_k=2", "filename=b"),
    ),
    "early stopping": (
        "images",
        callback("EarlyStopping", "monitor=val/accuracy", "mode=max", "patience=1", "min_delta=1"),
    ),
    "stochastic averaging": ("images", callback("StochasticWeightAveraging", "swa_lrs=0.01", "swa_epoch_start=1")),
    "cutmix": ("images", ("--data.mix=cutmix",)),
    "strong augmentation": ("images", ("--data.augment=strong",)),
    "two processes": ("images", DDP),
    "two processes, all at once": (
        "images",
        (*DDP, "--data.num_workers=2", "--trainer.accumulate_grad_batches=2", "--trainer.val_check_interval=0.5"),
    ),
    **{kind: ("images", (f"--trainer.precision={kind}",)) for kind in ("64-true", "bf16-mixed", "bf16-true")},
    **{name: ("images", options) for name, options in TOGETHER.items()},
    **{f"{a} and {b}": ("images", (*TOGETHER[a], *TOGETHER[b])) for a, b in combinations(TOGETHER, 2)},
    "classes drawn as often": ("images", ("--data.balance=sampling", "--data.mix=mixup")),
    "classes weighted": ("images", ("--data.balance=weights", "--data.fold=1", "--data.num_folds=3")),
    "mnist": ("mnist", ()),
    "cifar10": ("cifar10", ("--trainer.accumulate_grad_batches=2",)),
    "corrupt_mnist": ("corrupt_mnist", ()),
    "image_folder": ("image_folder", ("--data.num_workers=2",)),
    "table": ("table", ()),
    "table, drawn as often": ("table", ("--data.balance=sampling",)),
    "text": ("text", ("--data.max_vocabulary=500",)),
    "text, two processes": ("text", (*DDP, "--data.max_vocabulary=500", "--data.balance=sampling")),
    "masks": ("masks", ("--data.balance=sampling", "--data.augment=strong")),
    "masks, weighted": ("masks", ("--data.balance=weights",)),
    "blank": ("blank", ()),
    "own loaders": ("classifier plain_data", ()),
    "own loaders, workers": ("classifier plain_data", ("--data.num_workers=2",)),
    "own loaders, two processes": ("classifier plain_data", DDP),
    "own augmentation": ("mixup augmented_data", ("--data.num_workers=0",)),
    "own augmentation, workers": ("mixup augmented_data", ()),
    "own augmentation, two processes": ("mixup augmented_data", DDP),
    "own optimizers": ("gan plain_data", ()),
}
# Killed by themselves in a step that is drawn: of a validation, of the test.
INSIDE = {"in the validation": "validation_step", "in the test": "test_step"}
VARIANTS |= {name: ("images", ()) for name in INSIDE}
# Lightning's callbacks that neither a variant nor tests/library/resume/test_lightning_callbacks.py has, and why.
NOT_STRESSED = {
    "LearningRateFinder": "is refused at the start",
    "DeviceStatsMonitor": "keeps nothing",
    "LambdaCallback": "does what its functions do, which no option can name",
    "OnExceptionCheckpoint": "writes when something fails, which a kill is not",
    **dict.fromkeys(("RichModelSummary", "RichProgressBar"), "keeps nothing"),
    "ThroughputMonitor": "wants a function, which no option can name",
    "WeightAveraging": "is the base of EMAWeightAveraging",
    **dict.fromkeys(("BaseFinetuning", "BasePredictionWriter", "Callback", "Checkpoint", "ProgressBar"), "is a base"),
    **dict.fromkeys(("LearningRateMonitor", "ModelSummary", "TQDMProgressBar"), "every run has it"),
}
ALWAYS = (
    *("--save_every_n_steps=4", "--trainer.max_epochs=4", "--trainer.limit_train_batches=20"),
    *("--trainer.limit_val_batches=4", "--trainer.limit_test_batches=4", "--trainer.log_every_n_steps=3"),
)


@dataclass
class Tally:
    """What a series of kills came to."""

    kills: int = 0
    runs: int = 0
    identical: int = 0

    def add(self, other: "Tally") -> None:
        """Count what another series came to."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)

    def __str__(self) -> str:
        """What is reported."""
        return f"{self.kills} kills, {self.runs} runs, {self.identical} identical"


class Program:
    """What a variant trains.

    Args:
        variant: Its name in `VARIANTS`.
        folder: An empty folder.
    """

    def __init__(self, variant: str, folder: Path) -> None:
        task, options = VARIANTS[variant]
        self.options = [*ALWAYS, *options]
        self.two = "--trainer.devices=2" in options
        if task in STARTS:
            self.folder, self.words = bake_start(task, folder), [f"{task}_project"]
            self.module = f"{task}_project.module"
        elif " " in task:
            self.folder = classes_folder(folder / "own", "val_d_loss" if "gan" in task else "val_loss")
            self.words = ["own_classes", *task.split()]
            self.module = f"own_classes.{self.words[1]}"
        else:
            answers = {"start": "images", "project_name": "images project", "logger": "csv", "accelerator": "cpu"}
            self.folder, self.words = bake(folder, answers), ["images_project"]
            self.options += [*datasets.write(task, folder / "files"), "--data.batch_size=8"]
            self.module = "images_project.module"

    def start(self, arguments: list[str], death: Place = NOWHERE) -> list[Command]:
        """Start a command; of two processes, both."""
        words = [*self.words, *arguments]
        return as_ranks(self.folder, *words) if self.two else [Command(self.folder, *words, death=death)]

    def train(self, name: str, delays: list[float]) -> tuple[int, float]:
        """Train under a name, killed after each of the delays until it ends by itself.

        Returns:
            The number of kills, and the seconds that the last command took.

        Raises:
            AssertionError: A command failed.
        """
        arguments = ["fit", f"--run={name}", *self.options]
        for kills in range(len(delays) + 1):
            begun = time.monotonic()
            commands = self.start(arguments)
            end = begun + delays[kills] if kills < len(delays) else float("inf")
            while all(command.exit_code() is None for command in commands) and time.monotonic() < end:
                time.sleep(0.01)
            if time.monotonic() < end:
                codes = [command.wait() for command in commands]
                assert not any(codes), f"exit {codes} after {kills} kills\n{commands[0].output()}"
                return kills, time.monotonic() - begun
            for command in commands:
                command.kill()
            arguments = ["fit", f"--resume={name}"] if self.exists(name) else arguments
        raise AssertionError("it did not end")

    def train_dying(self, name: str, method: str, calls: list[int]) -> int:
        """Train under a name, killed by itself in calls of a method, and return the number of kills."""
        arguments = ["fit", f"--run={name}", *self.options]
        for call in calls:
            self.start(arguments, (self.module, method, call))[0].wait()
            assert self.exists(name)
            arguments = ["fit", f"--resume={name}"]
        command = self.start(arguments)[0]
        assert command.wait() == 0, command.output()
        return len(calls)

    def exists(self, name: str) -> bool:
        """Return whether a run has been begun."""
        return (self.folder / "runs" / name / "config.yaml").is_file()


def stress(variant: str, folder: Path, kills: int, seed: int, tally: Tally) -> None:
    """Kill runs of a variant until so many kills were made, and compare each with one that was left alone.

    Raises:
        AssertionError: A run ended otherwise; the fields are named.
    """
    choose = random.Random(seed)
    program = Program(variant, folder)
    _, longest = program.train("whole", [])
    left = kills
    for number in range(1, 10 * kills):
        name = f"killed{number}"
        if variant in INSIDE:
            killed = program.train_dying(name, INSIDE[variant], [choose.randint(1, 4) for _ in range(2)])
        else:
            # some die while they start, some in their first steps and some later
            killed, took = program.train(name, [choose.uniform(0, 0.9 * longest) for _ in range(left)])
            longest = longest if killed else min(longest, took)  # a machine that is less busy than before
        left -= killed
        tally.add(Tally(killed, 1))
        different = differences(program.folder / "runs" / "whole", program.folder / "runs" / name)
        assert not different, f"{variant}, seed {seed}: {killed} kills\n" + "\n".join(different)
        tally.identical += 1
        if left <= 0:
            return


def attempt(variant: str, kills: int, seed: int) -> tuple[str, Tally, str]:
    """Do `stress` in a temporary folder; return the variant, the tally, and what was wrong."""
    tally, wrong = Tally(), ""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # a killed run's workers may still write
        try:
            stress(variant, Path(folder), kills, seed, tally)
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
    return variant, tally, wrong


def silence() -> None:
    """Drop what this process and cookiecutter's hooks print."""
    os.environ["OMP_NUM_THREADS"] = "1"  # two run side by side
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def main() -> None:
    """Go through all variants, two at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300, help="how many in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="these variants alone")
    options = parser.parse_args()
    total, failed = Tally(), False
    each = -(-options.kills // len(options.only))
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn"), initializer=silence) as pool:
        attempts = [pool.submit(attempt, name, each, options.seed + i) for i, name in enumerate(options.only)]
        for done in as_completed(attempts):
            name, tally, wrong = done.result()
            total.add(tally)
            failed |= bool(wrong)
            print(f"{name}: {tally}\n{wrong}".strip(), flush=True)
    print(total)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
