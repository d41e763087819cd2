"""Where a training's time goes: is it the data, the computation, or what stands around them?"""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path

import torch
from pytorch_lightning.profilers import Profiler

# By how the names end that Lightning gives to what it does. Anything else counts for what it is a part of.
PARTS = {
    "run_training_epoch": "Lightning's loop and logging",
    "train_dataloader_next": "loading batches",
    "batch_to_device": "moving and augmenting them",
    "run_training_batch": "forward, backward, optimizer",
    "save_checkpoint": "checkpoints",
}


class WhereTimeGoes(Profiler):
    """Divide the time of a training's epochs among parts that add up to it, and show them, the largest first.

    On a CUDA device each part is waited for, so that its time is its own; the training as a whole is slower by that.

    Args:
        dirpath: Folder of the report; null is the run's.
        filename: Its name, without the stage before it and ``.txt`` after it.
    """

    def __init__(self, dirpath: str | Path | None = None, filename: str | None = "profile") -> None:
        super().__init__(dirpath, filename)
        self._begin()

    def _begin(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.steps = 0
        self._under_way: list[str] = []  # the parts that are in each other, the innermost last
        self._since = 0.0
        self._validating = False

    def start(self, action_name: str) -> None:
        """Start the clock of an action."""
        if self._under_way or action_name == "run_training_epoch":
            self._credit()
            self._validating |= action_name.endswith(".on_validation_start")
            self._under_way.append(self._part(action_name))
            self.steps += action_name == "run_training_batch"

    def stop(self, action_name: str) -> None:
        """Stop the clock of an action."""
        if self._under_way:
            self._credit()
            self._under_way.pop()
            self._validating &= not action_name.endswith(".on_validation_model_train")  # a validation's last action

    def _part(self, action_name: str) -> str:
        part = next((part for ending, part in PARTS.items() if action_name.endswith(ending)), None)
        if self._validating and part != "checkpoints":
            return "validation"
        return part or ("callbacks" if action_name.startswith("[Callback]") else self._under_way[-1])

    def _credit(self) -> None:
        """Count the time since the last call for the part that was under way."""
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._under_way:
            self.seconds[self._under_way[-1]] += now - self._since
        self._since = now

    def summary(self) -> str:
        """Return the table of seconds and shares."""
        total = sum(self.seconds.values())
        parts = sorted(self.seconds.items(), key=lambda part: -part[1])
        lines = [f"  {part:<30}{seconds:9.2f} s {100 * seconds / total:5.1f} %\n" for part, seconds in parts]
        return f"Where the time went: {total:.2f} s with {self.steps} training steps\n{''.join(lines)}"

    def describe(self) -> None:
        """Print the report, and write it into the run's folder."""
        if self.steps:  # else this was no training
            if self._local_rank in (None, 0):
                print(self.summary(), end="", flush=True)
            super().describe()
            self._begin()
