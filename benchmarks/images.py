"""The data sets of the benchmark, in MNIST's file format, which the project and torchvision read alike."""

import shutil
import struct
from pathlib import Path

import numpy as np

NUM_TEST = 2_000


def mnist(work: Path, count: int) -> Path:
    """Write images of 28x28 pixels, as MNIST has 60,000, and return their folder.

    Each is a blurred pattern of its class under noise; one label in ten is wrong, so that the loss never vanishes.

    Args:
        work: Where they are kept for the next time.
        count: Number of training images.
    """
    random = np.random.default_rng(0)
    patterns = np.kron(random.integers(0, 256, (10, 7, 7)), np.ones((4, 4))).astype(np.uint16)

    def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
        labels = random.integers(0, 10, number, dtype=np.uint8)
        drawn = np.empty((number, 28, 28), np.uint8)
        for begin in range(0, number, 10_000):  # in parts, to need little memory
            part = labels[begin : begin + 10_000]
            noise = random.integers(0, 256, (len(part), 28, 28), dtype=np.uint8)
            drawn[begin : begin + 10_000] = (patterns[part] + 3 * noise.astype(np.uint16)) // 4
        wrong = random.random(number) < 0.1
        labels[wrong] = random.integers(0, 10, int(wrong.sum()), dtype=np.uint8)
        return drawn, labels

    root = work / "data" / f"mnist-{count}"
    return root if (root / "trained_on").exists() else _write(root, draw(count), draw(NUM_TEST))


def digits(work: Path, project: Path) -> Path:
    """Write the digits that the project brings along, and return their folder."""
    (file,) = project.glob("src/*/digits.npz")
    with np.load(file) as arrays:
        train, test = ((arrays[f"{part}_images"], arrays[f"{part}_labels"]) for part in ("train", "test"))
    return _write(work / "data" / "digits", train, test)


def _write(root: Path, train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> Path:
    import torch

    # what the project's DataModule takes for training: the rest is its validation
    order = torch.randperm(len(train[1]), generator=torch.Generator().manual_seed(0))
    kept = order[max(1, round(0.1 * len(order))) :].sort().values.numpy()
    unfinished = root.with_name(f".{root.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.rmtree(root, ignore_errors=True)
    for folder, part in ((unfinished, train), (unfinished / "trained_on", (train[0][kept], train[1][kept]))):
        raw = folder / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for name, (pixels, labels) in {"train": part, "t10k": test}.items():
            for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
                with (raw / f"{name}-{kind}-ubyte").open("wb") as stream:
                    # the format's magic number: type 8 (uint8) and the number of dimensions
                    stream.write(struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape))
                    np.ascontiguousarray(array, np.uint8).tofile(stream)
    unfinished.rename(root)
    return root
