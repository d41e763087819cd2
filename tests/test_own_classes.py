"""A user's own classes, written as Lightning's documentation writes them: each command works or says what to add.

The classes are in `own_classes`, and nothing in them is made for this project. `FORMS` says of each form which classes
they are, and which method a command has to name because the classes don't have it. Every other command has to work.
"""

from __future__ import annotations

import csv
import json
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from project import PACKAGE
from stress import DDP, differences
from swap import project_with, write_yaml
from warm import run, shared


@dataclass(frozen=True)
class Form:
    """A way to write the two classes.

    Args:
        module: File with the LightningModule.
        data: File with the data module; None where the LightningModule has the loaders.
        metric: A metric that is logged in each epoch, the lower the better.
        option: An option that `sweep` tries, and its values.
        missing: What a command has to name because the classes don't have it: a regular expression for each command.
        validates: Whether the metric is one of validation.
        tests: Whether there is a `test_step`.
    """

    module: str
    data: str | None
    metric: str
    option: tuple[str, list[Any]]
    missing: dict[str, str] = field(default_factory=dict)
    validates: bool = True
    tests: bool = True


EXPORT = {"export": "exported"}  # there is no forward, or no batch, that shows what a network's input looks like
NO_PREDICT_DATA = {"predict": "predict_dataloader"}
FORMS = {
    "loaders in the module": Form(
        *("course_page", None, "val_loss"), ("trainer.gradient_clip_val", [0.5, 1.0]), NO_PREDICT_DATA
    ),
    "plain loaders": Form("classifier", "plain_data", "val_loss", ("model.hidden_dim", [8, 16])),
    "random augmentation": Form(*("mixup", "augmented_data", "val_loss"), ("model.alpha", [0.2, 0.4]), NO_PREDICT_DATA),
    "two optimizers": Form(
        *("gan", "plain_data", "val_d_loss"), ("model.latent_dim", [4, 8]), {**EXPORT, "predict": "predict_step"}
    ),
    "dict batches": Form(*("dict_module", "dict_data", "val/loss"), ("model.embedding_dim", [8, 16]), NO_PREDICT_DATA),
    "a stream": Form(*("classifier", "stream_data", "val_loss"), ("data.batch_size", [16, 32]), NO_PREDICT_DATA),
    "a loader with state": Form(
        *("classifier", "stateful_data", "val_loss"), ("data.batch_size", [16, 32]), NO_PREDICT_DATA
    ),
    "an own learning rate": Form(
        *("own_lr", "plain_data", "val_loss", ("model.lr", [0.001, 0.002])),
        {"predict": "predict_step", "test": "test_step"},
        tests=False,
    ),
    "no validation": Form(
        *("no_validation", "train_only_data", "train_loss", ("model.bottleneck", [2, 3])),
        {**EXPORT, "predict": "predict_step", "test": "test_step", "validate": "validation_step"},
        validates=False,
        tests=False,
    ),
    "regression": Form("regression", "regression_data", "val_rmse", ("model.learning_rate", [0.01, 0.02])),
}
SAVES = "--save_every_n_steps=3"
LINES = f"--trainer.callbacks+={PACKAGE}.runtime.callbacks.ProgressBar"
FIRST = {"--help": ["--help"], "fit --help": ["fit", "--help"], "fit": ["fit", "--run=whole", SAVES, LINES]}
LATER = {
    "test": ["test", "--run=whole"],
    "validate": ["validate", "--run=whole"],
    "predict": ["predict", "--run=whole"],
    "runs": ["runs"],
    "report": ["report", "whole"],
    "export": ["export", "whole"],
    "sweep": ["sweep", "--trials=2", "--trainer.max_epochs=1"],
}
# Kills the process, and those that load its batches, as soon as an optimizer has made its n-th step.
KILL = """
import os, signal
from torch.optim.optimizer import register_optimizer_step_post_hook

steps = []

def count(*_):
    steps.append(1)
    if len(steps) == {steps}:
        os.killpg(0, signal.SIGKILL)

register_optimizer_step_post_hook(count)
"""


@dataclass
class Asked:
    """A project with a user's classes, and what its commands answered.

    Args:
        form: Which classes they are.
        project: The project's folder.
        answers: Exit code and output of each command.
        tested: What `fit` wrote to ``test.json``, before `test` wrote over it; None where there was no such file.
    """

    form: Form
    project: Path
    answers: dict[str, tuple[int, str]] = field(repr=False)
    tested: dict[str, Any] | None

    @property
    def run(self) -> Path:
        """The folder of the run that was left alone.

        Raises:
            AssertionError: `fit` failed.
        """
        code, output = self.answers["fit"]
        assert code == 0, output
        return self.project / "runs" / "whole"


@pytest.fixture(scope="module", params=FORMS)
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    form = FORMS[request.param]
    folder = tmp_path_factory.mktemp("own")
    project = project_with(form.module, form.data, folder, form.metric if form.validates else None)
    option, values = form.option
    space = {"metric": form.metric, "direction": "minimize", "space": {option: {"choices": values}}}
    write_yaml(project / "configs" / "sweep.yaml", space)
    answers = dict(zip(FIRST, run(project, *FIRST.values(), own=True), strict=True))
    test = project / "runs" / "whole" / "test.json"
    tested = json.loads(test.read_text()) if test.is_file() else None
    answers |= zip(LATER, run(project, *LATER.values(), own=True), strict=True)
    return Asked(form, project, answers, tested)


@pytest.mark.parametrize("command", [*FIRST, *LATER])
def test_a_command_works_or_says_in_a_line_what_to_add(asked, command):
    code, output = asked.answers[command]

    assert "Traceback" not in output, output
    if command in asked.form.missing:
        assert code == 1, output
        (line,) = re.findall(r"^error: .*", output, re.MULTILINE)
        assert re.search(asked.form.missing[command], line), line
    else:
        assert code == 0, output


def test_the_help_of_classes_without_a_docstring_has_their_names(asked):
    text = asked.answers["fit --help"][1]

    assert "class '" not in text
    assert not re.findall(r"^  --.* \.$", text, re.MULTILINE)


def test_the_run_has_a_folder_with_everything_in_it(asked):
    files = ["config.yaml", "run.json", "checkpoints/last.ckpt", "metrics.csv", "report.html"]

    assert [file for file in files if not (asked.run / file).is_file()] == []
    assert (asked.tested is not None) == asked.form.tests
    assert json.loads((asked.run / "run.json").read_text())["status"] == "finished"
    assert asked.form.metric in columns(asked.run)


def test_the_line_of_each_epoch_shows_metrics(asked):
    lines = re.findall(r"^epoch .*", asked.answers["fit"][1], re.MULTILINE)

    assert len(lines) == 3
    assert [
        line for line in lines if not re.fullmatch(r"epoch \d/3(  \S+ -?\d+\.\d{4}( \(last batch\))?)+", line)
    ] == []
    assert [line for line in lines if asked.form.metric not in line] == []


def test_every_metric_is_in_the_report_under_its_own_name_and_no_other_is(asked):
    page = (asked.run / "report.html").read_text(encoding="utf-8")
    metrics = (columns(asked.run) | set(asked.tested or ())) - {"epoch", "step", "checkpoint"}

    assert {asked.form.metric} <= {metric for metric in metrics if metric in page} == metrics
    assert "accuracy" not in page.lower()


def test_the_table_of_runs_shows_the_run_and_its_metric(asked):
    (line,) = [line for line in asked.answers["runs"][1].splitlines() if "whole" in line]

    assert "finished" in line
    if asked.form.validates:
        assert asked.form.metric in line


def test_test_repeats_what_fit_measured(asked):
    if not asked.form.tests:
        pytest.skip("there is no test_step")
    assert json.loads((asked.run / "test.json").read_text()) == asked.tested


def test_predictions_are_in_the_folder_of_the_run(asked):
    if "predict" in asked.form.missing:
        pytest.skip("there is nothing to predict")
    assert list(asked.run.glob("predictions*"))


def test_a_sweep_has_as_many_trials_as_were_asked_for(asked):
    trials = sorted((asked.project / "runs").glob("sweep-*"))
    states = [json.loads((trial / "run.json").read_text())["status"] for trial in trials]

    assert states == ["finished", "finished"]
    assert asked.form.option[0].split(".")[-1] in (asked.project / "runs" / "sweep" / "best.yaml").read_text()


def test_a_run_that_is_killed_twice_and_resumed_ends_like_one_that_was_left_alone(asked):
    kill_after(17, asked.project, ["fit", "--run=killed", SAVES, LINES])
    assert (asked.project / "runs" / "killed" / "checkpoints" / "last.ckpt").is_file()
    # just after the end of an epoch: what it saved by itself is saved again by the next process
    kill_after(6, asked.project, ["fit", "--resume=killed"])
    [(code, output)] = run(asked.project, ["fit", "--resume=killed"], own=True)

    assert code == 0, output
    assert "is not resumable" not in output
    different = differences(asked.run, asked.project / "runs" / "killed")
    assert not different, "\n".join(different)


def kill_after(steps: int, project: Path, command: list[str]) -> None:
    """Run a command that is killed as soon as optimizers have made so many steps."""
    process = shared(own=True).start(project, [command], before=KILL.format(steps=steps))
    assert process.wait() == -signal.SIGKILL, process.output()


def columns(run: Path) -> set[str]:
    """Names of the columns of the run's ``metrics.csv``."""
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return set(next(csv.reader(file)))


def fit_on_two_devices(module: str, data: str, folder: Path) -> tuple[Path, int, str]:
    project = project_with(module, data, folder, "val_loss")
    process = shared(own=True).start(project, [["fit", "--run=two", *DDP]], processes=2)
    process.wait()
    return project / "runs" / "two", *process.results()[0]


def test_two_devices_share_the_batches_of_a_plain_loader(tmp_path):
    folder, code, output = fit_on_two_devices("classifier", "plain_data", tmp_path)

    assert code == 0, output
    # 160 images in batches of 16 for each of 2 devices, 3 times
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 15


def test_a_stream_that_two_devices_can_not_share_is_named(tmp_path):
    _, code, output = fit_on_two_devices("classifier", "stream_data", tmp_path)

    assert code in (0, 1), output
    assert "Traceback" not in output
    assert re.search("IterableDataset|SensorStream", output)


def test_a_stream_that_is_read_again_when_it_is_resumed_is_named_once(asked):
    named = re.findall(".*(?:IterableDataset|SensorStream).*", asked.answers["fit"][1])

    assert len(named) == (asked.form.data == "stream_data"), named


FAULTS = {
    "--data.empty=train": "nothing was trained: train_dataloader yields no batch.",
    "--data.batch_size=1000": "nothing was trained: train_dataloader yields no batch.",
    "--data.empty=train --data.shuffle=true": "a data set has no items, so its loader can't shuffle them.",
    "--data.batch_size=0": "batch_size should be a positive integer value, but got batch_size=0",
    "--data.missing=true": "before anything was learned: look for NaN in its inputs and targets.",
    "--data.empty=val": "Nothing is: val_dataloader yields no batch, or validation_step calls no self.log.",
    "--model.has_loss=false": "FaultyModule.training_step returns no loss, so nothing is learned. Return it.",
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project_with("faulty", "faulty_data", tmp_path_factory.mktemp("faulty"), "val_loss")


@pytest.mark.parametrize("options", FAULTS)
def test_what_is_wrong_with_ones_own_data_or_step_is_told_in_a_line(faulty, options):
    [(code, output)] = run(faulty, ["fit", *options.split()], own=True)

    assert code == 1, output
    (line,) = re.findall(r"^error: .*", output, re.MULTILINE)
    assert line.endswith(FAULTS[options])
    assert "Traceback" not in output


def test_a_loader_that_yields_nothing_is_named_by_the_command_that_needs_it(faulty):
    commands = (["fit", "--run=a", "--data.empty=test"], ["test", "--run=a"])
    commands += (["predict", "--run=a", "--data.empty=predict"],)

    fit, test, predict = run(faulty, *commands, own=True)

    assert fit[0] == 0, fit[1]
    assert "\nnothing was measured: test_dataloader yields no batch." in fit[1]
    assert test[0] == predict[0] == 1
    assert test[1].endswith("\nerror: nothing was measured: test_dataloader yields no batch.")
    assert predict[1].endswith("\nerror: predict_dataloader yields no batch, so FaultyModule predicted nothing.")


def test_paths_that_are_kept_as_hyperparameters_alone_are_predicted(faulty):
    for name in ("long", "short"):
        (faulty / f"{name}.txt").write_text(name)

    commands = (["fit", "--run=b"], ["predict", "long.txt", "short.txt", "--run=b"], ["predict", "none.txt", "--run=b"])
    _, predicted, missing = run(faulty, *commands, own=True)

    assert re.search(r"^long.txt +\d.*\nshort.txt +\d", predicted[1], re.MULTILINE), predicted
    assert (predicted[0], missing[0]) == (0, 1)
    assert missing[1].endswith("error: none.txt does not exist, so it can't be predicted.")
