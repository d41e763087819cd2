"""What comes after the folds of a cross-validation: their predictions, and one model that is tested."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from .. import checkpoints, predictions
from ..cli import RunCLI
from ..errors import UserError
from ..runs import write_whole
from ..trainer import relative_path
from . import ONE_PROCESS, run_options, trials


class Ends:
    """The end of a cross-validation, whose folds are all trained.

    Args:
        repeat: The `Repeat`.
        base: Options of `fit`, by their dotted names.
        classes: The LightningModule and the LightningDataModule.
    """

    def __init__(self, repeat: Any, base: dict[str, Any], classes: tuple[type, type | None]) -> None:
        self.repeat, self.base, self.classes = repeat, base, classes

    def _open(self, command: str, stem: str, **options: Any) -> RunCLI:
        given = [*run_options(str(self.repeat.run(stem).folder)), *ONE_PROCESS]
        more = trials.arguments({f"trainer.limit_{command}_batches": 1.0, **options})
        return RunCLI(*self.classes, [command, *given, *more], execute=False)

    def write_out_of_fold(self) -> None:
        """Let each fold's model predict the part that it was not trained on; ``out_of_fold.csv`` has each row once.

        Raises:
            UserError: An item is in two folds.
        """
        file: Path = self.repeat.folder / "out_of_fold.csv"
        if "items" not in self.repeat.record or not file.is_file():
            header: list[str] = []
            rows: list[tuple[Any, list[Any]]] = []
            items = {}
            for number, stem in enumerate(self.repeat.runs):
                cli = self._open("predict", stem)
                columns = predictions.compute(cli)
                names, body = predictions.rows(cli, columns)
                header = ["fold", *names]
                index = (
                    [int(i) for i in columns["index"]]
                    if "index" in columns
                    else [len(rows) + i for i in range(len(body))]
                )
                rows += [(i, [number, *row]) for i, row in zip(index, body, strict=True)]
                items[stem] = hashlib.blake2b(json.dumps(index).encode(), digest_size=8).hexdigest()
            if len({i for i, _ in rows}) < len(rows):
                raise UserError(
                    "an item was predicted by two folds. With num_folds, predict_dataloader must yield the part fold of"
                    " the data module, which is for validation; docs/own-code.md shows one."
                )
            predictions.write_csv(file, header, [row for _, row in sorted(rows, key=lambda row: row[0])])
            self.repeat.update(items=items)
        print(f"Predictions of each row by the fold that was not trained on it: {relative_path(file)}", flush=True)

    def test(self, final: str) -> None:
        """Test the folds' ensemble, or a model that is trained on all of their data; each is tested once."""
        if final == "none":
            return
        if final == "ensemble":
            metrics = self._ensemble()
            title = f"Test of the ensemble of {len(self.repeat.runs)} folds"
        else:
            epochs, options = self._refit()
            self.repeat.work({"final": options})
            metrics = self.repeat.measured("final")
            title = f"Test of {self.repeat.run('final').name}, trained on all training data, epochs: {epochs}"
        self.repeat.print(title, ["metric", "value"], [[name, value] for name, value in metrics.items()])

    def _ensemble(self) -> dict[str, float]:
        """Measure the mean of the folds' predictions by the ``test_step`` of the first one."""
        file: Path = self.repeat.folder / "test.json"
        if file.is_file():
            return json.loads(file.read_text("utf-8"))
        columns = [
            predictions.compute(self._open("predict", stem, **{"data.num_folds": None})) for stem in self.repeat.runs
        ]
        name = "probabilities" if "probabilities" in columns[0] else "prediction"
        parts = [column.get(name) for column in columns]
        first = self._open(
            "test",
            [*self.repeat.runs][0],
            **{"data.num_folds": None, "trainer.limit_test_batches": self.base["trainer.limit_test_batches"]},
        )
        model = first.load()
        if not all(
            isinstance(part, Tensor) and part.is_floating_point() and part.shape == parts[0].shape for part in parts
        ):
            raise UserError(_no_ensemble(model))
        mean = Mean(parts, name == "probabilities")
        model.register_forward_hook(mean)
        (metrics,) = first.trainer.test(model, datamodule=first.datamodule, verbose=False)
        if not mean.count:
            raise UserError(_no_ensemble(model))
        write_whole(file, json.dumps(metrics, indent=2) + "\n")
        return metrics

    def _refit(self) -> tuple[int, list[str]]:
        """Options of one training on all data, without a part for validation: it ends after the folds' median epoch."""
        best = [checkpoints.read(self.repeat.run(stem).best_checkpoint())["epoch"] + 1 for stem in self.repeat.runs]
        epochs = round(median(best))
        # these need a validation
        needless = ("EarlyStopping", "Checkpoint")
        callbacks = [of for of in self.base["trainer.callbacks"] or [] if not of["class_path"].endswith(needless)]
        options = {"data.fold": None, "data.num_folds": len(best), "trainer.callbacks": callbacks}
        return epochs, trials.arguments({**options, "trainer.max_epochs": epochs, "trainer.limit_val_batches": 0})


class Mean:
    """A hook of a model's ``forward`` that puts the mean of several models in the place of each output.

    What ``forward`` returns must be the logarithm of probabilities, but for a number for each item, as logits are; or
    the predicted numbers themselves, in any unit. That it is so, and of the same items in the same order, is checked
    against the model's own predictions.

    Args:
        parts: What each model has predicted, ``(N, …)``; the first one is the one with the hook.
        logarithmic: Whether these are probabilities, ``(N, C)``.

    Raises:
        UserError: The outputs have nothing to do with the predictions.
    """

    def __init__(self, parts: list[Tensor], logarithmic: bool) -> None:
        self.own, self.mean = parts[0].double(), torch.stack(parts).double().mean(dim=0)
        self.logarithmic = logarithmic
        self.unit: tuple[Tensor, Tensor] | None = None
        self.count = 0  # of items so far

    def __call__(self, model: Any, inputs: Any, outputs: Any) -> Tensor:
        """Return the mean for the items of a batch, as the model would have returned it."""
        if not isinstance(outputs, Tensor) or not outputs.ndim:
            raise UserError(_no_ensemble(model))
        here = slice(self.count, self.count + len(outputs))
        self.count += len(outputs)
        own, mean, given = self.own[here], self.mean[here], outputs.detach().double().cpu()
        if own.shape != given.shape:
            raise UserError(_no_ensemble(model))
        if self.logarithmic:
            again, result = (given - given.logsumexp(dim=1, keepdim=True)).exp(), mean.clamp_min(1e-30).log()
        else:
            if self.unit is None:
                span = given.max() - given.min()
                scale = (own.flatten()[given.argmax()] - own.flatten()[given.argmin()]) / span if span else span + 1
                self.unit = scale, own.flatten()[0] - given.flatten()[0] * scale
            scale, zero = self.unit
            again, result = given * scale + zero, (mean - zero) / scale
        if not torch.allclose(again, own, rtol=1e-4, atol=1e-2 * float(own.std(correction=0)) + 1e-6):
            raise UserError(_no_ensemble(model))
        return result.to(outputs)


def _no_ensemble(model: Any) -> str:
    name = type(model).__name__
    return (
        f"the ensemble can't be tested by {name}.test_step: it must call self(inputs) once for each batch, and"
        f" {name}.predict_step must return what that gives as probabilities or prediction, of the same items in the same"
        " order. Add that, or choose --final refit or --final none."
    )
