"""Texts: files are read and turned into tokens, the same in training and in `predict`.

NumPy and tokenizers alone: `predict` with an ONNX file works without torch.
"""

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.folders import find_files, print_note
from ..errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SUFFIXES = (".txt", ".csv", ".tsv")
CHARACTERS = 20  # of a text that are read for each token that is kept
CHUNK = 1000  # texts that are encoded at a time: the description of each token takes memory

_loaded: dict[str, Any] = {"source": None, "tokenizer": None}  # the last tokenizer


def read_text(file: Path) -> str:
    """Read a file, which must be UTF-8; one that ends in .gz is decompressed."""
    if not file.is_file():
        raise UserError(f"{file} is not a file. Give the path of a file of texts, such as --data.root texts.csv.")
    data = file.read_bytes()
    try:
        return (gzip.decompress(data) if file.suffix == ".gz" else data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        convert = f"iconv -f WINDOWS-1252 -t UTF-8 '{file}' > new{file.suffix}"
        raise UserError(f"{file} is not UTF-8, at byte {error.start}. Convert it, such as by: {convert}") from error


def read_csv_columns(file: Path, columns: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Return the name of each row, such as ``texts.csv:2`` with the line on which it ends, and its cells in columns.

    The first line of the CSV file has the names of its columns; ``columns`` has those to read, by the names of options.

    Raises:
        UserError: It lacks a column, or a row has more or fewer values than there are columns.
    """
    text = read_text(file)
    limit = csv.field_size_limit(2**31 - 1)  # characters of a cell, in this process
    first_line = io.StringIO(text, newline=None).readline()
    delimiter = max(",;\t|", key=first_line.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows = []
    try:
        header = [*(reader.fieldnames or ())]
        for option, name in columns.items():
            if name not in header:
                advice = f"Choose one with --data.{option}" if len(columns) > 1 else "Name it so, or give a .txt file"
                raise UserError(f"{file} has no column {name}, but {', '.join(header[:12]) or 'none'}. {advice}.")
        for row in reader:
            if None in row or None in row.values():
                raise UserError(
                    f"{file}, line {reader.line_num} has {'more' if None in row else 'fewer'} values than columns."
                    f" Put quotes around a text that has a line end or {delimiter!r} in it."
                )
            rows.append((f"{file}:{reader.line_num}", *(row[name].strip() for name in columns.values())))
    except csv.Error as error:
        raise UserError(f"{file} can't be read after line {reader.line_num}: {error}.") from error
    finally:
        csv.field_size_limit(limit)
    if "label" in columns:
        labels = {row[-1] for row in rows} - {""}
        position = header.index(columns["label"])
        for name, *cells in rows:
            for cell in cells:
                inner = [line.rstrip("\r").split(delimiter) for line in cell.split("\n")[1:-1]]
                if inner and all(len(row) == len(header) and row[position] in labels for row in inner):
                    raise UserError(f"{name} ends a row that has other rows in a cell. Close the quote before them.")
    return rows


def read_new_texts(paths: Sequence[str | Path], known: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Read new texts like those for training; return their names, and the texts that are not empty.

    A ``.txt`` file has a text on each line; for a model that was trained on a folder of texts, it is one text.
    """
    rows: list[Any] = []
    for file in chain(*find_files(paths, SUFFIXES).values()):
        if file.suffix != ".txt":
            rows += read_csv_columns(file, {"text": known["text"]})
        elif known["whole_files"]:
            rows.append((str(file), read_text(file).strip()))
        else:
            lines = io.StringIO(read_text(file), newline=None)  # splitlines() would also split at form feeds and others
            rows += [(f"{file}:{i}", line.strip()) for i, line in enumerate(lines, start=1)]
    rows = rows_with_text(rows)
    return [row[0] for row in rows], [row[1] for row in rows]


def rows_with_text(rows: list[Any]) -> list[Any]:
    """Return the rows whose text, the second cell, is not empty, and name the others; refuse it if none is left."""
    empty = [row[0] for row in rows if not row[1]]
    if empty:
        names = ", ".join(empty[:3]) + (" …" if len(empty) > 3 else "")
        print_note(f"empty texts are left out, {len(empty)} of {len(rows)}: {names}")
    if len(empty) == len(rows):
        raise UserError("there are no texts: all are empty.")
    return [row for row in rows if row[1]]


def load_tokenizer(known: Mapping[str, Any]) -> "Tokenizer":
    """Return the tokenizer of a model from its JSON, as text or values; the last one is kept for further calls."""
    from tokenizers import Tokenizer  # here, because most commands need none

    source = known["tokenizer"]
    if _loaded["source"] is not source:
        text = source if isinstance(source, str) else json.dumps(source)
        _loaded.update(source=source, tokenizer=Tokenizer.from_str(text))
    return _loaded["tokenizer"]


def encode_texts(texts: Sequence[str], tokenizer: "Tokenizer") -> tuple[np.ndarray, np.ndarray, int]:
    """Return tokens ``(N, max_tokens)`` int32, how many of each text are not padding, and how many texts were cut."""
    max_characters = CHARACTERS * (tokenizer.truncation or {})["max_length"]
    tokens = []
    lengths = []
    num_cut = 0
    for first in range(0, len(texts), CHUNK):
        encodings = tokenizer.encode_batch([text[:max_characters] for text in texts[first : first + CHUNK]])
        tokens.append(np.array([encoding.ids for encoding in encodings], np.int32))
        lengths.append(np.array([encoding.attention_mask for encoding in encodings]).sum(axis=1))
        num_cut += sum(bool(encoding.overflowing) for encoding in encodings)
    return np.concatenate(tokens), np.concatenate(lengths), num_cut


def read(paths: Sequence[str | Path], facts: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, np.ndarray] | str]]:
    """Yield a name for each new text, and its tokens, ``(max_tokens,)`` int64, by the name of the model's input.

    Raises:
        UserError: There are no texts, or the facts of the exported model have no tokenizer.
    """
    if "tokenizer" not in facts:
        raise UserError(f"the model's inputs are {facts['inputs']}; they must be the tokens of a text.")
    names, texts = read_new_texts(paths, facts)
    tokens = encode_texts(texts, load_tokenizer(facts))[0]
    for name, row in zip(names, tokens.astype(np.int64), strict=True):
        yield name, {facts["inputs"][0]["name"]: row}
