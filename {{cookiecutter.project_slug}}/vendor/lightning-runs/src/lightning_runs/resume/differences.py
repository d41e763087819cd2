"""What may change when a run is resumed: some of its options, and not its data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from ..errors import UserError
from ..runs import Run
from ..runs.options import NAMED, flat
from .randomness import Order

# Anything else would make it another run.
LIMITS = {f"trainer.{limit}" for limit in ("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time")}
# … and what changes nothing in the result.
CHANGEABLE = {*LIMITS, "save_every_n_steps", "speed.short_loop", "speed.keep_freed_memory"}
# For a run from before these callbacks had options of their own: its list trainer.callbacks has them.
WITHOUT_NAMED = tuple(f"--{name}.monitor=null" for name in NAMED)
NEUTRAL = ("batch_size", "num_workers", "predict_paths", "cache_images")  # data options that change no metric
_ITEMS = 16  # that a fingerprint is made of


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
    return {f"{name}.monitor": None for name in NAMED} | (json.loads(saved) if saved else flat(config))


def repeated(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The lists that a run's own items were appended to once more: the command that began it was repeated."""
    lists = {name: (before.get(name), items) for name, items in now.items() if isinstance(items, list)}
    return [n for n, (own, items) in lists.items() if own and len(items) > len(own) and all(i in own for i in items)]


def refuse(run: Run, before: Mapping[str, Any], now: Mapping[str, Any], accept: bool) -> None:
    """Refuse changed options or data, or record them where they were accepted.

    Raises:
        UserError: Something has changed that may not.
    """
    names = {name for name in {*before, *now} - CHANGEABLE if not name.endswith("num_workers")}
    names = {name for name in names if name in before or name.partition(".")[0] not in NAMED}
    changed = sorted(name for name in names if before.get(name) != now.get(name))
    if changed and not accept:
        differences = ", ".join(f"{name} is {now.get(name)} and was {before.get(name)}" for name in changed)
        raise UserError(
            f"a resumed run keeps its options and its data, but {differences}. Only {', '.join(sorted(LIMITS))} may"
            " change, and what changes no result (docs/resume.md). Start a new run, or take the change into this one:"
            " --accept_changes true"
        )
    sentences = [f"A change was accepted: {name} is {now.get(name)} and was {before.get(name)}." for name in changed]
    run.record["accepted_changes"] = [*run.record.get("accepted_changes", []), *sentences]


def otherwise(run: Run, options: Mapping[str, Any], checkpoint: object, tell: Callable[[], Any] | None) -> str:
    """What of a measurement is not as the run was trained: options, checkpoint or data; empty if all of it is.

    Args:
        run: The run.
        options: The options of the measurement.
        checkpoint: The checkpoint that is measured.
        tell: The contract's ``fingerprint``.
    """
    before, now = options_of(run, None), flat(options)
    # an option that is not in both is newer than the run, or older than the code
    names = sorted(name for name in before.keys() & now if name.startswith(("data.", "model.")))
    changed = [name for name in names if not name.endswith(NEUTRAL) and before[name] != now[name]]
    what = [f"{name} is {now[name]} and was {before[name]}" for name in changed]
    if (best := run.record.get("best_checkpoint")) and Path(str(checkpoint)).name != best:
        what.append(f"the checkpoint is not {best}")
    return ", and ".join([*what, "the data have changed"] if have_changed(run, tell) else what)


def have_changed(run: Run, tell: Callable[[], Any] | None) -> bool:
    """Whether the data are others than those that a run was trained with, by the contract's ``fingerprint``."""
    return tell is not None and run.record.get("fingerprint") not in (None, str(tell()))


def fingerprint(tell: Callable[[], Any] | None, loaders: list[Any]) -> str | None:
    """The version of the training data: what the contract's ``fingerprint`` says, or else how many items, and a hash.

    The hash is of some items. They are read with the same random numbers each time, for they may be augmented.

    Args:
        tell: The contract's ``fingerprint``.
        loaders: The loaders of the training data.

    Returns:
        The version; None if there are no items with numbers, or if these are not made of tensors, numbers and texts.
    """
    if tell is not None:
        return str(tell())
    total, digest = 0, hashlib.blake2b(digest_size=8)
    with isolate_rng():
        try:
            for loader in loaders:
                count = len(loader.dataset)
                for item in _some_items(loader, range(0, count, -(-count // _ITEMS))):
                    # an item that is made of anything else can't be collated
                    plain = apply_to_collection(default_collate([item]), Tensor, _hash)
                    digest.update(repr(plain).encode())
                total += count
        except Exception:  # of a stream, or whatever a data set raises that is not indexed by numbers
            return None
    return f"{total} items, {digest.hexdigest()}"


def _some_items(loader: DataLoader, indices: range) -> DataLoader:
    """Read items where the loader reads them: files that a data set opens must not be open when workers are forked."""
    workers = min(1, loader.num_workers)
    place = SimpleNamespace(dataset=loader.dataset, num_workers=workers, key=(0,), rank_key=0, train=False)
    return DataLoader(
        loader.dataset,
        batch_size=None,
        sampler=Order(indices, place),
        num_workers=workers,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
    )


def _hash(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
