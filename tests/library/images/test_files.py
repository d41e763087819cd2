import re
from typing import Any

import pytest
import torch
from lightning_runs.images import reading
from lightning_runs.images.files import ImageFiles
from PIL import Image
from starts import prepared
from toy import refused
from written_data import write_images

SHAPE = (3, 16, 16)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK"])
def test_images_of_every_mode_keep_their_brightness(mode, tmp_path) -> None:
    Image.new("RGB", (30, 20), (100, 100, 100)).convert(mode).save(tmp_path / "grey.tiff")
    image = reading.read_image(tmp_path / "grey.tiff", SHAPE)
    assert image.shape == SHAPE
    assert image.mean() == pytest.approx(100, abs=3)


def test_an_image_is_scaled_to_cover_the_size_and_cut(tmp_path) -> None:
    image = Image.new("L", (60, 20))
    image.paste(255, (20, 0, 40, 20))
    image.save(tmp_path / "wide.png")
    assert (reading.read_image(tmp_path / "wide.png", (1, 10, 10))[:, :, 1:9] == 255).all()


def test_a_folder_may_have_its_own_validation_images(tmp_path) -> None:
    options: dict[str, Any] = {"dataset": "image_folder", "root": str(tmp_path), "image_size": 16}
    write_images(tmp_path)
    splits = prepared("images", val_fraction=0.001, **options).splits
    assert [len(splits[part][1]) for part in ("train", "val", "test")] == [19, 1, 20]
    write_images(tmp_path, parts=("val",))
    splits = prepared("images", **options).splits
    assert [len(splits[part][1]) for part in ("train", "val", "test")] == [20, 20, 20]
    images, labels = splits["val"][0][torch.tensor([0, 11])]
    assert images.shape == (2, *SHAPE)
    assert labels.tolist() == [0, 1]
    with refused(f"{tmp_path / 'val'} has images for validation; for data.num_folds, move them to train."):
        prepared("images", num_folds=2, **options)


def test_images_are_kept_for_the_next_epoch(tmp_path) -> None:
    file = tmp_path / "a.png"
    Image.new("RGB", (16, 16), (10, 20, 30)).save(file)
    first = torch.tensor([0])
    kept = ImageFiles([file], first, SHAPE, cache=True)
    image, _ = kept[first]
    file.unlink()
    assert kept[first][0].equal(image)


def test_an_image_that_can_not_be_read_is_an_error_or_left_out(tmp_path) -> None:
    files = sorted((write_images(tmp_path) / "train" / "cat").iterdir())
    files[3].write_bytes(b"no image")
    every = torch.arange(len(files))
    with refused(f"{files[3]} can't be read as an image"):
        ImageFiles(files, every, SHAPE)[every]
    dataset = ImageFiles(files, every, SHAPE, skip_corrupt=True, cache=True)
    with pytest.warns(UserWarning, match=re.escape(f"{files[3]} can't be read as an image: cannot identify image")):
        images, labels = dataset[every]
    assert len(images) == len(files) - 1
    assert labels.equal(every[every != 3])
    assert dataset.readable(every).equal(labels)  # the file is named once: a second warning would be an error
    with refused(f"none of the 1 images of a batch can be read; the first is {files[3]}"):
        dataset[every[3:4]]
