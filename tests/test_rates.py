"""A learning rate is suggested in each front, and options of callbacks are searched."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml
from project import FIRST, SMALL
from warm import run

CPU = ("--trainer.accelerator=cpu", "--trainer.devices=1")


@pytest.mark.parametrize("dataset", FIRST.values())
def test_a_rate_is_suggested_and_the_command_that_is_printed_trains_with_it(bake_project, dataset):
    project = bake_project({"dataset": dataset, "logger": "csv"})

    [(code, output)] = run(project, ["lr_find", *CPU], own=True)

    assert code == 0, output
    rate, command = re.findall(
        r"^Suggested learning rate: (\S+)$|^Next: python -m my_lightning_project (.*)$", output, re.M
    )
    assert 3e-4 < float(rate[0]) < 0.1  # docs/search.md says where it is too much
    assert not (project / "runs").exists()
    [(code, output)] = run(project, [*shlex.split(command[1]), "--run=a", *SMALL, "--trainer.max_epochs=1"], own=True)
    assert code == 0, output
    options = yaml.safe_load((project / "runs" / "a" / "config.yaml").read_text())["model"]
    assert float(rate[0]) in (options.get("lr"), options.get("optimizer", {}).get("init_args", {}).get("lr"))


def test_a_sweep_tries_options_of_early_stopping_and_checkpoints(bake_project):
    project = bake_project({"logger": "csv"})
    file = project / "configs" / "sweep.yaml"
    space = {"early_stopping.patience": {"choices": [1, 2]}, "checkpoint.save_top_k": {"choices": [1, 2]}}
    file.write_text(yaml.safe_dump({"metric": "val/loss", "direction": "minimize", "space": space}))

    [(code, output)] = run(project, ["sweep", "--trials=2", *SMALL])

    assert code == 0, output
    best = yaml.safe_load((project / "runs" / "sweep" / "best.yaml").read_text())
    assert f"early_stopping.patience: {best['early_stopping']['patience']}" in output
    assert f"checkpoint.save_top_k: {best['checkpoint']['save_top_k']}" in output
