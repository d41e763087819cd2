from pathlib import Path

import pytest
from lightning_runs.errors import UserError
from lightning_runs.reports import tables
from lightning_runs.reports.tables import Attachment


def test_a_text_table_has_numbers_on_the_right() -> None:
    text = tables.as_text(["name", "n"], [["a", 0.5], ["long name", 12], ["b", None]])
    assert text.splitlines() == ["name            n", "a          0.5000", "long name      12", "b               -"]


@pytest.mark.parametrize("cell", ["=a", "+a", "-a", "@a"])
def test_a_formula_is_escaped(cell, tmp_path) -> None:
    tables.write_csv(tmp_path / "out.csv", [cell], [[cell], ["a=b"], ["-1.5"], [-3.0]])
    assert (tmp_path / "out.csv").read_text().splitlines() == [f"'{cell}", f"'{cell}", "a=b", "-1.5", "-3.0"]


def test_attachments_of_one_name_are_numbered(tmp_path) -> None:
    cells = [Attachment(name, str(i).encode()) for i, name in enumerate(["a.txt", "a_2.txt", "a.txt", "a.txt"])]
    tables.write_csv(tmp_path / "out.csv", ["file"], [[cell] for cell in cells])
    _, *paths = (tmp_path / "out.csv").read_text().splitlines()
    assert paths == [f"out_files/a{end}.txt" for end in ("", "_2", "_1", "_3")]
    assert [(tmp_path / path).read_text() for path in paths] == ["0", "1", "2", "3"]


def write(table: Path, *names: str) -> None:
    tables.write_csv(table, ["drawn"], [[Attachment(name, name.encode())] for name in names])


def test_files_of_an_earlier_table_go_and_others_stay(tmp_path) -> None:
    table, folder = tmp_path / "out.csv", tmp_path / "out_files"
    write(table, "a.txt", "b.txt", "c.txt")
    for other in (folder / "mine.txt", tmp_path / "c.txt"):
        other.write_text("of someone else")
    table.write_text(table.read_text() + "out_files/../mine.csv\nout_files/lost.txt\nelsewhere/mine.txt\n")
    write(table, "b.txt", "d.txt")
    assert sorted(file.name for file in folder.iterdir()) == ["b.txt", "d.txt", "mine.txt"]
    assert (tmp_path / "c.txt").read_text() == "of someone else"
    tables.write_csv(table, ["sum"], [[1]])
    assert [file.name for file in folder.iterdir()] == ["mine.txt"]
    table.write_bytes(b'\xff "\x00' * 3)  # not a table
    write(table, "e.txt")
    assert sorted(file.name for file in folder.iterdir()) == ["e.txt", "mine.txt"]


def test_a_file_that_cannot_be_written_is_named(tmp_path) -> None:
    (tmp_path / "out_files").write_text("in the way")
    with pytest.raises(UserError, match=r"out\.csv can't be written: "):
        write(tmp_path / "out.csv", "it.txt")
    assert [file.name for file in tmp_path.iterdir()] == ["out_files"]
