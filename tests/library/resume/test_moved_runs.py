"""Runs whose folders are moved, copied or renamed."""

import shutil
from pathlib import Path

import pytest
import torch
from comparison import differences
from toy import Toy, begin_and_die, command, working_in


class BestFirst(Toy):
    """The first epoch is the best one, whatever the training does."""

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        self.log("val/loss", 0.1 * self.current_epoch)


@pytest.fixture(scope="module")
def old_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a whole run and with two that ended: in the third epoch, and in the test."""
    with working_in(tmp_path_factory.mktemp("old")) as folder:
        assert command("fit", "--run", "whole", module=BestFirst) == 0
        for name, at in (("third", ("training_step", 14)), ("tested", ("test_step", 1))):
            begin_and_die(name, "--save_every_n_steps", "1", at=at, module=BestFirst)
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("copied", [False, True], ids=["moved", "copied"])
@pytest.mark.parametrize("name", ["third", "tested"])
def test_a_moved_run_keeps_its_best_checkpoint(name, copied, old_place, own_folder, run) -> None:
    shutil.copytree(old_place / "runs", own_folder / "runs")
    Path("runs", name).rename("runs/renamed")
    hidden, before = old_place.with_name("hidden"), contents(old_place)
    if not copied:
        old_place.rename(hidden)
    try:
        assert run("fit", "--resume", "renamed", module=BestFirst) == 0
    finally:
        if not copied:
            hidden.rename(old_place)
    assert differences(Path("runs/whole"), Path("runs/renamed")) == []
    assert contents(old_place) == before
    assert str(old_place) not in Path("runs/renamed/test.json").read_text(encoding="utf-8")


def texts(value: object) -> list[str]:
    """All texts in what a checkpoint holds, keys among them."""
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in texts(part)]
    if isinstance(value, list | tuple):
        return [text for part in value for text in texts(part)]
    return [value] if isinstance(value, str) else []


def test_nothing_that_a_run_saves_holds_an_absolute_path(trained_once) -> None:
    held = {}
    for file in (trained_once / "finished").rglob("*"):
        if file.suffix == ".ckpt":
            held[file.name] = texts(torch.load(file, weights_only=True))
        elif file.suffix in (".json", ".yaml", ".csv", ".html"):
            held[file.name] = [file.read_text(encoding="utf-8")]
    assert held.keys() >= {"last.ckpt", "run.json", "test.json", "config.yaml", "report.html"}
    place = str(trained_once.parents[1])
    assert [name for name, found in held.items() if any(place in text for text in found)] == []
