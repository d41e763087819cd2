import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning_runs.errors import UserError
from lightning_runs.masks.metrics import IGNORED
from PIL import Image
from starts import start_module
from torch import nn
from torch.nn import functional

DataModule = start_module("masks", "data").DataModule
SegmentationModel = start_module("masks", "module").SegmentationModel
UNet = start_module("masks", "network").UNet
FACTS = {"class_names": ["a", "b", "c/d"], "labels": [0, 1, 2], "mean": (0.3,), "std": (0.2,)}


def built(network: Any = UNet, **options: Any):
    torch.manual_seed(0)
    return SegmentationModel((1, 12, 12), FACTS, network=network, optimizer=torch.optim.AdamW, **options)


def refused(text: str):
    return pytest.raises(UserError, match=re.escape(text))


@pytest.fixture(scope="module")
def scenes():
    data = DataModule()
    data.setup("fit")
    return data


@pytest.fixture
def folder(tmp_path):
    """Ten images with more and more of class 1 above, and four rows without a class below."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(10):
        mask = np.zeros((20 + i, 30), np.uint8)
        mask[: 1 + i] = 1
        mask[-4:] = 255
        Image.new("RGB", (30, 20 + i), (200, 0, 0)).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
    return tmp_path


def read(folder, **options: Any):
    data = DataModule("mask_folder", str(folder), image_size=16, **options)
    data.setup("fit")
    return data


# ---- Data


def test_parts_of_scenes_and_what_is_predicted(scenes) -> None:
    assert [len(scenes.splits[part][1]) for part in ("train", "val", "test")] == [720, 80, 200]
    assert scenes.class_names == ["background", "0", "1", "2", "3", "4"]
    pixels, index = next(iter(scenes.predict_dataloader()))
    assert index.tolist() == list(range(800, 816))
    assert scenes.levels.denormalize(scenes.levels(pixels)).equal(pixels)
    assert DataModule().fingerprint() == scenes.fingerprint()


def test_training_batches_are_augmented_and_normalised(scenes) -> None:
    batch = next(iter(scenes.train_dataloader()))
    plain, masks = scenes.on_after_batch_transfer(batch, 0)
    assert (plain.shape, plain.dtype) == ((16, 1, 32, 32), torch.float32)
    assert (masks.shape, masks.dtype) == ((16, 32, 32), torch.int64)
    precision = SimpleNamespace(convert_input=lambda images: images)
    for augment in ("none", "light", "strong"):
        data = DataModule(augment=augment)
        data.trainer = SimpleNamespace(training=True, precision_plugin=precision)
        images, moved = data.on_after_batch_transfer(batch, 0)
        assert images.equal(plain) is moved.equal(masks) is (augment == "none")
        data.trainer.training = False
        assert data.on_after_batch_transfer(batch, 0)[0].equal(plain)


def test_the_classes_of_a_folder_are_kept_in_checkpoints(folder) -> None:
    data = read(folder)
    assert {part: len(data.splits[part][1]) for part in ("train", "val", "test")} == {"train": 7, "val": 1, "test": 2}
    assert data.input_shape == (3, 16, 16)
    assert data.state_dict() == {"labels": [0, 1], "class_names": ["label 0", "label 1"], "trained": "mask_folder"}
    assert data.facts["class_names"] == ["label 0", "label 1"]
    with refused(f"the part test has 0 of the 10 items of {folder}; it needs 1."):
        read(folder, test_fraction=0.01)


def test_chosen_test_images_are_tested_alone(folder) -> None:
    for name in ("images", "masks"):
        (folder / "test" / name).mkdir(parents=True)
        for file in sorted((folder / name).iterdir())[:3]:
            file.rename(folder / "test" / name / file.name)
    data = read(folder)
    images, test = data.splits["test"]
    assert {images.files[i].parts[-3] for i in test.tolist()} == {"test"}
    assert [len(data.splits[part][1]) for part in ("train", "val", "test")] == [6, 1, 3]


def test_folds_hold_each_image_out_once_and_are_predicted(folder) -> None:
    folds = [read(folder, fold=fold, num_folds=4).splits for fold in range(4)]
    held_out = torch.cat([splits["val"][1] for splits in folds])
    assert len(held_out) == len(set(held_out.tolist())) == 8
    assert all(splits["predict"][1].equal(splits["val"][1]) for splits in folds)
    assert not set(held_out.tolist()) & set(folds[0]["test"][1].tolist())
    whole = read(folder, fold=None, num_folds=4).splits
    assert [len(whole[part][1]) for part in ("train", "val", "predict")] == [8, 0, 2]


def test_weights_of_classes_count_training_pixels_alone(folder) -> None:
    data = read(folder, balance="weights")
    images, train = data.splits["train"]
    masks = images.labels[train]
    sums = [weight * int((masks == label).sum()) for label, weight in enumerate(data.loss_weights)]
    assert sums == [pytest.approx((masks != IGNORED).sum().item() / 2)] * 2
    assert data.loss_weights[0] != data.loss_weights[1]
    assert read(folder).loss_weights is None


def test_each_class_is_as_often_the_rarest_of_a_drawn_image(scenes) -> None:
    sampled = DataModule(balance="sampling")
    sampled.setup("fit")
    images, train = sampled.splits["train"]
    rarest = start_module("masks", "data").datasets.rarest_classes(images.labels[train])
    classes = torch.full((1000,), -1)
    classes[train] = rarest
    sampler: Any = sampled.train_dataloader().sampler
    drawn = []
    for epoch in range(20):
        sampler.set_epoch(epoch)
        drawn += [*sampler]
    counts = classes[torch.cat(drawn)].bincount(minlength=6)
    existing = rarest.unique()
    expected = counts.sum().item() / len(existing)
    assert counts[existing].tolist() == [pytest.approx(expected, rel=0.1)] * len(existing)
    assert len(sampled.train_dataloader()) == len(scenes.train_dataloader())
    assert all(map(torch.equal, next(iter(sampled.val_dataloader())), next(iter(scenes.val_dataloader()))))


def test_new_images_need_no_masks(folder) -> None:
    (folder / "images" / "3.png").write_bytes(b"no picture")
    data = DataModule("mask_folder", "nowhere", predict_paths=[str(folder / "images")], num_workers=0)
    data.setup("predict")
    index = torch.cat([index for _, index in data.predict_dataloader()])
    assert index.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert data.predict_paths[0] == str(folder / "images" / "0.png")


@pytest.mark.parametrize("paths", [None, ["images"]])
def test_a_run_is_not_asked_about_another_data_set(paths) -> None:
    data = DataModule("mask_folder", "nowhere", predict_paths=paths)
    data.load_state_dict({"labels": [0, 1], "class_names": ["0", "1"], "trained": "digit_scenes"})  # those of a run
    with refused("data.dataset is mask_folder, but the run was trained with digit_scenes. Leave it out."):
        data.setup("predict")


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("num_workers", -1, "data.num_workers is -1; it must be at least 0."),
        ("image_size", 7, "data.image_size is 7; it must be at least 8."),
        ("test_fraction", 0.0, "data.test_fraction is 0.0; it must lie between 0 and 1"),
    ],
)
def test_values_out_of_bounds_are_refused(option, value, text) -> None:
    with refused(text):
        DataModule(**{option: value})


# ---- Module


def test_the_loss_is_that_of_pixels_and_of_dice() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 4)
    masks = torch.randint(0, 3, (2, 4, 4))
    masks[0, :2] = IGNORED
    weights = torch.tensor([0.5, 1.0, 3.0])
    plain = built(dice=0.0)
    torch.testing.assert_close(plain.loss(logits, masks), functional.cross_entropy(logits, masks, ignore_index=IGNORED))
    entropies = functional.cross_entropy(logits, masks, weights, ignore_index=IGNORED, reduction="none")
    torch.testing.assert_close(plain.loss(logits, masks, weights), entropies[masks != IGNORED].mean())
    dice = built(dice=2.0).loss(logits, masks) - plain.loss(logits, masks)
    assert dice > 0
    torch.testing.assert_close(built(dice=2.0).loss(logits, masks, weights), entropies[masks != IGNORED].mean() + dice)


def test_a_pixel_without_a_class_changes_nothing() -> None:
    model = built()
    masks = torch.randint(0, 3, (2, 4, 4))
    masks[:, 1] = IGNORED
    logits = torch.randn(2, 3, 4, 4)
    other = logits.clone()
    other[:, :, 1] += 5 * torch.randn(2, 3, 4)
    assert model.loss(logits, masks) == model.loss(other, masks)
    assert bool(model.loss(logits, torch.full_like(masks, IGNORED)).isfinite())


def test_weights_are_for_training_alone(monkeypatch) -> None:
    weights = [0.5, 1.0, 3.0]
    model = built(dice=0.0, loss_weights=weights).eval()
    images = torch.randn(2, 1, 12, 12)
    masks = torch.randint(0, 3, (2, 12, 12))
    monkeypatch.setattr(model, "log", lambda *_, **__: None)
    expected = model.loss(model(images), masks, torch.tensor(weights))
    torch.testing.assert_close(model.training_step((images, masks), 0), expected)
    model.validation_step((images, masks), 0)
    torch.testing.assert_close(model.val_metrics["loss"].compute(), model.loss(model(images), masks))


class Level(nn.Module):
    """Predicts the class that is nearest to the level of a pixel."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([-20 * (images - label).abs() for label in range(3)], dim=1)


def test_metrics_are_of_the_whole_split_and_start_again(monkeypatch) -> None:
    model = built(lambda input_shape, num_classes: Level())
    logged: dict[str, float] = {}
    monkeypatch.setattr(model, "log_dict", lambda metrics, **_: logged.update(metrics))
    for right, wrong in ((3, 1), (1, 3)):
        model.test_step((torch.full((right, 1, 4, 4), 0.0), torch.zeros(right, 4, 4, dtype=torch.int64)), 0)
        model.test_step((torch.full((wrong, 1, 4, 4), 1.0), torch.zeros(wrong, 4, 4, dtype=torch.int64)), 1)
        model.on_test_epoch_end()
        assert logged["test/accuracy"] == pytest.approx(right / 4)
        assert logged["test/iou_a"] == pytest.approx(right / 4)
        assert logged["test/iou_b"] == 0
        assert logged["test/mean_iou"] == pytest.approx(right / 8)
        assert "test/iou_c_d" not in logged
    model.test_step((torch.full((1, 1, 4, 4), 2.0), torch.full((1, 4, 4), 2)), 0)
    model.on_test_epoch_end()
    assert logged["test/iou_c_d"] == 1


def test_what_a_network_returns_has_to_fit() -> None:
    model = built(lambda input_shape, num_classes: nn.Conv2d(1, 2, 3))
    with refused("the output of Conv2d has the shape (1, 2, 10, 10); logits must be (1, 3, 12, 12)."):
        model(torch.zeros(1, 1, 12, 12))


def test_a_negative_weight_is_refused() -> None:
    with refused("model.dice is -1.0; it must be 0 or more, such as 0.5."):
        built(dice=-1.0)


def test_the_place_of_a_pixel_is_kept() -> None:
    network = UNet((1, 13, 13), num_classes=2, width=4, depth=2).eval()
    image = torch.zeros(1, 1, 13, 13)
    image[..., 12, 3] = 1
    changed = (network(image) - network(torch.zeros_like(image))).abs().sum(dim=1)[0]
    row, column = divmod(int(changed.argmax()), 13)
    assert abs(row - 12) <= 2
    assert abs(column - 3) <= 2
