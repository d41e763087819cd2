import re

import numpy as np
import pytest
from lightning_runs.errors import UserError
from written_tables import read, rows, rows_with, write


def refused(text: str):
    return pytest.raises(UserError, match=re.escape(text))


def test_columns_are_described_by_the_training_rows_alone(tmp_path) -> None:
    lines = rows()
    data = read(write(tmp_path / "a.csv", lines))
    tested = data.splits["test"][1].tolist()
    for i in tested:
        lines[i + 1][0] = "1000"
        lines[i + 1][1] = "violet"
    other = read(write(tmp_path / "b.csv", lines))
    assert other.splits["test"][1].tolist() == tested
    assert other.facts["columns"] == data.facts["columns"]
    train = np.array([float(line[0]) for line in lines[1:]])[data.splits["train"][1]]
    assert data.facts["columns"]["size"]["mean"] == pytest.approx(train.mean(), rel=1e-6)
    assert data.facts["columns"]["size"]["std"] == pytest.approx(train.std(), rel=1e-6)


def test_columns_without_information_are_left_out_and_named(tmp_path, capsys) -> None:
    lines = [[*line, f"name {i}", "same", "", "5"] for i, line in enumerate(rows())]
    lines[0][4:] = ["who", "all", "none", "five"]
    data = read(write(tmp_path / "a.csv", lines))
    assert list(data.facts["columns"]) == ["size", "colour", "weight"]
    note = capsys.readouterr().err
    for name in ("who (no word", "all (it has one value", "none (it has one value", "five (it has one value"):
        assert name in note


def test_columns_of_numbers_with_few_words_are_named(tmp_path, capsys) -> None:
    lines = [[*line, *(map(str, (i % 5, i % 3, i % 2)) if i else "abc")] for i, line in enumerate(rows())]
    lines[9][0] = lines[9][4] = "k.A."
    lines[3][5] = lines[4][5] = "-"
    for line in lines[5:18]:
        line[6] = "many"
    read(write(tmp_path / "a.csv", lines))
    note = capsys.readouterr().err
    assert "size (59 numbers and k.A.), a (59 numbers and k.A.), b (58 numbers and -)" in note
    assert "c (" not in note
    read(write(tmp_path / "b.csv", rows()))
    assert "numbers and" not in capsys.readouterr().err


@pytest.mark.parametrize("date", ["2024-01-31", "31.1.2024", "1/31/24 12:00", "2024-01-31T12:00:05Z", "Jan 1 2000"])
def test_dates_are_refused(tmp_path, date) -> None:
    file = write(tmp_path / "a.csv", rows_with(1, date))
    with refused(f"the column colour has dates, such as {date}"):
        read(file)
    assert "colour" not in read(file, ignore=["colour"]).facts["columns"]


@pytest.mark.parametrize(
    ("column", "value", "options", "problem"),
    [
        (3, "same", {}, "data.target is kind, which has 1 value"),
        (3, "same", {"target": "knid"}, "data.target is knid; choose a column of"),
        (3, "same", {"target": None}, "such as size, colour, weight, kind."),
        (3, "same", {"ignore": ["hue"]}, "data.ignore is hue; choose a column of"),
        (3, "same", {"group": "hue"}, "data.group is hue; choose a column of"),
        (0, "1", {"kind": "number"}, "data.kind is number, but kind has words"),
        (3, "large", {"target": "size", "kind": "class"}, "data.target is size, which has 59 different values"),
        (0, "1", {"ignore": ["colour", "weight"]}, "a.csv has no column to learn from: size"),
    ],
)
def test_a_target_that_can_not_be_learned_is_refused(tmp_path, column, value, options, problem) -> None:
    file = write(tmp_path / "a.csv", rows_with(column, value))
    with refused(problem):
        read(file, **{"target": "kind", **options})


@pytest.mark.parametrize("kind", [None, "number"])
@pytest.mark.parametrize(
    ("value", "has_thousands"), [("1.234,50", True), ("1'234.5", True), ("1 234", True), ("k.A.", False)]
)
def test_a_number_that_can_not_be_read_is_named(tmp_path, value, has_thousands, kind) -> None:
    file = write(tmp_path / "a.csv", rows_with(0, value, slice(7, 8)), ";")
    with refused(f"{file}:8 has {value!r}") as error:
        read(file, "size", kind=kind)
    assert ("Thousands separators" in str(error.value)) is has_thousands


def test_the_kind_of_the_target_follows_its_values(tmp_path) -> None:
    lines = [[*line, str(i % 5), str(i % 2)] if i else [*line, "five", "two"] for i, line in enumerate(rows())]
    file = write(tmp_path / "a.csv", lines)
    assert read(file, "five").class_names == []
    assert read(file, "five", kind="class").class_names == ["0", "1", "2", "3", "4"]
    assert read(file, "two").class_names == ["0", "1"]
    assert read(file, "two", kind="number").class_names == []
