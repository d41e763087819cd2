import pickle
import runpy
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_runs.images.datasets import DATASETS, download_dataset, read_dataset
from starts import DIGITS, STARTS, data_class, refused

make_corrupt_mnist = runpy.run_path(str(STARTS / "images" / "scripts" / "make_corrupt_mnist.py"))["main"]


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
    pixels = np.zeros((10, 3 * 32 * 32), np.uint8)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": list(range(10))}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(DATASETS["cifar10"].class_names)}))


def write_corrupt_mnist(root: Path, *options: str) -> None:
    write_mnist(root.parent)
    assert make_corrupt_mnist(["--source", str(root.parent), "--output", str(root), "--parts", "3", *options]) == 0


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
    facts = data_class("images")(name).facts
    assert (facts["input_shape"], facts["mean"]) == (DATASETS[name].shape, DATASETS[name].mean)
    assert facts["dataset"].startswith(f"{name}: ")


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
    with refused(f"the test part of mnist in {tmp_path} has labels of type torch.int64 from 11 to 11; they must be"):
        read_dataset("mnist", tmp_path)


def test_corrupt_mnist_is_mnist_rotated(tmp_path, capsys) -> None:
    write_corrupt_mnist(tmp_path / "straight", "--max_degrees", "0")
    write_corrupt_mnist(tmp_path / "rotated")
    images, labels = read_dataset("mnist", tmp_path)["train"].tensors
    straight, same_labels = read_dataset("corrupt_mnist", tmp_path / "straight")["train"].tensors
    assert straight.equal(images)
    assert same_labels.equal(labels)
    assert not read_dataset("corrupt_mnist", tmp_path / "rotated")["train"].tensors[0].equal(images)
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
    with refused(text) as error:
        read_dataset("corrupt_mnist", root)
    assert str(root) in str(error.value)
