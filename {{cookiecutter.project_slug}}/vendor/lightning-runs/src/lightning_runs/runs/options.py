"""The options of a run as plain values."""

from typing import Any

import yaml

from ..errors import UserError
from ..names import program

CALLBACK_GROUPS = ("checkpoint", "early_stopping")  # callbacks with options of their own


def flat(options: Any, prefix: str = "", lists: bool = False) -> dict[str, Any]:
    """Return options by their dotted names.

    Args:
        options: Nested dicts.
        prefix: Text before each name.
        lists: Whether to name the dicts of a list too, such as callbacks: by their classes, or by their numbers.
    """
    if lists and isinstance(options, list) and any(isinstance(item, dict) for item in options):
        names = [item.get("class_path", i) if isinstance(item, dict) else i for i, item in enumerate(options)]
        options = {str(name).rpartition(".")[2]: item for name, item in zip(names, options, strict=True)}
    if not isinstance(options, dict) or not options:
        return {prefix: options}
    found: dict[str, Any] = {}
    for name, value in options.items():
        found |= flat(value, f"{prefix}.{name}".lstrip("."), lists)
    return found


def config_text(options: dict[str, Any]) -> str:
    """Return the text of a run's ``config.yaml``."""
    for name, value in flat(options, lists=True).items():
        if "Unable to serialize instance" in str(value):  # jsonargparse's words
            raise UserError(
                f"{name} is an object, which config.yaml can't hold, so the run could be neither resumed nor repeated."
                " Give it as a number or a text."
            )
    header = f"# To repeat this run in a new folder: {program()} fit -c FILE\n"
    return header + yaml.safe_dump(options, sort_keys=False, allow_unicode=True)
