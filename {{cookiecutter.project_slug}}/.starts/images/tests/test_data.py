import pytest
import torch
from lightning_runs.errors import UserError
from PIL import Image

from {{ cookiecutter.__package }}.data import DataModule


def digits(**options) -> DataModule:
    data = DataModule("digits", **options)
    data.setup("fit")
    return data


def test_batches_have_the_promised_shapes_and_levels() -> None:
    data = digits(batch_size=1000)
    images, labels = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert (images.shape, images.dtype) == ((1000, 1, 8, 8), torch.float32)
    assert (labels.shape, labels.dtype) == ((1000,), torch.int64)
    assert set(labels.tolist()) == set(range(data.num_classes))
    assert images.mean().item() == pytest.approx(0, abs=0.02)
    assert images.std().item() == pytest.approx(1, abs=0.02)


def test_parts_share_the_images_none_twice() -> None:
    splits = digits(val_fraction=0.2).splits
    train, val, test = (splits[part][1] for part in ("train", "val", "test"))
    assert torch.cat([train, val]).sort().values.tolist() == list(range(1437))
    assert (len(val), len(test)) == (287, 360)


def test_predictions_are_of_the_test_images_in_their_order() -> None:
    index = torch.cat([index for _, index in digits().predict_dataloader()])
    assert index.tolist() == list(range(360))


def test_augmented_images_have_the_same_shape_and_type() -> None:
    torch.manual_seed(0)
    data = digits(augment="strong")
    images, _ = next(iter(data.train_dataloader()))
    augmented = data.augment_images(images)
    assert (augmented.shape, augmented.dtype) == (images.shape, torch.uint8)
    assert not augmented.equal(images)


def test_images_in_folders_are_read(tmp_path) -> None:
    for part in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(4):
                Image.new("RGB", (20 + i, 30), (100 * label, 0, 0)).save(tmp_path / part / name / f"{i}.png")
    data = DataModule("image_folder", root=str(tmp_path), image_size=16, batch_size=2, num_workers=0)
    data.setup("fit")
    images, labels = next(iter(data.train_dataloader()))
    assert data.class_names == ["cat", "dog"]
    assert images.shape == (2, 3, 16, 16)
    assert (images[:, 0].amax(dim=(1, 2)) // 100).equal(labels)


def test_a_value_out_of_bounds_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.batch_size is 0; it must be at least 1"):
        DataModule(batch_size=0)
