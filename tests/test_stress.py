"""Trainings that are killed end as those that are not, after a few kills, or after hundreds: ``make stress``."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from comparison import differences
from mutations import MUTANTS
from processes import Command, as_ranks, classes_folder
from project import ROOT, bake_start

RUNS = int(os.environ.get("RUNS", "1"))  # of each variant, each killed up to two times
DDP = "--trainer.devices=2 --trainer.strategy=ddp"
AVERAGED = "--trainer.callbacks+=pytorch_lightning.callbacks.EMAWeightAveraging --trainer.callbacks.decay=0.9"
UNFREEZING = "--trainer.callbacks+=lightning_runs.training.finetuning.Unfreezing --trainer.callbacks.epochs=[0,1]"
# What a resumed run may get wrong: a start, or two files of `own_classes`, and options.
VARIANTS = {
    "own loaders, two processes": f"classifier plain_data {DDP}",
    "workers": "images --data.num_workers=2",
    "validation inside an epoch": "images --trainer.val_check_interval=0.3",
    "two processes, all at once": f"images {DDP} --data.num_workers=2 --trainer.val_check_interval=0.5",
    "averaged weights and fine-tuning": f"images {AVERAGED} {UNFREEZING} --model.layer_rate_decay=0.5",
    "classes drawn as often": "table --data.balance=sampling",
    "text, two processes": f"text {DDP} --data.max_vocabulary=500 --data.balance=sampling",
    "masks": "masks --data.balance=sampling --data.augment=strong",
}
QUICK = "own loaders, two processes"
ALWAYS = (
    *("--save_every_n_steps=4", "--trainer.max_epochs=4", "--trainer.limit_train_batches=20"),
    *("--trainer.limit_val_batches=4", "--trainer.limit_test_batches=4", "--trainer.log_every_n_steps=3"),
)


def fit(folder: Path, words: list[str], two: bool, seconds: float) -> bool:
    """Train in one process or two, killed after so many seconds; return whether it has ended before."""
    commands = as_ranks(folder, *words) if two else [Command(folder, *words)]
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(command.exitcode is None for command in commands):
        time.sleep(0.01)
    for command in commands:
        command.kill()
    codes = {command.exitcode for command in commands}
    assert codes <= {0, -signal.SIGKILL}, commands[0].output()
    return codes == {0}


@pytest.mark.timeout(900 * RUNS)
@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=[] if name == QUICK else [pytest.mark.slow]) for name in VARIANTS]
)
def test_a_killed_run_ends_like_one_that_was_left_alone(variant, tmp_path):
    task, _, options = VARIANTS[variant].partition(" --")
    options = [*ALWAYS, *(f"--{options}".split() if options else [])]
    if " " in task:
        folder = classes_folder(tmp_path / "own", "val_loss")
        program = ["own_classes", *task.split(), "fit"]
    else:
        folder = bake_start(task, tmp_path)
        program = [f"{task}_project", "fit"]
    two = DDP in VARIANTS[variant]
    begun = time.monotonic()
    assert fit(folder, [*program, "--run=whole", *options], two, 600)
    longest = time.monotonic() - begun
    for name in (f"killed{number}" for number in range(RUNS)):
        words = [*program, f"--run={name}", *options]
        # some die while they start, some in their first steps and some later
        for seconds in (random.uniform(0, longest), random.uniform(0, longest), 600):
            if fit(folder, words, two, seconds):
                break
            if (folder / "runs" / name / "config.yaml").is_file():
                words = [*program, f"--resume={name}"]
        assert differences(folder / "runs" / "whole", folder / "runs" / name) == []


@pytest.mark.parametrize("row", range(len(MUTANTS)))
def test_every_mistake_of_the_table_can_still_be_made(row):
    mutant = MUTANTS[row]
    assert mutant.path(ROOT).read_text(encoding="utf-8").count(mutant.old) == 1
    assert (ROOT / mutant.test.split(" -k ")[0]).is_file()
