"""MosaicML Composer as in its "Getting started": a ComposerModel and a Trainer."""
# pyright: reportMissingImports=false, reportCallIssue=false

import torch
from task import OPTIMIZER, Stopwatch, Task

try:
    from composer import Trainer
    from composer.models import ComposerClassifier
except ImportError as error:
    raise ImportError(
        "mosaicml from 0.20 on requires a torch below 2.7.1 at most; 0.3.1, which pip then takes, imports names that"
        " torch no longer has"
    ) from error

DISTRIBUTION = "mosaicml"


def train(task: Task, watch: Stopwatch) -> None:
    model = ComposerClassifier(task.network(), num_classes=10)
    trainer = Trainer(
        model=model,
        train_dataloader=task.loader(),
        optimizers=torch.optim.AdamW(model.parameters(), **OPTIMIZER),
        max_duration=f"{task.epochs}ep",
        device="cpu",
    )
    trainer.fit()
