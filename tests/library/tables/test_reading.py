import numpy as np
import pytest
from lightning_runs.tables import reading
from lightning_runs.tables.reading import column_numbers, encode_table, read_table
from starts import prepared
from toy import refused
from written_data import table_rows, write_table

KNOWN = {"size": {"mean": 0.0, "std": 1.0, "missing": False}, "colour": {"words": ["red"]}}


def test_quoted_cells_may_have_delimiters_and_line_ends(tmp_path) -> None:
    file = write_table(tmp_path / "a.csv", [["a;b,c", "d"], ["1,5;2", "two\nlines"], ["", "NA"]])
    found = read_table(file)
    assert found.columns["a;b,c"].tolist() == ["1,5;2", ""]
    assert found.columns["d"].tolist() == ["two\nlines", ""]
    assert found.row_names.tolist() == [f"{file}:3", f"{file}:4"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "a.csv is not a table"),
        ("a,b\n", "a.csv is not a table"),
        ("a,a\n1,2\n", "a.csv has more than one column with the name a"),
        ('a,b\n"' + "x" * 200_000 + '",2\n', "a.csv, line 2 can't be read"),
        ("a,b\n1,2\n1,2,3\n", "a.csv, line 3 has 3 values, but there are 2 columns"),
        ('a,b\n1,2\n3,"4\n5,6\n', "a.csv, line 3 can't be read"),
        ('a,b\n1,2\n3,"4 in\n5,"6 in\n', "a.csv, line 3 can't be read"),
        ('a,b\n1,2\n3,"in\n5,6\n7,in"\n', "a.csv, line 3 can't be read"),
    ],
)
def test_a_file_that_is_not_a_table_is_refused(tmp_path, text, problem) -> None:
    file = tmp_path / "a.csv"
    file.write_text(text)
    with refused(problem):
        read_table(file)
    with refused(f"{tmp_path} is not a file"):
        read_table(tmp_path)


def numbers_of(tmp_path, cells: list[str], delimiter: str = ",", decimal: str = "") -> list[float] | None:
    """The numbers of a column, beside which another column shows no decimal mark."""
    file = write_table(tmp_path / "n.csv", [["n", "i"], *([cell, "7"] for cell in cells)], delimiter)
    found = column_numbers(read_table(file, decimal), "n")
    return None if found is None else found.tolist()


@pytest.mark.parametrize(
    ("cells", "delimiter", "expected"),
    [
        (["1.5", "1e39", "-2"], ",", [1.5, np.nan, -2]),
        (["1,5", "-2,25", "1,234"], "\t", [1.5, -2.25, 1.234]),
        (["1,234", "2,000"], ";", [1.234, 2]),
        (["1,234", "0,500"], "\t", [1.234, 0.5]),
        (["1,234", "950", "12,000"], ",", [1234, 950, 12000]),
        (["1,234,567.5", "1"], "\t", [1234567.5, 1]),
        (["1.234,50", "1.000", "3"], "\t", [1234.5, 1000, 3]),
        (["1.234", "950"], ";", [1234, 950]),
        (["1.234", "2.500"], ";", [1.234, 2.5]),
        (["1\u202f234,5", "2 000", "1'000"], "\t", [1234.5, 2000, 1000]),
        (["$5.50", "-$1,200.00", "($3.00)"], ",", [5.5, -1200, -3]),
        (["5,50 €", "7"], ";", [5.5, 7]),
        (["USD 5", "3USD"], ",", [5, 3]),
        (["40%", "7.5 %"], ",", [40, 7.5]),
        (["\u22123", "\u20132.5", "4"], ",", [-3, -2.5, 4]),
        ([*"12345678", "k.A."], ",", [1, 2, 3, 4, 5, 6, 7, 8, np.nan]),
        (["1,5", "-", "2,25", "-", "-"], "\t", [1.5, np.nan, 2.25, np.nan, np.nan]),
        (["1.2.3", "20-29", "65+", "$$"], ",", None),
    ],
)
def test_numbers_are_read_in_the_notation_of_any_country(tmp_path, cells, delimiter, expected) -> None:
    assert numbers_of(tmp_path, cells, delimiter) == (expected and pytest.approx(expected, nan_ok=True))


UNCLEAR = ("1,234|2,500", "$5|5 €|£7", "40%|0.4", "12,34,567|1,23,456", "1,5|1.5", "$1.2M|$3k")


@pytest.mark.parametrize("cells", [text.split("|") for text in UNCLEAR])
def test_numbers_whose_notation_is_not_clear_are_refused(tmp_path, cells) -> None:
    with refused("the column n of") as error:
        numbers_of(tmp_path, cells, "\t")
    assert cells[0] in str(error.value) or cells[1] in str(error.value)


def test_new_rows_have_the_decimal_mark_of_the_training_rows(tmp_path) -> None:
    assert numbers_of(tmp_path, ["1,234"], "\t", decimal=",") == [1.234]
    assert numbers_of(tmp_path, ["1,234"], "\t", decimal=".") == [1234]
    lines = [[line[0].replace(".", ","), line[1], line[3]] for line in table_rows()]
    lines[1][0] = "9,5"
    root = write_table(tmp_path / "a.csv", lines)
    facts = prepared("table", dataset="csv_file", root=str(root), target="kind").facts
    new = write_table(tmp_path / "new.csv", [["colour", "size"], ["red", "9,125"]])
    [(name, row)] = reading.read([new], {**facts, "inputs": [{"name": "columns"}]})
    assert name == f"{new}:2"
    assert row["columns"].tolist() == [9.125, 3]  # pyright: ignore
    with refused("they must be the rows of a table"):
        next(reading.read([new], {"inputs": []}))


def test_lines_end_at_line_ends_alone(tmp_path) -> None:
    (tmp_path / "a.csv").write_text("a\u2028b;c\x0cd\n1;x\x85y\n2;z\n", encoding="utf-8")
    table = read_table(tmp_path / "a.csv")
    assert [*table.columns] == ["a\u2028b", "c\x0cd"]
    assert table.row_names.tolist() == [f"{tmp_path / 'a.csv'}:{line}" for line in (2, 3)]


def test_unknown_words_are_named_and_missing_columns_refused(tmp_path, capsys) -> None:
    file = write_table(tmp_path / "new.csv", [["size", "colour"], ["1", "red"], ["2", "pink"]])
    encoded = encode_table(read_table(file), KNOWN, print_unknown=True)
    assert encoded.tolist() == [[1, 1], [2, 0]]
    assert f"{file}: the model does not know colour pink" in capsys.readouterr().err
    with refused(f"{file} lacks columns that the model was trained with: weight"):
        encode_table(read_table(file), {**KNOWN, "weight": KNOWN["size"]})
    with refused(f"the column colour must have numbers alone. {file}:2 has 'red'"):
        encode_table(read_table(file), {"colour": KNOWN["size"]})
