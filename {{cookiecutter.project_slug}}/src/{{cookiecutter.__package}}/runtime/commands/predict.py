"""``python -m <package> predict PATH …``: label image files, by a run or by an exported ONNX file."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError, reason
from ..images import IMAGE_SUFFIXES, read_image
from . import _extras

PROGRAM = f"python -m {__name__.split('.')[0]}"
BATCH_SIZE = 64


@dataclass(frozen=True)
class Model:
    """What labels images.

    Args:
        classify: Maps images ``(B, C, H, W)`` uint8 to probabilities ``(B, num_classes)``.
        shape: Channels, height and width of an image.
        class_names: The classes, in the order of the probabilities.
    """

    classify: Callable[[np.ndarray], np.ndarray]
    shape: tuple[int, int, int]
    class_names: list[str]


def main(args: list[str]) -> int:
    """Label images.

    Args:
        args: The command line after ``predict``.

    Returns:
        The exit code: 0, or 1 if a file could not be read as an image; the others are labelled all the same.

    Raises:
        UserError: The run or the ONNX file can't be used, or no image was found.
    """
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} predict",
        description="Label image files, and all image files below folders. They are brought to the size that the model"
        " was trained on, and to grey where that was grey; a model of digits knows light ones on a dark ground."
        " (Without PATH, predict labels the test images.)",
        allow_abbrev=False,
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="image file, or folder of images")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--run", metavar="RUN", help="name or folder of a run (default: the newest finished)")
    source.add_argument("--onnx", type=Path, metavar="FILE", help="an exported model; torch is not needed")
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="write a CSV file, with the probabilities of all classes"
    )
    options = parser.parse_args(args)

    failed = 0

    def skip(text: str) -> None:
        nonlocal failed
        failed += 1
        print(f"error: {text}", file=sys.stderr)

    files = list(_image_files(options.paths, skip))
    model = _of_onnx(options.onnx) if options.onnx else _of_run(options.run)
    rows = list(_predictions(model, files, skip))
    if options.csv:
        _write_csv(options.csv, rows, model.class_names)
        print(f"{len(rows)} predictions: {options.csv}")
    elif rows:
        _print_table(rows, model.class_names)
    if not rows:
        raise UserError(f"no image was labelled; files in folders must end in one of {' '.join(IMAGE_SUFFIXES)}.")
    return 1 if failed else 0


def _image_files(paths: list[Path], skip: Callable[[str], None]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(f for f in path.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES and f.is_file())
        elif path.exists():
            yield path
        else:
            skip(f"{path} does not exist.")


def _predictions(model: Model, files: list[Path], skip: Callable[[str], None]) -> Iterator[tuple[Path, np.ndarray]]:
    """Each file that can be read, with its probabilities ``(num_classes,)``."""
    for start in range(0, len(files), BATCH_SIZE):
        read, images = [], []
        for file in files[start : start + BATCH_SIZE]:
            try:
                images.append(read_image(file, model.shape))
                read.append(file)
            except Exception as error:  # whatever the decoder raises
                skip(f"{file} can't be read as an image: {reason(error)}.")
        if read:
            yield from zip(read, model.classify(np.stack(images)), strict=True)


def _print_table(rows: list[tuple[Path, np.ndarray]], class_names: list[str]) -> None:
    lines = [(str(file), class_names[int(p.argmax())], f"{p.max():.4f}") for file, p in rows]
    lines.insert(0, ("file", "label", "probability"))
    width, label_width = (max(len(line[column]) for line in lines) for column in (0, 1))
    for file, label, probability in lines:
        print(f"{file:{width}}  {label:{label_width}}  {probability}")


def _write_csv(file: Path, rows: list[tuple[Path, np.ndarray]], class_names: list[str]) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["file", "label", "probability", *(f"p({name})" for name in class_names)])
            for path, probabilities in rows:
                best = int(probabilities.argmax())
                writer.writerow([path, class_names[best], *(f"{p:.6f}" for p in (probabilities[best], *probabilities))])
        os.replace(temporary, file)
    except OSError as error:
        raise UserError(f"{file} can't be written: {error.strerror}.") from error


def _of_run(name: str | None) -> Model:
    import torch

    from . import _trained

    trained = _trained.Trained(_trained.find(name))

    def classify(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return trained.classifier(torch.from_numpy(images)).numpy()

    return Model(classify, trained.data.input_shape, trained.data.class_names)


def _of_onnx(file: Path) -> Model:
    _extras.require("export", "onnxruntime")
    import onnxruntime

    if not file.is_file():
        raise UserError(f"{file} does not exist. Write it with: {PROGRAM} export")
    try:
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a dozen classes of its own
        raise UserError(f"{file} can't be read as an ONNX model: {reason(error)}.") from error
    facts = session.get_modelmeta().custom_metadata_map
    try:
        channels, height, width = json.loads(facts["input_shape"])
        class_names = json.loads(facts["class_names"])
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{file} does not name its classes and input shape. Write one with: {PROGRAM} export"
        ) from error

    def classify(images: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(None, {"images": images})[0])

    return Model(classify, (channels, height, width), class_names)
