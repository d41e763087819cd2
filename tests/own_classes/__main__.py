"""A command with two classes of this folder: ``python -m own_classes classifier plain_data fit``."""

import sys

from lightning_runs import run

from . import classes

if __name__ == "__main__":
    raise SystemExit(run(*classes(*sys.argv[1:3]), sys.argv[3:], package="own_classes"))
