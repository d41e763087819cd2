"""Errors that a user can fix: one clear message, no traceback."""

import re
from importlib.util import find_spec


class UserError(ValueError):
    """A mistake that the user can fix: a command prints its text alone and exits with 1."""


class Mistake(SystemExit):
    """A mistake on the command line, already printed: it ends the process with 2, and ``text`` repeats it."""

    def __init__(self, text: str) -> None:
        super().__init__(2)
        self.text = text


class DivergedError(UserError):
    """The loss or a weight is no longer finite."""


def brief(error: Exception) -> str:
    """Return an error in one line of at most 300 characters."""
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return text.splitlines()[0][:300]


def reason(error: Exception) -> str:
    """Return in one line why a file can't be read."""
    text = (getattr(error, "strerror", None) or str(error)).strip()
    code = re.search(r"GLOBAL ([\w.]+)", text)
    if code:
        return f"loading it would run code that it holds ({code.group(1)})"
    if not text or text.startswith("Weights only load failed"):
        return f"it is empty or damaged ({type(error).__name__})"
    return text.splitlines()[0][:200]


def require(extra: str, *packages: str) -> None:
    """Refuse to continue without packages, by their import names, which the project's ``extra`` installs."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        text = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed."
        raise UserError(f"{text} Install with: pip install -e '.[{extra}]' (uv: uv sync --extra {extra}).")
