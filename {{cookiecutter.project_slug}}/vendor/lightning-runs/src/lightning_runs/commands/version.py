"""``--version``, and a warning if the installed library is not the version that the project names."""

import re
import sys
from contextlib import suppress
from functools import cache
from importlib import import_module, metadata
from pathlib import Path

VERSION = import_module("lightning_runs").__version__  # of the library; by its name, for no import goes upwards


def text(package: str) -> str:
    """Return the versions of a project and of the library."""
    try:
        version = metadata.version(package) if package else ""
    except metadata.PackageNotFoundError:
        version = "is not installed: pip install -e ."
    return f"{package} {version}\nlightning-runs {VERSION}".lstrip()


@cache
def warn_once(package: str) -> None:
    """Print a warning if an installed project needs another version of the library."""
    try:
        requirements = metadata.requires(package) or []
    except (metadata.PackageNotFoundError, ValueError):  # ValueError: a script has no package
        return
    with suppress(OSError, UnicodeDecodeError):  # after an update of the project it is newer than what was installed
        project = Path("pyproject.toml").read_text(encoding="utf-8")
        requirements += re.findall(r"lightning-runs @ [^\"\s]+", project)
    named = [text for text in requirements if text.startswith("lightning-runs") and not _fits(text)]
    if named:
        print(
            f"warning: {package} needs {named[-1].rpartition('/')[2]}, but lightning-runs {VERSION} is installed."
            " Install the project again: pip install -e . (uv: uv sync)",
            file=sys.stderr,
        )


def _fits(requirement: str) -> bool:
    """Return whether this version is that of a requirement: of a wheel's file, or of a range."""
    wheel = re.search(r"lightning_runs-([^-/]+)-[^/]*\.whl", requirement)
    if wheel:
        return wheel[1] == VERSION
    if not re.search("[<>=!~]", requirement.partition(";")[0]):
        return True
    from packaging.requirements import Requirement  # takes 30 ms

    return Requirement(requirement).specifier.contains(VERSION, prereleases=True)
