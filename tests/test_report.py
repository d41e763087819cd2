"""Does a run's report say what its files hold, and need nothing else? Does `runs` know which run still runs?"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from project import PACKAGE, SMALL, clean_environment
from warm import copy_package, run, shared

VOID = {"br", "img", "link", "meta"}
HOSTILE = "<script>alert(1)</script>"


class Page(HTMLParser):
    """A page that is read strictly: every element is closed, by its own name.

    Attributes:
        elements: Each element's name and attributes.
        text: What a reader sees, style sheet aside.
        told: What each cell and bar of a chart tells the one who points at it.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.told: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: D102
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: D102
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:  # noqa: D102
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:  # noqa: D102
        if self._open[-1:] == ["title"] and "svg" in self._open:
            self.told.append(data)
        elif self._open[-1:] != ["style"]:
            self.text += data


def page_of(file: Path) -> Page:
    """Read a report, and check what every one of them has to be."""
    text = file.read_text(encoding="utf-8")
    page = Page(text)
    for tag, attributes in page.elements:
        assert tag not in ("script", "iframe", "object"), tag
        assert not [name for name in attributes if name.startswith("on")], attributes
        for name in ("src", "href", "xlink:href", "srcset"):
            assert (attributes.get(name) or "data:").startswith("data:"), attributes
        if tag == "img":
            assert attributes.get("alt")
        if tag == "svg":
            assert attributes.get("role") == "img"
            assert attributes.get("aria-label")
    assert not re.search(r"url\(|@import|https?://(?!doi)", text.split("</style>")[0])
    assert "prefers-color-scheme:dark" in text
    assert "@media print" in text
    return page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Import the module of the generated project."""
    source = copy_package(tmp_path_factory.mktemp("report"))
    sys.path.insert(0, str(source))
    try:
        yield __import__(f"{PACKAGE}.commands.report", fromlist=["write"])
    finally:
        sys.path.remove(str(source))
        for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
            del sys.modules[name]


def run_one(project: Path, *arguments: str, **options: Any) -> tuple[int, str]:
    [result] = run(project, list(arguments), **options)
    return result


def digits_test_labels() -> np.ndarray:
    file = Path(__file__).parents[1] / "{{cookiecutter.project_slug}}/src/{{cookiecutter.__package}}/digits.npz"
    return np.load(file)["test_labels"]


def test_fit_ends_with_a_report_whose_matrix_and_accuracy_are_those_of_the_predictions(bake_project):
    project = bake_project({"logger": "csv"})
    small = [option for option in SMALL if "limit_test_batches" not in option]
    (fit, output), (predict, _) = run(project, ["fit", "--run=a", *small], ["predict", "--run=a"])

    assert (fit, predict) == (0, 0)
    assert f"Report: {os.path.join('runs', 'a', 'report.html')}" in output
    page = page_of(project / "runs" / "a" / "report.html")
    with (project / "runs" / "a" / "predictions.csv").open(newline="") as file:
        predicted = np.array([int(row["label"]) for row in csv.DictReader(file)])
    labels = digits_test_labels()
    expected = {
        f"{true} taken for {taken}: {count}" if true != taken else f"{true} recognised: {count}"
        for true in range(10)
        for taken in range(10)
        for count in [int(((labels == true) & (predicted == taken)).sum())]
    }
    assert {told for told in page.told if ":" in told} == expected
    hits = int((labels == predicted).sum())
    assert f"{hits / 360:.2%} test accuracy" in page.text
    assert f"{hits} of 360 images" in page.text
    loss = json.loads((project / "runs" / "a" / "test.json").read_text())["test/loss"]
    assert float(re.search(r"([\d.]+) test loss", page.text)[1]) == pytest.approx(loss, abs=1e-4)  # pyright: ignore
    assert len(re.findall(r"taken for \d\d*\.\d%", page.text)) == min(24, 360 - hits)
    for told in ("images per second", f"python -m {PACKAGE} fit -c runs/a/config.yaml", "Expected calibration error"):
        assert told in page.text
    assert "test.json has an accuracy" not in page.text


def test_a_report_tests_on_as_many_images_as_the_run_did(bake_project):
    project = bake_project({"logger": "csv"})
    assert run_one(project, "fit", "--run=a", *SMALL)[0] == 0

    page = page_of(project / "runs" / "a" / "report.html")
    assert "of 32 images" in page.text
    accuracy = json.loads((project / "runs" / "a" / "test.json").read_text())["test/accuracy"]
    assert f"{accuracy:.2%} test accuracy" in page.text


def test_a_report_of_a_folder_of_images_shows_them_and_escapes_the_names_of_their_classes(bake_project):
    project = bake_project({"logger": "csv", "dataset": "image_folder"})
    datasets.image_folder(project / "data" / "images")
    for part in ("train", "test"):
        first = min((project / "data" / "images" / part).iterdir())
        first.rename(first.with_name("<b>&amp;\"'"))
    options = [*SMALL, "--data.root=data/images", "--data.batch_size=2", "--data.skip_corrupt=true"]
    code, output = run_one(project, "fit", "--run=a", *options)

    assert code == 0, output
    page = page_of(project / "runs" / "a" / "report.html")
    assert "<b>&amp;\"'" in page.text
    assert [tag for tag, _ in page.elements].count("img") >= 2


def test_a_report_that_fails_or_is_gone_leaves_the_training_finished_and_says_why(bake_project):
    project = bake_project({"logger": "csv"})
    before = f"import {PACKAGE}.commands.report as r\ndef page(_): raise KeyError('odd')\nr.page = page"
    code, output = run_one(project, "fit", "--run=a", *SMALL, before=before)
    assert code == 0
    assert "No report was written: KeyError: 'odd'" in output
    before = f"import sys; sys.modules['{PACKAGE}.commands.report'] = None"
    code, output = run_one(project, "fit", "--run=b", *SMALL, before=before)
    assert code == 0
    assert "No report was written: ModuleNotFoundError" in output
    for name in "ab":
        assert json.loads((project / "runs" / name / "run.json").read_text())["status"] == "finished"


def test_several_runs_are_compared_with_what_differs_and_a_killed_one_is_not_called_running(bake_project):
    project = bake_project({"logger": "csv"})
    before = f"""
from {PACKAGE}.module import ImageClassifier
def step(self, batch, index):
    import os, signal
    if self.trainer.global_step == 1: os.kill(os.getpid(), signal.SIGKILL)
    return original(self, batch, index)
original = ImageClassifier.training_step
ImageClassifier.training_step = step
"""
    command = shared().start(project, [["fit", "--run=killed", *SMALL]], before=before)
    assert command.wait() == -9
    rate = "--model.optimizer.init_args.lr=0.0123"
    results = run(
        project,
        ["fit", "--run=a", *SMALL],
        ["fit", "--run=b", *SMALL, rate],
        ["report", "a", os.path.join("runs", "b"), "killed"],
        ["runs"],
        ["runs", "--csv", "--sort=best", "--reverse"],
    )
    assert [code for code, _ in results] == [0] * 5, results
    page = page_of(project / "runs" / "compare.html")
    assert "model.optimizer.init_args.lr" in page.text
    assert "0.0123" in page.text
    assert "data.batch_size" not in page.text.split("What differs")[1].split("Learning curves")[0]
    assert "interrupted" in page.text
    # the table, of which the killed run's own file still says that it is running
    assert json.loads((project / "runs" / "killed" / "run.json").read_text())["status"] == "running"
    table = results[3][1].splitlines()
    assert re.search(r"^killed +interrupted +val/accuracy +- ", "\n".join(table), flags=re.MULTILINE)
    rows = list(csv.DictReader(io.StringIO(results[4][1][results[4][1].index("name,") :])))
    assert [row["status"] for row in rows] == ["finished", "finished", "interrupted"]
    assert float(rows[0]["best"]) >= float(rows[1]["best"])
    assert rows[2]["best"] == ""
    assert {row["epochs"] for row in rows[:2]} == {"2"}
    for row in rows[:2]:
        with (project / "runs" / row["name"] / "metrics.csv").open(newline="") as file:
            values = [float(line["val/accuracy"]) for line in csv.DictReader(file) if line["val/accuracy"]]
        assert float(row["best"]) == max(values)


def test_a_run_without_a_checkpoint_or_without_metrics_is_shown_with_what_it_has(bake_project):
    project = bake_project({"logger": "csv"})
    assert run_one(project, "fit", "--run=a", *SMALL)[0] == 0
    folder = project / "runs" / "a"
    shutil.copytree(folder, folder.with_name("b"))
    shutil.rmtree(folder / "checkpoints")
    (folder.with_name("b") / "metrics.csv").unlink()
    results = run(project, ["report", "a", "--output=out/a.html"], ["report", "b"])

    assert [code for code, _ in results] == [0, 0], results
    unmeasured = page_of(project / "out" / "a.html")
    assert "the run a has no checkpoint in" in unmeasured.text
    assert "No test result, no confusion matrix." in unmeasured.text
    assert "no value was logged" not in unmeasured.text
    unlogged = page_of(folder.with_name("b") / "report.html")
    assert "There is no metrics.csv" in unlogged.text
    assert "of 32 images" in unlogged.text


def test_bad_input_is_told_in_one_line(bake_project):
    project = bake_project({"logger": "csv"})
    empty = project / "runs" / "empty"
    empty.mkdir(parents=True)
    shutil.copy(project / "configs" / "default.yaml", empty / "config.yaml")
    results = run(
        project, ["report", "nope"], ["report", "empty"], ["runs", "--sort", "bset"], ["report", "--output=x"]
    )

    assert [code for code, _ in results] == [1, 1, 1, 2]
    said = [[line for line in output.splitlines() if "error: " in line] for _, output in results]
    assert said[0] == ["error: there is no run nope in runs (newest: empty)."]
    assert said[1][0].startswith("error: the run empty has neither metrics nor a checkpoint")
    assert "there is no column bset; it must be one of name, status" in said[2][0]
    assert said[2][0].endswith("Did you mean best?")
    assert said[3] == [f"python -m {PACKAGE} report: error: the following arguments are required: RUN"]
    assert all(len(lines) == 1 for lines in said)


def test_the_table_needs_no_torch_and_knows_a_running_run_from_one_whose_process_is_gone(bake_project):
    project = bake_project({"logger": "csv"})
    code = (
        f"import sys; from {PACKAGE}.__main__ import main; sys.argv[1:] = ['runs']; code = main();"
        " sys.exit(code or 9 * ('torch' in sys.modules or 'pytorch_lightning' in sys.modules))"
    )

    def table() -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=project, env=clean_environment(project), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert table() == f"There is no run in runs yet. Train one with: python -m {PACKAGE} fit\n"
    before = f"""
from {PACKAGE}.module import ImageClassifier
def wait(self):
    import time
    time.sleep(60)
ImageClassifier.on_train_start = wait
"""
    command = shared().start(project, [["fit", "--run=a", *SMALL]], before=before)
    try:
        end = time.monotonic() + 60
        record = project / "runs" / "a" / "run.json"
        while not record.is_file() or "command" not in json.loads(record.read_text()):
            assert command.ended() is None, command.output()
            assert time.monotonic() < end, command.output()
            time.sleep(0.05)
        assert re.search(r"^a +running ", table(), flags=re.MULTILINE)
    finally:
        command.kill()
    assert re.search(r"^a +interrupted ", table(), flags=re.MULTILINE)
    # another process has that number now, or it ran on a machine of which nothing is known here
    values = json.loads(record.read_text())
    values["process"] |= {"pid": os.getpid()}
    record.write_text(json.dumps(values))
    assert re.search(r"^a +interrupted ", table(), flags=re.MULTILINE)
    values["process"] |= {"host": "elsewhere"}
    record.write_text(json.dumps(values))
    assert re.search(r"^a +running ", table(), flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    # by scipy.stats.binomtest(hits, count).proportion_ci(method="wilson")
    [(339, 360, 0.912474, 0.961533), (5, 10, 0.236593, 0.763407), (0, 20, 0.0, 0.161125), (20, 20, 0.838875, 1.0)],
)
def test_the_interval_of_an_accuracy_is_wilsons(report, hits, count, low, high):
    assert report.wilson(hits, count) == pytest.approx((low, high), abs=1e-5)


@given(count=st.integers(1, 10**6), data=st.data())
def test_an_interval_holds_the_share_and_solves_wilsons_equation(report, count, data):
    hits = data.draw(st.integers(0, count))
    low, high = report.wilson(hits, count)

    share = hits / count
    assert 0 <= low <= share <= high <= 1
    for bound in (low, high):
        assert (share - bound) ** 2 == pytest.approx(1.959964**2 * bound * (1 - bound) / count, rel=1e-6, abs=1e-12)


def test_the_interval_of_a_mean_and_the_calibration_are_those_of_their_definitions(report):
    low, high = report.mean_interval(np.array([1.0, 2.0, 3.0, 4.0]))
    half = 1.959964 * math.sqrt(5 / 3 / 4)
    assert (low, high) == pytest.approx((2.5 - half, 2.5 + half))

    probability, right = np.array([0.95, 0.99, 0.55, 1.0]), np.array([True, False, True, True])
    _, _, counts, error = report.calibration(probability, right)
    assert counts.sum() == 4
    assert error == pytest.approx(3 / 4 * abs((0.95 + 0.99 + 1) / 3 - 2 / 3) + 1 / 4 * abs(0.55 - 1))


def test_measures_of_classes_are_those_of_torchmetrics(report):
    import torch
    from torchmetrics.functional.classification import (
        multiclass_confusion_matrix,
        multiclass_f1_score,
        multiclass_precision,
        multiclass_recall,
    )

    labels, predicted = np.random.default_rng(0).integers(0, 7, (2, 200))
    labels[labels == 6] = 5  # a class without images
    counts = report.confusion(labels, predicted, 7)
    pair = torch.from_numpy(predicted), torch.from_numpy(labels)
    assert counts.tolist() == multiclass_confusion_matrix(*pair, 7).tolist()
    for column, of in enumerate((multiclass_precision, multiclass_recall, multiclass_f1_score)):
        assert report.per_class(counts)[:, column] == pytest.approx(of(*pair, 7, average=None).numpy())


@settings(max_examples=30)
@given(
    names=st.lists(st.text(min_size=1).map(lambda text: HOSTILE + text + "\"'>"), min_size=2, max_size=30, unique=True),
    values=st.lists(st.floats(), min_size=1, max_size=5),
)
def test_no_name_and_no_number_breaks_a_chart(report, names, values):
    counts = np.arange(len(names) ** 2).reshape(len(names), -1)
    lines = [report.charts.Line(name, range(len(values)), values, i) for i, name in enumerate(names[:3])]
    drawn = (
        report.charts.confusion_matrix(counts, names),
        report.charts.line_chart(names[0], lines, names[1], logarithmic=True),
        report._table(names, [names]),
        report._missing(names[0]),
    )
    for text in drawn:
        assert "<script" not in text
        Page(text)
        assert "nan" not in re.sub(r"aria-label=\"[^\"]*\"|>[^<]*<", "", text)


def test_every_text_of_a_run_is_escaped(report, tmp_path):
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(json.dumps({"data": {"root": HOSTILE}, "trainer": {}, HOSTILE: HOSTILE}))
    (folder / "metrics.csv").write_text(f'step,lr-{HOSTILE},val/loss\n1,0.1,nan\n2,0.2,inf\n3,"0.3",1.5\n')
    record = dict.fromkeys(("status", "started", "command", "device", "machine", "python", "error", "ended"), HOSTILE)
    record |= {"git": {"commit": HOSTILE, "dirty": True}, "versions": {HOSTILE: HOSTILE}}
    (folder / "run.json").write_text(json.dumps(record))

    page = page_of(Path(report.write([report.Run(folder)])).absolute())
    assert HOSTILE in page.text
    assert "not committed" in page.text
