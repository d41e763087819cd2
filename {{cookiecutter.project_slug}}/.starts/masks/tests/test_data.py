import numpy as np
import pytest
import torch
from lightning_runs.errors import UserError
from PIL import Image

from {{ cookiecutter.__package }}.data import DataModule


@pytest.fixture(scope="module")
def scenes() -> DataModule:
    data = DataModule()
    data.setup("fit")
    return data


def test_batches_have_the_promised_shapes_and_levels(scenes) -> None:
    images, masks = scenes.on_after_batch_transfer(next(iter(scenes.train_dataloader())), 0)
    assert (images.shape, images.dtype) == ((16, 1, 32, 32), torch.float32)
    assert (masks.shape, masks.dtype) == ((16, 32, 32), torch.int64)
    assert set(masks.unique().tolist()) <= {*range(scenes.num_classes), 255}
    assert abs(images.mean()) < 0.2
    assert 0.8 < images.std() < 1.2


def test_parts_share_the_images_none_twice(scenes) -> None:
    parts = [scenes.splits[part][1] for part in ("train", "val", "test")]
    assert torch.cat(parts).sort().values.tolist() == list(range(1000))
    assert [len(part) for part in parts] == [720, 80, 200]


def test_predictions_are_of_the_test_images_in_their_order(scenes) -> None:
    index = torch.cat([index for _, index in scenes.predict_dataloader()])
    assert index.tolist() == list(range(800, 1000))


def test_images_and_masks_in_a_folder_are_read(tmp_path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(10):
        mask = np.zeros((20 + i, 30), np.uint8)
        mask[:, 15:] = 1
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
        Image.fromarray(200 * mask).save(tmp_path / "images" / f"{i}.png")
    (tmp_path / "classes.txt").write_text("sky\nsea\n")
    data = DataModule("mask_folder", root=str(tmp_path), image_size=16, batch_size=4)
    data.setup("fit")
    images, masks = next(iter(data.train_dataloader()))
    assert data.class_names == ["sky", "sea"]
    assert images.shape == (4, 3, 16, 16)
    assert ((images[:, 0] > 100) == (masks == 1))[:, :, [0, 15]].all()


def test_a_value_out_of_bounds_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.batch_size is 0; it must be at least 1"):
        DataModule(batch_size=0)
