import pytest
from lightning_runs.reports import tables
from lightning_runs.reports.tables import Attachment


@pytest.mark.parametrize("cell", ["=a", "+a", "-a", "@a"])
def test_a_formula_is_escaped(cell, tmp_path) -> None:
    tables.write_csv(tmp_path / "out.csv", [cell], [[cell], ["a=b"], ["-1.5"], [-3.0]])
    assert (tmp_path / "out.csv").read_text().splitlines() == [f"'{cell}", f"'{cell}", "a=b", "-1.5", "-3.0"]


def test_attachments_of_one_name_are_numbered(tmp_path) -> None:
    cells = [Attachment(name, str(i).encode()) for i, name in enumerate(["a.txt", "a_2.txt", "a.txt", "a.txt"])]
    tables.write_csv(tmp_path / "out.csv", ["file"], [[cell] for cell in cells])
    _, *paths = (tmp_path / "out.csv").read_text().splitlines()
    assert paths == [f"out_files/a{end}.txt" for end in ("", "_2", "_3", "_4")]
    assert [(tmp_path / path).read_text() for path in paths] == ["0", "1", "2", "3"]
