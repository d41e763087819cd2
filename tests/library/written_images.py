"""Files of image data sets, small ones."""

import pickle
import runpy
import struct
from pathlib import Path

import numpy as np
from lightning_runs.images.datasets import DATASETS
from PIL import Image
from starts import STARTS

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
    random = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        pixels = random.integers(0, 256, (10, 3 * 32 * 32), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": list(range(10))}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(DATASETS["cifar10"].class_names)}))


def write_corrupt_mnist(root: Path, *options: str) -> None:
    write_mnist(root.parent)
    assert make_corrupt_mnist(["--source", str(root.parent), "--output", str(root), "--parts", "3", *options]) == 0


def write_image_folder(root: Path, parts: tuple[str, ...] = ("train", "test")) -> None:
    modes = (("L", "png"), ("RGB", "jpg"), ("P", "png"), ("RGBA", "png"), ("1", "png"))
    for part in parts:
        for label, name in enumerate(("cat", "dog")):
            (root / part / name).mkdir(parents=True)
            for i in range(10):
                mode, suffix = modes[i % len(modes)]
                image = Image.new("RGB", (10 + 7 * i, 40 - 3 * i), (255 * label, 0, 0)).convert(mode)
                image.save(root / part / name / f"{i}.{suffix}")
