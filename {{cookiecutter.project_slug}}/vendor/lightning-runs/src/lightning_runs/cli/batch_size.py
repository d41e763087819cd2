"""Memory that runs out: a sentence with the options that help, and the largest batch that fits."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.memory import garbage_collection_cuda

from ..errors import UserError
from ..runs import ranks
from ..runs.options import flat
from .dry_run import Rehearsal
from .run_cli import RunCLI

_SIZES = ("data.batch_size", "model.batch_size")
_AUTO = re.compile(r"--((?:data|model)\.batch_size)(?:=|\0)auto(?=\0|$)")  # in arguments with \0 between them
# Two batches and a validation: what the optimizer keeps is then there too.
_LIMITS = tuple(f"--trainer.{limit}" for limit in ("max_epochs=1", "limit_train_batches=2", "limit_val_batches=1"))


def _ran_out(error: Exception) -> bool:
    text = "out of memory|not enough memory|can't allocate memory"
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or bool(re.search(text, str(error)))


@contextmanager
def explained(options: dict[str, Any], training: bool = False) -> Iterator[None]:
    """Say in a sentence which options need less memory, where it runs out.

    Raises:
        UserError: It has run out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _ran_out(error):
            raise
        raise UserError(_advice(flat(options), training)) from error


def _advice(options: Mapping[str, Any], training: bool) -> str:
    summed = options["trainer.accumulate_grad_batches"]
    name = next((name for name in _SIZES if isinstance(options.get(name), int)), None)
    if name is None:
        keep = f", and keep a step's number of items by --trainer.accumulate_grad_batches {2 * summed}" * training
        return f"memory ran out. Have the loaders make batches of half the size{keep}."
    if (size := options[name]) == 1:
        return f"memory ran out with --{name} 1. Take a smaller model, or --trainer.precision bf16-mixed."
    part = next(factor for factor in range(2, size + 1) if size % factor == 0)
    keep = f" --trainer.accumulate_grad_batches {part * summed}, which keeps the {size * summed} items of a step"
    return f"memory ran out with --{name} {size}. Take --{name} {size // part}{keep * training}."


def with_batch_size(module_class: type, data_class: type | None, args: list[str]) -> list[str]:
    """Put the largest power of two that fits in the place of ``--data.batch_size auto``, in `sys.argv` too.

    Raises:
        UserError: It can't be found here, or not even 2 fit.
    """
    text = "\0".join(args)
    if args[:1] != ["fit"] or (auto := _AUTO.search(text)) is None:
        return args

    def sized(size: int, text: str) -> list[str]:
        return _AUTO.sub(rf"--\1={size}", text).split("\0")

    option, refused = auto[1], f"--{auto[1]} auto is refused: "
    if ranks.by_torchrun() or any(argument.startswith(("--resume", "--ckpt_path")) for argument in args):
        raise UserError(f"{refused}it is found for a new run that one process begins. Give the number of that run.")
    device = RunCLI(module_class, data_class, sized(2, text), execute=False).device
    if not _has_limit(device):
        why = f"a {device} takes memory from the whole machine, which comes to a halt before a batch is too large"
        raise UserError(f"{refused}{why}. Give a number.")
    size, fits, more = 2, 0, True
    while more:
        try:
            of = Rehearsal(module_class, data_class, sized(size, text)[1:], Callback(), *_LIMITS)
            fits, size, more = size, 2 * size, of.trainer.num_training_batches > 1
        except (RuntimeError, MemoryError, UserError) as error:
            # the data module may refuse a batch that is larger than the data
            if not _ran_out(error) and not (isinstance(error, UserError) and fits):
                raise
            more = False
        garbage_collection_cuda()
    if not fits:
        raise UserError(f"{refused}not even batches of 2 fit. Take a smaller model, or --trainer.precision bf16-mixed.")
    print(f"--{option} {fits} is the largest power of two that fits.", flush=True)
    sys.argv = sized(fits, "\0".join(sys.argv))  # it is what run.json records, and other processes are started by
    return sized(fits, text)


def _has_limit(device: str) -> bool:
    """Whether a device has memory of its own, so that a batch that is too large fails at once."""
    return device == "gpu"
