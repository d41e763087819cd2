"""Run a baked project's command up to the end of its first optimizer step: ``python first_step.py PACKAGE fit …``."""

import os
import runpy
import sys
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook


def leave(*_: Any) -> None:
    """End the process at once, without what comes after the step."""
    os._exit(0)


register_optimizer_step_post_hook(leave)
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
raise SystemExit("no optimizer step was taken")
