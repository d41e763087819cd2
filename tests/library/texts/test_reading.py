import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning_runs.texts import reading
from lightning_runs.texts.reports import TextReports
from starts import prepared
from torch.nn import functional
from toy import refused
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
        ('text,label\na,b\n"c,d\ne,b\nf",d\n', ":5 ends a row that has other rows in a cell"),
        ('text,label\r\na,b\r\nc,"d\r\ne,b\r\nf,d"\r\n', ":5 ends a row that has other rows in a cell"),
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


def test_sections_show_the_surest_mistakes_as_text(monkeypatch) -> None:
    data = prepared("text", max_vocabulary=2000)
    model: Any = TextReports()
    model.facts = json.loads(data.facts)
    index = data.splits["test"][1]
    labels = data.splits["test"][0].labels[index].clone()
    labels[0] = (labels[0] + 1) % 10
    probabilities = functional.one_hot(labels, 10) * 0.9 + 0.01
    monkeypatch.setattr(data, "texts", ["<b>" + "x" * 500] * 5000)
    sections = {title: draw() for title, draw in model.sections({"index": index, "probabilities": probabilities}, data)}
    _, row, *_ = sections["Surest mistakes"].split("</tr>")
    assert data.row_names[index[0]] in row
    assert "&lt;b&gt;" + "x" * 297 + " …" in row
    for text in ("Princeton", "<td>320</td><td>80</td><td>100</td>", "2000 different tokens"):
        assert text in sections["Data"]


def test_empty_texts_are_left_out_and_long_ones_cut(tmp_path, capsys) -> None:
    rows = text_rows()
    rows[1][0] = "wave " * 20_000
    rows[3][0] = ""
    rows[5][0] = "  "
    file = write_table(tmp_path / "a.csv", rows)
    data = prepared("text", dataset="csv_texts", root=str(file))
    notes = capsys.readouterr().err
    assert f"2 of 40: {file}:4, {file}:6\n" in notes
    assert notes.count("1 of 38 texts are cut to data.max_tokens, 64") == 1
    assert len(data.texts) == 38
    assert int(data.splits["train"][0].lengths.max()) == 64


def test_folders_that_can_not_be_learned_from_are_refused(tmp_path) -> None:
    with refused(f"{tmp_path / 'none'} is not a folder"):
        prepared("text", dataset="text_folder", root=str(tmp_path / "none"))
    for part in ("train", "test"):
        write_texts(tmp_path / part)
    with refused(f"{tmp_path} has folders train and test"):
        prepared("text", dataset="text_folder", root=str(tmp_path))
    with refused(f"{tmp_path} is not a file"):
        prepared("text", dataset="csv_texts", root=str(tmp_path))
