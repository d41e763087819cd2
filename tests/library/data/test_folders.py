import re

import pytest
from lightning_runs.data import folders
from lightning_runs.errors import UserError


def refused(text: str):
    return pytest.raises(UserError, match=re.escape(text))


def test_folders_that_do_not_fit_are_named(tmp_path) -> None:
    train, test = tmp_path / "train", tmp_path / "test"
    with refused(f"{train} is missing: put your files into {train}/CLASS/ and {test}/CLASS/"):
        folders.class_folders(train)
    (train / "cat").mkdir(parents=True)
    with refused(f"{train} must have a folder of files for each of at least two classes; it has only cat"):
        folders.class_folders(train)
    (train / "dog").mkdir()
    assert folders.class_folders(train) == ["cat", "dog"]
    with refused(f"{train / 'cat'} has no file that ends in one of .txt"):
        folders.labelled_files(train, ["cat", "dog"], [".txt"])
    (test / "cat").mkdir(parents=True)
    (test / "cow").mkdir()
    with refused("must have the same class folders; missing in test: dog; only in test: cow"):
        folders.labelled_files(test, ["cat", "dog"], [".txt"])
    with refused("and the run's data must have the same class folders; missing in train: 0; only in train: cat, dog"):
        folders.labelled_files(train, ["0"], [".txt"])


def test_files_are_listed_class_by_class_with_their_labels(tmp_path) -> None:
    for name in ("dog/b.txt", "dog/a.TXT", "cat/deeper/c.txt", "cat/picture.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files, labels = folders.labelled_files(tmp_path, ["cat", "dog"], [".txt"])
    assert [file.name for file in files] == ["c.txt", "a.TXT", "b.txt"]
    assert labels == [0, 1, 1]
    (tmp_path / "cat" / "._c.txt").touch()  # as a Mac writes it beside a file
    assert [file.name for file in folders.find_files([tmp_path / "cat"], [".txt"])] == ["c.txt"]
    assert folders.find_files([tmp_path / "cat", tmp_path / "lost"], [".png"])[-1] == tmp_path / "lost"
