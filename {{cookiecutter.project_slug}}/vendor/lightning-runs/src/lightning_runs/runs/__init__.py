"""Run folders: made, recorded, locked while they are trained, and found again."""

from .run import Run, check_name, default_root, every, find, make_folder

__all__ = ["Run", "check_name", "default_root", "every", "find", "make_folder"]
