"""What of a run's options may change when it is resumed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from .checkpoints import flat
from .errors import UserError
from .runs import Run

# Anything else would make it another run.
LIMITS = {f"trainer.{limit}" for limit in ("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time")}
# … and what changes nothing in the result.
CHANGEABLE = {*LIMITS, "save_every_n_steps", "speed.short_loop", "speed.keep_freed_memory"}


def options_of(run: Run, checkpoint: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options that a run was trained with, by their dotted names, whatever its ``config.yaml`` says now.

    Raises:
        UserError: The run was made by an earlier layout of the project.
    """
    config = yaml.safe_load(run.config_file.read_text(encoding="utf-8"))
    if not isinstance(config, dict) or "speed" not in config:
        commit = (run.record.get("git") or {}).get("commit") or "COMMIT"
        raise UserError(
            f"the run {run.name} was made before the project's code moved to runtime/. Use it with the code that it was"
            f" trained with: git worktree add ../before {commit}"
        )
    saved = (checkpoint or {}).get("callbacks", {}).get("ExactResume", {}).get("options")
    return json.loads(saved) if saved else flat(config)


def repeated(args: list[str], before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The options ``--list+=item`` whose item is in the run's own list: the command that began it was repeated."""
    appended = {argument: match[1] for argument in args if (match := re.match(r"--([\w.]+)\+=", argument))}
    return [
        argument
        for argument, name in appended.items()
        if before.get(name) and all(item in before[name] for item in now[name])
    ]


def refuse(run: Run, before: Mapping[str, Any], now: Mapping[str, Any], accept: bool) -> None:
    """Refuse changed options, or record them where they were accepted.

    Raises:
        UserError: An option has changed that may not.
    """
    names = {name for name in {*before, *now} - CHANGEABLE if not name.endswith("num_workers")}
    changed = sorted(name for name in names if before.get(name) != now.get(name))
    if changed and not accept:
        differences = ", ".join(f"{name} is {now.get(name)} and was {before.get(name)}" for name in changed)
        raise UserError(
            f"a resumed run keeps its options, but {differences}. Only {', '.join(sorted(LIMITS))} may change; start a"
            " new run for the rest, or take the change into this one with --accept_changes true."
        )
    lines = [f"{name}: {before.get(name)} -> {now.get(name)}" for name in changed]
    run.record["accepted_changes"] = [*run.record.get("accepted_changes", []), *lines]
