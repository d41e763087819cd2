"""`make benchmark` runs: the project and the optimal loop do the same work."""

import sys

import pytest
from project import ROOT, read_json, shell

PARTS = ("speed", "tables", "texts", "masks")


@pytest.mark.slow
def test_contestants_train_the_same_network_on_as_much(tmp_path):
    command = [sys.executable, "benchmarks/run.py", "--quick", "--contestants=project,optimal", f"--work={tmp_path}"]
    shell([*command, f"--only={','.join(PARTS)}"], ROOT)
    results = read_json(tmp_path / "quick" / "results.json")
    for one, other in (results[part]["measured"] for part in PARTS):
        for fact in ("samples", "timed_samples", "parameters", "batch_size", "threads", "epochs"):
            assert one[fact] == other[fact] > 0, fact
