"""Texts: how files are read and turned into tokens, the same in training and in `predict`.

NumPy and tokenizers alone: `predict` with an ONNX file works without torch.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.folders import find_files
from ..errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SUFFIXES = (".txt", ".csv", ".tsv")
CHARACTERS = 20  # of a text that are read for each token that is kept


def read_text(file: Path) -> str:
    """Read a file, which must be UTF-8; one that ends in .gz is decompressed."""
    if not file.is_file():
        raise UserError(f"{file} is no file. Give the path of a file of texts, such as --data.root texts.csv.")
    data = file.read_bytes()
    try:
        return (gzip.decompress(data) if file.suffix == ".gz" else data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        convert = f"iconv -f WINDOWS-1252 -t UTF-8 '{file}' > new{file.suffix}"
        raise UserError(f"{file} is not UTF-8, at byte {error.start}. Convert it, such as by: {convert}") from error


def read_csv(file: Path, columns: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Read columns of a CSV file, whose first line names them; their names are given by the options that have them.

    Returns:
        Of each row a name, such as ``texts.csv:2`` with the line that it ends on, and the cells.

    Raises:
        UserError: It has no such columns, or a row that is no row.
    """
    text = read_text(file)
    csv.field_size_limit(2**31 - 1)  # characters of a cell
    delimiter = max(",;\t|", key=(text.splitlines() or [""])[0].count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows = []
    try:
        header = [*(reader.fieldnames or ())]
        for option, name in columns.items():
            if name not in header:
                there = ", ".join(header[:12]) or "none"
                way = f"Choose one with --data.{option}" if len(columns) > 1 else "Name it so, or give a .txt file"
                raise UserError(f"{file} has no column {name}, but {there}. {way}.")
        for row in reader:
            if None in row or None in row.values():
                many = f"{file}, line {reader.line_num} has {'more' if None in row else 'fewer'} values than columns."
                raise UserError(f"{many} Put quotes around a text that has a line end or {delimiter!r} in it.")
            rows.append((f"{file}:{reader.line_num}", *(row[name].strip() for name in columns.values())))
    except csv.Error as error:
        raise UserError(f"{file} can't be read after line {reader.line_num}: {error}.") from error
    return rows


def read_new(paths: Sequence[str | Path], known: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Read new texts as those for training were read: names, and texts that are not empty.

    A ``.txt`` file has a text on each line, or for a model that was trained on a folder of texts, it is one text.
    """
    rows: list[Any] = []
    for file in find_files(paths, SUFFIXES):
        if file.suffix != ".txt":
            rows += read_csv(file, {"text": known["text"]})
        elif known["whole_files"]:
            rows.append((str(file), read_text(file).strip()))
        else:
            rows += [(f"{file}:{i}", line.strip()) for i, line in enumerate(read_text(file).splitlines(), start=1)]
    names, texts = zip(*without_empty(rows), strict=True)
    return [*names], [*texts]


def without_empty(rows: list[Any]) -> list[Any]:
    """Leave out the rows with an empty text, and name them; a UserError if none is left."""
    if empty := [row[0] for row in rows if not row[1]]:
        names = ", ".join(empty[:3]) + (" …" if len(empty) > 3 else "")
        print(f"note: empty texts are left out, {len(empty)} of {len(rows)}: {names}", file=sys.stderr)
    if len(empty) == len(rows):
        raise UserError("there are no texts: all are empty.")
    return [row for row in rows if row[1]]


def tokenizer(known: Mapping[str, Any]) -> Tokenizer:
    """Make the tokenizer that is known, as JSON or its values; the last is kept, for a prediction takes less time."""
    from tokenizers import Tokenizer  # here, for most commands need none

    if _last.get("of") is not (of := known["tokenizer"]):
        _last.update(made=Tokenizer.from_str(of if isinstance(of, str) else json.dumps(of)), of=of)
    return _last["made"]


_last: dict[str, Any] = {}


def encode(texts: Sequence[str], tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray, int]:
    """Turn texts into tokens ``(N, max_tokens)`` int32, filled up with padding.

    Returns:
        The tokens; how many of each text are no padding, ``(N,)`` int64; and how many texts were cut.
    """
    tokens, lengths, num_cut = [], [], 0
    longest = CHARACTERS * (tokenizer.truncation or {})["max_length"]
    for first in range(0, len(texts), 1000):  # what is known of each token takes memory
        found = tokenizer.encode_batch([text[:longest] for text in texts[first : first + 1000]])
        tokens.append(np.array([text.ids for text in found], np.int32))
        lengths.append(np.array([text.attention_mask for text in found]).sum(axis=1))
        num_cut += sum(bool(text.overflowing) for text in found)
    return np.concatenate(tokens), np.concatenate(lengths), num_cut


def read(paths: Sequence[str | Path], facts: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, np.ndarray] | str]]:
    """Read new texts for an exported model, whose ``facts`` have its tokenizer.

    Yields:
        A name for each text, such as ``new.txt:2``, with its tokens, ``(max_tokens,)`` int64, by the input's name.

    Raises:
        UserError: There are no texts, or the model takes something else.
    """
    if "tokenizer" not in facts:
        raise UserError(f"the model takes {facts['inputs']}, and no tokens of a text.")
    names, texts = read_new(paths, facts)
    tokens, _, _ = encode(texts, tokenizer(facts))
    for name, row in zip(names, tokens.astype(np.int64), strict=True):
        yield name, {facts["inputs"][0]["name"]: row}
