"""``fit --help`` on two screens: this project's options, and of Lightning's those that people use."""

from __future__ import annotations

import re
import shutil
import textwrap
from argparse import SUPPRESS
from typing import Any

# Lightning's options that are shown, in words that fit in a line or two. ``--help all`` has every one.
FOREIGN = {
    "config": "File of options; what stands later in a call wins.",
    "print_config": "Print all options as a configuration file, and end.",
    "seed_everything": "Seed of weights, order and augmentation; true chooses one.",
    "trainer.max_epochs": "Epochs to train; -1 trains until something else ends it.",
    "trainer.accelerator": "cpu, gpu, mps, tpu, or auto.",
    "trainer.devices": "Number of devices, a list of them, or auto.",
    "trainer.strategy": "How devices share the work: auto, ddp, fsdp.",
    "trainer.precision": "Number format: 32-true, bf16-mixed, 16-mixed, 64-true …",
    "trainer.accumulate_grad_batches": "Batches whose gradients are added up for one step.",
    "trainer.gradient_clip_val": "Largest norm of the gradient; null does not clip.",
    "trainer.limit_train_batches": "Batches of an epoch: a number, or a fraction such as 0.1.",
    "trainer.check_val_every_n_epoch": "Epochs between two validations.",
    "trainer.fast_dev_run": "Batches of a try of everything that keeps nothing.",
    "trainer.callbacks": "Add a callback: --trainer.callbacks+=CLASS.",
    "trainer.default_root_dir": "Folder of the runs; null is runs/.",
    "checkpoint.monitor": "Metric that chooses the best checkpoint.",
    "checkpoint.mode": "Whether its min or its max is best.",
    "checkpoint.save_top_k": "Best checkpoints that are kept.",
    "checkpoint.every_n_epochs": "Epochs between two checkpoints; null is 1.",
    "early_stopping.monitor": "Metric that must improve; null turns it off.",
    "early_stopping.mode": "Whether it improves to its min or its max.",
    "early_stopping.patience": "Validations without improvement that end the training.",
    "early_stopping.min_delta": "Smallest change that counts.",
    "ckpt_path": "Checkpoint file to begin with, or to evaluate.",
}
TITLES = {
    "trainer": "Training",
    "checkpoint": "The best checkpoint",
    "early_stopping": "Early stopping",
}
OF_FIT = ("checkpoint", "early_stopping", "save_every_n_steps", "debug", "resume", "accept_changes", "speed")
PATHS = "PATH is a file or folder that is predicted in the place of the test data; FILE gets all columns of the table."
SILENT = ("weights_only", "verbose", "return_predictions")  # the commands set them themselves
COLUMN = 29  # where the texts begin


def short(parser: Any, program: str) -> str:
    """The help of a command: a line or two for each option, with its value where none is given.

    Args:
        parser: The command's parser.
        program: How the command is called.
    """
    width = max(80, min(120, shutil.get_terminal_size().columns))
    values = parser.get_defaults(skip_validation=True)
    blocks: dict[str, list[str]] = {}
    for action in parser._actions:
        name = action.dest.partition(".")[0]
        if name in OF_FIT and not program.endswith(" fit"):
            continue
        if action.dest in FOREIGN or (action.default is not SUPPRESS and name not in (*TITLES, *SILENT)):
            title = TITLES.get(name, action.container.title if "." in action.dest else "Options")
            blocks.setdefault(title, []).extend(_lines(action, values.get(action.dest), width))
    of_classes = [action.option_strings[0] for action in parser._actions if action.dest.endswith(".help")]
    sources = "--run RUN | --onnx FILE"
    files = f"\n       {program} PATH … [{sources}] [--csv FILE]\n\n{PATHS}" if program.endswith(" predict") else ""
    head = f"usage: {program} [options]{files}\n\nAll options, those of Lightning too, each in full: --help all"
    if own := [option for option in of_classes if not option.startswith("--trainer")]:
        head += f"\nThe options of a class: {', '.join(own)} CLASS"
    titles = {title: textwrap.fill(f"{_plain(title)}:", width) for title in blocks}
    return "\n".join([head, *(line for title, lines in blocks.items() for line in ("", titles[title], *lines)), ""])


def _plain(title: str) -> str:
    """The title of a group of options; that of a class without a docstring is its name."""
    return re.sub(r"^<class '(?:\w+\.)*(\w+)'>$", r"\1", title.replace("``", ""))


def _lines(action: Any, value: Any, width: int) -> list[str]:
    """The lines of an option, that begin with its name."""
    option = action.option_strings[-1].removesuffix("+")
    text = (
        FOREIGN.get(action.dest)
        or " ".join((action.help or "").split()).replace("``", "").partition(". ")[0].rstrip(".") + "."
    ).removeprefix(".")  # of an argument without a docstring
    if (choices := str(action.metavar)).startswith("{") and "true" not in choices:
        text += f" One of {choices.strip('{}').replace(',', ', ')}."
    if hasattr(value, "class_path"):
        value = value.class_path.rpartition(".")[2]
    if isinstance(value, bool | int | float | str) and value != "":
        text += f" [{str(value).lower() if isinstance(value, bool) else value}]"
    name = f"  {option}  ".ljust(COLUMN)
    return textwrap.wrap(text, width, initial_indent=name, subsequent_indent=" " * COLUMN, break_long_words=False)
