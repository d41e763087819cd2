"""What a run has written into its folder below ``runs/``."""

import csv
import json
from pathlib import Path
from typing import Any

import torch
import yaml
from comparison import differences
from torch import Tensor


def read_table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def rows(name: str, file: str = "metrics.csv") -> list[dict[str, str]]:
    return read_table(Path("runs") / name / file)


def record(name: str, file: str = "run.json") -> dict[str, Any]:
    return json.loads((Path("runs") / name / file).read_text(encoding="utf-8"))


def config(name: str) -> dict[str, Any]:
    return yaml.safe_load((Path("runs") / name / "config.yaml").read_text(encoding="utf-8"))


def last_checkpoint(name: str) -> dict[str, Any]:
    return torch.load(Path("runs") / name / "checkpoints" / "last.ckpt", weights_only=True)


def weights(name: str) -> dict[str, Tensor]:
    return last_checkpoint(name)["state_dict"]


def write_run(name: str, columns: dict[str, list[Any]], test: Any = None, config: Any = None, **values: Any) -> Path:
    """Write a run's folder; the columns are those of its metrics, and the values those of its record."""
    folder = Path("runs") / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(json.dumps(config or {"trainer": {}}))
    (folder / "run.json").write_text(json.dumps({"status": "finished", **values}))
    if test is not None:
        (folder / "test.json").write_text(json.dumps(test))
    with (folder / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "epoch", *columns])
        writer.writerows([10 * i, i, *cells] for i, cells in enumerate(zip(*columns.values(), strict=True)))
    return folder


def assert_same(name: str, other: str) -> None:
    """Two runs have the same checkpoints, metrics and test, to the bit."""
    assert differences(Path("runs", name), Path("runs", other)) == []
