from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_runs.masks import datasets
from lightning_runs.masks.datasets import DATASETS, read_digit_scenes, read_mask_folder
from lightning_runs.masks.metrics import IGNORED
from PIL import Image
from starts import DIGITS, prepared
from toy import refused

SHAPE = (3, 16, 16)


def halves(left: int, right: int, height: int = 20, dtype: Any = np.uint8) -> np.ndarray:
    """A mask whose right half has another number than the left one."""
    return np.repeat(np.array([[left, right]], dtype), 15, axis=1).repeat(height, axis=0)


def write(folder: Path, name: str, content: Any) -> None:
    """Write an image, a text or bytes in the place of the files of this name; None leaves none."""
    file = folder / name
    for earlier in file.parent.glob(f"{file.stem}.*"):
        earlier.unlink()
    if isinstance(content, np.ndarray):
        Image.fromarray(content).save(file)
    elif content is not None:
        file.write_bytes(content.encode() if isinstance(content, str) else content)


def write_every_mask(folder: Path, left: int, right: int, dtype: Any = np.uint8) -> None:
    for i in range(10):
        write(folder, f"masks/{i}.png", halves(left, right, 20 + i, dtype))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten pictures of different sizes whose right half is class 1, in all forms that a mask may have."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(10):
        mask = halves(0, 1, 20 + i)
        write(tmp_path, f"images/{i}.{('png', 'jpg')[i % 2]}", 100 + 100 * np.stack([mask] * 3, axis=2))
        write(tmp_path, f"masks/{i}.png", mask.astype((np.uint8, np.uint16, bool)[i % 3]))
        if i % 4 == 1:
            palette = Image.fromarray(mask).convert("P")
            palette.putpalette([9, 9, 9, 200, 0, 0])
            palette.save(tmp_path / "masks" / f"{i}.png")
    return tmp_path


def read(folder: Path, known: dict[str, Any] | None = None):
    return read_mask_folder(folder, SHAPE, known or {}, ignore_index=255)


def test_scenes_are_the_same_each_time_and_have_every_class() -> None:
    scenes, num_train, classes = read_digit_scenes(DIGITS)
    assert all(map(torch.equal, scenes.tensors, read_digit_scenes(DIGITS)[0].tensors))
    assert (len(scenes), num_train) == (1000, 800)
    assert classes == {"labels": [0, 1, 2, 3, 4, 5], "class_names": ["background", "0", "1", "2", "3", "4"]}
    for part in (torch.arange(800), torch.arange(800, 1000)):
        assert scenes.classes(part).unique().tolist() == classes["labels"]
    levels = scenes.tensors[0][:800] / 255
    assert DATASETS["digit_scenes"].mean[0] == pytest.approx(levels.mean().item(), abs=0.001)


def test_masks_are_read_in_every_form_and_brought_to_one_size(folder, monkeypatch) -> None:
    images, num_train, classes = read(folder)
    assert (num_train, classes) == (10, {"labels": [0, 1], "class_names": ["label 0", "label 1"]})
    pixels, masks = images[torch.arange(10)]
    assert pixels.shape == (10, *SHAPE)
    assert pixels[:, :, :, 12:].float().mean() == pytest.approx(200, abs=2)
    assert masks.equal(torch.tensor([[[0] * 8 + [1] * 8] * 16] * 10, dtype=masks.dtype))
    monkeypatch.setattr(datasets, "CACHE_BYTES", 0)
    by_batch, _, _ = read(folder)
    chosen = torch.tensor([3, 1])
    assert (images.is_in_memory, by_batch.is_in_memory) == (True, False)
    assert all(map(torch.equal, by_batch[chosen], images[chosen]))
    assert by_batch.numbered()[chosen][1].tolist() == [3, 1]


def test_labels_may_be_any_numbers_and_have_names(folder) -> None:
    write_every_mask(folder, 7, 300, np.uint16)
    mask = halves(7, 300, dtype=np.uint16)
    mask[:10] = 255
    write(folder, "masks/0.png", mask)
    images, _, classes = read(folder)
    assert classes == {"labels": [7, 300], "class_names": ["label 7", "label 300"]}
    assert images.labels[0].unique().tolist() == [0, 1, IGNORED]
    write(folder, "classes.txt", "300 cell\n\n255 edge\n7 all the rest\n")  # 255 is a class then
    images, _, classes = read(folder)
    assert classes == {"labels": [300, 255, 7], "class_names": ["cell", "edge", "all the rest"]}
    assert images.labels[0, ::8, ::8].tolist() == [[1, 1], [2, 0]]


@pytest.mark.parametrize("names", ["", "sky\nsea\n", "0 sky\n1 sea\n"])
def test_black_and_white_masks_are_two_classes(folder, names) -> None:
    write_every_mask(folder, 0, 255)
    write(folder, "masks/0.png", np.full((20, 30), 255, np.uint8))  # one without black
    if names:
        write(folder, "classes.txt", names)
    images, _, classes = read(folder)
    assert classes == {"labels": [0, 255], "class_names": ["sky", "sea"] if names else ["label 0", "label 255"]}
    assert images.classes(torch.arange(10)).bincount().tolist() == [9 * 128, 9 * 128 + 256]
    assert read(folder, classes)[0].labels.equal(images.labels)


@pytest.mark.parametrize(
    ("others", "first", "file"),
    [((0, 1), (0, 255), 0), ((0, 255), (0, 254), 1), ((0, 127), (127, 255), 0), ((0, 2), (64, 255), 0)],
)
def test_255_that_seems_to_be_a_class_is_refused(folder, others, first, file) -> None:
    write_every_mask(folder, *others)
    write(folder, "masks/0.png", halves(*first))
    with refused(f"seems to be a class in {folder / 'masks' / str(file)}.png"):
        read(folder)


def test_a_class_without_a_pixel_beside_ignored_ones_is_refused(folder) -> None:
    known = {"labels": [0, 1, 2], "class_names": ["sky", "sea", "land"]}
    write(folder, "classes.txt", "sky\nsea\nland\n")
    assert read(folder)[2] == known
    mask = halves(0, 1)
    mask[10:] = 255
    write(folder, "masks/0.png", mask)
    with refused(f"no mask in {folder / 'masks'} has the label 2 of classes.txt, but masks have 255"):
        read(folder)
    assert read(folder, known)[2] == known  # the run's data had all of them


def test_unlike_palettes_and_images_that_exif_turns_are_reported(folder, capsys) -> None:
    read(folder)
    assert capsys.readouterr().err == ""
    image = folder / "images" / "4.png"
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(image).save(image, exif=exif)
    masks = [folder / "masks" / f"{i}.png" for i in (1, 5)]
    other = Image.open(masks[1]).copy()
    other.putpalette([9, 9, 9, 0, 200, 0])
    other.save(masks[1])
    read(folder)
    notes = capsys.readouterr().err
    assert f"1 is the colour [200, 0, 0] in {masks[0]} and [0, 200, 0] in {masks[1]}" in notes
    assert f"1 of 10 images are turned by their EXIF orientation, such as {image}" in notes


EMPTY = np.zeros((20, 30), np.uint8)


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"classes.txt": "sky\nsea\n", "masks/0.png": EMPTY + 4}, "0.png has the label 4. Labels must be one of 0, 1"),
        ({"masks/0.png": EMPTY.T}, "0.png is 20 pixels wide and 30 high, and "),
        ({"masks/2.png": None}, "images/2.png has no counterpart {folder}/masks/2.png (1 such files)."),
        ({"images/2.png": None}, "masks/2.png has no counterpart {folder}/images/2.png"),
        ({"masks/0.png": np.zeros((20, 30, 3), np.uint8)}, "0.png has the mode RGB; a mask holds the number of each"),
        ({"masks/0.jpg": EMPTY}, "0.jpg must be a PNG file: a mask needs the exact number of each pixel's class."),
        ({"images/1.jpg": b"no picture"}, "1.jpg can't be read as an image: "),
        ({"masks/1.png": b"no picture"}, "1.png can't be read as a mask: "),
        ({"masks/0.png": EMPTY + 255}, "0.png has no class: all of it is 255, which is ignored. Remove it and its"),
        ({"masks/0.png": np.arange(600, dtype=np.uint16).reshape(20, 30)}, "the labels 0, 1, 2, 3, 4 …, 599 in all"),
        ({"classes.txt": "1 sky\n1 sea\n"}, "classes.txt has the label 1 more than once."),
        ({"classes.txt": "name\n" * 256}, "classes.txt has 256 classes; at most 255 are possible."),
        ({f"masks/{i}.png": None for i in range(10)}, "{folder}/masks has no file that ends in one of .jpg"),
    ],
)
def test_a_folder_that_can_not_be_read_is_refused(folder, files, text) -> None:
    for name, content in files.items():
        write(folder, name, content)
    with refused(text.format(folder=folder)):
        read(folder)


def test_test_images_may_be_chosen(folder) -> None:
    with refused(f"{folder / 'test' / 'images'} is missing: put your images into "):
        read(folder / "test")
    for name in ("images", "masks"):
        (folder / "test" / name).mkdir(parents=True)
        for file in sorted((folder / name).iterdir())[:3]:
            file.rename(folder / "test" / name / file.name)
    data = prepared("masks", dataset="mask_folder", root=str(folder), image_size=16)
    images, test = data.splits["test"]
    assert {images.files[i].parts[-3] for i in test.tolist()} == {"test"}
    assert [len(data.splits[part][1]) for part in ("train", "val", "test")] == [6, 1, 3]
    data.splits = {}
    data.dataset = "digit_scenes"
    with refused("data.dataset is digit_scenes"):
        data.setup("predict")


def test_images_are_weighed_by_the_rarest_of_their_classes() -> None:
    rows = [[0] * 8, [1] * 2 + [0] * 6, [1] * 4 + [IGNORED] * 4, [2] * 2 + [1] * 6, [IGNORED] * 8]
    masks = torch.tensor(rows, dtype=torch.uint8)[:, None]
    assert datasets.rarest_classes(masks).tolist() == [0, 1, 1, 2, 0]  # class 2 has two pixels in all
