import pickle
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from {{ cookiecutter.__package }} import corrupt_mnist
from {{ cookiecutter.__package }}.data import (
    BatchSampler,
    DataModule,
    shift_and_flip,
)
from {{ cookiecutter.__package }}.datasets import FACTS, ImageFiles
from {{ cookiecutter.__package }}.errors import UserError


def write_idx(file: Path, array: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    file.write_bytes(header + array.astype(np.uint8).tobytes())


def write_mnist(root: Path, name: str = "MNIST") -> None:
    random = np.random.default_rng(0)
    for part, count in (("train", 40), ("t10k", 20)):
        write_idx(root / name / "raw" / f"{part}-images-idx3-ubyte", random.integers(0, 256, (count, 28, 28)))
        write_idx(root / name / "raw" / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)


def write_cifar10(root: Path) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        data = random.integers(0, 256, (10, 3 * 32 * 32), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": list(range(10))}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(FACTS["cifar10"].class_names)}))


def write_corrupt_mnist(root: Path, *options: str) -> None:
    write_mnist(root.parent)
    assert corrupt_mnist.main(["--source", str(root.parent), "--output", str(root), "--parts", "3", *options]) == 0


def write_image_folder(root: Path, parts: tuple[str, ...] = ("train", "test")) -> None:
    modes = (("L", "png"), ("RGB", "jpg"), ("P", "png"), ("RGBA", "png"), ("1", "png"))
    for part in parts:
        for label, name in enumerate(("cat", "dog")):
            (root / part / name).mkdir(parents=True)
            for i in range(10):
                mode, suffix = modes[i % len(modes)]
                image = Image.new("RGB", (10 + 7 * i, 40 - 3 * i), (255 * label, 0, 0)).convert(mode)
                image.save(root / part / name / f"{i}.{suffix}")


def write_files(dataset: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if dataset == "mnist":
        write_mnist(root)
    elif dataset == "fashion_mnist":
        write_mnist(root, name="FashionMNIST")
    elif dataset == "cifar10":
        write_cifar10(root)
        # torchvision knows the checksums of the real files
        monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *args: True)
    elif dataset == "corrupt_mnist":
        write_corrupt_mnist(root)
    elif dataset == "image_folder":
        write_image_folder(root)


def digits(**options) -> DataModule:
    data = DataModule("digits", **options)
    data.setup("fit")
    return data


@pytest.mark.parametrize("dataset", FACTS)
def test_every_data_set_is_read_into_batches_of_the_promised_shape(dataset, tmp_path, monkeypatch) -> None:
    write_files(dataset, tmp_path / "data", monkeypatch)
    data = DataModule(dataset, root=str(tmp_path / "data"), batch_size=8, num_workers=0, image_size=16)
    data.prepare_data()
    data.setup("fit")
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        raw = next(iter(loader))
        assert raw[0].dtype == torch.uint8
        images, labels = data.on_after_batch_transfer(raw, 0)
        assert images.shape == (len(labels), *data.input_shape)
        assert images.dtype == torch.float32
        assert labels.dtype == torch.int64
        assert set(labels.tolist()) <= set(range(data.num_classes))
    assert len(next(iter(data.train_dataloader()))[0]) == 8
    assert next(iter(data.predict_dataloader()))[1].tolist() == list(range(8))


def test_digits_are_all_there() -> None:
    data = digits()
    assert len(data.splits["train"][1]) + len(data.splits["val"][1]) == 1437
    assert len(data.splits["test"][1]) == 360


def test_training_and_validation_images_share_out_the_training_part() -> None:
    splits = digits(val_fraction=0.2).splits
    train, val = splits["train"][1].tolist(), splits["val"][1].tolist()
    assert sorted(train + val) == list(range(1437))
    assert len(val) == 287
    assert splits["val"][0] is splits["train"][0]
    assert splits["val"][0] is not splits["test"][0]


def test_split_depends_on_its_own_seed_and_not_on_that_of_the_run() -> None:
    val = digits(seed=0).splits["val"][1]
    assert digits(seed=1).splits["val"][1].equal(val)
    assert not digits(split_seed=1).splits["val"][1].equal(val)


def test_normalised_images_have_mean_0_and_standard_deviation_1() -> None:
    data = digits(val_fraction=0.001)
    images = data.normalize(data.splits["train"][0][torch.arange(1437)][0])
    assert images.mean().item() == pytest.approx(0, abs=0.01)
    assert images.std().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("dataset", ["digits", "cifar10"])
def test_denormalize_undoes_normalize(dataset) -> None:
    data = DataModule(dataset)
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, data.input_shape[0], 16, 16)
    assert data.denormalize(data.normalize(levels)).equal(levels)


def test_images_move_by_exactly_their_offsets() -> None:
    images = torch.zeros(2, 3, 5, 7, dtype=torch.uint8)
    images[:, :, 2, 3] = 200
    offsets = torch.tensor([[0, 3], [2, 1]])  # plus 2: up by 2, 1 down; not, 1 aside
    moved = shift_and_flip(images, 2, offsets, torch.tensor([False, False]))
    assert moved.dtype == torch.uint8
    assert moved.nonzero().tolist() == [[0, c, 4, 3] for c in range(3)] + [[1, c, 1, 4] for c in range(3)]


def test_images_are_mirrored_when_asked() -> None:
    images = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).view(2, 3, 4, 5)
    still = torch.full((2, 2), 1)
    mirrored = shift_and_flip(images, 1, still, torch.tensor([True, False]))
    assert mirrored[0].equal(images[0].flip(-1))
    assert mirrored[1].equal(images[1])


@pytest.mark.parametrize(("dataset", "mirrored"), [("digits", False), ("cifar10", True)])
def test_only_images_that_may_be_mirrored_are(dataset, mirrored) -> None:
    data = DataModule(dataset)
    images = torch.zeros(64, *data.input_shape, dtype=torch.uint8)
    images[:, :, :, 0] = 255  # a line on the left, which a move brings no further than the largest shift
    augmented = data._augment(images, np.random.default_rng(0))
    on_the_right = augmented[..., data.input_shape[2] // 2 :]
    assert bool(on_the_right.any()) is mirrored
    assert data._augment(images, np.random.default_rng(0)).equal(augmented)


def refused(text: str):
    return pytest.raises(UserError, match=re.escape(text))


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("dataset", "imagenet", "data.dataset is 'imagenet'; it must be one of digits, mnist"),
        ("batch_size", 0, "data.batch_size is 0; it must be at least 1"),
        ("val_fraction", 1.0, "data.val_fraction is 1.0; it must lie between 0 and 1"),
        ("val_fraction", 0.0, "data.val_fraction is 0.0; it must lie between 0 and 1"),
        ("num_workers", -1, "data.num_workers is -1; it must be 0 or more"),
        ("image_size", 3, "data.image_size is 3; it must be at least 4"),
    ],
)
def test_values_out_of_bounds_are_refused(option, value, text) -> None:
    with refused(text):
        DataModule(**{option: value})


def test_a_batch_larger_than_the_training_images_is_refused() -> None:
    data = digits(batch_size=2000)
    with refused("data.batch_size is 2000, but there are only 1293 training images"):
        data.train_dataloader()


def test_missing_torchvision_files_are_named(tmp_path) -> None:
    with refused(f"mnist is not in {tmp_path}, and could not be downloaded"):
        DataModule("mnist", root=str(tmp_path)).setup("fit")


def test_labels_beyond_the_classes_are_refused(tmp_path) -> None:
    write_mnist(tmp_path)
    write_idx(tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte", np.full(20, 11))
    with refused(f"mnist in {tmp_path} has test labels from 11 to 11; they must lie in 0 to 9"):
        DataModule("mnist", root=str(tmp_path)).setup("fit")


def test_corrupt_mnist_is_mnist_rotated(tmp_path) -> None:
    write_corrupt_mnist(tmp_path / "straight", "--max_degrees", "0")
    write_corrupt_mnist(tmp_path / "rotated")
    train = {}
    for name in ("mnist", "straight", "rotated"):
        data = DataModule("corrupt_mnist", root=str(tmp_path / name))
        if name == "mnist":
            data = DataModule("mnist", root=str(tmp_path))
        data.setup("fit")
        train[name] = data.splits["train"][0][torch.arange(40)]
    assert train["straight"][0].equal(train["mnist"][0])
    assert not train["rotated"][0].equal(train["mnist"][0])
    assert train["rotated"][1].equal(train["mnist"][1])


def test_corrupt_mnist_parts_are_bounded(capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        corrupt_mnist.main(["--parts", "0"])
    assert "--parts is 0; it must be between 1 and 60000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (None, "test_images.pt is missing: data.root must be the folder with the corrupt MNIST files"),
        (b"no tensor", "test_images.pt can't be read as a tensor"),
        (torch.zeros(3, 28, 28), "test_target.pt has labels of shape (20,) for the 3 images of test_images.pt"),
        (torch.full((20, 28, 28), 7.5), "pixels run from 7.5 to 7.5; they must be floats from 0 to 1"),
    ],
)
def test_broken_corrupt_mnist_files_are_named(images, text, tmp_path) -> None:
    root = tmp_path / "corrupt"
    write_corrupt_mnist(root)
    file = root / "test_images.pt"
    file.unlink()
    if isinstance(images, bytes):
        file.write_bytes(images)
    elif images is not None:
        torch.save(images, file)
    with pytest.raises(UserError, match=re.escape(text)) as error:
        DataModule("corrupt_mnist", root=str(root)).setup("fit")
    assert str(root) in str(error.value)


def test_image_folder_with_a_val_folder_trains_on_all_of_train(tmp_path) -> None:
    write_image_folder(tmp_path, parts=("train", "val", "test"))
    data = DataModule("image_folder", root=str(tmp_path))
    data.setup("fit")
    assert data.class_names == ["cat", "dog"]
    assert [len(data.splits[split][1]) for split in ("train", "val", "test")] == [20, 20, 20]
    assert data.predicted_files[0] == str(tmp_path / "test" / "cat" / "0.png")


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "I;16"])
def test_images_of_every_mode_keep_their_brightness(mode, tmp_path) -> None:
    file = tmp_path / "grey.tiff"
    grey = Image.new("I;16", (30, 20), 100 * 256) if mode == "I;16" else Image.new("RGB", (30, 20), (100,) * 3)
    (grey if mode == "I;16" else grey.convert(mode)).save(file)
    images, _ = ImageFiles([file], torch.tensor([0]), size=16)[torch.tensor([0])]
    assert images.shape == (1, 3, 16, 16)
    assert images.float().mean().item() == pytest.approx(100, abs=3)


def test_images_that_were_decoded_are_kept_for_the_next_epoch(tmp_path):
    file = tmp_path / "a.png"
    Image.new("RGB", (16, 16), (10, 20, 30)).save(file)
    kept = ImageFiles([file], torch.tensor([0]), size=16, cache=True)
    read_anew = ImageFiles([file], torch.tensor([0]), size=16)
    first, _ = kept[torch.tensor([0])]
    assert torch.equal(first, read_anew[torch.tensor([0])][0])

    file.unlink()

    assert torch.equal(kept[torch.tensor([0])][0], first)
    with pytest.raises(UserError, match="can't be read as an image"):
        read_anew[torch.tensor([0])]


def test_an_image_that_cannot_be_read_is_an_error_or_left_out(tmp_path) -> None:
    write_image_folder(tmp_path)
    broken = tmp_path / "train" / "cat" / "3.png"
    broken.write_bytes(b"no image")
    files = sorted((tmp_path / "train" / "cat").iterdir())
    labels = torch.zeros(len(files), dtype=torch.int64)
    with refused(f"{broken} can't be read as an image"):
        ImageFiles(files, labels, size=16)[torch.arange(len(files))]
    dataset = ImageFiles(files, labels, size=16, skip_corrupt=True)
    with pytest.warns(UserWarning, match=re.escape(f"{broken} can't be read as an image and is left out")):
        images, labels = dataset[torch.arange(len(files))]
    assert len(images) == len(labels) == len(files) - 1
    with pytest.warns(match="left out"), refused(f"none of the 1 images of a batch can be read; the first is {broken}"):
        dataset[torch.tensor([files.index(broken)])]
