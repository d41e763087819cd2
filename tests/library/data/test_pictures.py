from pathlib import Path

import numpy as np
import pytest
from lightning_runs.data.pictures import as_array, open_picture, picture_size
from PIL import Image
from toy import refused

LEVELS = np.array([[0, 100], [200, 255]], np.uint8)


def levels(file: Path, channels: int = 1) -> list:
    return as_array(open_picture(file, channels))[0].tolist()


@pytest.mark.parametrize(
    ("values", "suffix", "expected"),
    [
        (LEVELS.astype("u2") * 257, "png", LEVELS),
        (LEVELS.astype("u2"), "png", 0 * LEVELS),
        (LEVELS.astype("u2") * 16, "png", LEVELS // 16),
        (LEVELS.astype("i4") * 256, "tif", LEVELS),
        (LEVELS.astype("f4") / 255, "tif", LEVELS),
        (LEVELS.astype("f4") / 2550, "tif", LEVELS // 10),
    ],
)
def test_values_of_other_types_are_scaled_by_the_type(tmp_path, values, suffix, expected) -> None:
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    assert np.abs(np.array(levels(tmp_path / f"a.{suffix}")) - expected).max() <= (expected is not LEVELS)


@pytest.mark.parametrize("values", [-1 * LEVELS.astype("i4"), 999 * LEVELS.astype("i4"), LEVELS.astype("f4")])
def test_values_beyond_the_range_of_their_type_are_refused(tmp_path, values) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif")
    with refused("Save it in 8 bits"):
        open_picture(tmp_path / "a.tif", 1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(tmp_path, mode) -> None:
    picture = Image.fromarray(np.array([[[0, 0, 0, 255], [0, 0, 0, 0]]], np.uint8)).convert(mode)
    picture.save(tmp_path / "a.png")
    assert levels(tmp_path / "a.png") == levels(tmp_path / "a.png", 3) == [[0, 255]]


def test_a_photo_is_turned_as_its_camera_was(tmp_path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "photo.jpg", exif=exif)
    assert picture_size(tmp_path / "photo.jpg") == (20, 40)
    assert open_picture(tmp_path / "photo.jpg", 3).size == (20, 40)
