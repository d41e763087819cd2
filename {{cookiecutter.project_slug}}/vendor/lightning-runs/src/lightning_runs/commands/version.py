"""``--version``, and a warning if the installed library is not the version that the project names."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

from .. import __version__


def text(package: str) -> str:
    """Return the versions of a project and of the library."""
    try:
        version = metadata.version(package) if package else ""
    except metadata.PackageNotFoundError:
        version = "is not installed: pip install -e ."
    return f"{package} {version}\nlightning-runs {__version__}".lstrip()


@cache
def warn_once(package: str) -> None:
    """Print a warning if an installed project needs another version of the library."""
    try:
        requirements = metadata.requires(package) or []
    except (metadata.PackageNotFoundError, ValueError):  # ValueError: a script has no package
        return
    with suppress(OSError, UnicodeDecodeError):  # after an update of the project it is newer than what was installed
        text = Path("pyproject.toml").read_text(encoding="utf-8")
        requirements += re.findall(r"lightning-runs @ [^\"\s]+", text)
    needed = [text for text in requirements if text.startswith("lightning-runs") and not _fits(text)]
    if needed:
        needed = needed[-1].rpartition("/")[2]
        print(
            f"warning: {package} needs {needed}, but lightning-runs {__version__} is installed. Install it again:"
            " pip install -e . (uv: uv sync)",
            file=sys.stderr,
        )


def _fits(requirement: str) -> bool:
    """Return whether this version is that of a requirement: of a wheel's file, or of a range."""
    wheel = re.search(r"lightning_runs-([^-/]+)-[^/]*\.whl", requirement)
    if wheel:
        return wheel[1] == __version__
    from packaging.requirements import Requirement  # takes 30 ms

    return Requirement(requirement).specifier.contains(__version__, prereleases=True)
