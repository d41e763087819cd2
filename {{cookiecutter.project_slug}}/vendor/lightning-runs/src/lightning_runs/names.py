"""The name of the project's package, which messages and records of commands have."""

from __future__ import annotations

_package = "lightning_runs"


def use(package: str | None) -> None:
    """Set the project's package, for the commands that follow in this process; None keeps the one that is set."""
    global _package
    if package:
        _package = package.partition(".")[0]


def package() -> str:
    """Return the name of the project's package, such as ``my_project``."""
    return _package


def program() -> str:
    """Return what a user types before a command, such as ``python -m my_project``."""
    return f"python -m {_package}"
