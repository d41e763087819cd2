import shutil
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from reading import read_json, read_rows

from {{ cookiecutter.__package }} import evaluation
from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.module import SegmentationModel
from {{ cookiecutter.__package }}.train import main


def test_training_learns(trained) -> None:
    assert read_json(trained / "test.json")["test/mean_iou"] > 0.5
    losses = [float(row["train/loss"]) for row in read_rows(trained / "metrics.csv") if row["train/loss"]]
    assert losses[-1] < 0.2 * losses[0]


def test_logged_names_are_the_documented_ones(trained) -> None:
    logged = {name for name in read_rows(trained / "metrics.csv")[0] if "/" in name}
    whole = {f"{split}/{name}" for split in ("val", "test") for name in ("loss", "mean_iou", "f1", "accuracy")}
    of_classes = {f"test/iou_{name}" for name in ("background", *range(5))}
    assert logged == whole | of_classes | {"train/loss"}


def test_checkpoint_loads_by_itself_and_is_as_good_as_it_was(trained) -> None:
    record = read_json(trained / "run.json")
    assert (record["status"], record["headline"][0]) == ("finished", "mean_iou")
    model = SegmentationModel.load_from_checkpoint(trained / "checkpoints" / record["best_checkpoint"]).eval()
    data = DataModule()
    data.setup("test")
    counts = torch.zeros(6, 6)
    for images, masks in data.test_dataloader():
        with torch.inference_mode():
            counts += evaluation.count(masks, model(data.normalize(images)).argmax(dim=1), 6).sum(dim=0)
    told = read_json(trained / "test.json")
    assert evaluation.measure(counts)["mean_iou"] == pytest.approx(told["test/mean_iou"], abs=1e-4)
    assert evaluation.iou(counts)[3] == pytest.approx(told["test/iou_2"], abs=1e-3)


def test_checkpoints_hold_plain_data_alone(trained) -> None:
    for name in ("last.ckpt", read_json(trained / "run.json")["best_checkpoint"]):
        checkpoint = torch.load(trained / "checkpoints" / name, weights_only=True)  # this executes nothing
        assert checkpoint["DataModule"]["labels"] == [0, 1, 2, 3, 4, 5]


def test_newest_run_is_the_one_that_is_evaluated(trained, run, tmp_path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    (copy / "test.json").unlink()
    assert [run("validate"), run("test"), run("predict")] == [0, 0, 0]
    assert read_json(copy / "test.json") == read_json(trained / "test.json")
    predictions = read_rows(copy / "predictions.csv")
    names = ["background", *map(str, range(5))]
    assert list(predictions[0]) == ["index", "mask", "confidence", *(f"share({name})" for name in names)]
    assert [int(row["index"]) for row in predictions] == list(range(800, 1000))
    mask = np.asarray(Image.open(copy / predictions[7]["mask"]))
    assert (mask == 2).mean() == pytest.approx(float(predictions[7]["share(1)"]), abs=1e-6)


def test_new_images_are_segmented_in_their_own_size(trained, tmp_path, capsys) -> None:
    data = DataModule()
    data.setup("test")
    pairs: Any = data.splits["test"][0]
    (tmp_path / "new" / "more").mkdir(parents=True)
    for folder, size in ((tmp_path / "new", (64, 32)), (tmp_path / "new" / "more", (32, 96))):
        Image.fromarray(pairs.images[900, 0].numpy()).resize(size, Image.Resampling.NEAREST).save(folder / "a.png")
    (tmp_path / "new" / "bad.png").write_bytes(b"no picture")
    command = ["predict", str(tmp_path / "new"), "--run", str(trained)]
    assert main([*command, "--csv", str(tmp_path / "out.csv")]) == 1
    assert "bad.png has no prediction" in capsys.readouterr().err
    rows = read_rows(tmp_path / "out.csv")
    masks = [np.asarray(Image.open(tmp_path / row["mask"])) for row in rows]
    assert [mask.shape for mask in masks] == [(32, 64), (96, 32)]
    assert len({row["mask"] for row in rows}) == 2
    right = (masks[0][:, ::2] == pairs.targets[900].numpy()).mean()
    assert right > 0.95
    assert main(command) == 1
    output = capsys.readouterr().out
    assert "To write each mask as a file too: --csv FILE" in output


def test_a_folder_with_masks_is_learned(run, tmp_path) -> None:
    for name in ("images", "masks"):
        (tmp_path / "shapes" / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    for i in range(20):
        mask = np.zeros((20, 24), np.uint8)
        mask[random.integers(10) :, random.integers(10) :] = 200
        Image.fromarray(mask // 2 + 50).save(tmp_path / "shapes" / "images" / f"{i}.png")
        Image.fromarray(mask).save(tmp_path / "shapes" / "masks" / f"{i}.png")
    options = ("--data.dataset", "mask_folder", "--data.root", str(tmp_path / "shapes"), "--data.image_size", "16")
    short = ("--data.batch_size", "4", "--trainer.max_epochs", "12", "--data.augment", "strong")
    assert run("fit", *options, *short, "--run", "own") == 0
    assert read_json(tmp_path / "own" / "test.json")["test/mean_iou"] > 0.8
    assert main(["predict", "--run", str(tmp_path / "own")]) == 0
    rows = read_rows(tmp_path / "own" / "predictions.csv")
    mask = np.asarray(Image.open(tmp_path / "own" / rows[0]["mask"]))
    assert mask.shape == (20, 24)
    assert set(np.unique(mask)) == {0, 200}


def test_value_out_of_bounds_is_told_without_a_traceback(run, capsys, tmp_path) -> None:
    assert run("fit", "--data.batch_size", "0") == 1
    assert capsys.readouterr().err.startswith("error: data.batch_size is 0; it must be at least 1")
    assert run("fit", "--data.dataset", "mask_folder", "--data.root", "none") == 1
    assert "error: none/images is missing" in capsys.readouterr().err.replace("\\", "/")
    assert list(tmp_path.iterdir()) == []
