"""Does a run's report say what its files hold, and need nothing else?"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import filelock
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from project import PACKAGE, SMALL
from warm import copy_package, run, shared

VOID = {"br", "img", "link", "meta"}
HOSTILE = "<script>alert(1)</script>"


class Page(HTMLParser):
    """A page that is read strictly: every element is closed, by its own name.

    Attributes:
        elements: Each element's name and attributes.
        text: What a reader sees, style sheet aside.
        told: What each cell of a table tells the one who points at it.
        folded: The part of the text that a reader has to unfold.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.told: list[str] = []
        self.folded = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: D102
        self.elements.append((tag, dict(attrs)))
        self.told += [str(value) for name, value in attrs if name == "title"]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: D102
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:  # noqa: D102
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:  # noqa: D102
        if self._open[-1:] != ["style"]:
            self.text += data
            self.folded += data if "details" in self._open else ""

    @property
    def labels(self) -> str:
        """What the charts tell those who can't see them."""
        return "\n".join(str(attributes["aria-label"]) for tag, attributes in self.elements if tag == "svg")


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
            assert "alt" in attributes
        if tag == "svg":
            assert attributes.get("role") == "img"
            assert attributes.get("aria-label")
    assert not re.search(r"url\(|@import|https?://", text.split("</style>")[0])
    assert "prefers-color-scheme:dark" in text
    assert "@media print" in text
    return page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Import the module of the generated project."""
    source = copy_package(tmp_path_factory.mktemp("report"))
    sys.path.insert(0, str(source))
    try:
        yield __import__(f"{PACKAGE}.runtime.commands.report", fromlist=["write"])
    finally:
        sys.path.remove(str(source))
        for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
            del sys.modules[name]


def run_one(project: Path, *arguments: str, **options: Any) -> tuple[int, str]:
    [result] = run(project, list(arguments), **options)
    return result


@pytest.fixture
def make_run(report: ModuleType, tmp_path: Path) -> Callable[..., Any]:
    """Return a function that writes the folder of a run, and returns what the report reads of it."""

    def make(
        name: str,
        columns: dict[str, list[Any]],
        test: dict[str, Any] | None = None,
        config: dict[str, Any] | None = None,
        **record: Any,
    ) -> Any:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(json.dumps(config or {"trainer": {}}))
        (folder / "run.json").write_text(json.dumps({"status": "finished", **record}))
        if test is not None:
            (folder / "test.json").write_text(json.dumps({"checkpoint": "best.ckpt", **test}))
        with (folder / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "epoch", *columns])
            for step, values in enumerate(zip(*columns.values(), strict=True)):
                writer.writerow([10 * step, step, *("" if value is None else value for value in values)])
        return report.Files(report.Run(folder))

    return make


def written(report: ModuleType, *files: Any, **options: Any) -> Page:
    return page_of(Path(report.write(files, **options)).absolute())


# ---- Whole commands


# A section of a task's own: how many items were predicted.
SECTIONS = f"""
from {PACKAGE}.module import ImageClassifier
ImageClassifier.sections = lambda self, predictions, data: [("How many", f"<p>{{len(predictions['index'])}} there</p>")]
"""


def test_fit_ends_with_a_report_whose_numbers_are_those_of_the_predictions(bake_project):
    project = bake_project({"logger": "wandb"})  # which is closed before the report is written
    small = [option for option in SMALL if "limit_test_batches" not in option]
    (fit, output), (predict, _) = run(project, ["fit", "--run=a", *small], ["predict", "--run=a"])

    assert (fit, predict) == (0, 0), output
    assert f"Report: {os.path.join('runs', 'a', 'report.html')}" in output
    folder = project / "runs" / "a"
    page = page_of(folder / "report.html")
    with (folder / "predictions.csv").open(newline="") as file:
        predicted = np.array([int(row["label"]) for row in csv.DictReader(file)])
    labels = np.load(project / "src" / PACKAGE / "digits.npz")["test_labels"]
    assert {told for told in page.told if ":" in told and not told.endswith(": 0")} == {
        f"{true} taken for {taken}: {count}" if true != taken else f"{true} recognised: {count}"
        for true in range(10)
        for taken in range(10)
        if (count := int(((labels == true) & (predicted == taken)).sum()))
    }
    test = json.loads((folder / "test.json").read_text())
    assert test["test/accuracy"] == pytest.approx((labels == predicted).mean())
    assert f"{test['test/accuracy']:.2%} test/accuracy" in page.text
    assert re.search(r"[\d.]+ test/loss", page.text)
    for told in ("most frequent class", "items per second", f"python -m {PACKAGE} fit -c runs/a/config.yaml"):
        assert told in page.text
    assert "could not be drawn" not in page.text


def test_a_module_without_sections_has_a_report_that_says_how_to_add_them(bake_project):
    project = bake_project({"logger": "csv"})
    before = f"""
from {PACKAGE}.module import ImageClassifier
for name in ("sections", "headline"):
    if hasattr(ImageClassifier, name):
        delattr(ImageClassifier, name)
"""
    results = run(project, ["fit", "--run=a", *SMALL], ["report", "a", "--output=out/a.html"], before=before)

    assert [code for code, _ in results] == [0, 0], results
    for file in (project / "runs" / "a" / "report.html", project / "out" / "a.html"):
        page = page_of(file)
        assert "A method sections(predictions, data) of the LightningModule adds" in page.text
        assert re.search(r"0\.\d+ test/accuracy", page.text)


def test_a_report_that_fails_or_is_gone_leaves_the_training_finished_and_says_why(bake_project):
    project = bake_project({"logger": "csv"})
    report = f"{PACKAGE}.runtime.commands.report"
    before = f"import {report} as r\ndef write(*_): raise KeyError('odd')\nr.write = write"
    code, output = run_one(project, "fit", "--run=a", *SMALL, before=before)
    assert code == 0
    assert "No report was written: KeyError: 'odd'" in output
    code, output = run_one(project, "fit", "--run=b", *SMALL, before=f"import sys; sys.modules['{report}'] = None")
    assert code == 0
    assert "No report was written: ModuleNotFoundError" in output
    for name in "ab":
        assert json.loads((project / "runs" / name / "run.json").read_text())["status"] == "finished"


def test_several_runs_are_compared_and_a_killed_one_is_not_called_running(bake_project):
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
    )
    assert [code for code, _ in results] == [0] * 3, results
    page = page_of(project / "runs" / "compare.html")
    assert "model.optimizer.init_args.lr" in page.text
    assert "0.0123" in page.text
    assert "data.batch_size" not in page.text.split("What differs")[1].split("Learning curves")[0]
    assert "interrupted" in page.text
    assert json.loads((project / "runs" / "killed" / "run.json").read_text())["status"] == "running"


def test_a_run_without_checkpoint_data_or_metrics_is_shown_with_what_it_has(bake_project):
    project = bake_project({"logger": "csv"})
    assert run_one(project, "fit", "--run=a", *SMALL)[0] == 0
    folder = project / "runs" / "a"
    shutil.copytree(folder, folder.with_name("b"))
    shutil.copytree(folder, project / "elsewhere" / "c")
    shutil.rmtree(folder / "checkpoints")
    (folder.with_name("b") / "metrics.csv").unlink()
    commands = ["report", "a", "--output=out/a.html"], ["report", "b"], ["report", os.path.join("elsewhere", "c")]
    results = run(project, *commands, before=SECTIONS)
    gone = f"from {PACKAGE}.data import DataModule\ndef setup(self, stage): raise OSError('no such images')\n"
    without = f"{SECTIONS}{gone}DataModule.setup = setup"
    results += run(project, ["report", "b", "--output=d.html"], before=without)

    assert [code for code, _ in results] == [0] * 4, results
    without_checkpoint = page_of(project / "out" / "a.html")
    assert "could not be drawn: the run a has no checkpoint in" in without_checkpoint.text
    assert "loss over step" in without_checkpoint.labels
    without_metrics = page_of(folder.with_name("b") / "report.html")
    assert "There is no metric in metrics.csv" in without_metrics.text
    assert "How many\n360 there" in without_metrics.text
    assert "How many\n360 there" in page_of(project / "elsewhere" / "c" / "report.html").text
    without_data = page_of(project / "d.html")
    assert "could not be drawn: OSError: no such images" in without_data.text
    assert "test/accuracy" in without_data.text


def test_bad_input_is_told_in_one_line(bake_project):
    project = bake_project({"logger": "csv"})
    empty = project / "runs" / "empty"
    empty.mkdir(parents=True)
    shutil.copy(project / "configs" / "default.yaml", empty / "config.yaml")
    results = run(project, ["report", "nope"], ["report", "empty"], ["report", "--output=x"])

    assert [code for code, _ in results] == [1, 1, 2]
    said = [[line for line in output.splitlines() if "error: " in line] for _, output in results]
    assert said[0] == ["error: there is no run nope in runs (newest: empty)."]
    assert said[1][0].startswith("error: the run empty has no metrics, no test result and no checkpoint")
    assert said[2] == [f"python -m {PACKAGE} report: error: the following arguments are required: RUN"]
    assert all(len(lines) == 1 for lines in said)


# ---- The page of one run


def test_a_regression_is_shown_by_its_own_metrics_and_no_other_is_named(report, make_run):
    columns = {"train/loss": [3.0, 2.0, 1.0], "val/loss": [None, 2.5, 1.5], "val/r2": [None, -0.5, 0.25]}
    test = {"test/loss": 0.432, "test/r2": 0.876}
    baseline = {"mean of the targets": {"test/loss": 3.5, "test/r2": 0.0}}
    page = written(report, make_run("a", columns, test, headline=["r2", "max", ""], baseline=baseline))

    for told in ("0.432 test/loss", "0.876 test/r2", "Measured on best.ckpt", "mean of the targets3.50"):
        assert told in page.text
    assert page.text.index("0.876 test/r2") < page.text.index("0.432 test/loss")
    assert "loss over step: train/loss ends at 1, val/loss ends at 1.5." in page.labels
    assert "r2 over step: val/r2 ends at 0.25." in page.labels
    assert page.labels.index("r2 over") < page.labels.index("loss over")
    assert not re.search("accuracy|nats|image|class", page.text, re.IGNORECASE)


def test_a_fraction_that_is_the_headline_is_in_percent_and_nothing_else_is(report, make_run):
    test = {"test/loss": 0.5, "test_iou/dataloader_idx_0": 0.12345, "test/iou_of_cats": 0.5}
    page = written(report, make_run("a", {}, test, headline=["iou", "max", "%"]))

    assert "12.35% test_iou/dataloader_idx_0" in page.text
    assert "0.5 test/loss" in page.text
    assert "0.5 test/iou_of_cats" in page.text


def test_a_run_without_a_headline_and_without_a_test_says_how_to_get_one(report, make_run):
    page = written(report, make_run("a", {"loss": [1.0, 2.0]}))

    assert f"There is no test result. To get one: python -m {PACKAGE} test --run a" in page.text
    assert "A method sections(predictions, data) of the LightningModule adds" in page.text
    assert "loss over step: loss ends at 2." in page.labels


def test_every_logged_metric_has_its_curve_with_the_values_that_were_logged(report, make_run):
    columns = {
        "lr-Adam/pg1": [0.1, 0.2, 0.3],
        "lr-Adam/pg2": [0.01, 0.02, 0.03],
        "train/loss": [3.0, 2.0, 1.0],
        "val/loss": [None, 2.5, 1.5],
        "val_mae": [7, None, 8],
        "grad_norm": [4, 5, 6],
        "test/loss": [None, None, 0.4],
    }
    one = make_run("a", columns, {"test/loss": 0.4})
    found = {title: [(line.name, line.xs, line.ys) for line in lines] for title, lines in report.curves([one]).items()}

    assert found == {
        "loss": [("train/loss", [0, 10, 20], [3, 2, 1]), ("val/loss", [10, 20], [2.5, 1.5])],
        "mae": [("val_mae", [0, 20], [7, 8])],
        "grad_norm": [("grad_norm", [0, 10, 20], [4, 5, 6])],
        "learning rate": [
            ("lr-Adam/pg1", [0, 10, 20], [0.1, 0.2, 0.3]),
            ("lr-Adam/pg2", [0, 10, 20], [0.01, 0.02, 0.03]),
        ],
    }
    assert list(found)[-1] == "learning rate"


def test_a_split_has_the_same_colour_in_each_chart(report, make_run):
    one = make_run("a", {"val/loss": [1], "val/r2": [1], "train/loss": [1], "train/r2": [1]})
    styles = {line.name: line.style for lines in report.curves([one]).values() for line in lines}

    assert styles["val/loss"] == styles["val/r2"] != styles["train/loss"] == styles["train/r2"]


def test_a_point_lies_where_its_value_is(report):
    axes = report.charts.Axes([(0, 1.0), (5, 2.0), (10, 3.0)])
    (left, low), (middle, half), (right, high) = (axes.place(x, y) for x, y in ((0, 1.0), (5, 2.0), (10, 3.0)))

    assert not axes.logarithmic
    assert left == axes.left
    assert low == axes.bottom
    assert middle - left == pytest.approx(right - middle)
    assert low - half == pytest.approx(half - high)
    drawn = report.charts.line_chart("a", [report.charts.Line("b", [0, 5, 10], [1.0, 2.0, 3.0], 0)], "c")
    assert f'd="M{left:.1f} {low:.1f}L{middle:.1f} {half:.1f}L{right:.1f} {high:.1f}"' in drawn


@pytest.mark.parametrize(
    ("values", "logarithmic"),
    [
        ([10.0, 0.9, 0.5, 0.1], True),
        ([10.0, 0.9, 0.5, 0.0], False),  # not all are positive
        ([10.0, 2.0, 2.0, 1.5], False),  # less than a factor of ten
        ([0.05, 0.7, 0.9, 0.95], False),  # only few lie where a linear axis would press them together
    ],
)
def test_heights_are_logarithmic_only_where_that_shows_more(report, values, logarithmic):
    assert report.charts.Axes(list(enumerate(values))).logarithmic is logarithmic


def test_values_that_are_not_finite_are_named_and_leave_the_rest_to_be_seen(report, make_run):
    columns = {"val/loss": [1.0, "nan", "inf"], "val/recall": ["nan", "nan", "-inf"]}
    test = {"test/loss": float("inf"), "test/recall": float("nan")}
    page = written(report, make_run("a", columns, test, headline=["recall", "max", "%"]))

    assert "nan% test/recall" in page.text
    assert "inf test/loss" in page.text
    assert "loss over step (2 values not finite, left out): val/loss ends at 1." in page.labels
    assert "recall (val/recall): no value that was logged is finite." in page.text


def test_charts_beyond_the_first_twelve_are_folded(report, make_run):
    page = written(report, make_run("a", {f"metric_{i}": [1.0, 2.0] for i in range(15)}))

    assert "3 more" in page.folded
    assert page.text.count("metric_12") == 2
    assert re.findall(r"metric_\d+", page.folded) == ["metric_12"] * 2 + ["metric_13"] * 2 + ["metric_14"] * 2


def test_what_a_reader_has_to_know_of_a_run_stands_at_its_top(report, make_run):
    record = {
        "error": "RuntimeError: odd",
        "git": {"commit": "c0ffee", "dirty": True},
        "debug": "overfit",
        "loaders": ["The loader of the training can't be resumed exactly: it is a stream."],
        "accepted_changes": ["A resume accepted data.batch_size 32 in the place of 16."],
        "status": "failed",
    }
    record |= {"fingerprint": "d1ge57", "train_items": 5000, "train_seconds": 2.5, "seconds": 3723.2, "processes": 2}
    page = written(report, make_run("a", {"val/loss": [1.0]}, **record))
    top = page.text[: page.text.index("Learning curves")]

    for told in ("failed", "RuntimeError: odd", "were not committed", "debugging (overfit)"):
        assert told in top
    for told in (*record["loaders"], *record["accepted_changes"]):
        assert told in top
    for told in ("c0ffee", "d1ge57", "2,000 items per second", "1:02:03", "2 processes"):
        assert told in page.text


def test_a_run_that_trains_at_this_moment_is_shown_as_one(report, make_run):
    columns = {"val/loss": [1.0]}
    killed = make_run("killed", columns, status="running")
    assert "trains at this moment" not in written(report, killed).text
    living = make_run("living", columns, status="running")
    with filelock.FileLock(living.run.folder / ".lock"):
        assert "trains at this moment" in written(report, living).text


# ---- Sections of the task


def sections_of(report: ModuleType, monkeypatch: pytest.MonkeyPatch, sections: Any, **cli: Any) -> list[Any]:
    """The sections that a module's method of that name makes, in a process of rank 0."""
    monkeypatch.setattr(report.predictions, "compute", lambda cli: {"prediction": [1, 2]})
    model, trainer = SimpleNamespace(sections=sections), SimpleNamespace(is_global_zero=True)
    built = {"model": model, "datamodule": "the data", "trainer": trainer, "run": None, **cli}
    return report._sections(lambda: SimpleNamespace(**built))


def test_sections_get_the_predictions_and_the_data_and_stand_on_the_page(report, make_run, monkeypatch):
    def sections(predictions: Any, data: Any) -> list[tuple[str, str]]:
        return [(HOSTILE, f"<p><b>{predictions['prediction']}</b> of {data}</p>")]

    found = sections_of(report, monkeypatch, sections)
    page = written(report, make_run("a", {"val/loss": [1.0]}), sections=found)
    assert HOSTILE in page.text
    assert "[1, 2] of the data" in page.text
    assert "A method sections" not in page.text


def test_no_section_is_drawn_of_data_that_have_changed(report, make_run, monkeypatch):
    run = SimpleNamespace(record={"fingerprint": "old"})
    data = SimpleNamespace(fingerprint=lambda: "new")
    found = sections_of(report, monkeypatch, lambda *_: [("title", HOSTILE)], run=run, datamodule=data)
    page = written(report, make_run("a", {"val/loss": [1.0]}), sections=found)
    assert "This could not be drawn: the data have changed since the run was trained." in page.text
    assert HOSTILE not in page.text


def test_a_section_that_fails_costs_itself_alone(report, make_run, monkeypatch):
    def fail() -> str:
        raise ValueError(f"no {HOSTILE}\nmore")

    def sections(predictions: Any, data: Any) -> Iterator[tuple[str, Any]]:
        yield "First", "<p>the first</p>"
        yield "Second", fail
        yield "Third", "<p>the third</p>"
        raise KeyError("odd")

    page = written(report, make_run("a", {"val/loss": [1.0]}), sections=sections_of(report, monkeypatch, sections))
    assert f"This could not be drawn: ValueError: no {HOSTILE}" in page.text
    assert "more" not in page.text
    assert "This could not be drawn: KeyError: 'odd'" in page.text
    for told in ("the first", "the third", "Hardware, time and throughput"):
        assert told in page.text


def test_a_baseline_that_fails_is_told_and_costs_nothing_else(report, make_run):
    def baseline() -> None:
        raise ValueError("no targets")

    cli = SimpleNamespace(model=None, datamodule=SimpleNamespace(baseline=baseline))
    page = written(report, make_run("a", {"val/loss": [1.0]}, baseline=report._baseline(cli)))
    assert "This could not be drawn: ValueError: no targets" in page.text
    cli.datamodule.baseline = lambda: {"zero": {"test/loss": 2}}
    assert report._baseline(cli) == {"zero": {"test/loss": 2.0}}


# ---- Hostile and odd values


@settings(max_examples=30)
@given(
    names=st.lists(st.text(min_size=1).map(lambda text: HOSTILE + text + "\"'>"), min_size=2, max_size=8, unique=True),
    values=st.lists(st.floats(), min_size=1, max_size=5),
)
def test_no_name_and_no_number_breaks_a_chart(report, names, values):
    lines = [report.charts.Line(name, range(len(values)), values, i) for i, name in enumerate(names)]
    for drawn in (report.charts.line_chart(names[0], lines, names[1]), report.charts.table(names, [names, values])):
        assert "<script" not in drawn
        Page(drawn)
        assert "nan" not in re.sub(r"aria-label=\"[^\"]*\"|>[^<]*<", "", drawn)


def test_every_text_of_a_run_is_escaped(report, make_run):
    columns = {f"lr-{HOSTILE}": [0.1, 0.2, 0.3], f"val/{HOSTILE}": ["nan", "inf", 1.5]}
    record: dict[str, Any] = dict.fromkeys(
        ("status", "started", "command", "device", "machine", "python", "error", "ended", "debug", "fingerprint"),
        HOSTILE,
    )
    record |= {
        "git": {"commit": HOSTILE, "dirty": True},
        "versions": {HOSTILE: HOSTILE},
        "loaders": [HOSTILE],
        "accepted_changes": [HOSTILE],
    }
    record |= {"baseline": {HOSTILE: {f"test/{HOSTILE}": 1.0}}, "headline": [HOSTILE, "max", HOSTILE]}
    config = {"data": {"root": HOSTILE}, "trainer": {}, HOSTILE: HOSTILE}
    one = make_run("a", columns, {f"test/{HOSTILE}": 1.0, "test/text": HOSTILE}, config, **record)

    page = written(report, one)  # which finds no element of that name
    assert f"1 {HOSTILE} test/{HOSTILE}" in page.text
    assert page.text.count(HOSTILE) >= 20


def test_a_narrow_page_has_room_for_every_chart(report):
    drawn = report.charts.line_chart("a", [report.charts.Line("b", [1, 2], [1, 2], 0)], "c")

    assert float(re.search(r"min-width:(\d+)px", drawn)[1]) <= 328  # pyright: ignore[reportOptionalSubscript]


# ---- Several runs


def test_several_runs_are_compared_by_their_results_options_and_curves(report, make_run):
    def config(lr: float, patience: int) -> dict[str, Any]:
        stop = {"class_path": "pytorch_lightning.callbacks.EarlyStopping", "init_args": {"patience": patience}}
        return {"model": {"lr": lr, "width": 8}, "trainer": {"callbacks": [stop]}}

    columns = {"train/loss": [3.0, 1.0], "val/loss": [2.5, 1.5], "lr-Adam": [0.1, 0.2]}
    a = make_run("a", columns, {"test/loss": 0.4}, config(0.1, 3), metric="val/loss")
    b = make_run("b", columns | {"val/r2": [0.5, 0.6]}, {"test/loss": 0.3, "test/r2": 0.6}, config(0.2, 5))
    page = written(report, a, b)

    assert report.differences([a, b]) == [
        ("model.lr", "0.1", "0.2"),
        ("trainer.callbacks.EarlyStopping.init_args.patience", "3", "5"),
    ]
    assert "trainer.callbacks.EarlyStopping.init_args.patience35" in page.text
    assert "model.width" not in page.text
    assert page.labels.splitlines()[0] == "val/loss over step: a ends at 1.5, b ends at 1.5."
    assert "val/r2 over step: b ends at 0.6." in page.labels
    assert "learning rate over step: a lr-Adam ends at 0.2, b lr-Adam ends at 0.2." in page.labels
    table = page.text.split("Runs")[1].split("What differs")[0]
    assert "runstatusepochstimetest/losstest/r2" in table
    assert "afinished--0.4-" in table
    assert "bfinished--0.30.6" in table
