"""Learning-rate schedules, for any task; Lightning's command line takes every schedule of torch as well."""

import math
from collections.abc import Callable
from typing import Any

import torch


class WarmupCosine(torch.optim.lr_scheduler.LambdaLR):
    """Raise the learning rate linearly from zero, then lower it along half a cosine (https://arxiv.org/abs/1608.03983).

    Args:
        optimizer: The optimizer, whose learning rate is the peak.
        warmup_steps: Optimizer steps until the peak; at most a fifth of all.
        total_steps: Optimizer steps until the end; null means the length of the run (without an end, the peak is kept).
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, warmup_steps: int = 100, total_steps: int | None = None
    ) -> None:
        self.warmup_steps = warmup_steps
        self.total_steps: float | None = total_steps
        super().__init__(optimizer, self._factor)

    def set_total_steps(self, total_steps: float) -> None:
        """Set the length, before the first step; `math.inf` if there is no end."""
        self.total_steps = total_steps
        for group, peak in zip(self.optimizer.param_groups, self.base_lrs, strict=False):
            group["lr"] = peak * self._factor(0)

    def get_lr(self) -> list[float | torch.Tensor]:
        """Return the learning rate of each group of parameters."""
        rates = super().get_lr()
        # parameters that were added since, as BackboneFinetuning does, keep the rates that they are given
        return [*rates, *(group["lr"] for group in self.optimizer.param_groups[len(rates) :])]

    def _factor(self, step: int) -> float:
        total = math.inf if self.total_steps is None else self.total_steps
        warmup = min(self.warmup_steps, total / 5)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if math.isinf(total):
            return 1.0
        progress = min(1.0, (step - warmup) / max(1.0, total - warmup))
        return 0.5 * (1 + math.cos(math.pi * progress))

    def state_dict(self) -> dict[str, Any]:
        """Return the state without the length."""
        # The length is the run's, not the checkpoint's: a run resumed with more epochs follows the longer curve.
        return {key: value for key, value in super().state_dict().items() if key != "total_steps"}


def configured(optimizer: torch.optim.Optimizer, make: Callable[[Any], Any] | None, interval: str = "step") -> Any:
    """What ``configure_optimizers`` returns; ``make`` makes the learning-rate schedule, and None keeps the rate."""
    if make is None:
        return optimizer
    config = {"scheduler": make(optimizer), "interval": interval}
    if hasattr(config["scheduler"], "monitor"):  # Lightning's ReduceLROnPlateau: its metric is new once per epoch
        config |= {"interval": "epoch", "monitor": config["scheduler"].monitor}
    return {"optimizer": optimizer, "lr_scheduler": config}
