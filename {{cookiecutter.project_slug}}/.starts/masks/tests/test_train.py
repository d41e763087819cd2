import numpy as np
import pytest
import torch
from PIL import Image
from reading import read_json, read_rows

from {{ cookiecutter.__package }}.data import DataModule
from {{ cookiecutter.__package }}.module import SegmentationModel


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
    model = SegmentationModel.load_from_checkpoint(trained / "checkpoints" / record["best_checkpoint"]).eval()
    data = DataModule()
    data.setup("test")
    images, masks = data.splits["test"][0][torch.arange(800, 1000)]
    with torch.inference_mode():
        correct = model(data.levels(images)).argmax(dim=1) == masks
    assert correct.float().mean().item() == pytest.approx(read_json(trained / "test.json")["test/accuracy"], abs=1e-4)


def test_predicted_masks_of_a_run_are_files_beside_a_table(trained, run) -> None:
    assert run("predict", "--run", str(trained)) == 0
    predictions = read_rows(trained / "predictions.csv")
    names = ["background", *map(str, range(5))]
    assert list(predictions[0]) == ["index", "mask", "confidence", *(f"share({name})" for name in names)]
    assert [int(row["index"]) for row in predictions] == list(range(800, 1000))
    mask = np.asarray(Image.open(trained / predictions[7]["mask"]))
    assert (mask == 2).mean() == pytest.approx(float(predictions[7]["share(1)"]), abs=1e-6)
