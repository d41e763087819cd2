import shutil

import pytest
import torch
from reading import read_json, read_rows

from {{ cookiecutter.__package }}.data import DigitsDataModule
from {{ cookiecutter.__package }}.module import DigitClassifier


def test_splits_are_the_same_each_time_and_share_no_image() -> None:
    data, again = DigitsDataModule(), DigitsDataModule()
    data.setup("fit")
    again.setup("test")
    assert (len(data.train), len(data.val), len(data.test)) == (1294, 143, 360)
    assert data.train.indices == again.train.indices
    assert not set(data.train.indices) & set(data.val.indices)


def test_batches_are_images_from_0_to_1_with_labels() -> None:
    data = DigitsDataModule(batch_size=32)
    data.setup("fit")
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (32, 1, 8, 8)
    assert images.dtype == torch.float32
    assert (images.min(), images.max()) == (0, 1)
    assert set(labels.tolist()) <= set(range(10))


def test_gradient_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    model = DigitClassifier()
    model(torch.rand(16, 1, 8, 8)).logsumexp(dim=1).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.count_nonzero() > 0, name


def test_training_learns(trained) -> None:
    assert read_json(trained / "test.json")["test/accuracy"] > 0.85
    losses = [float(row["train/loss"]) for row in read_rows(trained / "metrics.csv") if row["train/loss"]]
    assert losses[-1] < 0.5 * losses[0]


def test_logged_names_are_the_documented_ones(trained) -> None:
    logged = {name for name in read_rows(trained / "metrics.csv")[0] if "/" in name}
    assert logged == {f"{split}/{name}" for split in ("train", "val", "test") for name in ("loss", "accuracy")}


def test_checkpoint_loads_by_itself(trained) -> None:
    file = trained / "checkpoints" / read_json(trained / "run.json")["best_checkpoint"]
    model = DigitClassifier.load_from_checkpoint(file, weights_only=True).eval()
    data = DigitsDataModule()
    data.setup("test")
    images, labels = data.test.tensors
    with torch.inference_mode():
        accuracy = (model(images).argmax(dim=1) == labels).float().mean().item()
        assert model.exported()(images).equal(model(images).softmax(dim=1))
    assert accuracy == pytest.approx(read_json(trained / "test.json")["test/accuracy"])


def test_predictions_are_a_row_for_each_test_image(trained, run, tmp_path) -> None:
    shutil.copytree(trained, tmp_path / "copy")
    assert run("predict") == 0
    predictions = read_rows(tmp_path / "copy" / "predictions.csv")
    assert list(predictions[0]) == ["index", "label", "probability", *(f"p({digit})" for digit in range(10))]
    assert [int(row["index"]) for row in predictions] == list(range(360))
