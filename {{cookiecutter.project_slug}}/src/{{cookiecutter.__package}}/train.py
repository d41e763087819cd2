"""The trainer script: ``python -m <package> fit``, ``validate``, ``test`` and ``predict``."""

from __future__ import annotations

import csv
import os
import sys
from typing import Any

import torch

from . import commands, runs, signals
from .cli import RunCLI, shown
from .data import DataModule
from .errors import message
from .module import ImageClassifier
from .parser import Parser, quiet


class TrainerCLI(RunCLI):
    """The commands; every option has its value in ``configs/default.yaml`` and is listed by ``--help``."""

    def add_arguments_to_parser(self, parser: Parser) -> None:
        super().add_arguments_to_parser(parser)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        parser.link_arguments("data.num_classes", "model.num_classes", apply_on="instantiate")
        parser.link_arguments("data.input_shape", "model.input_shape", apply_on="instantiate")

    def fit(self, **kwargs: Any) -> None:
        """Train, then test the best checkpoint."""
        self.say(f"Training on {self.where()}.")
        with self.recorded():
            self.trainer.fit(**kwargs)
            self.keep_last_and_best()
            self.test(model=self.model, datamodule=self.datamodule, ckpt_path=self.ckpt_path, weights_only=True)
        if self.run is not None:
            program = f"python -m {__package__}"
            self.say(
                f"Run folder: {shown(self.run.folder)}\n"
                f"Next: {program} predict              label the test images, into predictions.csv\n"
                f"      {program} fit --help           every option, such as --model.optimizer.init_args.lr 0.001"
            )
            commands.after_fit(self)

    def validate(self, **kwargs: Any) -> None:
        """Measure the checkpoint on the validation images."""
        kwargs["verbose"] = False
        self.report("validate", self.trainer.validate(**kwargs)[0])

    def test(self, **kwargs: Any) -> None:
        """Measure the checkpoint on the test images."""
        kwargs["verbose"] = False  # the report takes the place of Lightning's table
        self.report("test", self.trainer.test(**kwargs)[0])

    def predict(self, **kwargs: Any) -> None:
        """Classify the test images: ``predictions.csv`` has the file or index, the label and its probability."""
        predictions: Any = self.trainer.predict(**kwargs)
        if self.trainer.world_size > 1:
            parts: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(parts, predictions)
            predictions = [batch for part in parts for batch in part]
        if not self.trainer.is_global_zero:
            return
        names = self.datamodule.class_names
        columns = (
            torch.cat([batch[key] for batch in predictions]).tolist() for key in ("index", "label", "probability")
        )
        file = self.output_folder / "predictions.csv"
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            files = self.datamodule.predicted_files
            writer.writerow(["file" if files else "index", "label", "probability"])
            for index, label, probability in sorted(zip(*columns, strict=True)):
                writer.writerow([files[index] if files else index, names[label], f"{probability:.6f}"])
        self.say(f"Predictions: {shown(file)}")


def main(args: list[str] | None = None) -> int:
    """Run the trainer script.

    Args:
        args: The command line without the program's name; None takes that of this process.

    Returns:
        The exit code: 0 if what was asked was done, 1 if it failed, and where a signal stopped it that of
        `signals.EXIT_CODES`. A mistake on the command line ends the process with 2.
    """
    try:
        with signals.handled(), quiet():
            TrainerCLI(ImageClassifier, DataModule, args=sys.argv[1:] if args is None else args)
    except Exception as error:
        text = message(error)
        if text is None:
            raise
        print(f"error: {text}", file=sys.stderr)
        return 1
    except signals.Stopped as stop:
        if runs.launched_by_rank_0():  # whose watch over this process would take another code for a crash
            return 0
        print(f"stopped by {stop.name}; to go on: python -m {__package__} fit --resume", file=sys.stderr)
        return int(stop.code or 1)
    finally:
        os.environ.pop(runs.FOLDER_VARIABLE, None)  # a later training in this process has a folder of its own
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return 0
