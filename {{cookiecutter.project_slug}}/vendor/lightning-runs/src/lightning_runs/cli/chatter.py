"""A filter for what Lightning prints in every run."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Their news is which accelerators exist, how things are loaded, and advertisements.
LOGS = ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.seed")
WARNINGS = (
    ".*does not have many workers",  # data in memory needs no worker processes
    "Checkpoint directory .* exists and is not empty",  # a resumed run continues in its folder
    "The dirpath has changed from",  # a run's folder was moved, which ExactResume knows
    ".*add the following callbacks: .*(ExactResume|Throughput|WeightAveraging)",  # which an evaluation does not need
    "You requested to overfit but enabled",  # overfit_batches asks for batches in a fixed order
    "The `srun` command is available",  # a job that needs srun and was started without is refused
    r"\s*Unable to serialize instance",  # config.yaml lacks it, which is refused
    ".*isinstance.treespec, LeafSpec",  # Lightning's own use of torch
)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide what Lightning tells every user in every run. Its warnings of mistakes stay, each a sentence alone."""
    logs = [logging.getLogger(name) for name in LOGS]
    for log in logs:
        log.setLevel(logging.WARNING)
    formatwarning = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        with warnings.catch_warnings():
            for message in WARNINGS:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        warnings.formatwarning = formatwarning
        for log in logs:
            log.setLevel(logging.NOTSET)
