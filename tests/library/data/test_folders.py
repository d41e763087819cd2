from pathlib import Path

import pytest
from lightning_runs.data import folders
from toy import refused


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def found(root: Path) -> list[str]:
    return [file.relative_to(root).as_posix() for file in folders.find_files([root], [".txt"])[root]]


def test_folders_that_do_not_fit_are_named(tmp_path) -> None:
    train = tmp_path / "train"
    with refused(f"{train} is missing", f"{train}/CLASS/", "--data.root"):
        folders.class_folders(train)
    (train / "cat").mkdir(parents=True)
    with refused(f"{train} ", "cat"):
        folders.class_folders(train)
    (train / "dog").mkdir()
    with refused(f"{train / 'cat'} ", ".txt"):
        folders.labelled_files([train], ["cat", "dog"], [".txt"])
    with refused(f"{train} ", "cow, dog"):
        folders.labelled_files([train], ["cat", "cow"], [".txt"])


def test_files_are_listed_class_by_class_with_their_labels(tmp_path, capsys) -> None:
    write(tmp_path, "dog/b.txt", "dog/a.TXT", "cat/deeper/c.txt", "cat/picture.png", "dog/no_suffix", "dog/Thumbs.db")
    write(tmp_path, "e.txt")
    [(files, labels)] = folders.labelled_files([tmp_path], ["cat", "dog"], [".txt"])
    assert [file.name for file in files] == ["c.txt", "a.TXT", "b.txt"]
    assert labels == [0, 1, 1]
    note = capsys.readouterr().err
    assert [word for word in (f"2 files in {tmp_path}", "1 .png", "1 no suffix") if word not in note] == []
    assert f"note: files in {tmp_path}, but in no class folder, are left out: 1, such as e.txt." in note


@pytest.mark.parametrize("name", [".ipynb_checkpoints", "__MACOSX", "@eaDir", "$RECYCLE.BIN"])
def test_folders_that_systems_create_are_left_out(tmp_path, name) -> None:
    write(tmp_path, "cat/a.txt", "dog/b.txt", f"cat/{name}/a.txt", f"{name}/c.txt", "cat/._a.txt")
    assert folders.class_folders(tmp_path) == ["cat", "dog"]
    assert found(tmp_path) == ["cat/a.txt", "dog/b.txt"]


def test_linked_folders_are_followed_once(tmp_path) -> None:
    write(tmp_path, "cat/a.txt", "store/b.txt")
    for name, target in (("first", "store"), ("second", "store"), ("loop", "."), ("itself", "cat")):
        (tmp_path / "cat" / name).symlink_to(tmp_path / target)
    (tmp_path / "linked").symlink_to("cat")
    assert found(tmp_path / "cat") == found(tmp_path / "linked") == ["a.txt", "first/b.txt"]
