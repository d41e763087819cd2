"""An exported model: where it lies, and which one it is."""

from __future__ import annotations

import hashlib
from pathlib import Path

from .. import runs
from ..errors import UserError
from . import PROGRAM, run_name


def find(name: str | None) -> tuple[Path, runs.Run | None]:
    """Find the folder of an exported model, by its path or by a run, which is returned too; None is the newest run.

    Raises:
        UserError: There is no such run, or it was not exported.
    """
    if name and Path(name, "model.onnx").is_file():
        return Path(name), None
    run = runs.find(runs.default_root(), name and run_name(name), finished=True)
    if not (run.folder / "export" / "model.onnx").is_file():
        raise UserError(f"{run.name} was not exported. Write its files with: {PROGRAM} export {run.name}")
    return run.folder / "export", run


def model_id(file: Path) -> str:
    """Return which model a prediction is of: the first 16 digits of the SHA-256 of ``model.onnx``."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
