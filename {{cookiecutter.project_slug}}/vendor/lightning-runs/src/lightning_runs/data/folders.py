"""Files in folders, such as a folder for each class, whatever kind they are; and notes for the user."""

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from ..errors import UserError, reason

SYSTEM_NAMES = (  # in small letters
    *("__macosx", "network trash folder", "temporary items", "thumbs.db", "desktop.ini", "__pycache__", "lost+found"),
    *("$recycle.bin", "recycler", "system volume information", "@eadir", "@recycle", "#recycle", "#snapshot"),
)


def print_note(text: str) -> None:
    """Print a note, in the first process alone."""
    if all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID")):
        print(f"note: {text}", file=sys.stderr)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, or was created by a system."""
    return name.startswith((".", "~$")) or name.lower() in SYSTEM_NAMES


def files_below(folder: Path) -> list[Path]:
    """List the files below a folder, without hidden ones. Linked folders are followed, but none is entered twice."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename} can't be read: {reason(error)}.")

    real = Path(os.path.realpath(folder))
    entered = {real, *real.parents}
    files = []
    for path, folder_names, file_names in os.walk(folder, onerror=refuse, followlinks=True):
        names = [name for name in sorted(folder_names) if not is_hidden(name)]
        folder_names.clear()  # os.walk enters the folders that are left in this list
        for name in names:
            real = Path(os.path.realpath(Path(path, name)))
            if real not in entered:
                entered.add(real)
                folder_names.append(name)
        files += [Path(path, name) for name in file_names if not is_hidden(name)]
    return sorted(files)


def find_files(paths: Sequence[str | Path], suffixes: Sequence[str]) -> dict[Path, list[Path]]:
    """List for each path the file itself, or the folder's files with one of the suffixes; a note counts the others."""
    found = {}
    skipped: Counter[str] = Counter()
    for path in map(Path, paths):
        files = files_below(path) if path.is_dir() else [path]
        found[path] = [file for file in files if file == path or file.suffix.lower() in suffixes]
        if not found[path]:
            raise UserError(f"{path} has no file that ends in one of {' '.join(suffixes)}.")
        skipped.update(file.suffix.lower() or "no suffix" for file in set(files).difference(found[path]))
    if skipped:
        counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(skipped.items()))
        parent = os.path.commonpath([path.absolute() for path in found])
        print_note(f"{skipped.total()} files in {parent} are skipped: {counts}. Only {' '.join(suffixes)} are read.")
    return found


def class_folders(folder: Path) -> list[str]:
    """List the classes for which a folder has a folder, in alphabetical order; there are two at least."""
    if not folder.is_dir():
        layout = f"{folder.parent / 'train'}/CLASS/ and {folder.parent / 'test'}/CLASS/"
        raise UserError(f"{folder} is missing: put your files into {layout} (--data.root names another folder).")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))
    if len(names) < 2:
        text = f"only the class folder {names[0]}" if names else "no class folder"
        raise UserError(f"the folder {folder} has {text}. It needs a folder of files for each class, two at least.")
    return names


def labelled_files(
    folders: Sequence[Path], class_names: list[str], suffixes: Sequence[str]
) -> list[tuple[list[Path], list[int]]]:
    """List for each folder the files in its folder for each of the classes, in sorted order, and the label of each."""
    for folder in folders:
        names = class_folders(folder)
        if names != class_names:
            other = "the run's data" if folder.name == "train" else folder.parent / "train"
            differing = ", ".join(sorted(set(class_names) ^ set(names)))
            raise UserError(f"{folder} and {other} must have the same class folders; they differ in {differing}.")
        stray = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in suffixes and path.is_file())
        if stray:
            print_note(f"files in {folder}, but in no class folder, are left out: {len(stray)}, such as {stray[0]}.")
    found = find_files([folder / name for folder in folders for name in class_names], suffixes)
    parts = []
    for folder in folders:
        files = [found[folder / name] for name in class_names]
        labels = [label for label, some in enumerate(files) for _ in some]
        parts.append(([*chain(*files)], labels))
    return parts


def copied_files(files: Sequence[Path], others: Sequence[Path]) -> list[Path]:
    """List the files whose content one of the others has; only files of equal sizes are read."""
    sizes = {file: file.stat().st_size for file in (*files, *others)}
    shared = {sizes[file] for file in files} & {sizes[file] for file in others}
    digests = {hashlib.sha1(file.read_bytes()).digest() for file in others if sizes[file] in shared}
    candidates = [file for file in files if sizes[file] in shared]
    return [file for file in candidates if hashlib.sha1(file.read_bytes()).digest() in digests]


def file_states(files: Sequence[Path]) -> Iterator[bytes]:
    """Yield bytes that change when a file is replaced: its path, size in bytes and time of change."""
    for file in files:
        status = file.stat()
        yield f"{file} {status.st_size} {status.st_mtime_ns}\n".encode()
