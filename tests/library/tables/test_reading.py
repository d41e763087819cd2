import csv
import re

import numpy as np
import pytest
from lightning_runs.errors import UserError
from lightning_runs.tables import reading
from lightning_runs.tables.reading import encode_table, read_table
from written_tables import read, rows, write

KNOWN = {"size": {"mean": 0.0, "std": 1.0, "missing": False}, "colour": {"words": ["red"]}}


def refused(text: str):
    return pytest.raises(UserError, match=re.escape(text))


@pytest.mark.parametrize(
    ("delimiter", "end", "encoding"),
    [
        (",", "\n", "utf-8-sig"),
        (";", "\r\n", "utf-8"),
        ("\t", "\n", "latin-1"),
        ("|", "\r", "utf-8"),
        (";", "\r\n", "utf-16"),
    ],
)
def test_a_table_is_the_same_whatever_program_wrote_it(tmp_path, delimiter, end, encoding) -> None:
    plain = [[*line, "größe" if i else "à la carte"] for i, line in enumerate(rows())]
    other = [[cell.replace(".", ",") if delimiter == ";" else cell for cell in line] for line in plain]
    expected = read_table(write(tmp_path / "a.csv", plain))
    found = read_table(write(tmp_path / "b.csv", other, delimiter, end, encoding))
    assert [*found.columns] == [*expected.columns]
    assert all((found.columns[name] == cells).all() for name, cells in expected.columns.items())


def test_quoted_cells_may_have_delimiters_and_line_ends(tmp_path) -> None:
    file = tmp_path / "a.csv"
    with file.open("w", newline="") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([["a;b;c", "d"], ["1,5;2", "two\nlines"], ["", "NA"]])
    found = read_table(file)
    assert found.columns["a;b;c"].tolist() == ["1,5;2", ""]
    assert found.columns["d"].tolist() == ["two\nlines", ""]
    assert found.row_names.tolist() == [f"{file}:3", f"{file}:4"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "a.csv is not a table"),
        ("a,b\n", "a.csv is not a table"),
        ("a\n1\n", "a.csv is not a table"),
        ("a,a\n1,2\n", "a.csv has more than one column with the name a"),
        ('a,b\n"' + "x" * 200_000 + '",2\n', "a.csv, line 2 can't be read"),
        ("a,b\n1,2\n1,2,3\n", "a.csv, line 3 has 3 values, but there are 2 columns"),
    ],
)
def test_a_file_that_is_not_a_table_is_refused(tmp_path, text, problem) -> None:
    file = tmp_path / "a.csv"
    file.write_text(text)
    with refused(problem):
        read_table(file)


def test_a_folder_is_not_a_table(tmp_path) -> None:
    with refused(f"{tmp_path} is not a file"):
        read_table(tmp_path)


def test_numbers_keep_their_value_and_missing_ones_are_nan() -> None:
    numbers = reading.parse_numbers(np.array(["1.5", "", "1e39", "-2"], dtype=object))
    assert np.array_equal(numbers, [1.5, np.nan, np.nan, -2], equal_nan=True)


def test_unknown_words_are_named_and_missing_columns_refused(tmp_path, capsys) -> None:
    file = write(tmp_path / "new.csv", [["size", "colour"], ["1", "red"], ["2", "pink"]])
    encoded = encode_table(read_table(file), KNOWN, print_unknown=True)
    assert encoded.tolist() == [[1, 1], [2, 0]]
    assert f"{file}: the model does not know colour pink" in capsys.readouterr().err
    with refused(f"{file} lacks columns that the model was trained with: weight"):
        encode_table(read_table(file), {**KNOWN, "weight": KNOWN["size"]})
    with refused(f"the column colour must have numbers alone. {file}:2 has 'red'"):
        encode_table(read_table(file), {"colour": KNOWN["size"]})


def test_new_rows_are_read_for_an_exported_model(tmp_path) -> None:
    data = read(write(tmp_path / "a.csv", rows()))
    facts = {**data.facts, "inputs": [{"name": "columns", "dtype": "float32", "shape": ["batch", 3]}]}
    new = write(tmp_path / "new.csv", [["size", "colour", "weight"], ["10", "red", ""], ["7", "blue", "100"]])
    (name, first), (_, second) = reading.read([new], facts)
    assert name == f"{new}:2"
    assert np.array_equal(first["columns"], [10, 3, np.nan], equal_nan=True)  # pyright: ignore
    assert second["columns"].tolist() == [7, 1, 100]  # pyright: ignore
    with refused("they must be the rows of a table"):
        next(reading.read([new], {"inputs": []}))
