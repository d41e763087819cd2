"""Small data sets in the formats of the real ones, for they can't be downloaded in a test."""

import pickle
import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image

# The md5 sums of the real CIFAR-10 can't be met.
WITHOUT_CIFAR_SUMS = "import torchvision.datasets.cifar as c; c.check_integrity = lambda *a, **k: True"


def write(dataset: str, root: Path) -> list[str]:
    """Write a small data set below ``root`` and return the options that select it."""
    if dataset == "csv_file":
        return table(root)
    if dataset == "mask_folder":
        return mask_folder(root)
    if dataset in ("text_folder", "csv_texts"):
        return texts(dataset, root)
    {"mnist": _mnist, "fashion_mnist": _fashion_mnist, "cifar10": _cifar10, "corrupt_mnist": _corrupt_mnist}.get(
        dataset, image_folder
    )(root)
    options = [f"--data.dataset={dataset}", f"--data.root={root}", "--data.num_workers=0"]
    return [*options, "--data.skip_corrupt=true"] if dataset == "image_folder" else options


def table(root: Path) -> list[str]:
    """Write a table of a number, a word and a class."""
    random = np.random.default_rng(0)
    lines = [
        f"{number:.3f},{'abc'[i % 3]},{'high' if number > 0 else 'low'}"
        for i, number in enumerate(random.normal(size=200))
    ]
    root.mkdir(parents=True)
    (root / "table.csv").write_text("number,word,level\n" + "\n".join(lines))
    return ["--data.dataset=csv_file", f"--data.root={root / 'table.csv'}", "--data.target=level"]


def mask_folder(root: Path) -> list[str]:
    """Write pictures of mixed sizes and formats, in which the brighter part is class 1, with their masks."""
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for i in range(40):
        mask = np.zeros(random.integers(20, 60, 2), np.uint8)
        mask[random.integers(10) :, random.integers(10) :] = 1
        Image.fromarray(60 + 120 * mask).save(root / "images" / f"{i}.{('png', 'jpg')[i % 2]}")
        picture = Image.fromarray(mask)
        if i % 3 == 0:
            picture = picture.convert("P")
            picture.putpalette([0, 0, 0, 200, 0, 0])
        picture.save(root / "masks" / f"{i}.png")
    return ["--data.dataset=mask_folder", f"--data.root={root}", "--data.image_size=24"]


def texts(dataset: str, root: Path) -> list[str]:
    """Write texts of two classes as a folder of files, or as a table."""
    words = {"sea": "wave fish ship harbour salt tide", "wood": "tree leaf deer moss root bark"}
    random = np.random.default_rng(0)
    lines = ["text,label"]
    for i in range(200):
        label = ("sea", "wood")[i % 2]
        text = " ".join(random.choice(words[label].split(), random.integers(2, 20)))
        lines.append(f"{text},{label}")
        if dataset == "text_folder":
            (root / label).mkdir(parents=True, exist_ok=True)
            (root / label / f"{i}.txt").write_text(text)
    root.mkdir(parents=True, exist_ok=True)
    if dataset == "csv_texts":
        root = root / "texts.csv"
        root.write_text("\n".join(lines))
    return [f"--data.dataset={dataset}", f"--data.root={root}"]


def _idx(file: Path, array: np.ndarray) -> None:
    """Write the IDX format: magic number 0x0800 + dimensions, the sizes, the bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    file.write_bytes(header + array.astype(np.uint8).tobytes())


def _mnist(root: Path, folder: str = "MNIST") -> None:
    random = np.random.default_rng(0)
    for part, count in (("train", 200), ("t10k", 50)):
        _idx(root / folder / "raw" / f"{part}-images-idx3-ubyte", random.integers(0, 256, (count, 28, 28)))
        _idx(root / folder / "raw" / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)


def _fashion_mnist(root: Path) -> None:
    _mnist(root, "FashionMNIST")


def _cifar10(root: Path) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        batch = {"data": random.integers(0, 256, (40, 3072), dtype=np.uint8), "labels": [i % 10 for i in range(40)]}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class {i}" for i in range(10)]}))


def _corrupt_mnist(root: Path) -> None:
    root.mkdir(parents=True)
    for i in range(2):
        torch.save(torch.rand(100, 28, 28), root / f"train_images_{i}.pt")
        torch.save(torch.arange(100) % 10, root / f"train_target_{i}.pt")
    torch.save(torch.rand(50, 28, 28), root / "test_images.pt")
    torch.save(torch.arange(50) % 10, root / "test_target.pt")


def image_folder(root: Path) -> None:
    """Write images of mixed sizes, modes and formats, and among them ``train/circle/broken.jpg``."""
    random = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 12)):
        for name in ("circle", "square"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                size = tuple(random.integers(20, 150, 2).tolist())
                mode = ("RGB", "L", "RGBA", "P")[i % 4]
                suffix = "jpg" if mode in ("RGB", "L") else "png"
                colour = (250, 90, 60) if name == "circle" else (20, 20, 120)
                Image.new("RGB", size, colour).convert(mode).save(folder / f"{i:03d}.{suffix}")
    (root / "train" / "circle" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
