"""What comes after the folds of a cross-validation: their predictions, and one model that is tested."""

from __future__ import annotations

import hashlib
import json
from statistics import median
from typing import Any

import torch
from torch import Tensor

from ..cli.arguments import ONE_PROCESS, run_options
from ..cli.messages import message
from ..cli.run_cli import RunCLI
from ..errors import UserError, brief
from ..files import relative_path, write_whole
from ..reports import predictions, tables
from ..resume import checkpoint_files
from . import trials

TESTED = {"data.num_folds": None}  # the option by which a fold's data module yields the test data


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
        given = [*run_options(str(self.repeat.run(stem).folder)), *ONE_PROCESS, *trials.arguments(options)]
        return RunCLI(*self.classes, [command, *given], execute=False)

    def _predict(self, stem: str, **options: Any) -> tuple[RunCLI, predictions.Columns]:
        cli = self._open("predict", stem, **{"trainer.limit_predict_batches": 1.0, **options})
        return cli, predictions.compute(cli)

    def write_out_of_fold(self) -> None:
        """Let each fold's model predict the part that it was not trained on; ``out_of_fold.csv`` has each item once.

        Raises:
            UserError: An item is in two folds.
        """
        file = self.repeat.folder / "out_of_fold.csv"
        if "items" not in self.repeat.record or not file.is_file():
            rows: dict[int, list[Any]] = {}
            header, items = [], {}
            for number, stem in enumerate(self.repeat.runs):
                try:
                    cli, columns = self._predict(stem)
                    index = [int(i) for i in columns["index"]]
                except Exception as error:
                    if message(error) is None and not isinstance(error, KeyError):
                        raise
                    lacking = (
                        "predict_step returns no index of the items" if isinstance(error, KeyError) else brief(error)
                    )
                    print(f"There is no {file.name}: {lacking.rstrip('.')}.", flush=True)
                    return
                if not rows.keys().isdisjoint(index):
                    raise UserError(
                        "an item was predicted by two folds. With num_folds, predict_dataloader must yield the part"
                        " that is for validation; docs/own-code.md shows one."
                    )
                header, body = predictions.rows(cli, columns)
                rows |= {i: [number, *row] for i, row in zip(index, body, strict=True)}
                items[stem] = hashlib.blake2b(json.dumps(index).encode(), digest_size=8).hexdigest()
            tables.write_csv(file, ["fold", *header], [rows[i] for i in sorted(rows)])
            self.repeat.update(items=items)
        print(f"Predictions by the folds that were not trained on the item: {relative_path(file)}", flush=True)

    def test(self, final: str) -> None:
        """Test the folds' ensemble, or a model that is trained on all of their data; each is tested once."""
        if final == "ensemble":
            file, title = self.repeat.folder / "test.json", f"Test of the ensemble of {len(self.repeat.runs)} folds"
            if not file.is_file():
                write_whole(file, json.dumps(self._ensemble(), indent=2) + "\n")
            self.repeat.tabulate(title, ["metric", "value"], [*json.loads(file.read_text("utf-8")).items()])
        elif final == "refit":
            epochs, options = self._refit()
            self.repeat.work({"final": options})
            title = f"Test of {self.repeat.run('final').name}, trained on all training data, epochs: {epochs}"
            self.repeat.tabulate(title, ["metric", "value"], [*self.repeat.measured("final").items()])

    def _ensemble(self) -> dict[str, float]:
        """Measure the mean of the folds' predictions by the ``test_step`` of the first one."""
        columns = [self._predict(stem, **TESTED)[1] for stem in self.repeat.runs]
        limit = {"trainer.limit_test_batches": self.base["trainer.limit_test_batches"]}
        first = self._open("test", next(iter(self.repeat.runs)), **TESTED, **limit)
        mean = Mean(columns, first.load())
        (metrics,) = first.trainer.test(first.model, datamodule=first.datamodule, verbose=False)
        mean.check(mean.count > 0)
        return metrics

    def _refit(self) -> tuple[int, list[str]]:
        """Options of one training on all data, without a part for validation: it ends after the folds' median epoch."""
        best = [checkpoint_files.read(self.repeat.run(stem).best_checkpoint())["epoch"] + 1 for stem in self.repeat.runs]
        epochs, of_validation = round(median(best)), ("EarlyStopping", "Checkpoint")
        callbacks = [
            of for of in self.base.get("trainer.callbacks") or [] if not of["class_path"].endswith(of_validation)
        ]
        options = {"data.fold": None, "data.num_folds": len(best), "trainer.callbacks": callbacks}
        options |= {"early_stopping.monitor": None, "checkpoint.monitor": None, "checkpoint.save_top_k": 1}  # the last
        return epochs, trials.arguments({**options, "trainer.max_epochs": epochs, "trainer.limit_val_batches": 0})


class Mean:
    """A hook of a model's ``forward`` that puts the mean of several models in the place of each output.

    What ``forward`` returns must be logits, where the models predict probabilities, or else the predicted numbers in
    any unit. It is checked against the model's own predictions, with the items and their order.

    Args:
        columns: What each model has predicted; the first one is the model with the hook.
        model: That model.

    Raises:
        UserError: The outputs have nothing to do with the predictions.
    """

    def __init__(self, columns: list[predictions.Columns], model: Any) -> None:
        self.name, self.count = type(model).__name__, 0  # of items so far
        self.logits = "probabilities" in columns[0]
        names = ("probabilities" if self.logits else "prediction", "index")
        parts, index = ([of.get(name) for of in columns] for name in names)
        tensors = [
            part for part in parts if isinstance(part, Tensor) and part.shape == getattr(parts[0], "shape", None)
        ]
        self.check(len(tensors) == len(columns))
        self.check(all(i is None or torch.equal(torch.as_tensor(i), torch.as_tensor(index[0])) for i in index))
        self.own, self.mean = tensors[0].double(), torch.stack(tensors).double().mean(dim=0)
        self.unit: tuple[Tensor, Tensor] | None = None  # size and zero of the output's unit, of numbers
        model.register_forward_hook(self)

    def __call__(self, model: Any, inputs: Any, outputs: Any) -> Tensor:
        """Return the mean for the items of a batch, in the form of the model's outputs."""
        self.check(isinstance(outputs, Tensor) and outputs.ndim > 0)
        here = slice(self.count, self.count + len(outputs))
        self.count += len(outputs)
        own, mean, given = self.own[here], self.mean[here], outputs.detach().double().cpu()
        self.check(own.shape == given.shape)
        if self.logits:
            again, result = (given - given.logsumexp(dim=1, keepdim=True)).exp(), mean.clamp_min(1e-30).log()
        else:
            if self.unit is None:
                low, high = given.argmin(), given.argmax()
                span = given.flatten()[high] - given.flatten()[low]
                size = (own.flatten()[high] - own.flatten()[low]) / span if span else torch.ones(()).double()
                self.unit = size, own.flatten()[low] - given.flatten()[low] * size
            size, zero = self.unit
            again, result = given * size + zero, (mean - zero) / size
        self.check(torch.allclose(again, own, rtol=1e-4, atol=1e-2 * float(own.std(correction=0)) + 1e-6))
        return result.to(outputs)

    def check(self, fine: bool) -> None:
        """Say why there is no ensemble, if something is not fine."""
        if not fine:
            raise UserError(
                f"the ensemble can't be tested by {self.name}.test_step: it must call self(inputs) once for each batch,"
                f" and {self.name}.predict_step must return what that gives as probabilities or prediction, of the same"
                " items in the same order. Add that, or choose --final refit or --final none."
            )
