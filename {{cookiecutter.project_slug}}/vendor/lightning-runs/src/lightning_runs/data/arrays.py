"""Items in JSON and NumPy files, for exported models whose inputs are plain arrays; without torch."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError, reason
from .folders import find_files


def read(paths: Sequence[str | Path], facts: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, np.ndarray] | str]]:
    """Yield a name for each item, and its arrays by the names of the model's inputs, or why they can't be used.

    A JSON file has a list of items, or an object whose ``inputs`` is that list. An item is a number or a nested list,
    or an object with one for each input of the model. The rows of the array in a ``.npy`` file are items.
    """
    for file in chain(*find_files(paths, (".json", ".npy")).values()):
        for i, item in enumerate(_items(file)):
            values = item if isinstance(item, dict) else {facts["inputs"][0]["name"]: item}
            try:
                yield f"{file}:{i}", {known["name"]: _array(values, known) for known in facts["inputs"]}
            except (TypeError, ValueError, OverflowError) as error:
                yield f"{file}:{i}", reason(error)


def _items(file: Path) -> Any:
    try:
        with file.open("rb") as stream:
            if stream.read(6) == np.lib.format.MAGIC_PREFIX:
                return np.atleast_1d(np.load(file))
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{file} is neither JSON nor an array of NumPy: {reason(error)}.") from error
    items = content.get("inputs") if isinstance(content, dict) else content
    if not isinstance(items, list):
        raise UserError(f'{file} must have a list of items, or an object such as {{"inputs": [...]}}.')
    return items


def _array(values: Mapping[str, Any], known: Mapping[str, Any]) -> np.ndarray:
    """Return the array for an input of the model; it must have the input's shape, and values of its dtype."""
    name, shape = known["name"], known["shape"][1:]
    if name not in values:
        raise ValueError(f"it has no {name}")
    given = np.asarray(values[name])
    array = given.astype(known["dtype"])
    if [*array.shape] != shape:
        raise ValueError(f"{name} has the shape {[*array.shape]}; it must be {shape}")
    if array.dtype.kind != "f" and (array != given).any():
        raise ValueError(f"{name} has values that are not of the type {array.dtype}")
    return array
