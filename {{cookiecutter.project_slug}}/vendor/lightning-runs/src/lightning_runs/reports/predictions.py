"""Predictions: computed by the Trainer, joined to columns, and arranged as a table."""

from collections.abc import Sequence
from typing import Any

from ..errors import UserError
from ..names import program

Columns = dict[str, Any]

# torch and Lightning are imported inside functions, because `predict --onnx` uses `table` without them


def compute(cli: Any) -> Columns:
    """Let the Trainer predict with a run's checkpoint, and join what ``predict_step`` returned.

    Args:
        cli: A `RunCLI` with model, data module and Trainer.

    Returns:
        Columns with an entry for each item, under the keys of the dict that ``predict_step`` returns, or
        ``prediction`` if it returns a tensor.
    """
    from pytorch_lightning.utilities.model_helpers import is_overridden

    from ..runs import ranks

    module = type(cli.model).__name__
    try:
        batches: Any = cli.trainer.predict(
            cli.model, datamodule=cli.datamodule, ckpt_path=cli.ckpt_path, weights_only=True
        )
    except (TypeError, AttributeError, RuntimeError) as error:
        if is_overridden("predict_step", cli.model):
            raise
        raise UserError(
            f"{module} has no predict_step, and its forward does not take a batch of predict_dataloader"
            f" ({str(error).splitlines()[0][:120]}). Add predict_step to {module}: {program()} docs own-classes"
        ) from error
    if batches and isinstance(batches[0], list):  # one list for each of several loaders
        batches = [batch for loader in batches for batch in loader]
    parts = ranks.gather(batches or [], cli.trainer.world_size)
    return join([batch for part in parts for batch in part], module)


def join(batches: Sequence[Any], module: str) -> Columns:
    """Join what a module's ``predict_step`` returned to columns, in the order of the column ``index`` if there is one."""
    import torch

    if not batches:
        raise UserError(f"predict_dataloader yields no batch, so {module} predicted nothing.")
    named = [batch if isinstance(batch, dict) else {"prediction": batch} for batch in batches]
    columns: Columns = {}
    for name, value in named[0].items():
        parts = [batch[name] for batch in named]
        if isinstance(value, torch.Tensor):
            columns[name] = torch.cat([part.reshape(1) if part.ndim == 0 else part for part in parts]).cpu()
        elif isinstance(value, list | tuple) and not any(isinstance(item, torch.Tensor) for item in value):
            columns[name] = [item for part in parts for item in part]
        else:
            raise UserError(
                f"{module}.predict_step returns {name} as {type(value).__name__}. Return a tensor with one row for each"
                " item, or a dict of such tensors."
            )
    index = columns.get("index")
    if isinstance(index, torch.Tensor) and index.ndim == 1:
        order = index.argsort(stable=True)
        for name, column in columns.items():
            columns[name] = column[order] if isinstance(column, torch.Tensor) else [column[i] for i in order.tolist()]
    return columns


def rows(cli: Any, columns: Columns) -> tuple[list[str], list[list[Any]]]:
    """Return header and rows of a model's predictions, by the user's own ``rows`` or by `table`."""
    from .. import contract

    own_rows = contract.get("rows", cli.model, cli.datamodule)
    if own_rows is not None:
        header, body = own_rows(columns, cli.datamodule)
        return list(header), [list(row) for row in body]
    lists = {name: column.tolist() if hasattr(column, "tolist") else list(column) for name, column in columns.items()}
    return table(lists, contract.get("class_names", cli.datamodule))


def table(columns: dict[str, list[Any]], class_names: Sequence[str] | None) -> tuple[list[str], list[list[Any]]]:
    """Return header and rows of columns.

    Args:
        columns: A list with an entry for each item; an entry may be a list. With ``class_names``, ``probabilities``
            becomes the label, its probability, and the probability ``p(NAME)`` of each class.
        class_names: The names, or None.
    """
    cells: dict[str, list[Any]] = {}
    for name, column in columns.items():
        entry = column[0] if column else None
        if not isinstance(entry, list):
            cells[name] = column
        elif name == "probabilities" and class_names is not None:
            best = [max(range(len(entry)), key=entry.__getitem__) for entry in column]
            cells["label"] = [class_names[i] for i in best]
            cells["probability"] = [round(entry[i], 6) for i, entry in zip(best, column, strict=True)]
            for i, label in enumerate(class_names):
                cells[f"p({label})"] = [round(entry[i], 6) for entry in column]
        elif not isinstance(entry[0], list):
            for i in range(len(entry)):
                cells[name if len(entry) == 1 else f"{name}_{i}"] = [entry[i] for entry in column]
        else:
            cells[name] = column
    return list(cells), [list(row) for row in zip(*cells.values(), strict=True)]
