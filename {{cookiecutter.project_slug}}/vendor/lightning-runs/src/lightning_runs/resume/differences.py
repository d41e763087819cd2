"""Differences between a run and a later command: of options, of the checkpoint and of the data."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from ..errors import UserError
from ..runs import Run
from ..runs.options import CALLBACK_GROUPS, flat

# Options that a resumed run may change: any other one would make it another run …
LIMITS = {f"trainer.{limit}" for limit in ("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time")}
# … and these change nothing in its result.
CHANGEABLE = {*LIMITS, "save_every_n_steps", "speed.short_loop", "speed.keep_freed_memory"}


def options_of(run: Run, checkpoint: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the options that a run was trained with, by dotted names; ``config.yaml`` may have been edited since."""
    saved = (checkpoint or {}).get("callbacks", {}).get("ExactResume", {}).get("options")
    return json.loads(saved) if saved else flat(yaml.safe_load(run.config_file.read_text(encoding="utf-8")))


def repeated(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the lists that have a run's own items twice: its command, with ``--trainer.callbacks+=``, was repeated."""
    lists = {name: items for name, items in now.items() if isinstance(items, list) and before.get(name)}
    longer = {name: items for name, items in lists.items() if len(items) > len(before[name])}
    return [name for name, items in longer.items() if all(item in before[name] for item in items)]


def refuse(run: Run, before: Mapping[str, Any], now: Mapping[str, Any], accept: bool) -> None:
    """Refuse changed options or data, or record the changes in the run if they are accepted."""
    # a callback that is off has no options beside its monitor
    names = before.keys() | {name for name in now if name.partition(".")[0] not in CALLBACK_GROUPS}
    kept = sorted(name for name in names - CHANGEABLE if not name.endswith("num_workers"))
    changed = [name for name in kept if before.get(name) != now.get(name)]
    changes = [f"{name} was {before.get(name)} and is {now.get(name)}" for name in changed]
    if changes and not accept:
        text = f"{', '.join(changes)}. A resumed run keeps its data and options, except {', '.join(sorted(LIMITS))}"
        raise UserError(f"{text} and options that change no result. Start a new run, or add --accept_changes true.")
    accepted = [f"A change was accepted: {change}." for change in changes]
    run.record["accepted_changes"] = [*run.record.get("accepted_changes", []), *accepted]


def data_changed(run: Run, fingerprint: Callable[[], Any] | None) -> bool:
    """Return whether the contract's ``fingerprint`` differs from that of the data a run was trained with."""
    return fingerprint is not None and run.record.get("fingerprint") not in (None, str(fingerprint()))
