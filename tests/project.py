"""Baking projects, and running a baked project's trainer script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "{{cookiecutter.project_slug}}"
PACKAGE = "my_lightning_project"
# Small, quick and the same on every machine, whatever the answers were.
SMALL = (
    *("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.strategy=auto"),
    *("--trainer.max_epochs=2", "--trainer.limit_train_batches=3", "--trainer.limit_val_batches=2"),
    *("--trainer.log_every_n_steps=1", "--trainer.limit_test_batches=2", "--data.batch_size=16"),
)

# Runs commands one after the other in one process, for importing torch and Lightning takes seconds.
_DRIVER = """
import json, sys
from {package}.train import main
{before}
for command in json.loads(sys.argv[1]):
    sys.argv[1:] = []
    print("$$$", *command, flush=True)
    try:
        code = main(command)
    except SystemExit as stop:
        code = stop.code
    print("exit", code, flush=True)
"""


def run(
    project: Path,
    *commands: list[str],
    before: str = "",
    environment: Mapping[str, str] | None = None,
) -> list[tuple[int, str]]:
    """Run trainer commands in one process in a project's folder.

    Args:
        project: The baked project.
        commands: Arguments of the trainer script, one list for each command.
        before: Python to run before the first of them.
        environment: Environment variables to add.

    Returns:
        The exit code and the output (stdout and stderr) of each command.
    """
    driver = _DRIVER.format(package=PACKAGE, before=before)
    done = subprocess.run(
        [sys.executable, "-c", driver, json.dumps(commands)],
        cwd=project,
        env=clean_environment(project) | dict(environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
    )
    results = []
    for part in ("\n" + done.stdout).split("\n$$$")[1:]:
        output, _, code = part.rpartition("\nexit ")
        results.append((int(code.split()[0]) if output else -1, output or part))
    assert len(results) == len(commands), done.stdout
    return results


def clean_environment(project: Path) -> dict[str, str]:
    """This process's environment for a process in a project, without what would change its course."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "MLFLOW_", "PL_", "LIGHTNING_"))}
    home = project.parent / "home"
    home.mkdir(exist_ok=True)
    return environment | {
        "PYTHONPATH": str(project / "src"),
        "PYTHONWARNINGS": "",
        "HOME": str(home),  # no W&B key of the person who runs the tests
        "OMP_NUM_THREADS": "1",  # two tests run side by side
        "CUDA_VISIBLE_DEVICES": "",
    }
