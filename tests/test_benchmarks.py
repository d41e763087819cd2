"""`make benchmark` runs: the project and the optimal loop do the same work."""

import subprocess
import sys

import pytest
from project import ROOT, read_json

# the items that two epochs of whole batches train on, in each part
SAMPLES = {"speed": 3_584, "tables": 2_560, "texts": 6_400, "masks": 1_440}


@pytest.mark.slow
def test_contestants_train_the_same_network_on_as_much(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--quick", "--work", str(tmp_path)]
    subprocess.run([*command, "--contestants", "project,optimal", "--only", ",".join(SAMPLES)], check=True)
    results = read_json(tmp_path / "quick" / "results.json")
    for part, samples in SAMPLES.items():
        project, optimal = sorted(results[part]["measured"], key=lambda entry: entry["contestant"], reverse=True)
        assert project["samples"] == optimal["samples"] == samples
        for fact in ("timed_samples", "parameters", "batch_size", "threads", "epochs"):
            assert project[fact] == optimal[fact], fact
