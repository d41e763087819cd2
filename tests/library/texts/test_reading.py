from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning_runs.texts import reading
from starts import prepared, refused
from written_data import text_rows, write_table, write_texts


def read_texts(file: Path, **options: Any) -> Any:
    """The data module of a written table, or of a folder."""
    dataset = "text_folder" if file.is_dir() else "csv_texts"
    return prepared("text", dataset=dataset, root=str(file), **options)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("text,kind\na,b\n", " has no column label, but text, kind. Choose one with --data.label"),
        ("", " has no column text, but none"),
        ("text,label\na,b,c\n", ", line 2 has more values than columns"),
        ("text,label\na\nb,c\n", ", line 2 has fewer values than columns"),
        ('text,label\n"a,b\n', " can't be read after line 1"),
        ("text,label\n" + "a,sea\n" * 9, " have the class sea, so there is nothing to learn."),
        ("text,label\na,b\nc,d\ne,f\n", " has 3 classes for 3 texts"),
    ],
)
def test_a_table_that_can_not_be_learned_from_is_refused(tmp_path, text, problem) -> None:
    (tmp_path / "a.csv").write_text(text)
    with refused(f"{tmp_path / 'a.csv'}{problem}"):
        read_texts(tmp_path / "a.csv")


@pytest.mark.parametrize("name", ["a.csv", "texts/sea/001.txt"])
def test_a_file_that_is_not_utf_8_is_named(tmp_path, name) -> None:
    write_texts(tmp_path / "texts")
    (tmp_path / name).write_bytes("text,label\ngröße,sea\n".encode("latin-1"))
    with refused(f"{tmp_path / name} is not UTF-8, at byte 13."):
        read_texts(tmp_path / name if name == "a.csv" else tmp_path / "texts")


def test_new_texts_are_lines_or_whole_files_as_in_training(tmp_path) -> None:
    new = tmp_path / "new.txt"
    new.write_bytes("a wave\u2028of\x0csalt\x85\n\r\nand a ship\rtree".encode())
    known = {"text": "text", "whole_files": False}
    assert reading.read_new_texts([new], known) == (
        [f"{new}:1", f"{new}:3", f"{new}:4"],
        ["a wave\u2028of\x0csalt", "and a ship", "tree"],
    )
    known["whole_files"] = True
    assert reading.read_new_texts([new], known) == ([str(new)], [new.read_bytes().decode()])
    table = tmp_path / "new.csv"
    table.write_text("body\na wave\n")
    with refused(f"{table} has no column text, but body"):
        reading.read_new_texts([table], known)
    with refused("there are no texts"):
        reading.rows_with_text([("a.txt", "")])
    with refused("they must be the tokens of a text"):
        next(reading.read([new], {"inputs": []}))


def test_texts_become_tokens_with_padding_and_long_ones_are_cut(tmp_path) -> None:
    tokenizer = reading.load_tokenizer(read_texts(write_table(tmp_path / "a.csv", text_rows()), max_tokens=8).known)
    tokens, lengths, num_cut = reading.encode_texts(["wave", "fish " * 1000, "w" * 100_000], tokenizer)
    assert (tokens.shape, tokens.dtype) == ((3, 8), np.int32)
    assert lengths[1:].tolist() == [8, 8]
    assert num_cut == 2
    assert (tokens[0] != 0).sum() == lengths[0] < 8
