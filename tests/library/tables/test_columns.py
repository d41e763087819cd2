from pathlib import Path
from typing import Any

import pytest
from starts import prepared
from toy import refused
from written_data import rows_with, table_rows, write_table


def read(file: Path, target: str | None = "kind", **options: Any) -> Any:
    return prepared("table", dataset="csv_file", root=str(file), target=target, **options)


def test_columns_without_information_are_left_out_and_named(tmp_path, capsys) -> None:
    lines = [[*line, f"name {i}", "same", ""] for i, line in enumerate(table_rows())]
    lines[0][4:] = ["who", "all", "none"]
    data = read(write_table(tmp_path / "a.csv", lines))
    assert list(data.facts["columns"]) == ["size", "colour", "weight"]
    note = capsys.readouterr().err
    assert [name for name in ("who (no word", "all (it has one value", "none (it has one") if name not in note] == []


def test_a_few_words_in_columns_of_numbers_are_missing_values(tmp_path, capsys) -> None:
    lines = [[*line, str(i % 2) if i else "often"] for i, line in enumerate(table_rows())]
    lines[9][0] = "k.A."
    for i, line in enumerate(lines[5:40]):
        line[4] = ("many", "few")[i % 2]
    file = write_table(tmp_path / "a.csv", lines)
    columns = read(file).facts["columns"]
    assert [name for name, known in columns.items() if "words" in known] == ["colour", "often"]
    assert f"size as missing values (k.A.: 1). {file}:10 has 'k.A.'" in capsys.readouterr().err
    read(write_table(tmp_path / "b.csv", table_rows()))
    assert capsys.readouterr().err == "note: b.csv: 60 rows and 4 columns are read.\n"


@pytest.mark.parametrize(
    ("third", "other", "kind"),
    [
        ("-", "{}", "missing values"),
        ("none", "{},5", "missing values"),
        ("{} cm", "{} cm", "words"),
        ("<{}", "{}", "words"),
    ],
)
def test_numbers_do_not_silently_become_words(tmp_path, capsys, third, other, kind) -> None:
    lines = table_rows()
    for i, line in enumerate(lines[1:]):
        line[1] = (other if i % 3 else third).format(i % 7)
    columns = read(write_table(tmp_path / "a.csv", lines)).facts["columns"]
    assert ("words" in columns["colour"]) is (kind == "words")
    assert f"colour as {kind} ({third.format(0)}: " in capsys.readouterr().err


DATES = "2024-01-31, 31.1.2024, 1/31/24 12:00, 2024-01-31T12:00:05Z, Jan 1 2000, 15-Mar-2024, 1. März 2024, 10:30:05 PM"


@pytest.mark.parametrize(
    "date", [*DATES.split(", "), "March 15th, 2024", "2024-01", "2024年1月10日", "Mon 10 Jan 2024", "Jan 10"]
)
def test_dates_are_refused(tmp_path, date) -> None:
    lines = rows_with(1, date)
    for line in lines[5:25]:
        line[1] = "unknown"
    file = write_table(tmp_path / "a.tsv", lines, "\t")
    with refused(f"the column colour has dates, such as {date}"):
        read(file)
    assert "colour" not in read(file, ignore=["colour"]).facts["columns"]


@pytest.mark.parametrize(
    ("name", "first", "named"),
    [("Id", 5, True), ("customer_id", 5, True), ("probe", 1, True), ("paid", 5, False), ("probe", 5, False)],
)
def test_a_column_that_gives_the_class_away_is_reported(tmp_path, capsys, name, first, named) -> None:
    lines = table_rows()
    order = sorted(range(1, 61), key=lambda i: lines[i][3]) if first == 1 else range(1, 61)
    for number, i in enumerate(order):
        lines[i].append(str(1000 + 7 * number))
    read(write_table(tmp_path / "a.csv", [[*lines[0], name], *lines[1:]]))
    assert (f"{name} looks like a row number" in capsys.readouterr().err) is named


@pytest.mark.parametrize("words", ["True TRUE", "spam Spam", "not-spam not_spam", "größe gro\u0308ße"])
def test_class_names_that_are_alike_are_reported(tmp_path, capsys, words) -> None:
    lines = [[*line, [*words.split(), "other"][i % 3] if i else "class"] for i, line in enumerate(table_rows())]
    assert len(read(write_table(tmp_path / "a.csv", lines), "class").class_names) == 3
    assert f"{' and '.join(sorted(words.split()))} as different classes" in capsys.readouterr().err


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
        (1, "red", {"target": "size", "balance": "weights"}, "data.balance is weights, but size is a number"),
        (0, "1", {"ignore": ["colour", "weight"]}, "a.csv has no column to learn from: size"),
    ],
)
def test_a_target_that_can_not_be_learned_is_refused(tmp_path, column, value, options, problem) -> None:
    file = write_table(tmp_path / "a.csv", rows_with(column, value))
    with refused(problem):
        read(file, **{"target": "kind", **options})


def test_a_word_among_numbers_to_learn_is_named(tmp_path) -> None:
    for kind, word, end in ((None, "k.A.", 8), ("number", "k.A.", 8), (None, "-", 28)):
        file = write_table(tmp_path / "a.csv", rows_with(0, word, slice(7, end)))
        with refused(f"{file}:8 has '{word}'"):
            read(file, "size", kind=kind)


def test_the_kind_of_the_target_follows_its_values(tmp_path) -> None:
    lines = [[*line, str(i % 5), ("1", "0", "1.0")[i % 3]] for i, line in enumerate(table_rows())]
    lines[0][4:] = ["five", "two"]
    file = write_table(tmp_path / "a.csv", lines)
    assert read(file, "five").class_names == []
    assert read(file, "five", kind="class").class_names == ["0", "1", "2", "3", "4"]
    assert read(file, "two").class_names == ["0", "1"]  # 1 and 1.0 are one class
    assert read(file, "two", kind="number").class_names == []
    lines[1:] = [[*line[:5], f"{i % 3} cm"] for i, line in enumerate(lines[1:])]
    file = write_table(tmp_path / "b.csv", lines)
    assert read(file, "two", kind="class").class_names == ["0 cm", "1 cm", "2 cm"]
    with refused("has '0 cm', which is not a number. Correct it, or use --data.kind class"):
        read(file, "two")
