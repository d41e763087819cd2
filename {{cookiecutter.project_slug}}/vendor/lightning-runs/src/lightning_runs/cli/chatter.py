"""A filter for what Lightning prints in every run."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LOGS = ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.seed")
# Beginnings of their messages: which accelerators exist, how things are loaded, advertisements.
CHATTER = (
    *("GPU available", "TPU available", "HPU available", "\N{ELECTRIC LIGHT BULB} Tip", "`Trainer", "`weights_only`"),
    *("Seed set to", "Trainer already configured with model summary", "Loading `", "Restoring ", "Restored "),
    "Loaded model weights",
)
WARNINGS = (
    ".*does not have many workers",  # data in memory needs no worker processes
    "Checkpoint directory .* exists and is not empty",  # a resumed run continues in its folder
    "The dirpath has changed from",  # a run's folder was moved, which ExactResume knows
    ".*add the following callbacks: .*(ExactResume|WeightAveraging)",  # which an evaluation does not need
    "The `srun` command is available",  # a job that needs srun and was started without is refused
    r"\s*Unable to serialize instance",  # config.yaml lacks it, which is refused
    ".*isinstance.treespec, LeafSpec",  # Lightning's own use of torch
)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide what Lightning tells every user in every run. Its warnings of mistakes stay, each a sentence alone."""

    def is_news(record: logging.LogRecord) -> bool:
        return not re.sub(r"^\[rank: \d+\] ", "", record.getMessage()).startswith(CHATTER)

    logs = [logging.getLogger(name) for name in LOGS]
    for log in logs:
        log.addFilter(is_news)
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
            log.removeFilter(is_news)
