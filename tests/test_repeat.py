"""Runs over seeds and folds: each is there once, whoever was killed, and what is said of them together is right."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import shutil
import sys
import time
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
import yaml
from combinations import VALUES
from project import PACKAGE, TEMPLATE, read_rows
from scipy import stats
from test_render import render
from warm import Command, run, shared

SMALL = ("--trainer.max_epochs=2", "--trainer.limit_train_batches=6", "--save_every_n_steps=2")
LOADED = """
    def test_dataloader(self) -> DataLoader:
        with open("tested.txt", "a") as file:
            print(self.trainer.default_root_dir, file=file)
        return super().test_dataloader()

    def loader(self, part: str) -> DataLoader:
"""


def bake(dataset: str, folder: Path) -> Path:
    """Bake a project that writes down in tested.txt who asks for the test data."""
    first = {name: values[0] for name, values in VALUES.items()}
    project = render({**first, "dataset": dataset, "logger": "csv", "accelerator": "cpu"}, folder)
    file = project / "src" / PACKAGE / "data.py"
    if dataset != "own":
        before, after = file.read_text().split("\n    def loader(self, part: str) -> DataLoader:\n")
        file.write_text(before + LOADED + after)
    return project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bake("penguins", tmp_path_factory.mktemp("penguins"))


@pytest.fixture(scope="module")
def folds(project: Path) -> tuple[Path, str]:
    """Three folds, which other tests compare with; not to be changed."""
    (project / "tested.txt").unlink(missing_ok=True)
    [(code, output)] = run(project, ["repeat", "base", "--folds=3", *SMALL], own=True)
    assert code == 0, output
    shutil.copy(project / "tested.txt", project / "tested_by_base.txt")
    return project, output


def read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def told(output: str) -> list[str]:
    assert "Traceback" not in output, output
    return [line for line in output.splitlines() if line.startswith("error: ")]


def cells(output: str, label: str, title: str = "Each run, and all of them") -> list[float]:
    """The numbers of a row of a printed table."""
    table = output.split(f"\n{title}\n")[1].split("\n\n")[0]
    (line,) = [line for line in table.splitlines() if line.startswith(label)]
    return [float(cell) for cell in line[len(label) :].split()]


def check_interval(values: list[float], output: str, column: int, half_by: float) -> None:
    half = stats.t.ppf(0.975, len(values) - 1) * stdev(values) * half_by**0.5
    expected = (fmean(values), stdev(values), fmean(values) - half, fmean(values) + half)
    shown = [cells(output, label)[column] for label in ("mean", "standard deviation", "95 % from", "95 % to")]
    assert shown == pytest.approx(expected, abs=1e-4)


# ---- Statistics


@pytest.fixture(scope="module")
def intervals() -> Any:
    file = TEMPLATE / "src/{{cookiecutter.__package}}/runtime/commands/intervals.py"
    spec = importlib.util.spec_from_file_location("intervals", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    spec.loader.exec_module(module)
    sys.dont_write_bytecode = written
    return module


@pytest.mark.parametrize("probability", [0.6, 0.95, 0.975, 0.995, 0.9999])
def test_quantiles_of_student_s_t_are_those_of_scipy(intervals, probability):
    for freedom in (*range(1, 60), 100, 101, 999, 1000):
        expected = stats.t.ppf(probability, freedom)
        assert intervals.t_quantile(probability, freedom) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_an_interval_of_folds_is_wider_than_that_of_seeds_by_what_their_shared_data_cost(intervals):
    values = [0.81, 0.85, 0.84, 0.9, 0.79]
    of_seeds, of_folds = (intervals.summarize(values, folds) for folds in (False, True))
    expected = stats.t.interval(0.95, 4, fmean(values), stdev(values) / 5**0.5)
    assert of_seeds[2:] == pytest.approx(expected, abs=1e-9)
    assert of_folds.high - of_folds.mean == pytest.approx((of_seeds.high - of_seeds.mean) * (1 + 5 / 4) ** 0.5)
    assert of_folds[:2] == of_seeds[:2]


def test_a_metric_that_is_not_finite_has_no_interval(intervals):
    assert np.isnan(intervals.summarize([0.5, float("nan")], False)).all()


# ---- Seeds


def test_each_seed_is_a_run_that_is_tested_and_their_mean_has_an_interval(project):
    [(code, output), (again, nothing), (more, third)] = run(
        project,
        ["repeat", "seeds", "--seeds=2", *SMALL],
        ["repeat", "seeds", "--seeds=2", *SMALL],
        ["repeat", "seeds", "--seeds=3", *SMALL],
        own=True,
    )
    assert code == again == more == 0, output + third
    assert "begins" not in nothing
    assert re.findall(r"^(\S+) begins", third, re.MULTILINE) == ["seeds-seed-44"]
    folders = [project / "runs" / f"seeds-seed-{seed}" for seed in (42, 43, 44)]
    assert [yaml.safe_load((f / "config.yaml").read_text())["seed_everything"] for f in folders] == [42, 43, 44]
    assert all((folder / "report.html").is_file() for folder in folders)
    values = [read_json(folder / "test.json")["test/accuracy"] for folder in folders]
    for folder, value in zip(folders, values, strict=True):
        assert cells(third, folder.name)[0] == pytest.approx(value, abs=1e-4)
    check_interval(values, third, 0, 1 / 3)
    page = (project / "runs" / "seeds" / "repeat.html").read_text(encoding="utf-8")
    assert "standard deviation" in page
    assert "Learning curves" in page


# ---- Folds


def test_no_fold_reads_the_test_data_and_their_ensemble_is_tested_once(folds):
    project, output = folds
    asked = (project / "tested_by_base.txt").read_text().splitlines()
    assert len(asked) == 1
    names = [f"base-fold-{i}" for i in range(3)]
    for name in names:
        folder = project / "runs" / name
        assert read_json(folder / "run.json")["status"] == "finished"
        assert not (folder / "test.json").exists()
        assert not (folder / "report.html").exists()
    [(code, refused)] = run(project, ["test", "--run=base-fold-0"], own=True)
    assert code == 1
    assert told(refused) == [
        "error: trainer.limit_test_batches is 0, so none of these data are read. Give --trainer.limit_test_batches 1.0"
    ]
    values = [read_json(project / "runs" / name / "validate.json")["val/accuracy"] for name in names]
    check_interval(values, output, 0, 1 / 3 + 1 / 2)
    title = "Test of the ensemble of 3 folds"
    assert cells(output, "test/accuracy", title) == [
        pytest.approx(read_json(project / "runs" / "base" / "test.json")["test/accuracy"], abs=1e-4)
    ]


def true_values(project: Path, column: str) -> list[str]:
    """A column of the penguins, by line."""
    rows = read_rows(project / "src" / PACKAGE / "penguins.csv")
    return ["", "", *(row[column] for row in rows)]


def test_the_ensemble_is_the_mean_of_the_folds_probabilities(folds):
    project, _ = folds
    commands = [["predict", f"--run=base-fold-{i}", "--data.num_folds=null"] for i in range(3)]
    assert [code for code, _ in run(project, *commands, own=True)] == [0, 0, 0]
    tables = [read_rows(project / "runs" / f"base-fold-{i}" / "predictions.csv") for i in range(3)]
    species = true_values(project, "species")
    names, right, losses = sorted(set(species[2:])), [], []
    for rows in zip(*tables, strict=True):
        assert len({row["file"] for row in rows}) == 1
        mean = [fmean(float(row[f"p({name})"]) for row in rows) for name in names]
        true = species[int(rows[0]["file"].split(":")[1])]
        right.append(names[int(np.argmax(mean))] == true)
        losses.append(-np.log(mean[names.index(true)]))
    tested = read_json(project / "runs" / "base" / "test.json")
    assert tested["test/accuracy"] == pytest.approx(fmean(right), abs=1e-6)
    assert tested["test/loss"] == pytest.approx(fmean(losses), abs=1e-4)


def check_out_of_fold(project: Path, name: str, count: int) -> None:
    """Each row that is not tested is predicted once, by the fold that was validated on it."""
    rows = read_rows(project / "runs" / name / "out_of_fold.csv")
    assert len({row["file"] for row in rows}) == len(rows) == 344 - 69
    species = true_values(project, "species")
    for fold in range(count):
        of_fold = [row for row in rows if row["fold"] == str(fold)]
        right = [species[int(row["file"].split(":")[1])] == row["label"] for row in of_fold]
        validated = read_json(project / "runs" / f"{name}-fold-{fold}" / "validate.json")["val/accuracy"]
        assert fmean(right) == pytest.approx(validated, abs=1e-6)


def test_out_of_fold_predictions_have_each_row_once(folds):
    check_out_of_fold(folds[0], "base", 3)


def wait_for(condition: Any, *commands: Command) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, [command.output() for command in commands]
        assert any(command.ended() is None for command in commands), [command.output() for command in commands]
        time.sleep(0.005)


def test_folds_of_two_processes_that_are_killed_are_all_there_once(project):
    """One is killed in its first training, the other one a moment later, and two go on together."""
    command = ["repeat", "killed", "--folds=3", *SMALL]
    first, second = (shared(own=True).start(project, [command]) for _ in range(2))

    def is_under_way() -> bool:
        begun = re.findall(r"^(\S+) begins", first.output(), re.MULTILINE)
        folder = project / "runs" / (begun[-1] if begun else "none")
        return (folder / "checkpoints" / "last.ckpt").is_file()

    wait_for(is_under_way, first, second)
    first.kill()
    time.sleep(random.Random(0).uniform(0, 1))
    second.kill()
    last = [shared(own=True).start(project, [command]) for _ in range(2)]

    assert [process.wait() for process in last] == [0, 0], [process.output() for process in last]
    output = "".join(process.output() for process in (first, second, *last))
    names = [f"killed-fold-{i}" for i in range(3)]
    # the second one may have been killed after this word, and before its run was there
    assert set(re.findall(r"^(\S+) begins", output, re.MULTILINE)) == set(names)
    assert "goes on" in output
    assert sorted(path.name for path in (project / "runs").glob("killed-*")) == names
    for name in names:
        assert read_json(project / "runs" / name / "run.json")["status"] == "finished"
        epochs = [row["epoch"] for row in read_rows(project / "runs" / name / "metrics.csv") if row["val/loss"]]
        assert epochs[:2] == ["0", "1"]
    check_out_of_fold(project, "killed", 3)
    [(code, output)] = run(project, command, own=True)
    assert code == 0, output
    assert "begins" not in output


def test_a_refit_trains_on_all_training_data_for_the_median_number_of_epochs_and_is_tested_once(folds):
    project, _ = folds
    (project / "tested.txt").unlink(missing_ok=True)
    [(code, output)] = run(project, ["repeat", "base", "--folds=3", *SMALL, "--final=refit"], own=True)
    assert code == 0, output
    folder = project / "runs" / "base-final"
    assert (project / "tested.txt").read_text().splitlines() == [str(folder)]
    best = [read_json(project / f"runs/base-fold-{i}/run.json")["best_checkpoint"] for i in range(3)]
    epochs = sorted(int(re.findall(r"epoch=(\d+)", name)[0]) + 1 for name in best)[1]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["trainer"]["max_epochs"] == epochs
    assert read_json(folder / "run.json")["epochs"] == epochs
    assert (config["data"]["fold"], config["data"]["num_folds"]) == (None, 3)
    assert "275 rows to train, 0 to validate, 69 to test" in (folder / "report.html").read_text()
    tested = read_json(folder / "test.json")["test/accuracy"]
    assert cells(output, "test/accuracy", f"Test of base-final, trained on all training data, epochs: {epochs}") == [
        pytest.approx(tested, abs=1e-4)
    ]


def test_the_ensemble_of_a_number_is_the_mean_in_the_target_s_own_unit(project):
    options = ["--data.dataset=penguin_mass", *SMALL]
    [(code, output), *predicted] = run(
        project,
        ["repeat", "mass", "--folds=2", *options],
        *(["predict", f"--run=mass-fold-{i}", "--data.num_folds=null"] for i in range(2)),
        own=True,
    )
    assert code == 0, output
    assert [code for code, _ in predicted] == [0, 0]
    tables = [read_rows(project / "runs" / f"mass-fold-{i}" / "predictions.csv") for i in range(2)]
    mass = true_values(project, "body_mass_g")
    errors = [
        fmean(float(row["prediction"]) for row in rows) - float(mass[int(rows[0]["file"].split(":")[1])])
        for rows in zip(*tables, strict=True)
    ]
    tested = read_json(project / "runs" / "mass" / "test.json")
    assert tested["test/rmse"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-4)


def test_a_module_whose_test_step_does_not_call_forward_has_no_ensemble(tmp_path, project):
    copy = tmp_path / "copy"
    shutil.copytree(project, copy, ignore=shutil.ignore_patterns("runs"))
    file = copy / "src" / PACKAGE / "module.py"
    file.write_text(
        file.read_text().replace(
            "outputs = self(numbers, words).float()", "outputs = self.forward(numbers, words).float()"
        )
    )
    options = ["repeat", "--folds=2", *SMALL, "--trainer.max_epochs=1"]
    commands = [options, [*options, "--final=ensemble"], [*options, "--final=none"]]
    [(code, output), (asked, refused), (none, without)] = run(copy, *commands, own=True)
    assert (code, asked, none) == (0, 1, 0), output + refused + without
    sentence = (
        "the ensemble can't be tested by TableModel.test_step: it must call self(inputs) once for each batch,"
        " and TableModel.predict_step must return what that gives as probabilities or prediction, of the same items in"
        " the same order. Add that, or choose --final refit or --final none."
    )
    assert f"note: {sentence}" in output
    assert told(refused) == [f"error: {sentence}"]
    assert not (copy / "runs" / "repeat" / "test.json").exists()


# ---- Against another repeat


def test_two_repeats_of_the_same_folds_are_compared_run_by_run(folds):
    project, _ = folds
    command = ["repeat", "other", "--folds=3", "--against=base", "--final=none", *SMALL]
    [(code, output), (moved, refused), (fewer, unequal)] = run(
        project,
        [*command, "--model.optimizer.init_args.lr=0.01"],
        ["repeat", "moved", *command[2:], "--data.split_seed=1"],
        ["repeat", "fewer", "--folds=2", "--against=base"],
        own=True,
    )
    assert code == 0, output
    pairs = [
        [read_json(project / f"runs/{name}-fold-{i}/validate.json")["val/accuracy"] for name in ("other", "base")]
        for i in range(3)
    ]
    differences = [ours - theirs for ours, theirs in pairs]
    half = stats.t.ppf(0.975, 2) * stdev(differences) * (1 / 3 + 1 / 2) ** 0.5
    mean = fmean(differences)
    expected = [mean, stdev(differences), mean - half, mean + half]
    shown = cells(output, "val/accuracy", "other less base, run by run")
    assert shown == pytest.approx(expected, abs=1e-4)
    assert (moved, fewer) == (1, 1)
    assert told(refused) == ["error: moved-fold-0 and base-fold-0 had other folds of the data: they can't be compared."]
    assert told(unequal) == [
        "error: base has the runs fold-0, fold-1, fold-2, and this repeat has fold-0, fold-1. Runs are compared one by"
        " one: both need the same seeds, or the same number of folds."
    ]
    for name, changed, why in (
        ("other", {"items": {}}, "predict_step returns no index that tells the items of other-fold-0"),
        (
            "other-fold-0",
            {"fingerprint": "x"},
            "other-fold-0 and base-fold-0 had other data (see fingerprint in run.json)",
        ),
    ):
        (record,) = (project / "runs" / name).glob("r*.json")
        record.write_text(json.dumps(read_json(record) | changed))
        [(code, output)] = run(project, [*command, "--model.optimizer.init_args.lr=0.01"], own=True)
        assert code == 1
        assert told(output) == [f"error: {why}: they can't be compared."]


# ---- What is refused


def test_wrong_options_are_refused_in_one_sentence_each_before_a_run(folds):
    project, _ = folds
    (project / "runs/base-blank").mkdir()
    (project / "runs/base-blank/repeat.json").write_text('{"begun": {}, "runs": ["fold-0", "fold-1"]}')
    cases = {
        "--folds is 1; it must be at least 2, for one run has no spread.": ["a", "--folds=1"],
        "--seeds is 0; it must be at least 2, for one run has no spread.": ["a", "--seeds=0"],
        "repeat takes either --seeds N or --folds K, such as: repeat --seeds 5": ["a"],
        "repeat takes either --seeds N or --folds K, such as: repeat --seeds 5 ": ["a", "--seeds=2", "--folds=2"],
        "--final is 'mean'; it must be one of ensemble, refit, none.": ["a", "--folds=2", "--final=mean"],
        "--final is an option of --folds; with --seeds each run is tested itself.": ["a", "--seeds=2", "--final=none"],
        "--against is 'runs/b'; a run's name is made of letters, digits and . _ + = , - alone.": [
            *("b", "--folds=2", "--against=runs/b")
        ],
        "there is no repeat nowhere in runs to compare with.": ["b", "--folds=2", "--against=nowhere"],
        "which items the folds of base-blank have predicted is not known, so they can't be compared. Let predict_step"
        " return an index, as docs/own-code.md says, and give the command of base-blank again.": [
            *("b", "--folds=2", "--against=base-blank")
        ],
        "NAME is 'a/b'; a run's name is made of letters, digits and . _ + = , - alone.": ["a/b", "--seeds=2"],
        "--run is no option of repeat: it names its runs itself, a-seed-0 and so on.": ["a", "--seeds=2", "--run=x"],
        "--data.fold is no option of repeat: it gives each run a fold of its own.": ["a", "--folds=2", "--data.fold=1"],
        "--trainer.fast_dev_run keeps no run, so there is nothing to repeat. Leave it out.": [
            *("a", "--folds=2", "--trainer.fast_dev_run=1")
        ],
        "the repeat base was begun with folds 3, and now it is 2. Begin another one under a name of its own: repeat"
        " NAME": ["base", "--folds=2", *SMALL],
        f"runs{os.sep}base-fold-0 is there, and is no run of this repeat. Choose another name: repeat NAME": [
            *("base-fold-0", "--folds=2")
        ],
    }
    results = run(project, *(["repeat", *options] for options in cases.values()), own=True)
    for text, (code, output) in zip(cases, results, strict=True):
        assert code == 1, output
        (line,) = told(output)
        if "is there, and is no run" in text:
            assert "is there, and is no run of this repeat. Choose another name: repeat NAME" in line
        else:
            assert line == f"error: {text.strip()}"
    left = {path.name for path in (project / "runs").iterdir() if not path.name.startswith("base")}
    assert not left & {"a", "b", "a-seed-0", "base-fold-0-fold-0"}
    [(code, output)] = run(project, ["repeat", "a", "--seeds=2", "--data.bach_size=3"], own=True)
    assert code == 2
    assert "there is no option --data.bach_size" in told(output)[0]


def test_a_data_module_without_folds_is_told_what_to_add_and_repeats_seeds(tmp_path):
    project = bake("own", tmp_path)
    [(code, output), (seeds, trained)] = run(
        project,
        ["repeat", "--folds=2"],
        ["repeat", "--seeds=2", "--trainer.max_epochs=1", "--trainer.limit_train_batches=2"],
        own=True,
    )
    assert code == 1
    (line,) = told(output)
    assert re.fullmatch(
        r"error: \w+ knows no folds\. Add to the data module's __init__ the arguments fold and num_folds;"
        r" docs/own-code\.md says what they do\.",
        line,
    )
    assert seeds == 0, trained


def test_a_run_that_fails_is_named_and_the_others_are_kept(project):
    [(code, output)] = run(project, ["repeat", "failing", "--seeds=2", *SMALL, "--data.batch_size=5000"], own=True)
    assert code == 1
    (line,) = told(output)
    assert line.startswith("error: failing-seed-42 failed: data.batch_size is 5000")
    assert line.endswith("What is finished is kept.")
