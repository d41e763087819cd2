"""The options of a run as plain values."""

from __future__ import annotations

from typing import Any

import yaml

from ..errors import UserError
from ..names import program

NAMED = ("checkpoint", "early_stopping")  # callbacks with options of their own


def flat(options: Any, prefix: str = "", lists: bool = False) -> dict[str, Any]:
    """Return options by their dotted names.

    Args:
        options: Nested dicts.
        prefix: What stands before each name.
        lists: Whether dicts in a list, such as callbacks, are named too: by their classes, or by their numbers.
    """
    if lists and isinstance(options, list) and any(isinstance(item, dict) for item in options):
        named = [(item.get("class_path", i) if isinstance(item, dict) else i, item) for i, item in enumerate(options)]
        options = {str(name).rpartition(".")[2]: item for name, item in named}
    if not isinstance(options, dict) or not options:
        return {prefix: options}
    found = [flat(value, f"{prefix}.{name}".lstrip("."), lists) for name, value in options.items()]
    return {name: value for some in found for name, value in some.items()}


def config_text(options: dict[str, Any]) -> str:
    """Text of a run's ``config.yaml``.

    Raises:
        UserError: An option's value can't be written.
    """
    for name, value in flat(options, lists=True).items():
        if "Unable to serialize instance" in str(value):  # jsonargparse's words
            raise UserError(
                f"{name} is an object that can't be written to config.yaml, so the run could be neither resumed nor"
                " repeated. Give a value for it, as a number or a text."
            )
    header = f"# To repeat this run in a new folder: {program()} fit -c FILE\n"
    return header + yaml.safe_dump(options, sort_keys=False, allow_unicode=True)
