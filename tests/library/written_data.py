"""Small data sets of the users' own that the tests write."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = ("red", "green", "blue")
WORDS = {"sea": "wave fish ship harbour tide", "wood": "tree leaf deer moss root"}


def write_images(root: Path, parts: tuple[str, ...] = ("train", "test")) -> Path:
    """Write images of several sizes and modes, black for one class and red for the other."""
    modes = (("L", "png"), ("RGB", "jpg"), ("P", "png"), ("RGBA", "png"), ("1", "png"))
    for part in parts:
        for label, name in enumerate(("cat", "dog")):
            (root / part / name).mkdir(parents=True)
            for i in range(10):
                mode, suffix = modes[i % len(modes)]
                image = Image.new("RGB", (10 + 7 * i, 40 - 3 * i), (255 * label, 0, 0)).convert(mode)
                image.save(root / part / name / f"{i}.{suffix}")
    return root


def write_masks(root: Path) -> Path:
    """Write twenty images with a bright square of class 200 on the right below."""
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for i in range(20):
        mask = np.zeros((20, 24), np.uint8)
        mask[random.integers(10) :, random.integers(10) :] = 200
        Image.fromarray(mask // 2 + 50).save(root / "images" / f"{i}.png")
        Image.fromarray(mask).save(root / "masks" / f"{i}.png")
    return root


def table_rows() -> list[list[str]]:
    """Lines of a table: a number, a word, a number with missing values, and a class that follows from the first."""
    random = np.random.default_rng(0)
    lines = [["size", "colour", "weight", "kind"]]
    for i in range(60):
        size = random.normal(10, 3)
        weight = "" if i % 7 == 0 else f"{random.normal(100, 20):.2f}"
        lines.append([f"{size:.3f}", COLOURS[i % 3], weight, "large" if size > 10 else "small"])
    return lines


def rows_with(column: int, value: str, where: slice = slice(1, None)) -> list[list[str]]:
    """Lines of the same table with a value in a column."""
    lines = table_rows()
    for line in lines[where]:
        line[column] = value
    return lines


def text_rows() -> list[list[str]]:
    """Lines of a table of texts and their classes."""
    random = np.random.default_rng(0)
    rows = [["text", "label"]]
    for i in range(40):
        label = ("sea", "wood")[i % 2]
        rows.append([" ".join(random.choice(WORDS[label].split(), 1 + i % 9)), label])
    return rows


def write_table(
    file: Path, rows: list[list[str]], delimiter: str = ",", end: str = "\n", encoding: str = "utf-8"
) -> Path:
    with file.open("w", newline="", encoding=encoding) as stream:
        quoting = csv.QUOTE_ALL if end == "\r" else csv.QUOTE_MINIMAL  # which leaves out texts with another line end
        csv.writer(stream, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows(rows)
    return file


def write_texts(root: Path) -> Path:
    """Write a folder of texts for each class."""
    for i, (text, label) in enumerate(text_rows()[1:]):
        (root / label).mkdir(parents=True, exist_ok=True)
        (root / label / f"{i:03d}.txt").write_text(text, encoding="utf-8")
    return root
