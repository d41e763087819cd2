"""A process that saves checkpoints of 4 MB in saved/, one after the other, each with a number."""

from pathlib import Path
from typing import Any

import torch
from lightning_runs.resume.checkpoint_files import WholeFiles

WEIGHTS = 1_000_000


def checkpoint(number: int) -> dict[str, Any]:
    """Return a checkpoint from which a run could be resumed."""
    progress = {"current": {"started": 1, "processed": 0}}
    loop = {"epoch_progress": progress, "epoch_loop.batch_progress": progress, "epoch_loop.state_dict": {}}
    state = {"loops": {"fit_loop": loop}, "callbacks": {}, "optimizer_states": [], "lr_schedulers": []}
    return state | {"global_step": 1, "number": number, "weights": torch.zeros(WEIGHTS) + number}


if __name__ == "__main__":
    for number in range(1000):  # not forever, should the test be stopped
        WholeFiles().save_checkpoint(checkpoint(number), Path("saved/last.ckpt"))
