"""Where a training's time goes, in ten lines: is it the data, the computation, or what stands around them?"""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.profilers import Profiler

# What Lightning calls the things it does, by their endings; an unknown one counts for what it is a part of.
PARTS = {
    "loading batches": (".train_dataloader_next",),
    "moving and augmenting them": (".batch_to_device",),
    "forward, backward, optimizer": (".training_step", ".backward", ".optimizer_step", ".optimizer_zero_grad"),
    "validation": (),
    "checkpoints": (),
    "callbacks": (),
    "Lightning's loop and logging": ("run_training_epoch",),
}
DATA, COMPUTE, AROUND = list(PARTS)[:2], list(PARTS)[2:3], list(PARTS)[5:]
BETWEEN = AROUND[-1]
ADVICE = {
    "data": "Load batches with more worker processes, or make the files smaller.",
    "computation": "Try --trainer.precision bf16-mixed, torch.compile, a larger batch, or a GPU.",
    "framework": "Raise the batch size and trainer.log_every_n_steps, or look at what your callbacks do in each step.",
}


class WhereTimeGoes(Profiler):
    """Divide the time of a training's epochs among parts that add up to it, and say which of them is the limit.

    On a CUDA device each part is waited for, so that its time is its own; the training as a whole is slower by that.

    Args:
        dirpath: Folder of the report; null is the run's.
        filename: Its name, without the stage before it and ``.txt`` after it.
    """

    def __init__(self, dirpath: str | Path | None = None, filename: str | None = "profile") -> None:
        super().__init__(dirpath, filename)
        self.seconds: dict[str, float] = defaultdict(float)
        self.steps = 0
        self._under_way: list[str] = []  # the parts that are in each other, the innermost last
        self._since = 0.0
        self._validating = False

    def start(self, action_name: str) -> None:
        if not self._under_way:
            if action_name != "run_training_epoch":
                return  # the training has not begun
            self._under_way.append(BETWEEN)
        self._credit()
        self._validating |= action_name.endswith(".on_validation_start")
        self._under_way.append(self._part(action_name))
        self.steps += action_name == "run_training_batch"

    def stop(self, action_name: str) -> None:
        if len(self._under_way) < 2:
            return
        self._credit()
        self._under_way.pop()
        if action_name.endswith(".on_validation_model_train"):  # the last thing of a validation
            self._validating = False

    def _part(self, action_name: str) -> str:
        if action_name.endswith("save_checkpoint"):
            return "checkpoints"
        if self._validating:
            return "validation"
        if action_name.startswith("[Callback]"):
            return "callbacks"
        found = (part for part, endings in PARTS.items() if endings and action_name.endswith(endings))
        return next(found, self._under_way[-1])

    def _credit(self) -> None:
        """Count the time since the last call for the part that was under way."""
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._since:
            self.seconds[self._under_way[-1]] += now - self._since
        self._since = now

    def summary(self) -> str:
        total, steps = sum(self.seconds.values()), self.steps
        if not steps:
            return ""
        training = sum(self.seconds[part] for part in (*DATA, *COMPUTE, *AROUND))
        lines = [
            f"Where the time went: {total:.2f} s, of it {training:.2f} s in {steps} training steps"
            f" of {1000 * training / steps:.2f} ms"
        ]
        for part in PARTS:
            seconds = self.seconds[part]
            lines.append(f"  {part:<30}{seconds:9.2f} s {100 * seconds / total:5.1f} %")
        shares: dict[str, Any] = {
            name: sum(self.seconds[part] for part in parts)
            for name, parts in {"data": DATA, "computation": COMPUTE, "framework": AROUND}.items()
        }
        limit = max(shares, key=shares.__getitem__)
        share = 100 * shares[limit] / sum(shares.values())
        lines.append(f"The limit is the {limit}: {share:.0f} % of what a step takes. {ADVICE[limit]}")
        return "\n".join(lines) + "\n"

    def describe(self) -> None:
        """Print the report, and write it into the run's folder."""
        if not self.steps:
            return  # this was no training
        if self._local_rank in (None, 0):
            print(self.summary(), end="", flush=True)
        super().describe()
        self.seconds.clear()
        self._under_way.clear()
        self.steps, self._since = 0, 0.0
