"""Run folders: created, recorded, locked in training, and found again. Nothing here imports torch before it is used."""

from .find import default_root, every, find
from .run import Run, check_name, make_folder

__all__ = ["Run", "check_name", "default_root", "every", "find", "make_folder"]
