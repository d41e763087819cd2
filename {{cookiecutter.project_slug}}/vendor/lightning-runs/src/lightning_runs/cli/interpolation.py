"""``${oc.env:NAME}`` and ``${data.batch_size}`` in configuration files: OmegaConf fills them in, for the run alone.

A run's ``config.yaml``, its checkpoints and its loggers keep the references, so that no secret is stored.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jsonargparse import set_parsing_settings


@contextmanager
def absolute_names() -> Iterator[None]:
    """Read names in references as they stand in a file, and not below the name of the command."""
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)  # jsonargparse has it for a whole process alone
    try:
        yield
    finally:
        set_parsing_settings(omegaconf_absolute_to_relative_paths=False)


def with_references(options: Any, unresolved: Any, *place: str) -> Any:
    """Return options with references instead of the values that these gave.

    Args:
        options: Plain values.
        unresolved: The same options before OmegaConf filled them in, with relative references.
        place: Where they are in all options: names of groups, and numbers of items of lists.
    """
    if isinstance(options, dict) and isinstance(unresolved, dict):
        return {key: with_references(value, unresolved.get(key), *place, key) for key, value in options.items()}
    if isinstance(options, list) and isinstance(unresolved, list):
        pairs = enumerate(zip(options, unresolved, strict=True))
        return [with_references(value, text, *place, str(i)) for i, (value, text) in pairs]
    if not isinstance(unresolved, str) or "${" not in unresolved:
        return options

    def absolute(reference: re.Match[str]) -> str:
        groups = place[: -len(reference[1])]
        return "${" + ".".join([*groups, reference[2]]) + "}"

    return re.sub(r"\$\{(\.+)([^{}]+)\}", absolute, unresolved)
