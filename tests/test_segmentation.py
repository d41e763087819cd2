"""Segmentation: every command; kills; a folder of masks by a run and by its export; masks as files beside a table."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from combinations import VALUES
from PIL import Image
from project import PACKAGE, clean_environment, read_rows
from stress import differences
from test_own_classes import kill_after
from test_render import render
from warm import run

SHORT = (
    *("--trainer.max_epochs=2", "--trainer.limit_train_batches=12", "--trainer.limit_val_batches=2"),
    "--data.augment=strong",
)
FIT = ["--save_every_n_steps=5", *SHORT]
SMALL = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1")
COMMANDS = {
    "fit": ["fit", "--run=whole", *FIT],
    "predict": ["predict", "--run=whole"],
    "report": ["report", "whole"],
    "export": ["export", "whole"],
    "sweep": ["sweep", "--trials=1", *SMALL],
    "repeat": ["repeat", "--folds=2", *SMALL],
}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[int, str]]]:
    """A project, and what each of its commands answered."""
    first = {name: values[0] for name, values in VALUES.items()}
    answers = {**first, "dataset": "digit_scenes", "logger": "csv", "accelerator": "cpu"}
    project = render(answers, tmp_path_factory.mktemp("scenes"))
    return project, dict(zip(COMMANDS, run(project, *COMMANDS.values(), own=True), strict=True))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_works(asked, command):
    code, output = asked[1][command]
    assert code == 0, output
    assert "Traceback" not in output


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_is_killed_three_times_and_resumed_ends_like_one_that_was_left_alone(asked, workers):
    name = f"killed{workers}"
    kill_after(7, asked[0], ["fit", f"--run={name}", *FIT, f"--data.num_workers={workers}"])  # in an epoch,
    kill_after(5, asked[0], ["fit", f"--resume={name}"])  # at its end,
    kill_after(9, asked[0], ["fit", f"--resume={name}"])  # and in the next one
    [(code, output)] = run(asked[0], ["fit", f"--resume={name}"], own=True)
    assert code == 0, output
    different = differences(asked[0] / "runs" / "whole", asked[0] / "runs" / name)
    assert not different, "\n".join(different)


def test_exported_models_say_what_the_trainer_said_on_all_test_images(asked):
    for where in ("the Trainer", "model.onnx", "model.pt2"):
        assert re.search(rf"{where}: share that differs of mask 0.0e\+00", asked[1]["export"][1])
        assert re.search(rf"{where}: largest difference of confidence \d", asked[1]["export"][1])


def test_the_report_has_its_sections_and_masks_lie_beside_the_table(asked):
    page = (asked[0] / "runs" / "whole" / "report.html").read_text(encoding="utf-8")
    assert "could not be drawn" not in page
    for text in ("Test result", "Each class", "Worst images", "most frequent class", "CC BY 4.0"):
        assert text in page
    rows = read_rows(asked[0] / "runs" / "whole" / "predictions.csv")
    assert len(rows) == 200
    assert all((asked[0] / "runs" / "whole" / row["mask"]).is_file() for row in rows)


def test_a_folder_of_masks_is_predicted_alike_by_a_run_and_by_its_export_without_torch(asked, tmp_path):
    project, (options, files) = asked[0], (datasets.mask_folder(tmp_path / "masks"), tmp_path / "masks" / "images")
    answers = run(project, ["fit", "--run=own", *options, *SHORT, "--data.batch_size=4"], ["export", "own"], own=True)
    assert [code for code, _ in answers] == [0, 0], answers
    (tmp_path / "masks" / "masks").rename(tmp_path / "gone")
    (files / "bad.png").write_bytes(b"no picture")
    [(code, output)] = run(project, ["predict", str(files), "--run=own", "--csv=by_run.csv"], own=True)
    assert code == 1
    assert "bad.png has no prediction" in output
    program = "import sys; sys.modules.update({'torch': None}); import runpy; sys.argv[0] = 'x'; " + (
        f"runpy.run_module('{PACKAGE}', run_name='__main__')"
    )
    model = project / "runs" / "own" / "export" / "model.onnx"
    done = subprocess.run(
        [sys.executable, "-c", program, "predict", files, "--onnx", model, "--csv", "by_export.csv"],
        cwd=project,
        env=clean_environment(project),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert "bad.png: it can't be read as an image" in done.stderr
    ours, theirs = read_rows(project / "by_run.csv"), read_rows(project / "by_export.csv")
    assert len(ours) == len(theirs) == 40
    right = []
    for one, other in zip(ours, theirs, strict=True):
        masks = [np.asarray(Image.open(project / row.pop("mask"))) for row in (one, other)]
        assert (masks[0] == masks[1]).mean() > 0.99
        true = np.asarray(Image.open(tmp_path / "gone" / f"{Path(one['file']).stem}.png"))
        assert masks[0].shape == true.shape
        right.append((masks[0] == true).mean())
        assert one.pop("file") == other.pop("file")
        assert [*map(float, one.values())] == pytest.approx([*map(float, other.values())], abs=0.01)
    assert np.mean(right) > 0.7
    record = json.loads((project / "runs" / "own" / "run.json").read_text())
    assert (record["class_names"], record["headline"]) == (["label 0", "label 1"], ["mean_iou", "max", "%"])
