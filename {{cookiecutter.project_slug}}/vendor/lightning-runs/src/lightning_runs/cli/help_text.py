"""``fit --help`` on two screens: this project's options, and those of Lightning that people use."""

import re
import shutil
import textwrap
from argparse import SUPPRESS
from typing import Any

# Lightning's options that are shown, in words that fit in a line or two. ``--help all`` has every one.
LIGHTNING = {
    "config": "Config file; later arguments override earlier ones.",
    "print_config": "Print the resolved config and exit.",
    "seed_everything": "Seed of weights, order and augmentation; true chooses one.",
    "ckpt_path": "Checkpoint file to resume from, or to evaluate.",
    "trainer.max_epochs": "Epochs to train; -1 trains until something else ends it.",
    "trainer.accelerator": "cpu, gpu, mps, tpu, or auto.",
    "trainer.devices": "Number of devices, a list of them, or auto.",
    "trainer.strategy": "How devices share the work: auto, ddp, fsdp.",
    "trainer.precision": "Number format: 32-true, bf16-mixed, 16-mixed, 64-true …",
    "trainer.accumulate_grad_batches": "Batches whose gradients are added up for one step.",
    "trainer.gradient_clip_val": "Largest norm of the gradient; null does not clip.",
    "trainer.limit_train_batches": "Batches per epoch: a number, or a fraction such as 0.1.",
    "trainer.check_val_every_n_epoch": "Epochs between two validations.",
    "trainer.fast_dev_run": "Smoke test: run N batches of train, val and test; save nothing.",
    "trainer.callbacks": "Add a callback: --trainer.callbacks+=CLASS.",
    "checkpoint.monitor": "Metric that chooses the best checkpoint.",
    "checkpoint.mode": "Whether its min or its max is best.",
    "checkpoint.save_top_k": "Number of best checkpoints to keep.",
    "early_stopping.monitor": "Metric that must improve; null turns it off.",
    "early_stopping.mode": "Whether it improves to its min or its max.",
    "early_stopping.patience": "Validations without improvement that end the training.",
}
TITLES = {"trainer": "Training", "checkpoint": "The best checkpoint", "early_stopping": "Early stopping"}
OF_FIT = ("checkpoint", "early_stopping", "save_every_n_steps", "debug", "resume", "accept_changes", "speed")
OF_FIT += ("test", "weights", "weights_strict")
SILENT = ("weights_only", "verbose", "return_predictions")  # the commands set them themselves
COLUMN = 29  # where the texts begin


def short(parser: Any, program: str) -> str:
    """Return the help of a command: a line or two for each option, with its default in brackets."""
    width = max(80, min(120, shutil.get_terminal_size().columns))
    files = f"\n       {program} PATH … [--run RUN | --onnx FILE] [--csv FILE]" if program.endswith(" predict") else ""
    head = f"usage: {program} [options]{files}\n\nEvery option, with Lightning's, in full: --help all"
    options = [action.option_strings[0] for action in parser._actions if action.dest.endswith(".help")]
    classes = [option for option in options if not option.startswith("--trainer")]
    if classes:
        head += f"\nThe options of a class: {', '.join(classes)} CLASS"
    lines = [head]
    defaults = parser.get_defaults(skip_validation=True)
    for title, actions in _groups(parser, program.endswith(" fit")).items():
        lines += ["", textwrap.fill(f"{title}:", width)]
        for action in actions:
            lines += _option(action, defaults.get(action.dest), width)
    return "\n".join([*lines, ""])


def _groups(parser: Any, fit: bool) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for action in parser._actions:
        name = action.dest.partition(".")[0]
        of_project = action.default is not SUPPRESS and name not in (*TITLES, *SILENT)
        if (of_project or action.dest in LIGHTNING) and (fit or name not in OF_FIT):
            title = TITLES.get(name, action.container.title if "." in action.dest else "Options")
            # the title of a class without a docstring is its name
            title = re.sub(r"^<class '(?:\w+\.)*(\w+)'>$", r"\1", title.replace("``", ""))
            groups.setdefault(title, []).append(action)
    return groups


def _option(action: Any, default: Any, width: int) -> list[str]:
    text = LIGHTNING.get(action.dest)
    if text is None:
        sentence = " ".join((action.help or "").split()).replace("``", "").partition(". ")[0].rstrip(".")
        text = f"{sentence}." if sentence else ""  # of an argument without a docstring
    choices = str(action.metavar)
    if choices.startswith("{") and "true" not in choices:
        text += f" One of {choices.strip('{}').replace(',', ', ')}."
    if hasattr(default, "class_path"):
        default = default.class_path.rpartition(".")[2]
    if isinstance(default, bool):
        default = str(default).lower()
    if isinstance(default, int | float | str) and default != "":
        text += f" [{default}]"
    name = f"  {action.option_strings[-1].removesuffix('+')}  ".ljust(COLUMN)
    return textwrap.wrap(text, width, initial_indent=name, subsequent_indent=" " * COLUMN, break_long_words=False)
