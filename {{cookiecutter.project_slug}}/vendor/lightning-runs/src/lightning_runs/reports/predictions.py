"""Predictions: computed by the Trainer, joined to columns, and written as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import files
from ..errors import UserError

Columns = dict[str, Any]


@dataclass(frozen=True)
class Attached:
    """A cell of a table that is a file of its own; `write_csv` writes it into a folder beside the table.

    Args:
        name: Its name, such as ``cat.png``; another of the same name in a table gets a number.
        content: What it holds.
    """

    name: str
    content: bytes = field(repr=False)


def compute(cli: Any) -> Columns:
    """Let the Trainer predict with a run's checkpoint, and join what ``predict_step`` returned.

    Args:
        cli: A `RunCLI` with model, data module and Trainer.

    Returns:
        Columns with one entry for each item: what ``predict_step`` returns as a dict, or ``prediction``.

    Raises:
        UserError: ``predict_step`` returns neither a tensor nor a dict of columns, or is missing where it is needed.
    """
    from pytorch_lightning.utilities.model_helpers import is_overridden

    from ..runs import ranks

    options = {"datamodule": cli.datamodule, "ckpt_path": cli.ckpt_path, "weights_only": True}
    try:
        batches: Any = cli.trainer.predict(cli.model, **options)
    except (TypeError, AttributeError, RuntimeError) as error:
        if is_overridden("predict_step", cli.model):
            raise
        name = type(cli.model).__name__
        raise UserError(
            f"{name} has no predict_step, and its forward does not take a batch of predict_dataloader"
            f" ({str(error).splitlines()[0][:120]}). Add predict_step to {name}; docs/own-code.md shows one."
        ) from error
    if batches and isinstance(batches[0], list):  # of several loaders
        batches = [batch for loader in batches for batch in loader]
    batches = [batch for part in ranks.gather(batches or [], cli.trainer.world_size) for batch in part]
    return join(batches, type(cli.model).__name__)


def join(batches: Sequence[Any], module: str) -> Columns:
    """Join batches to columns, in the order of ``index`` where there is one."""
    import torch

    if not batches:
        raise UserError(f"predict_dataloader yields no batch, so {module} predicted nothing.")
    first = batches[0] if isinstance(batches[0], dict) else {"prediction": batches[0]}
    columns: Columns = {}
    for name, value in first.items():
        parts = [batch[name] if isinstance(batch, dict) else batch for batch in batches]
        if isinstance(value, torch.Tensor):
            columns[name] = torch.cat([part.reshape(1) if part.ndim == 0 else part for part in parts]).cpu()
        elif isinstance(value, list | tuple) and not any(isinstance(item, torch.Tensor) for item in value):
            columns[name] = [item for part in parts for item in part]
        else:
            raise UserError(
                f"{module}.predict_step returns {name} as {type(value).__name__}. Return a tensor with one row for each"
                " item, or a dict of such tensors."
            )
    if isinstance(index := columns.get("index"), torch.Tensor) and index.ndim == 1:
        order = index.argsort(stable=True)
        for name, column in columns.items():
            columns[name] = column[order] if isinstance(column, torch.Tensor) else [column[i] for i in order.tolist()]
    return columns


def rows(cli: Any, columns: Columns) -> tuple[list[str], list[list[Any]]]:
    """The table of a model's predictions: the user's own ``rows``, or `table`."""
    from .. import contract  # imports Lightning, which `predict --onnx` does without

    own = contract.get("rows", cli.model, cli.datamodule)
    if own is not None:
        header, body = own(columns, cli.datamodule)
        return list(header), [list(row) for row in body]
    names = contract.get("class_names", cli.datamodule)
    return table({k: v.tolist() if hasattr(v, "tolist") else list(v) for k, v in columns.items()}, names)


def table(columns: dict[str, list[Any]], class_names: Sequence[str] | None) -> tuple[list[str], list[list[Any]]]:
    """Columns as a table.

    Args:
        columns: A list with an entry for each item; an entry may be a list. ``probabilities`` becomes the class's name,
            its probability and those of all classes, where these have names.
        class_names: The names, or None.

    Returns:
        The header and the rows.
    """
    parts: dict[str, list[Any]] = {}
    for name, column in columns.items():
        wide = bool(column) and isinstance(column[0], list)
        if name == "probabilities" and wide and class_names is not None:
            best = [max(range(len(row)), key=row.__getitem__) for row in column]
            parts["label"] = [class_names[i] for i in best]
            parts["probability"] = [round(row[i], 6) for i, row in zip(best, column, strict=True)]
            for i, label in enumerate(class_names):
                parts[f"p({label})"] = [round(row[i], 6) for row in column]
        elif wide and not isinstance(column[0][0], list):
            for i in range(len(column[0])):
                parts[name if len(column[0]) == 1 else f"{name}_{i}"] = [row[i] for row in column]
        else:
            parts[name] = column
    return list(parts), [list(row) for row in zip(*parts.values(), strict=True)]


def write_csv(file: Path, header: Sequence[str], body: Sequence[Sequence[Any]]) -> None:
    """Write a table, whole or not at all. A text that a spreadsheet would execute gets an apostrophe before it.

    Where a cell is `Attached`, its file is written into ``NAME_files``, beside the table NAME, and the cell says where.
    Files that an earlier table of this name has there, and this one has not, are removed.

    Raises:
        UserError: The file can't be written.
    """
    folder, names = file.with_name(f"{file.stem}_files"), set()
    earlier = _attached(file, folder)
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(harmless, header))
    try:
        for row in body:
            attached = [_attach(cell, folder, names) if isinstance(cell, Attached) else cell for cell in row]
            writer.writerow(map(harmless, attached))
        files.write_whole(file, stream.getvalue())
        for name in earlier - names:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{file} can't be written: {error.strerror}.") from error


def _attach(cell: Attached, folder: Path, names: set[str]) -> str:
    """Write a cell's file, and return its path from the table's folder."""
    name = Path(cell.name)
    while name.as_posix() in names:
        name = Path(f"{Path(cell.name).stem}_{len(names)}{name.suffix}")
    names.add(name.as_posix())
    folder.mkdir(parents=True, exist_ok=True)
    files.write_whole(folder / name, cell.content)
    return f"{folder.name}/{name}"


def _attached(file: Path, folder: Path) -> set[str]:
    """Tell which files in the folder beside a table are named in its cells."""
    if not (file.is_file() and folder.is_dir()):
        return set()
    with file.open(newline="", encoding="utf-8", errors="replace") as stream:
        try:
            cells = [Path(cell) for row in csv.reader(stream) for cell in row]
        except csv.Error:  # it is no table
            return set()
    return {cell.name for cell in cells if cell.parent == Path(folder.name) and (folder / cell.name).is_file()}


def harmless(cell: Any) -> Any:
    """A cell of a CSV file that no spreadsheet takes for a formula."""
    if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@")):
        try:
            float(cell)
        except ValueError:
            return f"'{cell}"
    return cell
