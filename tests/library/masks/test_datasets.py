import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_runs.errors import UserError
from lightning_runs.masks import datasets
from lightning_runs.masks.datasets import DATASETS, read_digit_scenes, read_mask_folder, read_new_images
from PIL import Image
from starts import DIGITS

SHAPE = (3, 16, 16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten pictures of different sizes whose right half is class 1, in all forms that a mask may have."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(10):
        mask = np.zeros((20 + i, 30), np.uint8)
        mask[:, 15:] = 1
        Image.fromarray(100 + 100 * mask).convert("RGB").save(tmp_path / "images" / f"{i}.{('png', 'jpg')[i % 2]}")
        palette = Image.fromarray(mask).convert("P")
        palette.putpalette([9, 9, 9, 200, 0, 0])
        forms = [Image.fromarray(mask), palette, Image.fromarray(mask.astype(np.uint16))]
        forms.append(Image.fromarray(mask.astype(bool)))
        forms[i % 4].save(tmp_path / "masks" / f"{i}.png")
    return tmp_path


def read(folder: Path, known: dict[str, Any] | None = None, ignore_index: int | None = 255):
    return read_mask_folder(folder, SHAPE, known or {}, ignore_index)


def write_mask(folder: Path, numbers: np.ndarray, name: str = "0") -> None:
    Image.fromarray(numbers).save(folder / "masks" / f"{name}.png")


def refused(text: str):
    return pytest.raises(UserError, match=re.escape(text))


def test_scenes_are_the_same_each_time_and_have_every_class() -> None:
    scenes, num_train, classes = read_digit_scenes(DIGITS)
    again, _, _ = read_digit_scenes(DIGITS)
    assert all(map(torch.equal, scenes.tensors, again.tensors))
    assert (len(scenes), num_train) == (1000, 800)
    assert classes == {"labels": [0, 1, 2, 3, 4, 5], "class_names": ["background", "0", "1", "2", "3", "4"]}
    for part in (torch.arange(800), torch.arange(800, 1000)):
        assert scenes.classes(part).unique().tolist() == [0, 1, 2, 3, 4, 5]
    levels = scenes.tensors[0][:800] / 255
    assert DATASETS["digit_scenes"].mean[0] == pytest.approx(levels.mean().item(), abs=0.001)
    assert DATASETS["digit_scenes"].std[0] == pytest.approx(levels.std().item(), abs=0.001)


def test_scenes_of_the_test_have_digits_of_the_test_alone(monkeypatch) -> None:
    # the ink of a digit shows where it is from
    arrays = {f"{part}_images": np.full((10, 8, 8), ink) for part, ink in (("train", 100), ("test", 160))}
    arrays |= {f"{part}_labels": np.zeros(10, int) for part in ("train", "test")}
    monkeypatch.setattr(np, "load", lambda file: nullcontext(arrays))
    for part, ink in (("train", 100), ("test", 160)):
        images, masks = datasets.make_digit_scenes(DIGITS, part)
        assert images[:, 0][masks == 1].mean() == pytest.approx(60 + ink * 0.675, abs=3)


def test_masks_are_read_in_every_form_and_brought_to_one_size(folder) -> None:
    images, num_train, classes = read(folder)
    assert (num_train, classes) == (10, {"labels": [0, 1], "class_names": ["label 0", "label 1"]})
    pixels, masks = images[torch.arange(10)]
    assert pixels.shape == (10, *SHAPE)
    assert pixels[:, :, :, 12:].float().mean() == pytest.approx(200, abs=2)
    assert masks.shape == (10, 16, 16)
    assert (masks[:, :, :8] == 0).all()
    assert (masks[:, :, 8:] == 1).all()


def test_images_that_are_read_batch_by_batch_are_the_same(folder, monkeypatch) -> None:
    kept, _, _ = read(folder)
    monkeypatch.setattr(datasets, "CACHE_BYTES", 0)
    images, _, _ = read(folder)
    assert (kept.is_in_memory, images.is_in_memory) == (True, False)
    assert all(map(torch.equal, images[torch.tensor([3, 1])], kept[torch.tensor([3, 1])]))
    numbered = images.numbered()
    assert numbered[torch.tensor([3, 1])][1].tolist() == [3, 1]
    before = [bytes(content) for content in images.content()]
    assert [bytes(content) for content in images.content()] == before
    (folder / "images" / "0.png").touch()
    assert [bytes(content) for content in images.content()] != before


def test_labels_may_be_any_numbers_and_have_names(folder) -> None:
    for i in range(10):
        mask = np.full((20 + i, 30), 7, np.uint16)
        mask[:, 15:] = 300
        mask[0] = 255
        write_mask(folder, mask, str(i))
    images, _, classes = read(folder)
    assert classes == {"labels": [7, 300], "class_names": ["label 7", "label 300"]}
    assert images.labels[0].unique().tolist() == [0, 1, 255]
    assert images.classes(torch.tensor([0])).unique().tolist() == [0, 1]
    (folder / "classes.txt").write_text("300 cell\n\n7 all the rest\n")
    images, _, classes = read(folder)
    assert classes == {"labels": [300, 7], "class_names": ["cell", "all the rest"]}
    assert (images.labels[0, 8, :8] == 1).all()
    (folder / "classes.txt").write_text("7 rest\n255 edge\n300 cell\n")  # 255 is a class then
    assert read(folder)[0].labels[0].unique().tolist() == [0, 1, 2]
    (folder / "classes.txt").write_text("sky blue\nsea\n")
    assert datasets.read_classes(folder) == {"labels": [0, 1], "class_names": ["sky blue", "sea"]}


@pytest.mark.parametrize("names", ["", "sky\nsea\n", "0 sky\n1 sea\n"])
def test_black_and_white_masks_are_two_classes(folder, names) -> None:
    for i in range(10):
        mask = np.zeros((20 + i, 30), np.uint8)
        mask[:, 15:] = 255
        write_mask(folder, mask, str(i))
    write_mask(folder, np.full((20, 30), 255, np.uint8))  # one without black
    if names:
        (folder / "classes.txt").write_text(names)
    images, _, classes = read(folder)
    assert classes == {"labels": [0, 255], "class_names": ["sky", "sea"] if names else ["label 0", "label 255"]}
    assert images.classes(torch.arange(10)).bincount().tolist() == [9 * 128, 9 * 128 + 256]
    assert read(folder, classes)[0].labels.equal(images.labels)
    assert read(folder, ignore_index=None)[2]["labels"] == [0, 255] if not names else True


def test_a_class_without_a_pixel_beside_ignored_ones_is_refused(folder) -> None:
    (folder / "classes.txt").write_text("sky\nsea\nland\n")
    assert read(folder)[2]["class_names"] == ["sky", "sea", "land"]
    for i in range(10):
        mask = np.zeros((20 + i, 30), np.uint8)
        mask[:, 15:] = 1
        mask[:, 25:] = 255
        write_mask(folder, mask, str(i))
    with refused(f"no mask in {folder / 'masks'} has the label 2 of classes.txt, but masks have 255"):
        read(folder)
    known = {"labels": [0, 1, 2], "class_names": ["sky", "sea", "land"]}
    assert read(folder, known)[2] == known  # the run's data had all of them


def test_palettes_that_differ_are_reported(folder, capsys) -> None:
    read(folder)
    assert capsys.readouterr().err == ""
    other = Image.open(folder / "masks" / "5.png").copy()
    other.putpalette([9, 9, 9, 0, 200, 0])
    other.save(folder / "masks" / "5.png")
    read(folder)
    note = capsys.readouterr().err
    files = [str(folder / "masks" / f"{i}.png") for i in (1, 5)]
    assert f"1 is the colour [200, 0, 0] in {files[0]} and [0, 200, 0] in {files[1]}" in note


def test_images_that_exif_turns_are_reported(folder, capsys) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(folder / "images" / "4.png").save(folder / "images" / "4.png", exif=exif)
    read(folder)
    assert f"1 of 10 images are turned by their EXIF orientation, such as {folder / 'images' / '4.png'}" in (
        capsys.readouterr().err
    )


def test_hidden_folders_are_left_out_and_other_files_counted(folder, capsys) -> None:
    for name in ("images", "masks"):
        (folder / name / ".ipynb_checkpoints").mkdir()
        (folder / name / ".ipynb_checkpoints" / "0.png").write_bytes((folder / name / "0.png").read_bytes())
        (folder / name / "notes.txt").touch()
    assert len(read(folder)[0]) == 10
    assert capsys.readouterr().err.startswith(f"note: 2 files in {folder} are skipped: .txt (2).")


def test_test_images_may_be_chosen(folder) -> None:
    for name in ("images", "masks"):
        (folder / "test" / name).mkdir(parents=True)
        for file in sorted((folder / name).iterdir())[:3]:
            file.rename(folder / "test" / name / file.name)
    images, num_train, _ = read(folder)
    assert [file.parts[-3] == "test" for file in images.files] == [False] * 7 + [True] * 3
    assert num_train == 7


def test_images_are_weighed_by_the_rarest_of_their_classes() -> None:
    masks = torch.zeros(5, 4, 4, dtype=torch.uint8)
    masks[1:3, 0] = 1
    masks[3, 0, :2] = 2
    masks[3, 1:] = 1
    masks[4] = 255
    masks[2, 1] = 255
    assert datasets.rarest_classes(masks).tolist() == [0, 1, 1, 2, 0]  # class 2 has two pixels in all


def test_new_images_need_no_masks_and_broken_ones_go(folder) -> None:
    (folder / "images" / "3.jpg").write_bytes(b"no picture")
    images, readable = read_new_images([folder / "images"], SHAPE)
    assert [images.files[i].stem for i in readable.tolist()] == ["0", "1", "2", "4", "5", "6", "7", "8", "9"]
    assert images[readable][1].equal(readable)
    with refused("none of 1 images can be read; the first is "):
        read_new_images([folder / "images" / "3.jpg"], SHAPE)


# ---- What is refused


def test_an_unknown_label_is_refused(folder) -> None:
    (folder / "classes.txt").write_text("sky\nsea\n")
    write_mask(folder, np.full((20, 30), 4, np.uint8))
    with refused("0.png has the label 4; allowed are 0, 1, and --data.ignore_index 255"):
        read(folder)
    (folder / "classes.txt").unlink()
    with refused("0.png has the label 4; allowed are 0, 1,"):
        read(folder, known={"labels": [0, 1], "class_names": ["sky", "sea"]})  # those of a run


def test_a_mask_of_another_size_is_refused(folder) -> None:
    write_mask(folder, np.zeros((30, 20), np.uint8))
    with refused("0.png is 20 pixels wide and 30 high, and "):
        read(folder)


def test_an_image_or_a_mask_that_is_alone_is_refused(folder) -> None:
    (folder / "masks" / "2.png").rename(folder / "masks" / "x.png")
    with refused(f"2.png has no counterpart {folder / 'masks' / '2.png'} (1 such files)."):
        read(folder)
    (folder / "masks" / "3.png").unlink()
    with refused("(2 such files)"):
        read(folder)
    for name in ("2.png", "3.jpg"):
        (folder / "images" / name).unlink()
    with refused(f"x.png has no counterpart {folder / 'images' / 'x.png'}"):
        read(folder)


def test_two_images_of_one_name_are_refused(folder) -> None:
    Image.new("RGB", (30, 20)).save(folder / "images" / "0.jpg")
    with refused("0.png have the same name. Rename one of them, or remove it."):
        read(folder)


def test_a_missing_or_empty_folder_is_refused(tmp_path, folder) -> None:
    with refused(f"{tmp_path / 'none' / 'images'} is missing: put your images into "):
        read(tmp_path / "none")
    for file in (folder / "masks").iterdir():
        file.unlink()
    (folder / "masks" / "._0.png").write_bytes(b"of a Mac")
    with refused(f"{folder / 'masks'} has no file that ends in one of .jpg"):
        read(folder)
    (folder / "masks" / "._0.png").unlink()
    (folder / "masks").rmdir()
    with refused(f"{folder / 'masks'} is missing"):
        read(folder)


def test_colours_and_jpeg_are_no_masks(folder) -> None:
    Image.new("RGB", (30, 20)).save(folder / "masks" / "0.png")
    with refused("0.png has the mode RGB; a mask holds the number of each pixel's class. Save it as a PNG"):
        read(folder)
    (folder / "masks" / "0.png").unlink()
    Image.new("L", (30, 20)).save(folder / "masks" / "0.jpg")
    with refused("0.jpg must be a PNG file: a mask needs the exact number of each pixel's class."):
        read(folder)


def test_a_damaged_file_is_named(folder) -> None:
    (folder / "images" / "1.jpg").write_bytes(b"no picture")
    with refused("1.jpg can't be read as an image: "):
        read(folder)
    (folder / "masks" / "1.png").write_bytes((folder / "masks" / "2.png").read_bytes()[:40])
    with refused("1.png can't be read as a mask: "):
        read(folder)


def test_a_mask_without_a_class_is_refused(folder) -> None:
    write_mask(folder, np.full((20, 30), 255, np.uint8))
    with refused("0.png has no class: all of it is 255, which is ignored. Remove it and its image."):
        read(folder)


def test_grey_levels_are_no_classes(folder) -> None:
    write_mask(folder, np.arange(600).reshape(20, 30).astype(np.uint16))
    with refused("have the labels 0, 1, 2, 3, 4 …, 599 in all, beside 255, which is ignored"):
        read(folder)


def test_classes_are_named_once_and_not_too_many(folder) -> None:
    (folder / "classes.txt").write_text("1 sky\n1 sea\n")
    with refused("classes.txt has the label 1 more than once."):
        read(folder)
    (folder / "classes.txt").write_text("name\n" * 256)
    with refused("classes.txt has 256 classes; at most 255 are possible."):
        read(folder)
