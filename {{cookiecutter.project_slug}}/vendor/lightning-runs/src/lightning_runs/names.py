"""The program's name, in messages and in recorded commands."""

import sys

_package = ""  # of the project that the present command belongs to; a process may use several, one after the other


def set_package(package: str | None) -> None:
    """Set the project's package for the commands that follow in this process; None keeps the present one."""
    global _package
    if package:
        _package = package.partition(".")[0]


def package() -> str:
    """Return the name of the project's package, such as ``my_project``; "" for a plain script."""
    return _package


def program() -> str:
    """Return what a user types before a command: ``python -m my_project``, or ``python train.py`` for a script."""
    return f"python -m {_package}" if _package else f"python {sys.argv[0] or 'train.py'}"
