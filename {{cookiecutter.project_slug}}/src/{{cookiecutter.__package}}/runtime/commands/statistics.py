"""Statistics of one input, by its dtype and shape alone: what `export` and `serve` keep, and `drift` compares.

They need NumPy alone. An image or a text can't be restored from them; those of a row are its columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

SIDE = 64  # about so many pixels of an image's shorter side are looked at, which keeps a large one from taking long
COLOURS = ("red", "green", "blue")
VALUES = 256  # a row of more numbers, without names, is described by mean and standard deviation

Statistics = dict[str, float | str | None]


def of_input(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> Statistics:
    """Describe one input as an exported model takes it.

    Args:
        arrays: Its arrays by the names of the model's inputs, without the dimension of the batch. An image is
            ``(C, H, W)``, a text ``(L,)`` of whole numbers, its tokens; a row ``(C,)`` of floating-point numbers.
        facts: The facts of the exported model: ``columns`` names those of a row, ``tokenizer`` tells the padding.

    Returns:
        Numbers of six digits, words of a column of words, and None for what is missing or not finite. Where the model
        has several inputs, their names come first: ``image brightness``.
    """
    import numpy as np

    found: Statistics = {}
    for name, array in arrays.items():
        first = f"{name} " if len(arrays) > 1 else ""
        with np.errstate(all="ignore"):  # of what is not finite
            found |= {f"{first}{key}": _plain(value) for key, value in _describe(array, facts).items()}
    return found


def of_output(arrays: Mapping[str, np.ndarray], class_names: Sequence[str] | None) -> tuple[str | None, float | None]:
    """Tell what was predicted for one input: a label, and how probable the model takes it to be.

    Args:
        arrays: The model's outputs by their names, without the dimension of the batch.
        class_names: The names of the classes, if it has any.

    Returns:
        The name of the most probable class, or the number that was predicted as a text of six digits, and the
        probability, or the output ``confidence``; None for what the model does not tell.
    """
    probabilities, number, confidence = (arrays.get(name) for name in ("probabilities", "prediction", "confidence"))
    if class_names and probabilities is not None and probabilities.shape == (len(class_names),):
        best = int(probabilities.argmax())
        return class_names[best], _number(probabilities[best])
    label = f"{number.item():.6g}" if number is not None and number.size == 1 else None
    return label, _number(confidence.item()) if confidence is not None and confidence.size == 1 else None


def _number(value: Any) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _plain(value: Any) -> float | str | None:
    return value if value is None or isinstance(value, str) else _number(value)


def _describe(array: np.ndarray, facts: Mapping[str, Any]) -> Mapping[str, Any]:
    columns = facts.get("columns")
    if array.ndim == 3 and min(array.shape[1:]) > 1:
        return _image(array)
    if array.ndim == 1 and array.dtype.kind in "iu" and len(array) > 1:
        return _tokens(array, facts.get("tokenizer") or {})
    if array.ndim == 1 and isinstance(columns, Mapping) and len(columns) == len(array):
        return {key: _cell(value, columns[key]) for key, value in zip(columns, array.tolist(), strict=True)}
    if array.size == 1:
        return {"value": array.item()}
    if array.ndim == 1 and len(array) <= VALUES:
        return {f"value {i}": value for i, value in enumerate(array.tolist())}
    return {"mean": array.mean(dtype=float), "standard deviation": array.std(dtype=float)}


def _cell(value: float, known: Any) -> float | str | None:
    """The number of a column, or its word: the positions of those that are known begin with 1, and one may be empty."""
    words = known.get("words") if isinstance(known, Mapping) else None
    if words is None:
        return value
    return words[int(value) - 1] or None if 1 <= value <= len(words) else None


def _image(image: np.ndarray) -> Mapping[str, float]:
    """Describe an image ``(C, H, W)``; what tells of directions changes where it is turned, mirrored or moved.

    Places are fractions of width and height, from the left and from the top. ``slant`` is the correlation of both over
    the bright pixels, and ``upright edges`` the share of differences that lie between neighbours in a row.
    """
    import numpy as np

    step = max(1, min(image.shape[1:]) // SIDE)
    image = image[:, ::step, ::step].astype(float)
    grey = image.mean(axis=0)
    across, down = (np.abs(np.diff(grey, axis=axis)).mean() for axis in (1, 0))
    found = {"brightness": image.mean(), "contrast": grey.std(), "sharpness": (across + down) / 2}
    found["upright edges"] = across / (across + down) if across + down else 0.5
    weight = grey - grey.min()
    weight = weight / weight.sum() if weight.any() else np.full(grey.shape, 1 / grey.size)
    x, y = (np.linspace(0, 1, size) for size in (grey.shape[1], grey.shape[0]))
    found["centre across"], found["centre down"] = weight.sum(axis=0) @ x, weight.sum(axis=1) @ y
    x, y = x - found["centre across"], y - found["centre down"]
    spread = math.sqrt((weight.sum(axis=0) @ x**2) * (weight.sum(axis=1) @ y**2))
    found["slant"] = round(y @ weight @ x / spread, 6) if spread > 1e-12 else 0.0
    if len(image) == 3:
        levels = image.sum(axis=(1, 2))  # without any light there are no shares
        found |= {f"share of {colour}": level / levels.sum() for colour, level in zip(COLOURS, levels, strict=True)}
    return found


def _tokens(tokens: np.ndarray, tokenizer: Mapping[str, Any]) -> Mapping[str, float]:
    """Describe tokens ``(L,)``. Tokenizers give low numbers to what is frequent, and to single bytes or letters."""
    padding, model = tokenizer.get("padding") or {}, tokenizer.get("model") or {}
    tokens = tokens[tokens != padding.get("pad_id", 0)]
    count = len(tokens) or math.nan  # of an empty text, all else is missing
    found = {"tokens": len(tokens), "mean token": tokens.sum() / count}
    found["different tokens"] = len(set(tokens.tolist())) / count
    vocabulary, unknown = model.get("vocab"), model.get("unk_token")
    if isinstance(vocabulary, Mapping) and unknown in vocabulary:
        found["unknown tokens"] = (tokens == vocabulary[unknown]).sum() / count
    return found
