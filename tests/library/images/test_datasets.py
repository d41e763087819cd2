import re
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_runs.errors import UserError
from lightning_runs.images.datasets import DATASETS, download_dataset, read_dataset
from starts import DIGITS
from written_images import make_corrupt_mnist, write_cifar10, write_corrupt_mnist, write_idx, write_mnist


def refused(text: str):
    return pytest.raises(UserError, match=re.escape(text))


def write(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if name == "digits":
        return DIGITS
    if name == "cifar10":
        write_cifar10(root)
        # torchvision knows the checksums of the real files
        monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *args: True)
    elif name == "corrupt_mnist":
        write_corrupt_mnist(root)
    else:
        write_mnist(root, DATASETS[name].torchvision or "")
    return root


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "image_folder"])
def test_every_data_set_has_its_known_shape_and_classes(name, tmp_path, monkeypatch) -> None:
    root = write(name, tmp_path / "data", monkeypatch)
    download_dataset(name, root)  # nothing is missing
    parts = read_dataset(name, root)
    assert list(parts) == ["train", "test"]
    for part in parts.values():
        images, labels = part[torch.arange(len(part))]
        assert images.shape == (len(part), *DATASETS[name].shape)
        assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
        assert labels.unique().tolist() == list(range(10))


def test_digits_are_all_there() -> None:
    assert {part: len(items) for part, items in read_dataset("digits", DIGITS).items()} == {"train": 1437, "test": 360}


def test_levels_are_the_published_ones() -> None:
    assert (DATASETS["mnist"].mean, DATASETS["mnist"].std) == ((0.1307,), (0.3081,))
    assert DATASETS["cifar10"].mean == (0.4914, 0.4822, 0.4465)  # red, green, blue
    images, _ = read_dataset("digits", DIGITS)["train"].tensors
    assert (images / 255).mean().item() == pytest.approx(DATASETS["digits"].mean[0], abs=0.001)
    assert (images / 255).std().item() == pytest.approx(DATASETS["digits"].std[0], abs=0.001)


def test_missing_files_are_named(tmp_path, monkeypatch) -> None:
    with refused(f"mnist could not be read from {tmp_path} or downloaded"):
        read_dataset("mnist", tmp_path)
    with refused(f"{tmp_path / 'digits.npz'} can't be read: No such file"):
        read_dataset("digits", tmp_path / "digits.npz")

    def no_network(*args, **options):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", no_network)
    with refused(f"mnist could not be read from {tmp_path / 'new'} or downloaded: "):
        download_dataset("mnist", tmp_path / "new")


def test_labels_beyond_the_classes_are_refused(tmp_path) -> None:
    write_mnist(tmp_path)
    write_idx(tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte", np.full(20, 11))
    text = f"the test part of mnist in {tmp_path} has labels of type torch.int64 from 11 to 11; they must be whole"
    with refused(text):
        read_dataset("mnist", tmp_path)


def test_corrupt_mnist_is_mnist_rotated(tmp_path) -> None:
    write_corrupt_mnist(tmp_path / "straight", "--max_degrees", "0")
    write_corrupt_mnist(tmp_path / "rotated")
    images, labels = read_dataset("mnist", tmp_path)["train"].tensors
    straight, same_labels = read_dataset("corrupt_mnist", tmp_path / "straight")["train"].tensors
    rotated, _ = read_dataset("corrupt_mnist", tmp_path / "rotated")["train"].tensors
    assert straight.equal(images)
    assert same_labels.equal(labels)
    assert not rotated.equal(images)


def test_parts_of_corrupt_mnist_are_bounded(capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        make_corrupt_mnist(["--parts", "0"])
    assert "--parts is 0; it must be between 1 and 60000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (None, "test_images.pt is missing: data.root must be the folder with the corrupt MNIST files"),
        (b"no tensor", "test_images.pt can't be read as a tensor"),
        ([1, 2], "test_images.pt must hold a plain tensor; it holds a value of type list."),
        (torch.zeros(1).expand(20, 28, 28), "test_images.pt declares 62,720 bytes and holds 4."),
        (torch.zeros(20, 14, 14), "test_images.pt has images of shape (20, 14, 14); they must be (N, 1, 28, 28)"),
        (torch.zeros(3, 28, 28), "test_target.pt has labels of shape (20,) for 3 images; each needs one label"),
        (torch.full((20, 28, 28), 7.5), "has pixels of type torch.float32 from 7.5 to 7.5; they must be uint8"),
    ],
)
def test_broken_files_of_corrupt_mnist_are_named(images, text, tmp_path) -> None:
    root = tmp_path / "corrupt"
    write_corrupt_mnist(root)
    file = root / "test_images.pt"
    file.unlink()
    if isinstance(images, bytes):
        file.write_bytes(images)
    elif images is not None:
        torch.save(images, file)
    with pytest.raises(UserError, match=re.escape(text)) as error:
        read_dataset("corrupt_mnist", root)
    assert str(root) in str(error.value)
