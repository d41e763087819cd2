"""Predictions: computed by the Trainer, joined to columns, and arranged as a table."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning.callbacks import LambdaCallback
from pytorch_lightning.utilities.model_helpers import is_overridden

from .. import contract
from ..errors import UserError, brief
from ..names import program
from ..runs import ranks
from ..training.callbacks import count_items
from .tables import table

Columns = dict[str, Any]


def compute(cli: Any) -> Columns:
    """Let the Trainer of a `RunCLI` predict with a run's checkpoint, and join what ``predict_step`` returned.

    The columns have an entry for each item, under the keys of the dict that ``predict_step`` returns, or
    ``prediction``. Several loaders add the column ``dataloader``. There are none if ``predict_step`` returns nothing.
    """
    module = type(cli.model).__name__
    batches: list[Columns] = []

    def keep(trainer: Any, _: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        loader = trainer.predict_loop._combined_loader.flattened[dataloader_idx]
        columns = columns_of(outputs, count_items(batch, loader, batch_idx), module, batches[0] if batches else {})
        if columns and trainer.predict_loop.num_dataloaders > 1:
            columns["dataloader"] = [dataloader_idx] * len(next(iter(columns.values())))
        batches.append(columns)

    callback = LambdaCallback(on_predict_batch_end=keep)
    cli.trainer.callbacks.append(callback)
    options = {"datamodule": cli.datamodule, "ckpt_path": cli.ckpt_path, "weights_only": True}
    try:
        cli.trainer.predict(cli.model, return_predictions=False, **options)
    except (TypeError, AttributeError, RuntimeError) as error:
        if is_overridden("predict_step", cli.model):
            raise
        text = f"{module} has no predict_step, and its forward takes no batch of predict_dataloader ({brief(error)})."
        raise UserError(f"{text} Add predict_step to {module}: {program()} docs own-classes") from None
    finally:
        cli.trainer.callbacks.remove(callback)
    return join([*chain(*ranks.gather(batches, cli.trainer.world_size))], module)


def columns_of(outputs: Any, count: int, module: str, first: Columns) -> Columns:
    """Return what ``predict_step`` returned for a batch of ``count`` items as columns, each with an entry per item.

    A list of tensors with a row for each item is several outputs; any other list has an entry for each item. Where it
    may be both, it is what it was in the ``first`` batch. A ``count`` of 0 is unknown.
    """
    named = outputs if isinstance(outputs, dict) else {"prediction": outputs}
    if isinstance(outputs, list | tuple) and outputs:
        sizes = {len(output) if isinstance(output, torch.Tensor) and output.ndim else 0 for output in outputs}
        are_outputs = len(sizes) == 1 and 0 not in sizes and count in (0, *sizes)
        are_entries = count in (0, len(outputs))
        if all(isinstance(output, dict) for output in outputs):
            named = {name: [output.get(name) for output in outputs] for name in dict.fromkeys(chain(*outputs))}
        elif are_outputs and are_entries and not first and (len(outputs), *sizes) != (1, 1):
            text = f"{len(outputs)} tensors of {sizes.pop()} rows, which may be one for each item or several outputs"
            raise UserError(f"{module}.predict_step returns {text}. Return a dict of outputs, or a dict for each item.")
        elif are_outputs and (not are_entries or "prediction_0" in first):
            named = {f"prediction_{i}": output for i, output in enumerate(outputs)}
    columns: Columns = {}
    for name, value in named.items() if outputs is not None else ():
        if isinstance(value, torch.Tensor) and value.ndim:
            columns[name] = value.cpu()
        else:
            plain = apply_to_collection(value, (torch.Tensor, np.ndarray, np.generic), lambda one: one.tolist())
            columns[name] = list(plain) if isinstance(plain, list | tuple) else [plain]
    lengths = {name: len(column) for name, column in columns.items()}
    items = {count} if count and columns and "index" not in columns else set()  # an index tells which items there are
    if len(items | set(lengths.values())) > 1:
        size = f" of {count} items" if items else ""
        text = ", ".join(f"{length} rows of {name!r}" for name, length in lengths.items())
        hint = "Return a row for each item, or an output 'index' too: the numbers of the items that have a row."
        raise UserError(f"{module}.predict_step returns {text} for a batch{size}. {hint}")
    return columns


def join(batches: Sequence[Columns], module: str) -> Columns:
    """Join the columns of batches, in the order of the column ``index`` if they have one."""
    if not batches:
        raise UserError(f"predict_dataloader yields no batch, so {module} predicted nothing.")
    found = sorted({", ".join(sorted(batch)) or "nothing" for batch in batches})
    if len(found) > 1:
        raise UserError(f"{module}.predict_step returns {found[0]} for one batch and {found[1]} for another.")
    columns: Columns = {}
    for name in batches[0]:
        parts = [batch[name] for batch in batches]
        if all(isinstance(part, torch.Tensor) and part.shape[1:] == parts[0].shape[1:] for part in parts):
            columns[name] = torch.cat(parts)
        else:
            columns[name] = [entry for part in parts for entry in (part if isinstance(part, list) else part.tolist())]
    index = columns.get("index")
    if isinstance(index, torch.Tensor) and index.ndim == 1:
        order = index.argsort(stable=True)
        for name, column in columns.items():
            columns[name] = column[order] if isinstance(column, torch.Tensor) else [column[i] for i in order.tolist()]
    return columns


def rows(cli: Any, columns: Columns) -> tuple[list[str], list[list[Any]]]:
    """Return header and rows of a model's predictions, by the user's own ``rows`` or by `table`."""
    own_rows = contract.get("rows", cli.model, cli.datamodule)
    if own_rows is not None:
        header, body = own_rows(columns, cli.datamodule)
        return list(header), [list(row) for row in body]
    lists = {name: column.tolist() if hasattr(column, "tolist") else list(column) for name, column in columns.items()}
    return table(lists, contract.get("class_names", cli.datamodule))
