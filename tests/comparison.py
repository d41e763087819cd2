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
    files = [{file.name for file in (run / "checkpoints").iterdir()} - {"previous.ckpt"} for run in (one, other)]
    if files[0] != files[1]:
        found.append(f"checkpoints: {files[0]} and {files[1]}")
    for name in sorted(files[0] & files[1]):
        pair = [torch.load(run / "checkpoints" / name, weights_only=True) for run in (one, other)]
        found += _differ(pair[0], pair[1], name)
    if (one / "metrics.csv").read_text() != (other / "metrics.csv").read_text():
        found.append("metrics.csv")
    # without a test_step there is no result, and one of the two may have been validated by itself
    validated = all((run / "validate.json").is_file() for run in (one, other))
    for name in ("test.json", "validate.json") if validated else ("test.json",):
        pair = [_measured(run / name) for run in (one, other)]
        found += _differ(pair[0], pair[1], name)
    return found


def _measured(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) | {"checkpoint": ""} if file.is_file() else {}


def _differ(a: Any, b: Any, where: str) -> list[str]:
    if where.endswith(IGNORED):
        return []
    if isinstance(a, str) and isinstance(b, str):
        a, b = Path(a).name, Path(b).name  # the runs have different folders
    if type(a) is not type(b):
        return [f"{where}: {a!r:.80} and {b!r:.80}"]
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [where]
    if isinstance(a, Mapping):
        a, b = ({Path(k).name if isinstance(k, str) and os.sep in k else k: v for k, v in m.items()} for m in (a, b))
        if a.keys() != b.keys():
            return [f"{where}: {a.keys() ^ b.keys()}"]
        return [difference for key in a for difference in _differ(a[key], b[key], f"{where}.{key}")]
    if isinstance(a, list | tuple):
        lengths = [] if len(a) == len(b) else [f"{where}: {len(a)} and {len(b)} items"]
        pairs = zip(a, b, strict=False)
        return lengths + [text for i, pair in enumerate(pairs) for text in _differ(*pair, f"{where}[{i}]")]
    return [] if a == b else [f"{where}: {a!r:.80} and {b!r:.80}"]
