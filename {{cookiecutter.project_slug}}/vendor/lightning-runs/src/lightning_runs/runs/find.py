"""Runs, found by name or by age."""

import contextlib
from pathlib import Path

from ..errors import UserError
from ..names import program
from .run import Run


def default_root() -> Path:
    """Return the folder of all runs that ``configs/default.yaml`` names, or else ``runs``."""
    import yaml

    with contextlib.suppress(OSError, yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError, KeyError):
        options = yaml.safe_load(Path("configs/default.yaml").read_text(encoding="utf-8"))
        return Path(options["trainer"].get("default_root_dir") or "runs")
    return Path("runs")


def every(root: Path) -> list[Run]:
    """Return all runs of a folder, the newest first."""
    files = root.absolute().glob("*/config.yaml")
    runs = [Run(file.parent) for file in files if not file.parent.name.startswith(".")]
    return sorted(runs, key=lambda run: (str(run.record.get("started", "")), run.name), reverse=True)


def find(root: Path, name: str | None, finished: bool) -> Run:
    """Find a run by its name, or the newest one.

    Args:
        root: The folder of all runs.
        name: The run's name; None means the newest run.
        finished: Without a name, whether the run must be finished. Debugging runs then do not count. Otherwise it must
            be unfinished, and no process may be training it.
    """
    if not name:
        return newest(root, finished)
    run = Run(root.absolute() / name)
    if not run.config_file.is_file():
        known = ", ".join(run.name for run in every(root)[:5]) or "none"
        raise UserError(f"there is no run {name} in {root} (newest: {known}).")
    if run.damaged:
        raise UserError(f"{run.damaged} Remove the file; the run then counts as interrupted.")
    return run


def newest(root: Path, finished: bool) -> Run:
    """Find the newest run; among unfinished ones, a run with a checkpoint comes first."""
    runs = [run for run in every(root) if not run.damaged]
    if finished:
        done = [run for run in runs if run.record.get("status") == "finished"]
        found = [run for run in done if not run.record.get("debug")]
        if not found:
            hint = ""
            if done:
                hint = f" except for debugging: give a name, such as {done[0].name} ({done[0].record['debug']})"
            raise UserError(
                f"there is no finished run in {root}{hint}. Train one with: {program()} fit. Or name a checkpoint:"
                " --ckpt_path FILE"
            )
    else:
        found = [run for run in runs if run.record.get("status") != "finished" and not run.in_use()]
        if not found:
            raise UserError(f"there is no unfinished run in {root} to resume. Start one with: {program()} fit")
        found.sort(key=lambda run: run.record.get("status") == "failed")  # what failed may fail again
    return next((run for run in found if any(run.checkpoints.glob("*.ckpt"))), found[0])
