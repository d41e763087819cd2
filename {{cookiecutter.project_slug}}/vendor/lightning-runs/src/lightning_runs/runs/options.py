"""The options of a run as plain values."""

from typing import Any

import yaml

from ..names import program

CALLBACK_GROUPS = ("checkpoint", "early_stopping")  # callbacks with options of their own


def flat(options: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested options by their dotted names."""
    if not isinstance(options, dict) or not options:
        return {prefix: options}
    found: dict[str, Any] = {}
    for name, value in options.items():
        found |= flat(value, f"{prefix}.{name}".lstrip("."))
    return found


def config_text(options: dict[str, Any]) -> str:
    """Return the text of a run's ``config.yaml``."""
    header = f"# To repeat this run in a new folder: {program()} fit -c FILE\n"
    return header + yaml.safe_dump(options, sort_keys=False, allow_unicode=True)
