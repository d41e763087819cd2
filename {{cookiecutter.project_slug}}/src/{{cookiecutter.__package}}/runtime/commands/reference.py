"""``training.json``: what `drift` compares later predictions with. `export` writes it beside the model."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor

from .. import runs, statistics
from ..cli import RunCLI
from ..errors import UserError
from . import ONE_PROCESS, brief, run_options

SAMPLE = 2000  # inputs of the training part, about
CELLS = 2_000_000  # values that the file has at most; a table of 10,000 columns has fewer rows in it

Inputs = Callable[[Any], dict[str, Tensor]]


def batches(cli: RunCLI) -> Iterator[Any]:
    """What the loaders of ``predict``, or else of ``test``, yield, before the data's hooks have changed it.

    Raises:
        UserError: There are no such loaders.
    """
    for loader, limit in _loaders(cli):
        yield from islice(loader, limit)


def _loaders(cli: RunCLI) -> list[tuple[Any, int | None]]:
    """The loaders, each with the number of batches that the Trainer would take of it; None is all."""
    owners = [owner for owner in (cli.datamodule, cli.model) if owner is not None]
    for stage, owner in product(("predict", "test"), owners):
        if is_overridden(f"{stage}_dataloader", owner):
            for each in owners:
                each.trainer = cli.trainer
                each.prepare_data()
                each.setup(stage)
            found = getattr(owner, f"{stage}_dataloader")()
            limit = getattr(cli.trainer, f"limit_{stage}_batches")  # a stream may have no end
            limit = limit if isinstance(limit, int) else None
            return [(loader, limit) for loader in (found if isinstance(found, Sequence) else [found])]
    name = type(owners[0]).__name__
    raise UserError(f"an export is compared on the data. Add predict_dataloader or test_dataloader to {name}.")


def write(cli: RunCLI, folder: Path, inputs: Inputs, facts: Mapping[str, Any], outputs: Mapping[str, Tensor]) -> str:
    """Write ``training.json`` beside a ``model.onnx``.

    Inputs are described as of the training part, and predictions as of the data that were held out: for those that a
    model was trained on, it is surer than for any others, and right more often.

    Args:
        cli: A `RunCLI` of ``predict``, with the run's data.
        folder: The folder, which has the model.
        inputs: Gives the model's inputs of a batch.
        facts: The facts of the exported model.
        outputs: What the model has computed for the data of `batches`.

    Returns:
        A line on what the inputs are.
    """
    facts, class_names = json.loads(json.dumps(facts)), facts.get("class_names")
    try:
        with redirect_stderr(io.StringIO()):  # what the data module has to tell, it has told
            found, of = _training(cli, inputs, facts), "the data for training and validation"
    except Exception as error:  # the data module has no folds, or these data can't be split so
        found, of = (
            list(_described(batches(cli), inputs, facts)),
            f"the data that are held out, for {brief(error).rstrip('.')}",
        )
    names = {name: None for one in found for name in one}
    found = found[:: len(found) * len(names) // CELLS + 1]
    columns = {name: [one.get(name) for one in found] for name in names}
    rows = zip(*(output.numpy() for output in outputs.values()), strict=True)
    predicted = [statistics.of_output(dict(zip(outputs, row, strict=True)), class_names) for row in rows]
    labels, probabilities = zip(*predicted, strict=True)
    record = {"model": hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()[:16], "inputs": of}
    record |= {"statistics": columns, "labels": labels, "probabilities": probabilities, "classes": bool(class_names)}
    runs.write_whole(folder / "training.json", json.dumps(record, ensure_ascii=False))
    return f"training.json: statistics of {len(found)} inputs of {of}"


def _training(cli: RunCLI, inputs: Inputs, facts: Mapping[str, Any]) -> list[statistics.Statistics]:
    """Describe what is not tested, as `predict` takes it: a fold is a random sample, so many data are not all read."""
    if not cli.contract.has("fold") or cli.run is None:
        raise UserError("the data module has no folds")

    def opened(fold: int, num_folds: int) -> RunCLI:
        chosen = [f"--data.fold={fold}", f"--data.num_folds={num_folds}", "--trainer.limit_predict_batches=1.0"]
        args = ["predict", *run_options(str(cli.run.folder)), *ONE_PROCESS, "--trainer.accelerator=cpu", *chosen]
        return RunCLI(cli.contract.module_class, cli.contract.data_class, args, execute=False)

    half = opened(0, 2)
    first = next(iter(inputs(next(batches(half))).values()))
    count = 2 * len(first) * sum(len(loader) for loader, _ in _loaders(half))
    if count > 2 * SAMPLE:
        return list(_described(batches(opened(0, count // SAMPLE)), inputs, facts))
    return [one for data in (half, opened(1, 2)) for one in _described(batches(data), inputs, facts)]


def _described(of: Iterator[Any], inputs: Inputs, facts: Mapping[str, Any]) -> Iterator[statistics.Statistics]:
    """Describe each input of batches."""
    for batch in of:
        arrays = {name: tensor.numpy() for name, tensor in inputs(batch).items()}
        for row in zip(*arrays.values(), strict=True):
            yield statistics.of_input({name: np.asarray(v) for name, v in zip(arrays, row, strict=True)}, facts)
