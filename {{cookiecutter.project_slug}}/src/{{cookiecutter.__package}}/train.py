"""What is trained: these two classes. To train your own, put their names here; docs/own-code.md says what they can add."""

from __future__ import annotations

from . import runtime
from .data import DataModule
from .module import ImageClassifier


def main(args: list[str] | None = None) -> int:
    """Run a command, such as ``["fit", "--trainer.max_epochs", "5"]``, and return its exit code."""
    return runtime.main(ImageClassifier, DataModule, args)
