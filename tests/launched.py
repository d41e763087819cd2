"""What the tests of SLURM and torchrun share: a training that waits to be interrupted, and how its end is compared."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import torch

# A callback for a project's folder. At each step in $HOLD_AT, once, it writes the process's id into
# held-RANK-STEP and waits, in mid-epoch, until the process is signalled or killed.
HOLD = """
import os
import signal
import time
from pathlib import Path

from pytorch_lightning import Callback


class Hold(Callback):
    def on_train_batch_start(self, trainer, *_):
        marker = Path(f"held-{trainer.global_rank}-{trainer.global_step}")
        if str(trainer.global_step) not in os.environ.get("HOLD_AT", "").split(",") or marker.exists():
            return
        arrived = []
        handlers = {sent: signal.getsignal(sent) for sent in (signal.SIGUSR1, signal.SIGTERM)}

        def note(sent, frame):
            arrived.append(sent)
            handlers[sent](sent, frame)

        for sent, handler in handlers.items():
            if callable(handler):
                signal.signal(sent, note)
        marker.with_suffix(".new").write_text(str(os.getpid()))
        marker.with_suffix(".new").rename(marker)
        end = time.monotonic() + 150
        while not arrived and time.monotonic() < end:
            time.sleep(0.05)
        for sent, handler in handlers.items():
            signal.signal(sent, handler)
"""
# Three epochs of twelve steps for two processes.
OPTIONS = (
    *("--trainer.accelerator=cpu", "--trainer.strategy=ddp", "--trainer.max_epochs=3", "--data.batch_size=16"),
    *("--trainer.limit_train_batches=12", "--trainer.limit_val_batches=2", "--trainer.limit_test_batches=2"),
    *("--trainer.log_every_n_steps=1", "--trainer.callbacks+=hold.Hold"),
)


def assert_same_end(run: Path, whole: Path) -> None:
    """Check that a run has come to the very state, metrics and test result of another one, to the last bit."""
    ended, expected = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True, map_location="cpu")
        for folder in (run, whole)
    )
    for key in ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers"):
        _assert_equal(ended[key], expected[key], key)
    assert _rows(run) == _rows(whole)
    tests = [json.loads((folder / "test.json").read_text()) for folder in (run, whole)]
    for test in tests:
        del test["checkpoint"]
    assert tests[0] == tests[1]


def _assert_equal(ended: object, expected: object, where: str) -> None:
    if isinstance(expected, torch.Tensor):
        assert isinstance(ended, torch.Tensor), where
        assert torch.equal(ended, expected), f"{where} differs by {(ended - expected).abs().max().item()}"
    elif isinstance(expected, dict):
        assert isinstance(ended, dict), where
        assert ended.keys() == expected.keys(), where
        for key in expected:
            _assert_equal(ended[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert isinstance(ended, list), where
        assert len(ended) == len(expected), where
        for number, (a, b) in enumerate(zip(ended, expected, strict=True)):
            _assert_equal(a, b, f"{where}[{number}]")
    else:
        assert ended == expected, where


def _rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))
