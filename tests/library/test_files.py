"""Files that are written whole or not at all."""

import os

import pytest
from lightning_runs.files import write_whole


def test_a_file_is_written_whole_or_not_at_all(tmp_path) -> None:
    file = tmp_path / "a.txt"
    write_whole(file, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(file, "new \ud800")
    assert file.read_text() == "old"
    with file.open() as reader:
        if os.name == "posix":  # Windows replaces no open file
            write_whole(file, "new")
        assert reader.read() == "old"
    assert list(tmp_path.glob("*a.txt*")) == [file]


def test_the_existing_file_is_renamed_first(tmp_path) -> None:
    file = tmp_path / "a"
    for content in (b"1", b"2", b"3"):
        write_whole(file, content, tmp_path / "b")
    assert (file.read_bytes(), (tmp_path / "b").read_bytes()) == (b"3", b"2")


def test_bytes_are_on_the_disk_before_the_file_is_renamed(tmp_path, monkeypatch) -> None:
    called = []
    replace = os.replace
    monkeypatch.setattr(os, "fsync", lambda *args: called.append("fsync"))
    monkeypatch.setattr(os, "replace", lambda *args: (called.append("replace"), replace(*args)))
    write_whole(tmp_path / "a", b"a")
    assert called == ["fsync", "replace"]
