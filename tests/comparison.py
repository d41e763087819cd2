"""In what two runs differ."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

# What ModelCheckpoint forgets until it measures again; what may differ without effect; time.
IGNORED = (".current_score", ".ExactResume.options", ".Timer.time_elapsed")


def differences(one: Path, other: Path) -> list[str]:
    """Compare two runs field by field, to the bit: every checkpoint, the rows of all metrics, what was measured."""
    found = []
    names, others = (
        {file.name for file in (run / "checkpoints").iterdir()} - {"previous.ckpt"} for run in (one, other)
    )
    if names != others:
        found.append(f"checkpoints: {names} and {others}")
    for name in sorted(names & others):
        first, second = (torch.load(run / "checkpoints" / name, weights_only=True) for run in (one, other))
        found += _differ(first, second, name)
    if (one / "metrics.csv").read_text() != (other / "metrics.csv").read_text():
        found.append("metrics.csv")
    files = [run / "test.json" for run in (one, other)]
    tested = [json.loads(file.read_text()) if file.is_file() else {} for file in files]  # there may be no test_step
    return found + _differ(tested[0], tested[1], "test.json")


def unlike(file: Path, other: Path) -> list[str]:
    """Compare two checkpoints field by field, to the bit."""
    return _differ(torch.load(file, weights_only=True), torch.load(other, weights_only=True), file.name)


def _differ(a: Any, b: Any, where: str) -> list[str]:
    if where.endswith(IGNORED):
        return []
    if isinstance(a, str) and isinstance(b, str):
        return [] if Path(a).name == Path(b).name else [f"{where}: {a} and {b}"]  # the runs have different folders
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if torch.equal(a, b) else [where]
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        a, b = ({Path(k).name if isinstance(k, str) and os.sep in k else k: v for k, v in m.items()} for m in (a, b))
        if a.keys() != b.keys():
            return [f"{where}: {a.keys() ^ b.keys()}"]
        return [difference for key in a for difference in _differ(a[key], b[key], f"{where}.{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        pairs = zip(a, b, strict=True)
        return [difference for i, pair in enumerate(pairs) for difference in _differ(*pair, f"{where}[{i}]")]
    return [] if type(a) is type(b) and a == b else [f"{where}: {a!r:.80} and {b!r:.80}"]
