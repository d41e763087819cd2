"""Packages that a project needs for some of its commands alone: extras in pyproject.toml."""

from __future__ import annotations

from importlib.util import find_spec

from ..errors import UserError


def require(extra: str, *packages: str) -> None:
    """Refuse to go on without packages.

    Args:
        extra: The extra in pyproject.toml that has them.
        packages: Their import names.

    Raises:
        UserError: One is not installed.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise UserError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed. Install with:"
            f" pip install -e '.[{extra}]' (uv: uv sync --extra {extra})."
        )
