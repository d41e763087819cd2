"""``${oc.env:NAME}`` and ``${data.batch_size}`` in configuration files: OmegaConf fills them in, for the run alone.

A run's ``config.yaml``, its checkpoints and its loggers have the text as it was written, so that no secret is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import reduce
from typing import Any

import yaml
from jsonargparse import set_parsing_settings

from ..errors import require

Path = tuple[str | int, ...]  # of an option: names of groups, and numbers of items of a list


def turn_on() -> None:
    """Have the parser read names of options as they stand in a file, and not below the name of the command.

    Raises:
        UserError: OmegaConf is not installed.
    """
    require("interpolate", "omegaconf")
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)


def references(node: Any, *path: str | int) -> Iterator[tuple[Path, str]]:
    """Yield the places of texts with ``${`` in options, and these texts."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        if isinstance(value, str) and "${" in value:
            yield (*path, key), value
        yield from references(value, *path, key)


def as_written(options: dict[str, Any], texts: Mapping[Path, str]) -> dict[str, Any]:
    """Put texts with ``${`` back where they gave the value that an option has.

    Args:
        options: Plain values of all options.
        texts: What files hold, by the places of the options. Another file or the call may have overwritten some.
    """
    there = {path: text for path, text in texts.items() if _get(options, path) is not None}
    if not there:
        return options
    from omegaconf import OmegaConf  # pyright: ignore[reportMissingImports]

    written = deepcopy(options)
    for path, text in there.items():
        _get(written, path[:-1])[path[-1]] = text
    resolved = OmegaConf.to_container(OmegaConf.create(written), resolve=True)
    for path, text in there.items():
        value, now = _get(resolved, path), _get(options, path)
        # an environment variable is a text, and the option may be a number
        if now == value or (isinstance(value, str) and not isinstance(now, str) and yaml.safe_load(value) == now):
            _get(options, path[:-1])[path[-1]] = text
    return options


def _get(options: Any, path: Path) -> Any:
    try:
        return reduce(lambda node, key: node[key], path, options)
    except (KeyError, IndexError, TypeError):
        return None
