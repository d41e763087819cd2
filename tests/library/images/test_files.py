import os
import pickle
import re

import pytest
import torch
from lightning_runs.images import reading
from lightning_runs.images.files import ImageFiles, read_image_folder
from PIL import Image
from starts import refused
from written_data import write_images

SHAPE = (3, 16, 16)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "I;16"])
def test_images_of_every_mode_keep_their_brightness(mode, tmp_path) -> None:
    grey = Image.new("I;16", (30, 20), 100 * 256) if mode == "I;16" else Image.new("RGB", (30, 20), (100,) * 3)
    (grey if mode == "I;16" else grey.convert(mode)).save(tmp_path / "grey.tiff")
    image = reading.read_image(tmp_path / "grey.tiff", SHAPE)
    assert image.shape == SHAPE
    assert image.mean() == pytest.approx(100, abs=3)


def test_an_image_is_scaled_to_cover_the_size_and_cut(tmp_path) -> None:
    image = Image.new("L", (60, 20))
    image.paste(255, (20, 0, 40, 20))
    image.save(tmp_path / "wide.png")
    assert (reading.read_image(tmp_path / "wide.png", (1, 10, 10))[:, :, 1:9] == 255).all()


def test_a_folder_s_parts_have_the_labels_of_their_folders(tmp_path) -> None:
    write_images(tmp_path, parts=("train", "val", "test"))
    parts = read_image_folder(tmp_path, ["cat", "dog"], SHAPE)
    assert list(parts) == ["train", "val", "test"]
    for part in parts.values():
        images, labels = part[torch.tensor([0, 11])]
        assert images.shape == (2, *SHAPE)
        assert labels.tolist() == [0, 1]
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "train" / "cat" / "notes.txt").touch()
    (tmp_path / "val" / "dog" / "photo.jfif").touch()
    capsys.readouterr()
    assert len(read_image_folder(tmp_path, ["cat", "dog"], SHAPE)["train"]) == 20
    assert capsys.readouterr().err.startswith(f"note: 2 files in {tmp_path} are skipped: .jfif (1), .txt (1).")
    with refused("must have the same class folders; they differ in cow"):
        read_image_folder(tmp_path, ["cat", "cow", "dog"], SHAPE)


def test_images_are_kept_for_the_next_epoch(tmp_path) -> None:
    file = tmp_path / "a.png"
    Image.new("RGB", (16, 16), (10, 20, 30)).save(file)
    first = torch.tensor([0])
    kept = ImageFiles([file], first, SHAPE, cache=True)
    read_again = ImageFiles([file], first, SHAPE)
    image, _ = kept[first]
    assert image.equal(read_again[first][0])
    file.unlink()
    assert kept[first][0].equal(image)
    with refused(f"{file} can't be read as an image"):
        read_again[first]
    with refused(f"{file} can't be read as an image"):
        pickle.loads(pickle.dumps(kept))[first]  # a process that is not forked reads the file


def test_an_image_that_can_not_be_read_is_an_error_or_left_out(tmp_path) -> None:
    write_images(tmp_path)
    broken = tmp_path / "train" / "cat" / "3.png"
    broken.write_bytes(b"no image")
    files = sorted((tmp_path / "train" / "cat").iterdir())
    number = files.index(broken)
    every = torch.arange(len(files))
    with refused(f"{broken} can't be read as an image"):
        ImageFiles(files, every, SHAPE)[every]
    dataset = ImageFiles(files, every, SHAPE, skip_corrupt=True, cache=True)
    with pytest.warns(UserWarning, match=re.escape(f"{broken} can't be read as an image: cannot identify image file")):
        images, labels = dataset[every]
    assert len(images) == len(files) - 1
    assert labels.tolist() == [i for i in range(len(files)) if i != number]
    # it is named once: a second warning would be an error
    assert dataset.readable(every).equal(labels)
    with refused(f"none of the 1 images of a batch can be read; the first is {broken}"):
        dataset[torch.tensor([number])]
    assert ImageFiles(files, every, SHAPE).readable(every).equal(every)


def test_the_content_follows_names_sizes_times_and_labels(tmp_path) -> None:
    file = tmp_path / "0.png"
    Image.new("L", (8, 8)).save(file)

    def content(label: int = 0) -> bytes:
        return b"".join(map(bytes, ImageFiles([*tmp_path.iterdir()], torch.tensor([label]), SHAPE).content()))

    before = content()
    assert content() == before
    os.utime(file, (0, 0))
    touched = content()
    file.rename(tmp_path / "00.png")
    assert len({before, touched, content(), content(label=1)}) == 4
