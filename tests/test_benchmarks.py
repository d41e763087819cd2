"""`make benchmark` runs: the project and the optimal loop do the same work, and the tables say what was measured."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from project import ROOT

sys.path.append(str(ROOT / "benchmarks"))  # whose tables.py is not that of the tests
import report

# the part, the items that two epochs of whole batches train on, and the accuracy that is exceeded after them
PARTS = [("speed", 3_584, 0.6), ("tables", 2_560, 0.3), ("texts", 6_400, 0.2), ("masks", 1_440, 0.8)]


def smoke_run(work: Path) -> None:
    """Do a smoke run of every part."""
    options = ["--quick", "--work", str(work), "--contestants", "project,optimal"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "run.py"), *options, "--only", "bake,cost,speed,tables,texts,masks"],
        env={key: value for key, value in os.environ.items() if not key.startswith("PYTEST")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def results(once: Callable[..., Path]) -> dict[str, Any]:
    return json.loads((once("benchmark", smoke_run) / "quick" / "results.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(("part", "samples", "accuracy"), PARTS)
def test_contestants_train_the_same_network_on_as_much(results, part, samples, accuracy):
    measured = {entry["contestant"]: entry for entry in results[part]["measured"]}

    assert results[part]["failed"] == {}
    assert set(measured) == {"project", "optimal"}
    for fact in ("samples", "timed_samples", "parameters", "batch_size", "threads", "epochs"):
        assert measured["project"][fact] == measured["optimal"][fact], fact
    assert measured["project"]["samples"] == samples
    assert min(entry["accuracy"] for entry in measured.values()) > accuracy


@pytest.mark.slow
def test_the_cost_of_the_exact_resume_is_measured(results):
    assert {entry["contestant"] for entry in results["cost"]["measured"]} == {"project", "lightning_checkpoints"}
    assert len({entry["samples"] for entry in results["cost"]["measured"]}) == 1


@pytest.mark.slow
def test_every_part_has_its_machine_and_its_date(results):
    for part in results.values():
        assert {"date", "cpu", "torch", "pytorch-lightning"} <= set(part["machine"])


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
