"""The version of the library, and a warning if the project names another one."""

import re
import sys
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

VERSION = import_module("lightning_runs").__version__  # of the library; by its name, for no import goes upwards


@cache
def warn_once(package: str) -> None:
    """Print a warning if the project in this folder names another version of the library."""
    with suppress(OSError, UnicodeDecodeError):
        project = Path("pyproject.toml").read_text(encoding="utf-8")
        others = set(re.findall(r"lightning_runs-([^-/]+)-py3-none-any\.whl", project)) - {VERSION}
        for version in others:
            print(
                f"warning: {package} needs lightning-runs {version}, but {VERSION} is installed."
                f" To install {version}: pip install -e . (uv: uv sync)",
                file=sys.stderr,
            )
