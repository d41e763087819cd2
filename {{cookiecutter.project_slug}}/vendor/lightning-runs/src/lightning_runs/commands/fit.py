"""The commands fit, validate, test and predict: the life of a run from its first step to its report."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, StochasticWeightAveraging
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch.nn.parameter import is_lazy

from .. import contract, files, runs
from ..cli import batch_size
from ..cli.chatter import quiet
from ..cli.messages import message
from ..cli.run_cli import RunCLI
from ..errors import UserError, brief
from ..files import relative_path
from ..names import program
from ..reports import predictions
from ..resume import differences, signals
from ..runs import ranks
from ..runs.options import config_text
from ..training import hardware, loggers
from . import report

STEPS = {"validate": "validation_step", "test": "test_step", "predict": "predict_step"}
SPLITS = {"validate": "val", "test": "test", "predict": "predict"}
LOADERS = {command: f"{split}_dataloader" for command, split in SPLITS.items()}


class TrainerCLI(RunCLI):
    """Lightning's four commands; every option has its value in ``configs/default.yaml`` and is listed by ``--help``."""

    def fit(self, **kwargs: Any) -> None:
        """Train, then test the best checkpoint, or under ``limit_test_batches=0`` validate it."""
        self.say(f"Training {self.size()} on {self.where()}.")
        with self.recorded(), batch_size.explained(self.options(), training=True):
            self.trainer.fit(**kwargs)
            self.keep_last_and_best()
            for callback in self.trainer.callbacks:
                if isinstance(callback, EarlyStopping) and callback.wait_count >= callback.patience:
                    self.say(f"Ended early: {callback.monitor} was no better in {callback.wait_count} validations.")
            tested = self.trainer.limit_test_batches != 0  # 0: the test data are not to be read
            last = "test" if tested else "validate"
            if unmeasured := self.missing(last):
                self.say(f"There was no {last}: {unmeasured}")
            else:
                built = self.trainer.loggers
                if not tested:  # the epoch's own validation is logged already
                    self.trainer.loggers = []
                try:
                    self.measure(last, kwargs | {"ckpt_path": self.ckpt_path})
                finally:
                    self.trainer.loggers = built
        if self.run is not None:
            self.say(
                f"Run folder: {relative_path(self.run.folder)}\n"
                f"Next: {program()} runs             a table of all runs\n"
                f"      {program()} fit --help       the options"
            )
            if tested:
                write_report(self)

    def validate(self, **kwargs: Any) -> None:
        """Measure the checkpoint on the validation data."""
        self.measure("validate", kwargs)

    def test(self, **kwargs: Any) -> None:
        """Measure the checkpoint on the test data."""
        self.measure("test", kwargs)

    def predict(self, **kwargs: Any) -> None:
        """Predict the test data: ``predictions.csv`` has a row for each item."""
        if lacking := self.missing("predict"):
            raise UserError(lacking)
        with batch_size.explained(self.options()):
            columns = predictions.compute(self)
        if self.trainer.is_global_zero:
            file = Path(self.trainer.default_root_dir) / "predictions.csv"
            predictions.write_csv(file, *predictions.rows(self, columns))
            self.say(f"Predictions: {relative_path(file)}")

    # ---- What a command needs

    def missing(self, command: str) -> str:
        """What the user's classes lack for a command, in a sentence; empty if nothing."""
        module, data = type(self.model).__name__, type(self.datamodule).__name__ if self.datamodule else None
        step, loader = STEPS[command], LOADERS[command]
        limit = f"limit_{SPLITS[command]}_batches"
        if getattr(self.trainer, limit) == 0:  # as in a fold of a cross-validation
            return f"trainer.{limit} is 0, so none of these data are read. Give --trainer.{limit} 1.0"
        steps = (step, "forward") if command == "predict" else (step,)  # Lightning's own predict_step calls forward
        if not any(is_overridden(name, self.model) for name in steps):
            return f"{module} has no {step}. Add it to {module}; docs/own-code.md shows one."
        if not (is_overridden(loader, self.model) or (data and is_overridden(loader, self.datamodule))):
            return f"there is no {loader}. Add it to {data or module}; docs/own-code.md shows one."
        return ""

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
        unused = None
        try:
            yield
        except BaseException as error:
            interrupted = isinstance(error, signals.Stopped)
            with suppress(OSError):  # what kept the run from writing may keep this from it too
                self.run.end("interrupted" if interrupted else "failed", error=f"{type(error).__name__}: {error}")
            # the user made a mistake, before the first step: the same command works once it is mended
            unused = self.created and not self.trainer.global_step and isinstance(error, Exception) and message(error)
            raise
        finally:
            loggers.close(self.trainer.loggers)
            if unused:
                self.run.discard()
        self.run.end("finished")

    def _begin(self, run: runs.Run) -> None:
        files.write_whole(run.config_file, config_text(self.options()))  # a resumed run may have other limits
        names = contract.get("class_names", self.datamodule, self.model)
        monitor = self.trainer.checkpoint_callback
        run.begin(
            f"{program()} {shlex.join(self.args)}",
            device=self.device,
            processes=self.trainer.world_size,
            linked=self.links,
            class_names=None if names is None else [str(name) for name in names],
            headline=contract.get("headline", self.model, self.datamodule),
            metric=getattr(monitor, "monitor", None),
            mode=getattr(monitor, "mode", None),
            debug=self.config.fit.debug,
        )

    def keep_last_and_best(self) -> None:
        """Save the final state as ``last.ckpt``, and choose the best checkpoint for the test."""
        if self.run is None:
            return
        if self.trainer.global_step == 0:
            empty = not self.trainer.num_training_batches and self.trainer.limit_train_batches
            why = (
                "train_dataloader yields no batch" if empty else "the limits on epochs, steps or batches leave no step"
            )
            raise UserError(f"nothing was trained: {why}.")
        if self.exact_resume.saved_at is not None:
            self.exact_resume.save(self.trainer, self.model)
        else:  # a resumed run that had nothing left to train
            self.exact_resume.compare_data(self.trainer, self.model)
        best = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        swa = [callback for callback in self.trainer.callbacks if isinstance(callback, StochasticWeightAveraging)]
        if swa and self.trainer.current_epoch > swa[0].swa_end + swa[0].pl_module_contains_batch_norm(self.model):
            best = ""  # the averaged weights are those of the end alone
        elif swa:
            self.say(f"{type(swa[0]).__name__} averaged nothing, for the training ended before trainer.max_epochs.")
        self.ckpt_path = best or str(self.run.checkpoints / "last.ckpt")
        if self.trainer.is_global_zero:
            score = getattr(self.trainer.checkpoint_callback, "best_model_score", None) if best else None
            best_score = None if score is None else float(score)
            self.run.update(best_checkpoint=Path(str(self.ckpt_path)).name, best_score=best_score)

    def measure(self, command: str, options: dict[str, Any]) -> None:
        """Validate or test, print the metrics, and write them to a file in the run's folder."""
        if lacking := self.missing(command):
            raise UserError(lacking)
        # this takes the place of Lightning's table
        with batch_size.explained(self.options()):
            results = getattr(self.trainer, command)(**options | {"verbose": False})
        metrics = self._of_all_ranks({name: value for of_loader in results for name, value in of_loader.items()})
        values = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        if not sum(getattr(self.trainer, f"num_{SPLITS[command]}_batches")):
            values = f"nothing was measured: {LOADERS[command]} yields no batch."
            if self.subcommand != "fit":
                raise UserError(values)
        self.say(values + (f"  ({relative_path(Path(self.ckpt_path))})" if self.ckpt_path else ""))
        if self.trainer.is_global_zero and not self.trainer.fast_dev_run:
            checkpoint, file = Path(self.ckpt_path).name if self.ckpt_path else None, f"{command}.json"
            if self.run is not None and self.subcommand != "fit":
                tell = contract.get("fingerprint", self.datamodule, self.model)
                if other := differences.otherwise(self.run, self.options(), checkpoint, tell):
                    self.say(f"note: {other}. So {file} stays the run's own, and other_{file} has this.")
                    file = f"other_{file}"
            text = json.dumps({"checkpoint": checkpoint, **metrics}, indent=2) + "\n"
            files.write_whole(Path(self.trainer.default_root_dir) / file, text)

    def _of_all_ranks(self, metrics: dict[str, float]) -> dict[str, float]:
        """Average what each process measured on its share, where the module has not done so; print a note of it."""
        parts = ranks.gathered(metrics, self.trainer.world_size)
        means = {name: sum(part[name] for part in parts) / len(parts) for name in metrics}
        differing = [name for name, mean in means.items() if any(abs(part[name] - mean) > 1e-9 for part in parts)]
        if differing:
            self.say(
                f"{', '.join(differing)}: each process logged its own value, and this is their mean. In validation the"
                " first process's value counts. Log them with self.log(…, sync_dist=True)."
            )
        return means if differing else metrics

    def say(self, text: str) -> None:
        """Print a text once, whatever the number of processes."""
        if self.trainer.is_global_zero:
            print(text, flush=True)

    def size(self) -> str:
        """The model's name, and how many parameters it has; of one that is made later, its name."""
        counts = [p.numel() for p in self.model.parameters() if not is_lazy(p)]
        return type(self.model).__name__ + (f", {sum(counts):,} parameters," if counts else "")

    def where(self) -> str:
        """The device, number of processes and precision in words."""
        chosen = "" if self.config[str(self.subcommand)].trainer.accelerator != "auto" else " (chosen automatically)"
        size = self.trainer.world_size
        processes = "1 process" if size == 1 else f"{size} processes"
        return f"{self.device}{chosen}, {processes}, precision {self.trainer.precision}"


def main(module_class: type, data_class: type | None, args: list[str]) -> int:
    """Run one of the four commands, and return its exit code."""
    try:
        run_trainer_command(module_class, data_class, args)
    except Exception as error:
        if (text := message(error)) is None:
            raise
        print(f"error: {text}", file=sys.stderr)
        return 1
    except signals.Stopped as stop:
        if ranks.launched_by_rank_0():  # whose watch over this process would take another code for a crash
            return 0
        hint = f"; to go on: {program()} fit --resume" if args[0] == "fit" else ""
        print(f"stopped by {stop.name}{hint}", file=sys.stderr)
        return int(stop.code or 1)
    return 0


def run_trainer_command(module_class: type, data_class: type | None, args: list[str], callbacks: Sequence[Callback] = ()) -> TrainerCLI:
    """Run one of the four commands in this process, with callbacks that are no part of the run's configuration.

    Raises:
        signals.Stopped: A signal came; a training can be resumed.
        Exception: The command failed.
    """
    try:
        with signals.handled(), quiet(), hardware.as_many_threads_as_cores():
            args = batch_size.with_batch_size(module_class, data_class, args)
            return TrainerCLI(module_class, data_class, args, callbacks=callbacks)
    finally:
        os.environ.pop(ranks.FOLDER_VARIABLE, None)  # a later training in this process has a folder of its own
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def write_report(cli: RunCLI) -> None:
    """Write the report of a run that has just finished; whatever happens, the run is finished."""
    try:
        report.after_fit(cli)
    except Exception as error:  # whatever a chart may trip over
        cli.say(f"No report was written: {brief(error)}")
