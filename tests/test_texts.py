"""Texts: every command; kills between batches of texts of like length; texts of one's own where their file is gone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import datasets
import onnxruntime
import pytest
import torch
from project import PACKAGE, clean_environment, read_rows
from stress import DDP, differences
from test_own_classes import kill_after
from test_render import render
from warm import run, shared

SHORT = ("--save_every_n_steps=5", "--trainer.max_epochs=2", "--data.max_vocabulary=500", "--data.max_tokens=32")
FEW = ("--trainer.limit_train_batches=20", "--trainer.limit_val_batches=5", "--trainer.limit_test_batches=5")
COMMANDS = {
    "fit": ["fit", "--run=whole", *SHORT, *FEW],
    "sampling": ["fit", "--run=sampling", "--data.balance=sampling", *SHORT, *FEW],
    "validate": ["validate", "--run=whole"],
    "predict": ["predict", "--run=whole"],
    "report": ["report", "whole"],
    "export": ["export", "whole"],
    "repeat": ["repeat", "folds", "--folds=2", *SHORT, *FEW],
    "sweep": ["sweep", "--trials=1", *SHORT, *FEW],
    "lr_find": ["lr_find", *SHORT],
    **{
        name: ["fit", "-c", f"configs/{name}.yaml", f"--run={name}", *SHORT] for name in ("overfit", "profile", "quick")
    },
}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[int, str]]]:
    """A project, and what its commands answered."""
    answers = {"dataset": "glosses", "logger": "csv", "accelerator": "cpu"}
    project = render(answers, tmp_path_factory.mktemp("texts"))
    return project, dict(zip(COMMANDS, run(project, *COMMANDS.values(), own=True), strict=True))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_works(asked, command):
    code, output = asked[1][command]
    assert code == 0, output
    assert "Traceback" not in output


@pytest.mark.parametrize(("like", "places"), [("whole", (7, 23)), ("sampling", (13,))])
def test_a_run_that_is_killed_and_resumed_ends_like_one_that_was_left_alone(asked, like, places):
    project, name = asked[0], f"killed_{like}"
    first = COMMANDS["fit" if like == "whole" else like]
    kill_after(places[0], project, ["fit", f"--run={name}", *first[2:]])
    for place in places[1:]:
        kill_after(place - places[0], project, ["fit", f"--resume={name}"])
    [(code, output)] = run(project, ["fit", f"--resume={name}"], own=True)
    assert code == 0, output
    assert differences(project / "runs" / like, project / "runs" / name) == []


def test_two_processes_share_the_texts_and_predict_each_once(asked):
    project = asked[0]
    for command in (["fit", "--run=two", *DDP, *SHORT, "--trainer.max_epochs=1"], ["predict", "--run=two"]):
        process = shared(own=True).start(project, [command], processes=2)
        assert process.wait() == 0, process.output()
    assert torch.load(project / "runs" / "two" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 50
    assert len({row["file"] for row in read_rows(project / "runs" / "two" / "predictions.csv")}) == 1000


def test_the_report_has_the_mistakes_as_text_and_the_baselines(asked):
    page = (asked[0] / "runs" / "whole" / "report.html").read_text(encoding="utf-8")
    assert "could not be drawn" not in page
    for text in (
        "Confusion matrix",
        "Surest mistakes",
        "most frequent class",
        "Princeton University",
        "glosses.csv.gz:",
    ):
        assert text in page


def test_exported_models_say_what_the_trainer_said_and_files_are_predicted_alike_without_torch(asked):
    project, folder = asked[0], asked[0] / "runs" / "whole"
    for where in ("the Trainer", "model.onnx", "model.pt2"):
        assert re.search(
            rf"{where}: largest difference of probabilities .*, 0 of 1000 labels differ", asked[1]["export"][1]
        )
    assert len((folder / "export" / "README.md").read_text(encoding="utf-8")) < 9000  # without the vocabulary
    session = onnxruntime.InferenceSession(folder / "export" / "model.onnx")
    assert session.get_inputs()[0].shape[1] == 32
    (project / "new.txt").write_text(
        "a fish\n\n" + "the act of running " * 50 + "\r\nÄrger 漢字 🙂\n", encoding="utf-8"
    )
    [(code, output)] = run(project, ["predict", "new.txt", "--run=whole", "--csv=by_run.csv"], own=True)
    assert code == 0, output
    program = "import sys; sys.modules.update({'torch': None}); import runpy; sys.argv[0] = 'x'; " + (
        f"runpy.run_module('{PACKAGE}', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "predict", "new.txt", "--onnx", folder / "export/model.onnx", "--csv", "b.csv"],
        cwd=project,
        env=clean_environment(project),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "empty texts are left out, 1 of 4: new.txt:2" in done.stderr
    ours, theirs = read_rows(project / "by_run.csv"), read_rows(project / "b.csv")
    assert [row["file"] for row in ours] == ["new.txt:1", "new.txt:3", "new.txt:4"]
    for one, other in zip(ours, theirs, strict=True):
        assert [one.pop(name) for name in ("file", "label")] == [other.pop(name) for name in ("file", "label")]
        assert [*map(float, one.values())] == pytest.approx([*map(float, other.values())], rel=1e-4, abs=2e-6)


def test_a_folder_of_texts_is_learned_and_its_run_reads_new_files_where_the_folder_is_gone(asked, tmp_path):
    project, texts = asked[0], tmp_path / "texts"
    options = datasets.texts("text_folder", texts)
    [(code, output)] = run(
        project, ["fit", "--run=folder", *options, "--trainer.max_epochs=15", "--data.batch_size=8"], own=True
    )
    assert code == 0, output
    texts.rename(tmp_path / "gone")
    new = tmp_path / "new.txt"
    new.write_text("wave fish ship\nharbour salt tide\n")
    [(code, output), (refused, told)] = run(
        project, ["predict", str(new), "--run=folder"], ["test", "--run=folder"], own=True
    )
    assert code == 0, output
    assert re.search(rf"{new}\s+sea", output)
    assert refused == 1
    assert f"error: {texts} is no folder." in told
