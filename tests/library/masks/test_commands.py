import csv
from pathlib import Path

import lightning_runs
import numpy as np
import pytest
from PIL import Image
from starts import add_options, predict_without_torch, start_module

SHORT = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=4", "--trainer.limit_val_batches=1")


@pytest.fixture
def command(own_folder: Path):
    """Run a command of the masks start, whose configuration is in the working folder."""
    add_options("masks", "digit_scenes", own_folder / "configs" / "default.yaml")
    classes = start_module("masks", "module").SegmentationModel, start_module("masks", "data").DataModule

    def command(name: str, *options: str) -> int:
        return lightning_runs.run(*classes, [name, *options], package="start_masks")

    return command


def write_squares(root: Path) -> None:
    """Twenty images with a bright square of class 200 on the right below."""
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for i in range(20):
        mask = np.zeros((20, 24), np.uint8)
        mask[random.integers(10) :, random.integers(10) :] = 200
        Image.fromarray(mask // 2 + 50).save(root / "images" / f"{i}.png")
        Image.fromarray(mask).save(root / "masks" / f"{i}.png")


def test_a_run_and_its_export_predict_masks_alike(command, tmp_path, capsys) -> None:
    pytest.importorskip("onnxscript")
    write_squares(tmp_path)
    data = ("--data.dataset=mask_folder", f"--data.root={tmp_path}", "--data.image_size=16", "--data.batch_size=4")
    options = ("--data.augment=strong", "--data.balance=sampling", "--trainer.max_epochs=12")
    assert command("fit", "--run=own", *data, *options) == 0
    page = Path("runs/own/report.html").read_text(encoding="utf-8")
    assert "could not be drawn" not in page
    assert "Worst images" in page
    assert command("export", "own") == 0
    images = tmp_path / "images"
    (images / "bad.png").write_bytes(b"no picture")
    assert command("predict", str(images), "--run=own", "--csv=by_run.csv") == 1
    assert "bad.png has no prediction" in capsys.readouterr().err
    done = predict_without_torch(str(images), "--onnx=runs/own/export/model.onnx", "--csv=by_export.csv")
    assert done.returncode == 1, done.stderr
    assert "bad.png: it can't be read as a picture" in done.stderr
    tables = []
    for file in ("by_run.csv", "by_export.csv"):
        with open(file, newline="", encoding="utf-8") as stream:
            tables.append(list(csv.DictReader(stream)))
    assert len(tables[0]) == len(tables[1]) == 20
    right = []
    for one, other in zip(*tables, strict=True):
        masks = [np.asarray(Image.open(row.pop("mask"))) for row in (one, other)]
        true = np.asarray(Image.open(tmp_path / "masks" / Path(one["file"]).name))
        assert masks[0].shape == true.shape == (20, 24)
        assert (masks[0] == masks[1]).mean() > 0.99
        right.append((masks[0] == true).mean())
        assert one.pop("file") == other.pop("file")
        assert [*map(float, one.values())] == pytest.approx([*map(float, other.values())], abs=0.01)
    assert np.mean(right) > 0.85


def test_masks_lie_beside_the_table_of_predictions(command) -> None:
    scenes = ("--data.dataset=digit_scenes", "--data.num_folds=4", "--data.fold=1", "--data.balance=weights")
    assert command("fit", "--run=fold", *scenes, *SHORT) == 0
    assert command("predict", "--run=fold", "--trainer.limit_predict_batches=2") == 0
    with open("runs/fold/predictions.csv", newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    assert len(table) == 32
    assert all((Path("runs/fold") / row["mask"]).is_file() for row in table)
