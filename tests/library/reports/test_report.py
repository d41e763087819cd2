import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning_runs.reports import predictions, report
from lightning_runs.runs import Run
from page import Page, page_of
from torch import Tensor
from toy import Toy, ToyData
from written import record, write_run

HOSTILE = "<script>alert(1)</script>"


def make_run(*args: Any, **values: Any) -> report.Report:
    return report.Report(Run(write_run(*args, **values)))


def written(files: report.Report, **options: Any) -> Page:
    return page_of(report.write([files], **options))


def test_a_report_that_fails_leaves_the_run_finished(run, monkeypatch, capsys) -> None:
    monkeypatch.setattr("lightning_runs.commands.report.write", lambda *_: {}["odd"])
    assert run("fit", "--run=a") == 0
    assert "KeyError: 'odd'" in capsys.readouterr().out
    assert record("a")["status"] == "finished"


@pytest.mark.parametrize(
    ("lost", "text"),
    [("metrics.csv", "no metric in"), ("checkpoints", "has no checkpoint"), ("", "no such")],
)
def test_a_run_is_shown_without_checkpoint_or_metrics_or_data(lost, text, run, have, monkeypatch) -> None:
    class Reported(Toy):
        def sections(self, predictions: dict[str, Tensor], data: Any) -> list[tuple[str, str]]:
            return [("Count", f"{len(predictions['prediction'])} of {type(data).__name__}")]

    have("finished", "a")
    shutil.move("runs/a", "a/a")
    if lost:
        shutil.move(f"a/a/{lost}", "lost")
    else:
        monkeypatch.setattr(ToyData, "predict_dataloader", lambda self: Path("no such").read_text())
    assert run("report", "a/a", "--output=out/a.html", module=Reported) == 0
    page = page_of("out/a.html").text
    assert text in page
    assert ("16 of ToyData" in page) == (lost == "metrics.csv")


def test_every_metric_has_a_curve_the_headline_first() -> None:
    columns = {"lr-Adam/pg1": [0.1, 0.2, 0.3], "train/loss": [3.0, 2.0, 1.0], "val_mae": [7, "", 8]}
    columns |= {"val/loss": ["", 2.5, 1.5], "test/loss": ["", "", 0.4], "val/r2": [1, 1, 1]}
    curves = report.curves([make_run("a", columns, {"test/loss": 0.4}, headline=["r2", "max", ""], metric="val_mae")])
    assert {title: [(line.name, line.xs, line.ys) for line in lines] for title, lines in curves.items()} == {
        "mae": [("val_mae", [0, 20], [7, 8])],
        "r2": [("val/r2", [0, 10, 20], [1, 1, 1])],
        "loss": [("train/loss", [0, 10, 20], [3, 2, 1]), ("val/loss", [10, 20], [2.5, 1.5])],
        "learning rate": [("lr-Adam/pg1", [0, 10, 20], [0.1, 0.2, 0.3])],
    }
    assert [*curves] == ["mae", "r2", "loss", "learning rate"]
    train, val = curves["loss"]
    assert curves["r2"][0].style == val.style != train.style  # a split has its colour in each chart


def test_warnings_stand_at_the_top() -> None:
    warnings = {"error": "RuntimeError: odd", "debug": "overfit", "loaders": ["a stream"], "status": "failed"}
    warnings |= {"accepted_changes": ["a change"], "git": {"commit": "c0ffee", "dirty": True}}
    facts = {"fingerprint": "d1ge57", "train_items": 5000, "train_seconds": 2.5, "seconds": 3723.2, "processes": 2}
    page = written(make_run("a", {"val/loss": [1.0]}, **warnings, **facts))
    top = page.text[: page.text.index("Learning curves")]
    for text in ("RuntimeError: odd", "overfit", "a stream", "failed", "a change", "not committed"):
        assert text in top
    for text in ("c0ffee", "d1ge57", "2,000 items per second", "1:02:03", "2 processes"):
        assert text in page.text


def test_every_text_of_a_run_is_escaped() -> None:
    names = ("status", "started", "command", "device", "machine", "python", "error", "debug", "fingerprint")
    values: dict[str, Any] = dict.fromkeys(names, HOSTILE)
    values |= {"git": {"commit": HOSTILE}, "versions": {HOSTILE: HOSTILE}, "loaders": [HOSTILE]}
    values |= {"baseline": {HOSTILE: {f"test/{HOSTILE}": 1.0}}, "headline": [HOSTILE, "max", HOSTILE]}
    config = {"data": {"root": HOSTILE}, "trainer": {}, HOSTILE: HOSTILE}
    columns = {f"lr-{HOSTILE}": [0.1, 0.2], f"val/{HOSTILE}": ["nan", 1.5]}
    page = written(make_run("a", columns, {f"test/{HOSTILE}": 1.0, "test/text": HOSTILE}, config, **values))
    assert page.text.count(HOSTILE) >= 20  # Page refuses the element


def test_no_section_is_drawn_of_data_that_have_changed() -> None:
    data = SimpleNamespace(fingerprint=lambda: "new")
    cli = SimpleNamespace(run=SimpleNamespace(record={"fingerprint": "old"}), datamodule=data, model=None)
    [(_, html)] = report.sections_of(lambda: cli)
    assert "could not be drawn: the data have changed" in html


def test_a_section_or_baseline_that_fails_leaves_the_others(monkeypatch) -> None:
    def sections(columns: Any, data: Any) -> Iterator[tuple[str, Any]]:
        yield HOSTILE, f"<p>{columns}</p>"
        yield "Second", lambda: {}[HOSTILE]
        yield "Third", lambda: "<p>the third</p>"
        raise ValueError("odd\nmore")

    monkeypatch.setattr(predictions, "compute", lambda cli: {"prediction": [1, 2]})
    cli: Any = SimpleNamespace(run=None, datamodule=None, trainer=SimpleNamespace(is_global_zero=True))
    cli.model = SimpleNamespace(sections=sections, baseline=lambda: {}["none"])
    page = written(make_run("a", {}, baseline=report.baseline_of(cli)), sections=report.sections_of(lambda: cli))
    for text in ("{'prediction': [1, 2]}", f"'{HOSTILE}'", "the third", "ValueError: odd", "KeyError: 'none'"):
        assert text in page.text
    assert "more" not in page.text


def test_several_runs_are_compared() -> None:
    columns = {"train/loss": [3.0, 1.0], "val/loss": [2.5, 1.5], "lr-Adam": [0.1, 0.2]}
    a = make_run("a", columns, {"test/loss": 0.4}, {"model": {"lr": 0.1, "width": 8}}, metric="val/loss")
    columns["val/r2"] = [0.5, 0.6]
    b = make_run("b", columns, {"test/loss": 0.3, "test/r2": 0.6}, {"model": {"lr": 0.2, "width": 8}})
    assert report.write([a, b]) == "runs/compare.html"
    page = page_of("runs/compare.html")
    labels = page.labels.splitlines()
    assert labels[0] == "val/loss over step: a val/loss ends at 1.5, b val/loss ends at 1.5."
    assert labels[-1] == "learning rate over step: a lr-Adam ends at 0.2, b lr-Adam ends at 0.2."
    for text in ("model.lr0.10.2", "afinished--0.4-", "bfinished--0.30.6"):
        assert text in page.text
    assert "model.width" not in page.text
