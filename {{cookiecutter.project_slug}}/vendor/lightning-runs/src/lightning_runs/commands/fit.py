"""The commands fit, validate, test and predict: the life of a run from its first step to its report."""

import json
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, StochasticWeightAveraging
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch.nn.parameter import is_lazy

from .. import contract, files, runs
from ..cli.messages import is_mistake
from ..cli.run_cli import RunCLI
from ..errors import UserError
from ..files import relative_path
from ..names import program
from ..reports import predictions, tables
from ..resume import differences, signals
from ..runs import ranks
from ..runs.options import config_text
from . import report

STEPS = {"validate": "validation_step", "test": "test_step"}
SPLITS = {"validate": "val", "test": "test"}


class TrainerCLI(RunCLI):
    """Lightning's four commands; every option has its value in ``configs/default.yaml`` and is listed by ``--help``."""

    def fit(self, **kwargs: Any) -> None:
        """Train, then test the best checkpoint, or with ``--test false`` validate it; write the report."""
        if self.run is not None and any(self.position):
            self.say(f"Resuming {self.run.name} in epoch {self.position.epoch}, from batch {self.position.batch}.")
        self.say(f"Training {self.description()}.")
        tested = self.config.fit.test and self.trainer.limit_test_batches != 0
        configured = [*self.trainer.callbacks]
        with self.recorded():
            self.trainer.fit(**kwargs)
            for callback in configured:
                if callback not in self.trainer.callbacks:
                    self.say(f"note: the model's configure_callbacks replaced {type(callback).__name__}.")
            self.choose_checkpoint()
            for callback in self.trainer.callbacks:
                if isinstance(callback, EarlyStopping) and callback.stopping_reason_message:
                    self.say(f"Stopped early: {callback.stopping_reason_message}")
            self.measure_best("test" if tested else "validate", kwargs | {"ckpt_path": self.ckpt_path})
        if self.run is None:
            return
        self.say(f"Run folder: {relative_path(self.run.folder)}\nNext: {program()} runs       a table of all runs")
        if tested:
            report.after_fit(self)

    def validate(self, **kwargs: Any) -> None:
        self.measure("validate", kwargs)

    def test(self, **kwargs: Any) -> None:
        self.measure("test", kwargs)

    def predict(self, **kwargs: Any) -> None:
        """Predict the test data: ``predictions.csv`` has a row for each item."""
        columns = predictions.compute(self)
        if not columns:
            self.say(f"{type(self.model).__name__}.predict_step returned nothing, so no table is written.")
        elif self.trainer.is_global_zero:
            file = Path(self.trainer.default_root_dir) / "predictions.csv"
            tables.write_csv(file, *predictions.rows(self, columns))
            self.say(f"Predictions: {relative_path(file)}")

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        # the checkpoint of a run that was found, which no option names; nothing in a checkpoint is ever executed
        return super()._prepare_subcommand_kwargs(subcommand) | {"ckpt_path": self.ckpt_path, "weights_only": True}

    # ---- What is recorded

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record in the run's folder how it is configured, that it is under way, and how it ended."""
        if self.run is None or not self.trainer.is_global_zero:
            yield
            return
        self._begin(self.run)
        unused = False
        try:
            yield
        except BaseException as error:
            status = "interrupted" if isinstance(error, signals.Stopped) else "failed"
            with suppress(OSError):  # what kept the run from writing may keep this from it too
                self.run.end(status, error=f"{type(error).__name__}: {error}")
            # a user's mistake before the first step: the same command works once it is fixed
            begun = not self.created or self.trainer.global_step
            unused = not begun and isinstance(error, Exception) and is_mistake(error)
            if type(error) is SystemExit:
                raise UserError("your code ended the training by exit().") from error
            raise
        finally:
            for logger in self.trainer.loggers:
                if isinstance(logger, WandbLogger):  # a later training in this process has a run of its own
                    logger.experiment.finish()
            if unused:
                self.run.discard()
        self.run.end("finished")

    def _begin(self, run: runs.Run) -> None:
        files.write_whole(run.config_file, config_text(self.options()))  # a resumed run may have other limits
        names = contract.get("class_names", self.datamodule, self.model)
        # a resumed run keeps the command that began it, for that one repeats it
        run.begin(
            run.record.get("command", f"{program()} {shlex.join(self.args)}"),
            device=self.device,
            processes=self.trainer.world_size,
            linked=self.links,
            class_names=None if names is None else [str(name) for name in names],
            headline=contract.get("headline", self.model, self.datamodule),
            debug=self.config.fit.debug,
        )

    def choose_checkpoint(self) -> None:
        """Save the final state as ``last.ckpt``, and choose the best checkpoint for the test."""
        if self.run is None:
            return
        if self.trainer.global_step == 0:
            no_batch = not self.trainer.num_training_batches and self.trainer.limit_train_batches
            limits = "trainer.max_epochs, max_steps, max_time or limit_train_batches allows no step"
            raise UserError(f"nothing was trained: {'train_dataloader yields no batch' if no_batch else limits}.")
        if self.exact_resume.saved_at is not None:
            self.exact_resume.save(self.trainer, self.model)
        else:  # a resumed run that had nothing left to train
            self.exact_resume.compare_data(self.trainer, self.model)
        best = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        for callback in self.trainer.callbacks:
            if isinstance(callback, StochasticWeightAveraging):
                last_epoch = callback.swa_end + callback.pl_module_contains_batch_norm(self.model)
                if self.trainer.current_epoch > last_epoch:  # otherwise it has averaged nothing
                    best = ""  # the averaged weights are those of the end alone
        chosen = Path(best or self.run.checkpoints / "last.ckpt")
        self.ckpt_path = str(chosen)
        if self.trainer.is_global_zero:
            score = getattr(self.trainer.checkpoint_callback, "best_model_score", None) if best else None
            self.run.update(best_checkpoint=chosen.name, best_score=None if score is None else float(score))

    # ---- What is measured

    def measure_best(self, command: str, kwargs: dict[str, Any]) -> None:
        """Test or validate the checkpoint that a training has chosen, if the user's classes can."""
        parts = (STEPS[command], f"{SPLITS[command]}_dataloader")
        owners = [owner for owner in (self.model, self.datamodule) if owner is not None]
        missing = [part for part in parts if not any(is_overridden(part, owner) for owner in owners)]
        if missing:
            self.say(f"There was no {command}: {' and '.join(missing)} is missing. See: {program()} docs own-classes")
            return
        built = self.trainer.loggers
        if command == "validate":  # the epoch's own validation is logged already
            self.trainer.loggers = []
        try:
            self.measure(command, kwargs)
        finally:
            self.trainer.loggers = built

    def measure(self, command: str, kwargs: dict[str, Any]) -> None:
        """Validate or test, print the metrics, and write them to a file in the run's folder."""
        # what is printed here replaces Lightning's table
        results = getattr(self.trainer, command)(**kwargs | {"verbose": False})
        metrics = self._over_all_ranks({name: value for loader in results for name, value in loader.items()})
        text = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        if not getattr(self.trainer, f"{command}_loop").batch_progress.total.ready:
            text = f"nothing was measured: no batch of {SPLITS[command]}_dataloader was read."
            if self.subcommand != "fit":
                raise UserError(text)
        self.say(text + (f"  ({relative_path(Path(self.ckpt_path))})" if self.ckpt_path else ""))
        if self.trainer.is_global_zero and not self.trainer.fast_dev_run:
            self._write_metrics(command, metrics)

    def _write_metrics(self, command: str, metrics: dict[str, float]) -> None:
        """Write ``test.json`` or ``validate.json``; a run's has only what was measured by its own options and data."""
        path = Path(self.trainer.default_root_dir) / f"{command}.json"
        if self.run is not None and self.subcommand != "fit":
            causes = [f"{arg} is given" for arg in self.args if arg.startswith("-") and not arg.startswith("--run")]
            if differences.data_changed(self.run, contract.get("fingerprint", self.datamodule, self.model)):
                causes.append("the data have changed")
            if causes:
                self.say(f"note: this is not written to the run's {path.name}: {', and '.join(causes)}.")
                return
        checkpoint = Path(self.ckpt_path).name if self.ckpt_path else None
        try:
            files.write_whole(path, json.dumps({"checkpoint": checkpoint, **metrics}, indent=2) + "\n")
        except OSError as error:
            raise UserError(f"{relative_path(path)} can't be written: {error.strerror or error}.") from error

    def _over_all_ranks(self, metrics: dict[str, float]) -> dict[str, float]:
        """Average what each process measured on its share, if the module has not done so; print a note of it."""
        parts = ranks.gather(metrics, self.trainer.world_size)
        means = {name: sum(part[name] for part in parts) / len(parts) for name in metrics}
        differing = [name for name, mean in means.items() if any(abs(part[name] - mean) > 1e-9 for part in parts)]
        if not differing:
            return metrics
        text = f"{', '.join(differing)}: each process logged its own value, and this is their mean. In validation the"
        self.say(f"{text} first process's value counts. Log them with self.log(…, sync_dist=True).")
        return means

    # ---- What is printed

    def say(self, text: str) -> None:
        """Print a text once, whatever the number of processes."""
        if self.trainer.is_global_zero:
            print(text, flush=True)

    def description(self) -> str:
        """Return the model, its number of parameters, the device, number of processes and precision in words."""
        counts = [p.numel() for p in self.model.parameters() if not is_lazy(p)]
        size = f", {sum(counts):,} parameters," if counts else ""  # they may be made later
        processes = f"{self.trainer.world_size} process{'es' if self.trainer.world_size > 1 else ''}"
        return f"{type(self.model).__name__}{size} on {self.device}, {processes}, precision {self.trainer.precision}"


def main(args: list[str], module_class: type, data_class: type | None) -> int:
    """Run one of the four commands, whose name comes first, and return its exit code."""
    run_trainer_command(module_class, data_class, args)
    return 0


def run_trainer_command(
    module_class: type, data_class: type | None, args: list[str], callbacks: Sequence[Callback] = ()
) -> TrainerCLI:
    """Run one of the four commands in this process, with callbacks that do not belong to the run's configuration."""
    try:
        with signals.handled():
            return TrainerCLI(module_class, data_class, args, callbacks=callbacks)
    finally:
        os.environ.pop(ranks.FOLDER_VARIABLE, None)  # a later training in this process has a folder of its own
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
