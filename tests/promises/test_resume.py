"""Resumes that are not exact: each test ends a training by a kill, goes on, and compares."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from project import PACKAGE, SMALL
from stress import differences
from trainings import (
    SAVED,
    bake,
    callback,
    is_one_sentence,
    killed,
    killing,
    prepared,
    read_json,
    told,
    unlike_when_resumed,
)
from warm import run, shared

IN_THE_TEST = ("on_test_start", "True")
# The first epoch is the best one, whatever the training does.
BEST_FIRST = f"""
from {PACKAGE}.module import ImageClassifier
def log(self):
    self.log_dict(dict([("val/loss", 0.1 * self.current_epoch), ("val/accuracy", 0.5)]))
ImageClassifier.on_validation_epoch_end = log
"""
# Each process has a value of its own, and the best of the second process is its first one.
OF_EACH_PROCESS = f"""
from {PACKAGE}.module import ImageClassifier
def log(self):
    later = self.current_epoch / 10
    self.log_dict(dict([("val/loss", 0.1 + later if self.global_rank else 0.9 - later), ("val/accuracy", 0.5)]))
ImageClassifier.on_validation_epoch_end = log
"""
# As Lightning's page on fine-tuning has it: a backbone, and an optimizer of what is not frozen.
WITH_BACKBONE = f"""
import functools
from {PACKAGE}.module import ImageClassifier
made = ImageClassifier.__init__
@functools.wraps(made)
def __init__(self, *args, **kwargs):
    made(self, *args, **kwargs)
    self.backbone, optimizer = self.network.features, self.optimizer
    self.optimizer = lambda parameters: optimizer([p for p in parameters if p.requires_grad])
ImageClassifier.__init__ = __init__
"""
WEIGHTED = """
import torch
from pytorch_lightning.callbacks import Callback

class Weighted(Callback):
    def __init__(self, weights: torch.Tensor | None = torch.ones(10)) -> None:
        self.sum = weights.sum()
"""
# Epochs 1 and 2 end with a save of their own; a kill in the third goes back behind the second's.
SAVED_SELDOM = (*SMALL, "--trainer.max_epochs=3", "--save_every_n_steps=4")
THIRD_EPOCH = ("on_train_batch_start", "self.global_step == 7")


def test_a_run_that_early_stopping_has_ended_and_that_is_killed_in_its_test_trains_no_further(tmp_path):
    """``fit --run=killed`` with early stopping that fires, SIGKILL in the test, ``fit --resume=killed``."""
    stopping = callback("EarlyStopping", monitor="val/accuracy", mode="max", patience=1, min_delta=0.9)
    project = bake(tmp_path)

    unlike = unlike_when_resumed(project, *SMALL, "--trainer.max_epochs=6", *stopping, place=IN_THE_TEST)

    assert read_json(project / "runs" / "whole" / "run.json")["epochs"] == 2
    assert unlike == []


def test_a_run_of_64_bit_floats_is_resumed_exactly(tmp_path):
    """``fit --run=killed --trainer.precision=64-true``, SIGKILL in the second epoch, ``fit --resume=killed``."""
    assert unlike_when_resumed(bake(tmp_path), *SAVED, "--trainer.precision=64-true") == []


def test_each_process_goes_on_to_compare_with_its_own_best_value(tmp_path):
    """Two processes without sync_dist, SIGKILL of both in the second epoch, ``fit --resume=killed``."""
    two = (*SAVED, "--trainer.devices=2", "--trainer.strategy=ddp")
    both = OF_EACH_PROCESS + killing(
        "on_train_batch_start", "self.global_step == 4 and self.global_rank == 0", group=True
    )
    project = bake(tmp_path)

    stopped = shared().start(project, [["fit", "--run=killed", *two]], before=both, processes=2)
    assert stopped.wait() == -9, stopped.output()
    for arguments in (["fit", "--resume=killed"], ["fit", "--run=whole", *two]):
        command = shared().start(project, [arguments], before=OF_EACH_PROCESS, processes=2)
        assert command.wait() == 0, command.output()

    assert differences(project / "runs" / "whole", project / "runs" / "killed") == []


@pytest.fixture(scope="module")
def moved_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return where a project was and where it is; of its runs one is whole, and two were killed."""
    project = bake(tmp_path_factory.mktemp("moved"))
    prepared(project, ["fit", "--run=whole", *SAVED], before=BEST_FIRST)
    killed(project, ["fit", "--run=third", *SAVED], THIRD_EPOCH, BEST_FIRST)
    killed(project, ["fit", "--run=tested", *SAVED], IN_THE_TEST, BEST_FIRST)
    return project, project.rename(project.with_name("elsewhere"))


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("copied", [False, True], ids=["moved", "copied"])
@pytest.mark.parametrize("name", ["third", "tested"])
def test_a_run_that_was_moved_or_copied_keeps_its_best_checkpoint(moved_once, tmp_path, name, copied):
    """``fit --run=third``, SIGKILL, ``mv`` or ``cp -a`` of the folders, ``fit --resume=renamed``."""
    was, project = moved_once[0], shutil.copytree(moved_once[1], tmp_path / "project")
    if copied:
        shutil.copytree(moved_once[1], was)
    before = contents(was)
    (project / "runs" / name).rename(project / "runs" / "renamed")
    try:
        [(code, output)] = run(project, ["fit", "--resume=renamed"], before=BEST_FIRST)

        assert code == 0, output
        assert differences(project / "runs" / "whole", project / "runs" / "renamed") == []
        assert contents(was) == before
        assert str(was) not in (project / "runs" / "renamed" / "test.json").read_text(encoding="utf-8")
    finally:
        shutil.rmtree(was, ignore_errors=True)


def texts(value: object) -> list[str]:
    """All texts in what a checkpoint or a JSON file holds, keys among them."""
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in texts(part)]
    if isinstance(value, list | tuple):
        return [text for part in value for text in texts(part)]
    return [value] if isinstance(value, str) else []


def test_nothing_that_a_run_saves_holds_an_absolute_path(trained, tmp_path_factory):
    """``fit --run=a``, and every text in its checkpoints and in its other files."""
    folder, held = trained / "runs" / "a", {}
    for file in folder.rglob("*"):
        if file.suffix == ".ckpt":
            held[file.name] = texts(torch.load(file, weights_only=True))
        elif file.suffix in (".json", ".yaml", ".csv", ".html"):
            held[file.name] = [file.read_text(encoding="utf-8")]

    assert held.keys() >= {"last.ckpt", "run.json", "test.json", "config.yaml", "report.html"}
    place = str(tmp_path_factory.getbasetemp())
    assert [name for name, found in held.items() if any(place in text for text in found)] == []


@pytest.mark.parametrize(
    "options",
    [
        callback("StochasticWeightAveraging", swa_lrs=0.01, swa_epoch_start=1),
        callback("GradientAccumulationScheduler", scheduling='{"0": 1, "1": 2, "2": 3}'),
        callback("BatchSizeFinder", max_trials=2, init_val=8),
    ],
    ids=["StochasticWeightAveraging", "GradientAccumulationScheduler", "BatchSizeFinder"],
)
def test_a_run_with_a_callback_of_lightning_is_resumed_exactly(tmp_path, options):
    """``fit --run=killed --trainer.callbacks+=…``, SIGKILL in the second epoch, ``fit --resume=killed``."""
    assert unlike_when_resumed(bake(tmp_path), *SAVED, *options) == []


def test_gradients_that_are_summed_from_the_second_epoch_on_are_summed_after_a_resume_too(tmp_path):
    """``fit --run=killed`` with GradientAccumulationScheduler, SIGKILL with six batches of its second epoch to go."""
    options = ("--trainer.limit_train_batches=8", *callback("GradientAccumulationScheduler", scheduling='{"1": 2}'))
    place = ("on_train_batch_start", "self.global_step == 9")
    assert unlike_when_resumed(bake(tmp_path), *SAVED, *options, place=place) == []


def test_a_kill_while_averaged_weights_are_given_their_batch_statistics_loses_nothing(tmp_path):
    """``fit --run=killed --trainer.callbacks+=….StochasticWeightAveraging``, SIGKILL in the epoch after the last."""
    options = callback("StochasticWeightAveraging", swa_lrs=0.01, swa_epoch_start=1)
    place = ("on_train_batch_end", "self.current_epoch == 3")  # of the epochs 0 to 2
    assert unlike_when_resumed(bake(tmp_path), *SAVED, *options, place=place) == []


def test_a_run_with_pruning_is_refused_before_it_begins(tmp_path):
    """``fit --run=a --trainer.callbacks+=….ModelPruning``: its checkpoints hold no masks, so no resume can be exact."""
    project = bake(tmp_path)

    [(code, output)] = run(project, ["fit", "--run=a", *SMALL, *callback("ModelPruning", pruning_fn="l1_unstructured")])

    assert code == 1, output
    assert is_one_sentence(output), output
    assert "ModelPruning" in " ".join(told(output))
    assert not (project / "runs" / "a").exists()


def test_a_run_that_fine_tunes_its_backbone_is_resumed_exactly(tmp_path):
    """``fit --run=killed`` with BackboneFinetuning, SIGKILL in the second epoch, ``fit --resume=killed``."""
    options = [*callback("BackboneFinetuning", unfreeze_backbone_at_epoch=1), "--model.scheduler=null"]
    assert unlike_when_resumed(bake(tmp_path), *SAVED, *options, before=WITH_BACKBONE) == []


def test_more_model_checkpoints_leave_the_files_that_they_should(tmp_path):
    """``fit --run=killed`` with three ModelCheckpoints more, SIGKILL in the third epoch, ``fit --resume=killed``."""
    added = [
        *callback("ModelCheckpoint", every_n_train_steps=3, save_top_k=-1, filename="step-{step}"),
        *callback("ModelCheckpoint", monitor="val/accuracy", mode="max", filename="high-{epoch}"),
        *callback("ModelCheckpoint", save_last="true", filename="new-{epoch}"),
    ]
    assert unlike_when_resumed(bake(tmp_path), *SAVED_SELDOM, *added, place=THIRD_EPOCH) == []


def test_a_callback_that_config_yaml_can_not_hold_is_refused_or_left_to_its_default(tmp_path):
    """``fit --run=a --trainer.callbacks+=plugin.Weighted`` and ``fit -c runs/a/config.yaml --run=b``."""
    project = bake(tmp_path)
    (project / "plugin.py").write_text(WEIGHTED)
    first = ["fit", "--run=a", *SMALL, "--trainer.callbacks+=plugin.Weighted"]

    (code, output), (repeated, again) = run(project, first, ["fit", "-c", "runs/a/config.yaml", "--run=b"])

    if code:
        assert is_one_sentence(output), output
        assert not (project / "runs" / "a").exists()
    else:
        assert "Unable to serialize" not in (project / "runs" / "a" / "config.yaml").read_text(encoding="utf-8")
        assert repeated == 0, again


def test_a_run_with_spike_detection_is_tested_when_it_has_trained(tmp_path):
    """``fit --trainer.callbacks+=pytorch_lightning.callbacks.SpikeDetection``."""
    [(code, output)] = run(bake(tmp_path), ["fit", *SMALL, *callback("SpikeDetection")])

    assert code == 0, output
    assert "test/accuracy" in output
