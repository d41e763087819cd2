from types import SimpleNamespace

import pytest
import torch
from lightning_runs.images.classifier import ImageReports, build_network, draw_examples
from starts import built, data_class, prepared, refused
from torch import nn
from torch.nn import functional
from written_data import write_images


@pytest.fixture(scope="module")
def data():
    return prepared("images", seed=1)


def test_sections_show_images_and_their_mistakes(data) -> None:
    predicted = data.splits["test"][0].labels.clone()
    predicted[:36] = (predicted[:36] + 1) % 10
    predictions = {"index": torch.arange(360), "probabilities": functional.one_hot(predicted, 10) * 0.89 + 0.011}
    drawn = {title: draw() for title, draw in ImageReports().sections(predictions, data)}
    titles = ["Test result", "Confusion matrix", "Each class", "Calibration", "Surest mistakes", "Data"]
    assert list(drawn) == titles
    assert "324 of 360 images" in drawn["Test result"]
    assert drawn["Surest mistakes"].count("<img") == 24
    assert "Channels, height and width of an image: (1, 8, 8)" in drawn["Data"]
    assert drawn["Data"].count("<img") == 10


def test_examples_are_drawn_with_their_captions(data) -> None:
    images, labels = data.splits["test"][0][torch.arange(5)]
    logits = functional.one_hot(labels, 10)
    [picture] = ImageReports().show([logits], (data.levels(images), labels), data).values()
    assert picture.size == (4 * 128, 2 * 144)
    other = draw_examples(images, labels, (labels + 1) % 10, data.class_names)
    for part, is_same in (((0, 0, 512, 124), True), ((0, 128, 512, 144), False)):  # images, and captions
        assert (picture.crop(part).tobytes() == other.crop(part).tobytes()) is is_same


def test_a_network_that_does_not_take_the_arguments_is_named() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()

    with refused("model.network is Named, which does not take input_shape and num_classes"):
        build_network(Named, (1, 8, 8), 10)  # pyright: ignore[reportArgumentType]


# ---- The start's own classes


def test_labels_are_smoothed_in_training(data) -> None:
    model = built("images", data, label_smoothing=0.2)
    model.trainer = SimpleNamespace(is_last_batch=False, log_every_n_steps=10, global_step=0)
    images = torch.rand(5, 1, 8, 8)
    labels = torch.arange(5)
    expected = functional.cross_entropy(model(images), labels, label_smoothing=0.2)
    assert model.training_step((images, labels), 0).item() == pytest.approx(expected.item())


def test_training_batches_are_mixed() -> None:
    data = prepared("images", mix="mixup", augment="none")
    batch = next(iter(data.train_dataloader()))
    plain, _ = data.on_after_batch_transfer(batch, 0)
    data.trainer = SimpleNamespace(training=True, precision_plugin=SimpleNamespace(convert_input=lambda images: images))
    images, labels = data.on_after_batch_transfer(batch, 0)
    assert not images.equal(plain)
    assert labels.shape == (64, 10)


def test_a_folder_may_have_its_own_validation_images(tmp_path) -> None:
    write_images(tmp_path / "without")
    options = {"dataset": "image_folder", "image_size": 16, "val_fraction": 0.001}
    splits = prepared("images", root=str(tmp_path / "without"), **options).splits
    assert [len(splits[part][1]) for part in ("train", "val", "test")] == [19, 1, 20]
    root = write_images(tmp_path / "with", parts=("train", "val", "test"))
    data = prepared("images", root=str(root), **options)
    assert [len(data.splits[part][1]) for part in ("train", "val", "test")] == [20, 20, 20]
    assert (data.class_names, data.input_shape) == (["cat", "dog"], (3, 16, 16))
    with refused(f"{root / 'val'} has images for validation; for data.num_folds, move them to train."):
        data_class("images")("image_folder", root=str(root), num_folds=2).setup("fit")
