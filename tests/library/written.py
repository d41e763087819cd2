"""What a run has written into its folder below ``runs/``."""

import csv
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def read_table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def rows(name: str, file: str = "metrics.csv") -> list[dict[str, str]]:
    return read_table(Path("runs") / name / file)


def record(name: str, file: str = "run.json") -> dict[str, Any]:
    return json.loads((Path("runs") / name / file).read_text(encoding="utf-8"))


def last_checkpoint(name: str) -> dict[str, Any]:
    return torch.load(Path("runs") / name / "checkpoints" / "last.ckpt", weights_only=True)


def weights(name: str) -> dict[str, Tensor]:
    return last_checkpoint(name)["state_dict"]


def assert_same(name: str, other: str) -> None:
    """Two runs have the same weights, the same state of the optimizer and the same metrics, to the bit."""
    ours, theirs = last_checkpoint(name), last_checkpoint(other)
    for key in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(ours[key], theirs[key], rtol=0, atol=0)
    assert rows(name) == rows(other)
    assert record(name, "test.json") | {"checkpoint": ""} == record(other, "test.json") | {"checkpoint": ""}
