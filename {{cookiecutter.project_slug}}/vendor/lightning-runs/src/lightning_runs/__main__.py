"""``python -m lightning_runs``: the commands that need no project."""

import sys

from lightning_runs.commands import without_project

if __name__ == "__main__":
    raise SystemExit(without_project(sys.argv[1:]))
