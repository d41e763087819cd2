"""Tables: a class and a number as target, by every command; kills; a table of one's own where its file is gone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from combinations import VALUES
from project import PACKAGE, clean_environment, read_rows
from stress import differences
from test_own_classes import kill_after
from test_render import render
from warm import run

SAVES = "--save_every_n_steps=5"
COMMANDS = {
    "fit": ["fit", "--run=whole", SAVES, "--trainer.max_epochs=12"],
    "test": ["test", "--run=whole"],
    "predict": ["predict", "--run=whole"],
    "runs": ["runs"],
    "report": ["report", "whole"],
    "export": ["export", "whole"],
    "overfit": ["fit", "-c", "configs/overfit.yaml", "--run=overfit"],
    "profile": ["fit", "-c", "configs/profile.yaml", "--run=profile", "--trainer.max_epochs=1"],
    "quick": ["fit", "-c", "configs/quick.yaml", "--run=quick"],
    "sweep": ["sweep", "--trials=2", "--trainer.max_epochs=1"],
}


@dataclass
class Asked:
    """A project, and what its commands answered."""

    dataset: str
    project: Path
    answers: dict[str, tuple[int, str]]


@pytest.fixture(scope="module", params=["penguins", "penguin_mass"])
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Bake a project and ask it every command once, in one process."""
    first = {name: values[0] for name, values in VALUES.items()}
    answers = {**first, "dataset": request.param, "logger": "csv", "accelerator": "cpu"}
    project = render(answers, tmp_path_factory.mktemp(request.param))
    found = run(project, *COMMANDS.values(), own=True)
    return Asked(request.param, project, dict(zip(COMMANDS, found, strict=True)))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_works(asked, command):
    code, output = asked.answers[command]
    assert code == 0, output
    assert "Traceback" not in output
    assert "UserWarning" not in re.sub(r"pt2_archive.*", "", output) or command in ("overfit", "quick", "sweep")


def test_a_run_that_is_killed_twice_and_resumed_ends_like_one_that_was_left_alone(asked):
    kill_after(37, asked.project, ["fit", "--run=killed", SAVES, "--trainer.max_epochs=12"])
    kill_after(11, asked.project, ["fit", "--resume=killed"])
    [(code, output)] = run(asked.project, ["fit", "--resume=killed"], own=True)
    assert code == 0, output
    different = differences(asked.project / "runs" / "whole", asked.project / "runs" / "killed")
    assert not different, "\n".join(different)


def test_the_headline_is_that_of_the_target(asked):
    record = json.loads((asked.project / "runs" / "whole" / "run.json").read_text())
    assert record["headline"] == (["accuracy", "max", "%"] if asked.dataset == "penguins" else ["rmse", "min", ""])
    tested = json.loads((asked.project / "runs" / "whole" / "test.json").read_text())
    metric = tested["test/" + record["headline"][0]]
    assert f"{metric:.4f}" in asked.answers["runs"][1]


def test_the_report_has_the_sections_of_the_target(asked):
    page = (asked.project / "runs" / "whole" / "report.html").read_text(encoding="utf-8")
    assert "could not be drawn" not in page
    of_target = {
        "penguins": ("Confusion matrix", "Surest mistakes", "most frequent class"),
        "penguin_mass": ("Predicted and true", "Largest errors", "mean of the training rows"),
    }
    for text in (*of_target[asked.dataset], "Which columns matter", "flipper_length_mm", "CC0"):
        assert text in page


def test_exported_models_say_what_the_trainer_said_on_all_test_rows(asked):
    output = asked.answers["export"][1]
    for where in ("the Trainer", "model.onnx", "model.pt2"):
        assert re.search(rf"{where}: largest difference of (probabilities|prediction) \d", output)
    assert ("0 of 69 labels differ" in output) == (asked.dataset == "penguins")


def test_a_csv_file_is_predicted_alike_by_a_run_and_by_its_export_without_torch(asked):
    folder = asked.project / "runs" / "whole"
    table = (asked.project / "src" / PACKAGE / "penguins.csv").read_text().splitlines()
    (asked.project / "new.csv").write_text("\n".join([*table[:40], "Adelie,Moon,,,,,NA,2009"]) + "\n")
    [(code, output)] = run(asked.project, ["predict", "new.csv", "--run=whole", "--csv=by_run.csv"], own=True)
    assert code == 0, output
    assert "the model knows no island Moon" in output
    program = "import sys; sys.modules.update({'torch': None}); import runpy; sys.argv[0] = 'x'; " + (
        f"runpy.run_module('{PACKAGE}', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "predict", "new.csv", "--onnx", folder / "export/model.onnx", "--csv", "b.csv"],
        cwd=asked.project,
        env=clean_environment(asked.project),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "the model knows no island Moon" in done.stderr
    ours, theirs = read_rows(asked.project / "by_run.csv"), read_rows(asked.project / "b.csv")
    assert (
        [row.pop("file") for row in ours]
        == [row.pop("file") for row in theirs]
        == [f"new.csv:{i}" for i in range(2, 42)]
    )
    assert [row.pop("label", None) for row in ours] == [row.pop("label", None) for row in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert [*map(float, one.values())] == pytest.approx([*map(float, other.values())], rel=1e-4, abs=2e-6)


def test_the_exported_file_takes_the_columns_as_they_are_read(asked):
    session = onnxruntime.InferenceSession(asked.project / "runs" / "whole" / "export" / "model.onnx")
    facts = json.loads(session.get_modelmeta().custom_metadata_map["facts"])
    [taken] = facts["inputs"]
    columns = np.full((3, len(facts["columns"])), np.nan, np.float32)
    for i, known in enumerate(facts["columns"].values()):
        if "words" in known:
            columns[:, i] = 0
    output = np.asarray(session.run(None, {taken["name"]: columns})[0])  # a row of which nothing is known
    assert np.isfinite(output).all()
    assert (output[0] == output[1]).all()


@pytest.mark.parametrize("asked", ["penguins"], indirect=True)  # one project is enough: the table is another one
def test_a_table_of_ones_own_is_learned_and_its_run_reads_new_rows_where_the_table_is_gone(asked, tmp_path):
    random = np.random.default_rng(0)
    lines = ["größe;farbe;gewicht;art"]
    for i in range(120):
        size, colour = random.normal(10, 3), ("rot", "grün", "blau")[i % 3]
        lines.append(
            f"{size:.3f};{colour};{random.normal(5, 1):.2f};{'groß' if size > 10 else 'klein'}".replace(".", ",")
        )
    table = asked.project / "table.csv"
    table.write_bytes("\r\n".join(lines).encode("latin-1"))
    options = ["--data.dataset=csv_file", "--data.root=table.csv", "--data.target=art", "--run=own"]
    [(code, output), (exported, _)] = run(
        asked.project, ["fit", *options, "--trainer.max_epochs=10"], ["export", "own"], own=True
    )
    assert code == exported == 0, output
    assert json.loads((asked.project / "runs" / "own" / "test.json").read_text())["test/accuracy"] > 0.8
    table.rename(asked.project / "new.csv")
    [(code, output), (refused, told)] = run(
        asked.project, ["predict", "new.csv", "--run=own", "--csv=own.csv"], ["test", "--run=own"], own=True
    )
    assert code == 0, output
    rows = read_rows(asked.project / "own.csv")
    right = [row["label"] == line.split(";")[3] for row, line in zip(rows, lines[1:], strict=True)]
    assert sum(right) > 100
    assert refused == 1
    assert "error: table.csv is no file." in told
