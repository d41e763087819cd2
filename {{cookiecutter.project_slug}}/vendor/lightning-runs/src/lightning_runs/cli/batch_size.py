"""Batches that fit into memory: what to do where it runs out, and the largest size, which a few dry steps find."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.memory import garbage_collection_cuda

from ..errors import DivergedError, UserError
from ..runs import ranks
from ..runs.options import flat
from .arguments import ONE_PROCESS, launcher_arguments, option_values, replace_option
from .run_cli import RunCLI

OPTIONS = ("--data.batch_size", "--model.batch_size")
# Two batches and a validation: the optimizer then has all that it keeps.
LIMITS = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1")
SMALLER_MODEL = "Take a smaller model, or --trainer.precision bf16-mixed."


class DryRun(RunCLI):
    """Train by options of `fit` until limits end it, in one process, without a run and its loggers and callbacks."""

    is_kept = False
    options_without_traces = (
        *("--trainer.callbacks=[]", "--trainer.enable_checkpointing=false", "--trainer.profiler=null"),
        *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
        *("--trainer.fast_dev_run=false", "--trainer.num_sanity_val_steps=0", *ONE_PROCESS),
        *("--trainer.max_epochs=-1", "--trainer.min_epochs=null", "--trainer.min_steps=null"),
        *("--trainer.max_time=null", "--checkpoint.monitor=null", "--early_stopping.monitor=null"),
    )

    def __init__(
        self, module_class: type, data_class: type | None, args: list[str], limits: Iterable[str], callback: Callback
    ) -> None:
        args = ["fit", *args, *self.options_without_traces, *limits]
        super().__init__(module_class, data_class, args, callbacks=[callback])

    def fit(self, **kwargs: Any) -> None:
        """Take the steps; a loss that is not finite ends them."""
        with suppress(DivergedError):
            self.trainer.fit(**kwargs)


@contextmanager
def explained(options: dict[str, Any], training: bool = False) -> Iterator[None]:
    """Name the options that need less memory, where it runs out.

    Raises:
        UserError: Memory has run out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _ran_out(error):
            raise
        raise UserError(f"memory ran out{_advice(flat(options), training)}") from error


def _ran_out(error: Exception) -> bool:
    text = "out of memory|not enough memory|can't allocate memory"
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or bool(re.search(text, str(error)))


def _advice(options: Mapping[str, Any], training: bool) -> str:
    count = options["trainer.accumulate_grad_batches"]
    for option in OPTIONS:
        size = options.get(option.lstrip("-"))
        if size == 1:
            return f" with {option} 1. {SMALLER_MODEL}"
        if isinstance(size, int):
            part = next(factor for factor in range(2, size + 1) if size % factor == 0)
            keep = f" --trainer.accumulate_grad_batches {part * count}, which keeps the {size * count} items of a step"
            return f" with {option} {size}. Take {option} {size // part}{keep if training else ''}."
    keep = f", and keep a step's items by --trainer.accumulate_grad_batches {2 * count}" if training else ""
    return f". Have the loaders make batches of half the size{keep}."


@contextmanager
def found(module_class: type, data_class: type | None, args: list[str]) -> Iterator[list[str]]:
    """Yield a command line with the largest power of two that fits instead of ``--data.batch_size auto``.

    Raises:
        UserError: It can't be found here, or not even 2 fit.
    """
    automatic = [option for option in OPTIONS if args[0] == "fit" and "auto" in option_values(args, option)]
    if not automatic:
        yield args
        return
    option = automatic[0]
    size = _largest(module_class, data_class, args, option)
    print(f"{option} {size} is the largest power of two that fits.", flush=True)
    # processes that Lightning starts take the size that was found
    with launcher_arguments(replace_option(sys.argv[1:], option, "auto", f"{option}={size}")):
        yield replace_option(args, option, "auto", f"{option}={size}")


def _largest(module_class: type, data_class: type | None, args: list[str], option: str) -> int:
    refused = f"{option} auto is refused: "

    def sized(size: int) -> list[str]:
        return replace_option(args, option, "auto", f"{option}={size}")

    def batches(size: int) -> int:
        """Return the number of training batches of a size, or 0 if it does not fit."""
        try:
            tried = DryRun(module_class, data_class, sized(size)[1:], LIMITS, Callback())
        except (RuntimeError, MemoryError, UserError) as error:
            # the data module may refuse a batch that is larger than the data
            if not _ran_out(error) and not (isinstance(error, UserError) and size > 2):
                raise
            return 0
        return tried.trainer.num_training_batches

    if ranks.by_torchrun() or option_values(args, "--resume", "--ckpt_path"):
        raise UserError(f"{refused}it is found for a new run that one process begins. Give a number.")
    device = RunCLI(module_class, data_class, sized(2), execute=False).device
    if not has_own_memory(device):
        raise UserError(f"{refused}a {device} shares the memory of the whole machine. Give a number.")
    largest = 0
    count = 2
    while count > 1:
        size = 2 * largest or 2
        count = batches(size)
        garbage_collection_cuda()
        largest = size if count else largest
    if not largest:
        raise UserError(f"{refused}not even batches of 2 fit. {SMALLER_MODEL}")
    return largest


def has_own_memory(device: str) -> bool:
    """Return whether a device has memory of its own, so that a batch that is too large fails at once."""
    return device == "gpu"
