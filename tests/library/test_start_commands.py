"""Commands with the own classes of each start, in this process: they agree, whatever the task is."""

import warnings
from collections.abc import Callable
from contextlib import chdir
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from starts import add_options, predict_without_torch, run_start
from toy import CONFIG
from written import read_table
from written_data import table_rows, write_images, write_masks, write_table, write_texts


class Case(NamedTuple):
    start: str
    options: str  # that read data of the user's own
    write: Callable[[Path], Path]
    columns: str  # of the predictions
    report: str  # sections and other words
    new: str = ""  # the folder of the data that is predicted


CASES = {
    "images": Case(
        "images",
        "dataset=image_folder image_size=16 batch_size=4 num_workers=0 mix=mixup augment=strong",
        write_images,
        "file,label,probability,p(cat),p(dog)",
        "Test result,Confusion matrix,Each class,Calibration,Surest mistakes,most frequent class",
        new="test",
    ),
    "masks": Case(
        "masks",
        "dataset=mask_folder image_size=16 batch_size=4 balance=sampling augment=strong",
        write_masks,
        "file,mask,confidence,share(label 0),share(label 200)",
        "Test result,Each class,Confusion matrix,Worst images,most frequent class",
        new="images",
    ),
    "classes": Case(
        "table",
        "dataset=csv_file target=kind balance=weights",
        partial(write_table, rows=table_rows()),
        "file,label,probability,p(large),p(small)",
        "Confusion matrix,Surest mistakes,Which columns matter,most frequent class",
    ),
    "numbers": Case(
        "table",
        "dataset=csv_file target=size",
        partial(write_table, rows=table_rows()),
        "file,prediction",
        "Predicted and true,Largest errors,Which columns matter,mean of the training rows",
    ),
    "texts": Case(
        "text",
        "dataset=text_folder max_vocabulary=300 batch_size=8 balance=sampling",
        write_texts,
        "file,label,probability,p(sea),p(wood)",
        "Confusion matrix,Surest mistakes,most frequent class,different tokens",
    ),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def folder(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that is trained and exported, whose data were renamed then, from ``data`` to ``moved``."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "configs").mkdir()
    (folder / "configs" / "default.yaml").write_text(CONFIG)
    options = [f"--data.{option}" for option in (f"root={folder / 'data'}", *case.options.split())]
    with chdir(folder):
        add_options(case.start, "null", folder / "configs" / "default.yaml")
        data = case.write(folder / "data")
        assert run_start(case.start, "fit", "--run=a", "--trainer.max_epochs=15", *options) == 0
        assert run_start(case.start, "export", "a") == 0
        data.rename("moved")
    return folder


def test_the_report_has_the_sections_of_the_start(case, folder) -> None:
    page = (folder / "runs" / "a" / "report.html").read_text(encoding="utf-8")
    assert "could not be drawn" not in page
    assert [words for words in case.report.split(",") if words not in page] == []


def true_class(row: dict[str, str]) -> str:
    """The class that a row of predictions is of, by the line of the table or the folder."""
    file, _, line = row["file"].rpartition(":")
    return table_rows()[int(line) - 1][-1] if file else Path(row["file"]).parent.name


def test_a_run_and_its_export_predict_alike(case, folder, monkeypatch, capsys) -> None:
    monkeypatch.chdir(folder)
    new = folder / "moved" / case.new
    has_pictures = case.start in ("images", "masks")
    if has_pictures:
        (new / "bad.png").write_bytes(b"no picture")
    with warnings.catch_warnings(action="ignore"):
        assert run_start(case.start, "predict", str(new), "--run=a", "--csv=run.csv") == has_pictures
    assert ("bad.png has no prediction" in capsys.readouterr().err) is has_pictures
    done = predict_without_torch(str(new), "--onnx=runs/a/export/model.onnx", "--csv=export.csv")
    assert done.returncode == has_pictures, done.stderr
    assert ("bad.png: it can't be read as a picture" in done.stderr) is has_pictures
    right = []
    for one, other in zip(read_table(folder / "run.csv"), read_table(folder / "export.csv"), strict=True):
        assert ",".join(one) == ",".join(other) == case.columns
        assert one["file"] == other.pop("file")
        if "label" in one:
            assert one["label"] == other.pop("label")
            right.append(one["label"] == true_class(one))
        if "mask" in one:
            files = (one["mask"], other.pop("mask"), folder / "moved" / "masks" / Path(one["file"]).name)
            ours, theirs, true = (np.asarray(Image.open(file)) for file in files)
            assert (ours == theirs).mean() > 0.99
            right.append((ours == true).mean() > 0.8)
        accepted = 0.01 if "mask" in one else 1e-4
        assert [float(one[name]) for name in other] == pytest.approx([*map(float, other.values())], abs=accepted)
    assert sum(right) >= 0.8 * len(right)
    assert run_start(case.start, "test", "--run=a") == 1  # because the data are gone
    assert f"{folder / 'data'}" in capsys.readouterr().err
