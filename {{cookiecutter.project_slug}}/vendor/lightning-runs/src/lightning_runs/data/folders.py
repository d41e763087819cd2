"""Files in a folder for each class, ``train/CLASS/FILE`` and ``test/CLASS/FILE``, whatever kind they are."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import UserError


def find_files(paths: Sequence[str | Path], suffixes: Sequence[str]) -> list[Path]:
    """List the files among the paths, and the files below the folders among them that end in one of the suffixes.

    Hidden files, such as those that a Mac writes beside others, are left out of folders.

    Raises:
        UserError: There are none.
    """
    files = []
    for path in map(Path, paths):
        below = (file for file in path.rglob("*") if file.suffix.lower() in suffixes and file.name[0] != ".")
        files += sorted(below) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{', '.join(map(str, paths))} has no file that ends in one of {' '.join(suffixes)}.")
    return files


def class_folders(folder: Path) -> list[str]:
    """List the classes for which a folder has a folder, in alphabetical order.

    Raises:
        UserError: There are fewer than two.
    """
    if not folder.is_dir():
        layout = f"{folder.parent / 'train'}/CLASS/ and {folder.parent / 'test'}/CLASS/"
        raise UserError(f"{folder} is missing: put your files into {layout} (--data.root names another folder).")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(names) < 2:
        text = f"only {names[0]}" if names else "none"
        raise UserError(f"{folder} must have a folder of files for each of at least two classes; it has {text}.")
    return names


def labelled_files(folder: Path, class_names: list[str], suffixes: Sequence[str]) -> tuple[list[Path], list[int]]:
    """List the files in a folder for each of the classes, in sorted order, and the label of each.

    Raises:
        UserError: There are other classes, or a class has no file.
    """
    names = class_folders(folder)
    if names != class_names:
        missing = ", ".join(sorted(set(class_names) - set(names))) or "none"
        extra = ", ".join(sorted(set(names) - set(class_names))) or "none"
        other = "the run's data" if folder.name == "train" else folder.parent / "train"
        raise UserError(
            f"{folder} and {other} must have the same class folders;"
            f" missing in {folder.name}: {missing}; only in {folder.name}: {extra}."
        )
    files = []
    labels = []
    for label, name in enumerate(class_names):
        os.listdir(folder / name)  # an error where it may not be read, which `find_files` passes over
        found = find_files([folder / name], suffixes)
        files += found
        labels += [label] * len(found)
    return files, labels


def file_states(files: Sequence[Path]) -> Iterator[bytes]:
    """Yield bytes that change when a file is replaced: its path, size in bytes and time of change."""
    for file in files:
        status = file.stat()
        yield f"{file} {status.st_size} {status.st_mtime_ns}\n".encode()
