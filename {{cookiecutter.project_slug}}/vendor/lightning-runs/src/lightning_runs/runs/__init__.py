"""Run folders: created, recorded, locked in training, and found again. Nothing here imports torch before it is used."""

from .run import Run, check_name, default_root, every, find, make_folder, metric_rows, results

__all__ = ["Run", "check_name", "default_root", "every", "find", "make_folder", "metric_rows", "results"]
