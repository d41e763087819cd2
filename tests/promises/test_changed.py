"""What was changed between a kill and its resume is told, and accepted only where that is asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from project import SMALL
from trainings import (
    SECOND_EPOCH,
    bake,
    is_one_sentence,
    killed,
    read_json,
    told,
    write_images,
)
from warm import run

RED, BLUE, GREEN = (250, 90, 0), (20, 20, 0), (10, 200, 0)
ACCEPT = "--accept_changes=true"


@pytest.fixture(scope="module")
def on_images_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with a folder of images, and a run that was killed in its second epoch."""
    project = bake(tmp_path_factory.mktemp("images"), dataset="image_folder")
    write_images(project / "data" / "images", {"circle": RED, "square": BLUE})
    options = ["--data.image_size=8", "--data.num_workers=0", "--save_every_n_steps=1"]
    killed(project, ["fit", "--run=killed", *SMALL, *options], SECOND_EPOCH)
    return project


@pytest.fixture
def on_images(on_images_once: Path, tmp_path: Path) -> Path:
    """Return a copy of the project with a folder of images."""
    return Path(shutil.copytree(on_images_once, tmp_path / "images"))


def add(project: Path) -> None:
    """Add seven images to a class."""
    for i in range(7):
        shutil.copy(project / "data/images/train/circle/000.png", project / f"data/images/train/circle/9{i}.png")


def replace(project: Path) -> None:
    """Put another image in the place of each."""
    write_images(project / "data" / "images", {"circle": GREEN, "square": RED})


@pytest.mark.parametrize("change", [add, replace])
def test_a_run_whose_images_were_changed_is_not_resumed_in_silence(on_images, change):
    """``fit --run=killed``, SIGKILL, images added or replaced, ``fit --resume=killed``."""
    change(on_images)

    [(code, output)] = run(on_images, ["fit", "--resume=killed"])

    assert code == 1, output
    assert is_one_sentence(output), output
    assert "data" in " ".join(told(output))


def test_a_run_whose_configuration_was_edited_is_not_resumed_in_silence(trained):
    """``fit --run=killed``, SIGKILL, batch size and seed edited in its config.yaml, ``fit --resume=killed``."""
    file = trained / "runs" / "killed" / "config.yaml"
    text = file.read_text(encoding="utf-8")
    edited = text.replace("  batch_size: 16\n", "  batch_size: 8\n").replace("everything: 42\n", "everything: 1\n")
    file.write_text(edited, encoding="utf-8")

    [(code, output)] = run(trained, ["fit", "--resume=killed"])

    assert len(text) == len(edited) + 2
    assert code == 1, output
    assert is_one_sentence(output), output
    assert "data.batch_size" in " ".join(told(output))
    assert "seed_everything" in " ".join(told(output))


def test_a_change_that_is_accepted_is_told_by_run_json_and_the_report(on_images):
    """``fit --run=killed``, SIGKILL, images added, ``fit --resume=killed`` told to accept them."""
    add(on_images)

    [(code, output)] = run(on_images, ["fit", "--resume=killed", ACCEPT])

    assert code == 0, output
    folder = on_images / "runs" / "killed"
    [change] = read_json(folder / "run.json")["accepted_changes"]
    assert "the data" in change
    assert "accepted" in (folder / "report.html").read_text(encoding="utf-8")


def fingerprint(folder: Path) -> str | None:
    """What a run's record calls the fingerprint of its data."""
    found = [str(value) for key, value in read_json(folder / "run.json").items() if "fingerprint" in key]
    return found[0] if found else None


def test_a_run_and_its_report_hold_the_version_of_the_data(trained, on_images):
    """``fit`` twice on digits and once on a folder of images; run.json and report.html."""
    version = fingerprint(trained / "runs" / "a")

    assert version
    assert version == fingerprint(trained / "runs" / "killed")
    assert version != fingerprint(on_images / "runs" / "killed")
    assert version in (trained / "runs" / "a" / "report.html").read_text(encoding="utf-8")
