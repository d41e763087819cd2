"""`make benchmark` runs: the project and the optimal loop do the same work, and the tables say what was measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from project import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import report


def smoke_run(work: Path, parts: str) -> Path:
    """Return the folder with the results of a smoke run."""
    options = ["--quick", "--work", str(work), "--only", parts, "--contestants", "project,optimal"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "run.py"), *options],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return work / "quick"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smoke_run(tmp_path_factory.mktemp("benchmark"), "bake,speed,cost")


@pytest.fixture(scope="module")
def fronts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smoke_run(tmp_path_factory.mktemp("fronts"), "tables,texts,masks")


def speeds(output: Path) -> dict[str, dict[str, Any]]:
    results = json.loads((output / "results.json").read_text())
    assert results["speed"]["failed"] == {}
    return {entry["contestant"]: entry for entry in results["speed"]["measured"]}


def test_contestants_train_the_same_network_on_the_same_number_of_images(output):
    measured = speeds(output)

    assert set(measured) == {"project", "optimal"}
    for fact in ("samples", "timed_samples", "parameters", "batch_size", "threads", "model", "epochs"):
        assert measured["project"][fact] == measured["optimal"][fact], fact
    assert measured["project"]["samples"] == 2 * (1_800 // 64 * 64)  # two epochs of whole batches; 200 are validation
    assert measured["project"]["parameters"] == 28 * 28 * 128 + 128 + 128 * 10 + 10


def test_both_have_learned_the_images(output):
    for name, entry in speeds(output).items():
        assert entry["accuracy"] > 0.6, name


def test_every_part_says_on_what_machine_and_when_it_was_measured(output):
    results = json.loads((output / "results.json").read_text())

    assert set(results) == {"bake", "speed", "cost"}
    for part in results.values():
        assert {"date", "cpu", "torch", "pytorch-lightning"} <= set(part["machine"])


def test_the_cost_of_the_exact_resume_is_measured_against_lightning_s_own_checkpoints(output):
    measured = json.loads((output / "results.json").read_text())["cost"]["measured"]

    assert {entry["contestant"] for entry in measured} == {"project", "lightning_checkpoints"}
    assert len({entry["samples"] for entry in measured}) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("front", "samples", "least"), [("tables", 1_280, 0.3), ("texts", 3_200, 0.2), ("masks", 720, 0.8)]
)
def test_in_the_other_fronts_they_train_the_same_network_on_as_much_too(fronts, front, samples, least):
    part = json.loads((fronts / "results.json").read_text())[front]
    measured = {entry["contestant"]: entry for entry in part["measured"]}

    assert part["failed"] == {}
    assert set(measured) == {"project", "optimal"}
    for fact in ("samples", "timed_samples", "parameters", "batch_size", "threads", "epochs"):
        assert measured["project"][fact] == measured["optimal"][fact], fact
    assert measured["project"]["samples"] == 2 * samples  # two epochs of whole batches
    assert min(entry["accuracy"] for entry in measured.values()) > least  # after two epochs


@pytest.mark.slow
def test_all_contestants_of_texts_and_masks_see_each_item_once_and_compute_the_project_s_loss(fronts, tmp_path):
    program = """
import sys
import torch
from masks import Loss, MaskTask
from my_lightning_project import data, module
from texts import TextTask

kind, dataset, file = sys.argv[1:]
of = {"text": TextTask, "mask": MaskTask}[kind]
task = of("optimal", "UNet", dataset, file, 32, 1, 1, 0, "", "")
items = data.DataModule(batch_size=32)
items.setup("fit")
inputs = task.part()[0]
ours = items.splits["train"][0][items.splits["train"][1]][0]
assert torch.equal(inputs[:, : ours.shape[1]], ours)
mine, theirs = [*task.batches()], [*items.train_dataloader()]
assert len(mine) == len(theirs) and sum(map(len, (b[0] for b in mine))) == task.count // 32 * 32
if kind == "text":
    padding = [sum(int((b[0] == 0).sum()) for b in of) / sum(b[0].numel() for b in of) for of in (mine, theirs)]
    assert abs(padding[0] - padding[1]) < 0.01, padding
else:
    model = module.SegmentationModel(items.input_shape, items.facts, lambda *_: torch.nn.Identity(), torch.optim.SGD)
    logits, masks = torch.randn(4, 6, 32, 32), mine[0][1][:4].clone()
    masks[0, :5] = 255
    torch.testing.assert_close(Loss()(logits, masks), model.loss(logits, masks))
    torch.testing.assert_close(mine[0][0].mean(), items.normalize(inputs).mean(), atol=0.1, rtol=0)
"""
    for kind, dataset in (("text", "glosses"), ("mask", "digit_scenes")):
        folder = fronts.parent / f"{kind}s"
        paths = os.pathsep.join([str(ROOT / "benchmarks"), str(folder / "my-lightning-project" / "src")])
        done = subprocess.run(
            [sys.executable, "-c", program, kind, dataset, str(fronts.parent / f"{kind}s.pt")],
            env=os.environ | {"PYTHONPATH": paths},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr


def test_tables_name_every_contestant(output):
    text = (output / "results.md").read_text()

    assert "| **this template's project** |" in text
    assert "| hand-written, optimal | 1.00 (1.00-1.00) |" in text
    assert "### A bake" in text


def test_ratios_are_paired_by_round():
    def entry(contestant: str, turn: int, rate: float) -> dict[str, Any]:
        setting = {"model": "DenseNet", "batch_size": 64, "threads": 1}
        return {**setting, "contestant": contestant, "round": turn, "samples_per_second": rate}

    measured = [entry("optimal", 0, 100), entry("project", 0, 50), entry("optimal", 1, 10), entry("project", 1, 9)]

    assert report.ratios(measured)["project"] == {("DenseNet", 64, 1): [0.5, 0.9]}


def test_a_table_is_put_between_the_markers_and_nowhere_else(tmp_path):
    marked, plain = tmp_path / "marked.md", tmp_path / "plain.md"
    marked.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    plain.write_text("nothing\n")

    for file in (marked, plain):
        report.insert(file, "new")

    assert marked.read_text() == f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n"
    assert plain.read_text() == "nothing\n"
