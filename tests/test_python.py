"""Training and predicting from Python: does it do what the commands do, leave nothing behind, and run in a notebook?"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from project import FIRST, PACKAGE, TASKS, clean_environment
from test_recipes import blocks
from test_render import render
from warm import run, shared

SHORT = {"max_epochs": 2, "limit_train_batches": 5, "accelerator": "cpu", "devices": 1}
OPTIONS = [f"--trainer.{name}={value}" for name, value in SHORT.items()]
# What a call may leave behind: each is looked at before and after.
STATE = """
import logging, os, signal, threading, warnings
import pytorch_lightning as pl, torch, tqdm

LOGS = ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.seed")

def state():
    patched = {f"{of.__name__}.{k}": id(v) for of in (pl.Trainer, pl.LightningModule, torch.nn.Module, torch.Tensor)
               for k, v in vars(of).items() if callable(v)}
    return {
        "directory": os.getcwd(), "warnings": list(map(str, warnings.filters)),
        "signals": [str(signal.getsignal(number)) for number in signal.valid_signals()],
        "threads": [torch.get_num_threads(), *(t.name for t in threading.enumerate() if type(t) is not tqdm.TMonitor)],
        "precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(), "type": str(torch.get_default_dtype()),
        "logs": [len(logging.getLogger(name).filters) for name in LOGS],
        **patched, **os.environ,
    }

def differing(before, after):
    return {name: (before.get(name), value) for name, value in after.items() if before.get(name) != value}
"""


def python(project: Path, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=project, env=clean_environment(project), capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    return render({"dataset": "digits", "logger": "csv"}, tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def penguins(tmp_path_factory) -> Path:
    return render({"dataset": "penguins", "logger": "csv"}, tmp_path_factory.mktemp("penguins"))


@pytest.fixture(scope="module")
def called(digits) -> dict:
    """What a script saw that trains twice and predicts."""
    code = f"""{STATE}
import json
import numpy as np
from {PACKAGE} import fit, load
options = {SHORT!r}
import {PACKAGE}.train, {PACKAGE}.runtime.trainer  # what they import may set something
before = state()
first = fit(run="first", trainer=options)
second = fit("configs/quick.yaml", run="second", trainer=options)
model = load(first)
pixels = np.load("src/{PACKAGE}/digits.npz")["test_images"][:3, None]
found = {{"status": [first.record["status"], second.record["status"]], "metrics": model.metrics,
         "predicted": model.predict(), "of pixels": model.predict(pixels), "again": load("second").metrics}}
found["behind"] = differing(before, state())
found["mistakes"] = []
for call in (lambda: fit(trainer={{"max_epoch": 3}}), lambda: fit(data={{"batch_size": 0}}), lambda: load("none"),
             lambda: fit(run="first"), lambda: model.predict("nowhere"), lambda: model.predict(pixels[:, 0])):
    try:
        call()
    except ValueError as error:
        found["mistakes"].append(str(error))
print("FOUND" + json.dumps(found))
"""
    done = python(digits, code)
    assert "FOUND" in done.stdout, done.stdout + done.stderr
    return json.loads(done.stdout.rpartition("FOUND")[2])


def test_two_trainings_in_one_process_are_those_of_two_commands_to_the_bit(digits, called):
    (code, output), (other, more) = run(
        digits,
        ["fit", "--run=a", *OPTIONS],
        ["fit", "-c", "configs/quick.yaml", "--run=b", *OPTIONS],
    )
    assert code == other == 0, output + more

    assert called["status"] == ["finished", "finished"]
    for by_python, by_command in (("first", "a"), ("second", "b")):
        folders = [digits / "runs" / name for name in (by_python, by_command)]
        weights = [torch.load(folder / "checkpoints" / "last.ckpt")["state_dict"] for folder in folders]
        assert all(weights[0][name].equal(weights[1][name]) for name in weights[1])
        tested, expected = (json.loads((folder / "test.json").read_text()) for folder in folders)
        assert tested == expected


def test_a_call_leaves_nothing_behind_but_the_run(called):
    assert called["behind"] == {}


def test_a_loaded_run_predicts_what_the_command_predicts(digits, called):
    tested = json.loads((digits / "runs" / "first" / "test.json").read_text())
    assert called["metrics"] == {name: value for name, value in tested.items() if name != "checkpoint"}
    ((code, output),) = run(digits, ["predict", "--run=first"])
    assert code == 0, output
    lines = (digits / "runs" / "first" / "predictions.csv").read_text().splitlines()
    assert [",".join(map(str, item.values())) for item in called["predicted"]] == lines[1:]
    for of_pixels, item in zip(called["of pixels"], called["predicted"], strict=False):
        assert of_pixels["label"] == item["label"]
        assert of_pixels["probability"] == pytest.approx(item["probability"], abs=1e-5)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        *enumerate(
            [
                "there is no option --trainer.max_epoch. Did you mean --trainer.max_epochs",
                "data.batch_size is 0; it must be at least 1.",
                "there is no run none in ",
                "first exists already",
                "nowhere",
                "the array can't take a batch of images (3, 8, 8)",
            ]
        )
    ],
)
def test_a_mistake_is_an_error_with_the_sentence_of_the_command(called, number, text):
    assert text in called["mistakes"][number]


def forked(project: Path, parts: list[str]) -> tuple[int, str]:
    """Run parts of Python in a process that has imported torch and Lightning; return its exit code and output."""
    short = [re.sub(r'"max_epochs": \d+', '"max_epochs": 2', part) for part in parts]
    code = "\n".join(["import sys; sys.path.insert(1, 'src')", *short, "sys.exit(0)"])
    command = shared(own=True).start(project, [], before=code)
    return command.wait(), command.output()


@pytest.mark.parametrize("dataset", FIRST.values())
def test_the_page_on_python_does_what_it_says(dataset, tmp_path):
    project = render({"dataset": dataset, "logger": "csv"}, tmp_path)
    code, output = forked(project, blocks((project / "docs" / "python.md").read_text(encoding="utf-8"), "python"))

    assert code == 0, output
    assert "'test/" in output


@pytest.mark.parametrize("dataset", [name for name in FIRST.values() if name not in ("digits", "penguins")])
def test_the_code_of_each_other_notebook_runs(dataset, tmp_path):
    project = render({"dataset": dataset, "logger": "csv"}, tmp_path)
    cells = json.loads((project / "notebooks" / "start.ipynb").read_text(encoding="utf-8"))["cells"]
    code, output = forked(project, ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"])

    assert code == 0, output


@pytest.mark.parametrize("dataset", ["digits", "penguins"])
def test_the_notebook_runs_from_its_folder(dataset, request):
    project = request.getfixturevalue(dataset)
    file = project / "notebooks" / "start.ipynb"
    notebook = nbformat.read(file, as_version=4)
    folder = {"metadata": {"path": str(file.parent)}}
    NotebookClient(notebook, timeout=120, resources=folder).execute(env=clean_environment(project))

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    shown = [output.data for output in outputs if output.output_type in ("execute_result", "display_data")]
    assert any("image/png" in data for data in shown) == (dataset == "digits")
    assert len(re.findall("'label'", shown[-1]["text/plain"])) == 2
    assert not (file.parent / "runs").exists()


def test_notebooks_hold_no_outputs():
    files = sorted(TASKS.glob("*/notebooks/*.ipynb"))
    for file in files:
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    assert len(files) == len(list(TASKS.glob("*/src")))
