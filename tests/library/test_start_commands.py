"""Commands with the own classes of each start, in this process: they agree, whatever the task is."""

import warnings
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from starts import add_options, data_class, model_class, predict_without_torch, run_start
from toy import CONFIG
from written import assert_same, read_table, record, rows
from written_data import rows_with, write_images, write_masks, write_table, write_texts


class Case(NamedTuple):
    """Data of the user's own, and what a run on them has to show."""

    start: str
    options: str
    write: Callable[[Path], Path]
    new: str  # the part of the data that is predicted
    columns: str  # of the predictions
    sections: str  # titles and other words of the report


def write_penguin(file: Path) -> Path:
    return write_table(file, rows_with(1, "violet", slice(5, 6)))  # which occurs once, and so is not known


SHARES = "share(label 0),share(label 200)"
CASES = {
    "images": Case(
        "images",
        "dataset=image_folder image_size=16 batch_size=4 num_workers=0 balance=weights augment=strong mix=mixup",
        write_images,
        "test",
        "file,label,probability,p(cat),p(dog)",
        "Confusion matrix,Surest mistakes,most frequent class,the author&#39;s own",
    ),
    "masks": Case(
        "masks",
        "dataset=mask_folder image_size=16 batch_size=4 augment=strong balance=sampling",
        write_masks,
        "images",
        f"file,mask,confidence,{SHARES}",
        "Each class,Worst images,most frequent class,the author&#39;s own",
    ),
    "classes": Case(
        "table",
        "dataset=csv_file target=kind balance=weights",
        write_penguin,
        "",
        "file,label,probability,p(large),p(small)",
        "Confusion matrix,Surest mistakes,Which columns matter,most frequent class",
    ),
    "numbers": Case(
        "table",
        "dataset=csv_file target=size",
        write_penguin,
        "",
        "file,prediction",
        "Predicted and true,Largest errors,Which columns matter,mean of the training rows",
    ),
    "texts": Case(
        "text",
        "dataset=text_folder batch_size=8 max_vocabulary=300",
        write_texts,
        "",
        "file,label,probability,p(sea),p(wood)",
        "Confusion matrix,Surest mistakes,most frequent class,different tokens",
    ),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def folder(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that is trained and exported, whose data are then renamed from ``data`` to ``moved``."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "configs").mkdir()
    (folder / "configs" / "default.yaml").write_text(CONFIG)
    add_options(case.start, case.options.split()[0].partition("=")[2], folder / "configs" / "default.yaml")
    with chdir(folder):
        data = case.write(folder / "data")
        options = [f"--data.{option}" for option in case.options.split()]
        assert run_start(case.start, "fit", "--run=a", "--trainer.max_epochs=15", f"--data.root={data}", *options) == 0
        assert run_start(case.start, "export", "a") == 0
        data.rename("moved")
    return folder


def test_the_report_shows_what_the_start_promises(case, folder) -> None:
    page = (folder / "runs" / "a" / "report.html").read_text(encoding="utf-8")
    assert "could not be drawn" not in page
    assert [words for words in case.sections.split(",") if words not in page] == []
    assert len((folder / "runs" / "a" / "export" / "README.md").read_text(encoding="utf-8")) < 9000


def is_right(row: dict[str, str], folder: Path) -> bool:
    """Whether a predicted class is the true one, which the folder, the line of the table or the mask has."""
    file, _, line = row["file"].rpartition(":")
    if file:
        return Path(file).read_text().splitlines()[int(line) - 1].endswith(row["label"])
    if "label" in row:
        return Path(row["file"]).parent.name == row["label"]
    predicted = np.asarray(Image.open(folder / row["mask"]))
    true = np.asarray(Image.open(folder / "moved" / "masks" / Path(row["file"]).name))
    assert predicted.shape == true.shape
    return bool((predicted == true).mean() > 0.8)


def test_a_run_and_its_export_predict_alike(case, folder, monkeypatch, capsys) -> None:
    monkeypatch.chdir(folder)
    new = folder / "moved" / case.new
    has_pictures = case.start in ("images", "masks")
    if has_pictures:
        (new / "bad.png").write_bytes(b"no picture")
    with warnings.catch_warnings(action="ignore"):
        assert run_start(case.start, "predict", str(new), "--run=a", "--csv=run.csv") == has_pictures
    notes = capsys.readouterr().err
    done = predict_without_torch(str(new), "--onnx=runs/a/export/model.onnx", "--csv=export.csv")
    assert done.returncode == has_pictures, done.stderr
    if has_pictures:
        assert "bad.png has no prediction" in notes
        assert "bad.png: it can't be read as a picture" in done.stderr
    if case.start == "table":
        assert "colour violet" in notes
        assert "colour violet" in done.stderr
    ours = read_table(folder / "run.csv")
    theirs = read_table(folder / "export.csv")
    assert ",".join(ours[0]) == case.columns
    if case.columns != "file,prediction":
        assert sum(is_right(row, folder) for row in ours) > 0.8 * len(ours) > 15
    for one, other in zip(ours, theirs, strict=True):
        if "mask" in one:
            masks = [np.asarray(Image.open(row.pop("mask"))) for row in (one, other)]
            assert (masks[0] == masks[1]).mean() > 0.99
        assert one.pop("file") == other.pop("file")
        assert one.pop("label", "") == other.pop("label", "")
        accepted = 0.01 if "confidence" in one else 1e-4
        assert [*map(float, one.values())] == pytest.approx([*map(float, other.values())], rel=1e-4, abs=accepted)


def test_data_that_are_gone_are_named_in_a_test(case, folder, monkeypatch, capsys) -> None:
    monkeypatch.chdir(folder)
    assert run_start(case.start, "test", "--run=a") == 1
    assert f"{folder / 'data'}" in capsys.readouterr().err


BUNDLED = {"images": "digits", "masks": "digit_scenes", "table": "penguins", "text": "glosses"}


@pytest.mark.parametrize("start", BUNDLED)
def test_an_interrupted_run_ends_like_one_that_was_not(start, own_folder, interrupt) -> None:
    add_options(start, BUNDLED[start], own_folder / "configs" / "default.yaml")
    limits = [f"--trainer.limit_{part}_batches=5" for part in ("train", "val", "test")]
    options = (*limits, "--save_every_n_steps=3", "--data.balance=sampling")
    assert run_start(start, "fit", "--run=whole", *options) == 0
    interrupt("stopped", *options, module=model_class(start), data=data_class(start))
    assert len(rows("stopped")) < len(rows("whole"))
    assert run_start(start, "fit", "--resume") == 0
    assert_same("stopped", "whole")


@pytest.mark.parametrize("cells", [("{0}.5", "1{1}"), ("word {0}", "other {1}")], ids=["numbers", "words"])
def test_a_table_with_one_kind_of_columns_is_exported(own_folder, cells) -> None:
    lines = [[*",".join(cells).format(i % 3, i % 2).split(","), "xyz"[i % 3]] for i in range(60)]
    write_table(own_folder / "table.csv", [["a", "b", "kind"], *lines])
    add_options("table", "csv_file", own_folder / "configs" / "default.yaml")
    data = ("--data.root=table.csv", "--data.target=kind")
    assert run_start("table", "fit", "--run=a", "--trainer.max_epochs=1", *data) == 0
    assert run_start("table", "export", "a") == 0
    assert record("a")["headline"] == ["accuracy", "max", "%"]
