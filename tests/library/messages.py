"""Mistakes at the command line, and what it prints: `make messages` writes messages.txt, which a review reads.

Run in a folder with the toy's configuration and two runs, ``finished`` and ``interrupted``. The tests assert facts: the
exit code, the words that must be named, and that nothing is lost. Only messages.txt holds sentences.
"""

import os
import re
import shlex
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from toy import Toy, ToyData, answer, begin_and_interrupt, command, working_in

FILE = Path(__file__).with_suffix(".txt")
HEAD = "What the command line prints. Written by: make messages (python tests/library/messages.py)\n"


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("executed",)


class Wide(Toy):
    """A model of another size than that of the checkpoints."""

    def __init__(self, lr: float = 0.02) -> None:
        super().__init__(lr)
        self.layer = torch.nn.Linear(4, 2)


class TestedNot(Toy):
    test_step = pl.LightningModule.test_step  # pyright: ignore


class Mistake(NamedTuple):
    """A command that can't be carried out: what it must name, its exit code, and the module that it is run with."""

    args: str
    named: str
    code: int = 1
    module: type = Toy


CALLBACK = "fit --trainer.callbacks+=pytorch_lightning.callbacks."
HELP = {
    args: Mistake(args, "usage", 0)
    for args in ("--help", "fit --help", "predict --help", "runs --help", "report --help", "serve --help", "docs")
}
MISTAKES = {
    "no command": Mistake("", "usage", 2),
    "a misspelt command": Mistake("tset", "tset test", 2),
    "a misspelt option": Mistake("fit --trainer.max_epoch=3", "--trainer.max_epoch --trainer.max_epochs", 2),
    "a run without its option": Mistake("test finished", "finished --run", 2),
    "a value that is no number": Mistake("fit --data.batch_size many", "--data.batch_size many int", 2),
    "a value that is no choice": Mistake("fit --logger paper", "--logger paper tensorboard csv", 2),
    "a module that does not exist": Mistake("fit --trainer.callbacks+=lost.Lost", "--trainer.callbacks 'lost'", 2),
    "a misspelt class": Mistake(f"{CALLBACK}EarlyStoping", "EarlyStoping EarlyStopping?", 2),
    "a misspelt model": Mistake("fit --model toy.Tou", "--model toy.Tou Toy?"),
    "a missing file": Mistake("fit -c missing.yaml", "missing.yaml", 2),
    "a file that is cut off": Mistake("fit -c cut.yaml", "cut.yaml YAML 2", 2),
    "a group that is a number": Mistake("fit -c number.yaml", "trainer number.yaml", 2),
    "a misspelt key": Mistake("fit -c misspelt.yaml", "trainer.max_epochz misspelt.yaml --trainer.max_epochs", 2),
    "a wrong value in a file": Mistake("fit -c type.yaml", "type.yaml trainer.devices ['many'] int", 2),
    "a folder of checkpoints": Mistake("fit --checkpoint.dirpath=x", "--checkpoint.dirpath", 2),
    "a bare Trainer": Mistake("fit --trainer.barebones=true", "trainer.barebones"),
    "a GPU that is not there": Mistake("fit --trainer.accelerator=gpu", "trainer.accelerator gpu cpu"),
    "an unknown strategy": Mistake("fit --trainer.strategy=dpp", "strategy dpp"),
    "a precision that a CPU lacks": Mistake("fit --trainer.precision=16-mixed", "16-mixed bf16-mixed 32-true"),
    "machines that nothing started": Mistake("fit --trainer.num_nodes=2", "trainer.num_nodes 2 torchrun srun"),
    "an impossible name": Mistake("fit --run=a/b", "--run a/b"),
    "a name of dots": Mistake("fit --run=..", "--run .."),
    "a name that is taken": Mistake("fit --run finished", "finished --run --resume"),
    "a folder of runs that is a file": Mistake("fit --trainer.default_root_dir list.yaml", "list.yaml"),
    "nothing to train": Mistake("fit --trainer.max_epochs=0", "epochs"),
    "a callback twice": Mistake(
        f"{CALLBACK}EarlyStopping --trainer.callbacks.monitor val/loss --early_stopping.monitor val/loss", "stateful"
    ),
    "a finder of rates": Mistake(f"{CALLBACK}LearningRateFinder", "LearningRateFinder lr_find"),
    "layers that wait from the start": Mistake(
        "fit --trainer.callbacks+=lightning_runs.training.finetuning.Unfreezing --trainer.callbacks.epochs=[1,3]",
        "Unfreezing [1, 3]",
    ),
    "LightningCLI: an optimizer": Mistake("fit --optimizer Adam", "--optimizer", 2),
    "LightningCLI: a short name": Mistake("fit --model Toy", "--model Toy package.module.Class"),
    "LightningCLI: help of a class": Mistake("fit --model.help toy.Toy", "--model.help", 2),
    "LightningCLI: a file before the command": Mistake("--config type.yaml fit", "--config", 2),
    "LightningCLI: a file of two commands": Mistake("fit -c two.yaml", "fit.trainer.max_epochs two.yaml", 2),
    "LightningCLI: the best checkpoint": Mistake("test --ckpt_path best", "checkpoint best"),
    "a missing file of the data": Mistake("fit --data missing.yaml", "missing.yaml"),
    "resume: no run": Mistake("fit --resume --trainer.default_root_dir=none", "none fit"),
    "resume: no such run": Mistake("fit --resume=nothing", "nothing interrupted"),
    "resume: two names": Mistake("fit --run a --resume b", "--run --resume --ckpt_path"),
    "resume: changed options": Mistake("fit --resume interrupted --model.lr 1", "model.lr 1.0 0.02 --accept_changes"),
    "test: no run": Mistake("test --trainer.default_root_dir=none", "none fit --ckpt_path"),
    "test: no step": Mistake("test", "test_step", module=TestedNot),
    "test: no checkpoint": Mistake("test --ckpt_path=no.ckpt", "no.ckpt"),
    "test: an address": Mistake("test --ckpt_path=http://127.0.0.1/a.ckpt", "127.0.0.1/a.ckpt"),
    "test: a damaged checkpoint": Mistake("test --ckpt_path=damaged.ckpt", "damaged.ckpt"),
    "test: code in a checkpoint": Mistake("test --ckpt_path=code.ckpt", "code.ckpt print"),
    "test: a file of another program": Mistake("test --ckpt_path=other.ckpt", "other.ckpt runs/NAME/checkpoints"),
    "test: a model of another size": Mistake("test", "layer.weight epoch=0-step=6.ckpt", module=Wide),
    "predict: no such file": Mistake("predict new.png", "ToyData predict_paths"),
    "serve: not exported": Mistake("serve finished", "finished/export/model.onnx export"),
    "serve: no token": Mistake("serve --host 0.0.0.0", "--host 0.0.0.0 SERVE_TOKEN"),
}


def prepare(folder: Path) -> None:
    """Write the files that the mistakes read."""
    texts = {"cut": "trainer: [\n", "list": "- 1\n", "number": "trainer: 3\n"}
    texts |= {"misspelt": "trainer:\n  max_epochz: 3\n", "type": "trainer:\n  devices: [many]\n"}
    texts |= {"two": "fit:\n  trainer:\n    max_epochs: 3\n"}
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    (folder / "damaged.ckpt").write_bytes(b"no checkpoint")
    torch.save({"state_dict": Code()}, folder / "code.ckpt")
    torch.save({"weights": torch.ones(3)}, folder / "other.ckpt")


def printed(mistake: Mistake) -> tuple[int, str]:
    """Make a mistake; return the exit code, and what was printed without what differs from machine to machine."""
    code, text = answer(mistake.module, ToyData, shlex.split(mistake.args), "toy_project")
    text = text.replace(str(Path.cwd()), "FOLDER").replace(torch.__version__, "VERSION")
    text = re.sub(r"(names are: |devices )(\d+|auto, [\w, ]+)( or fewer|\.)", r"\1…\3", text)
    return code, text


def entry(title: str, args: str, code: int, text: str) -> str:
    """Return a part of messages.txt."""
    return f"## {title}\n$ {args}\n{text.rstrip()}\nexit {code}\n"


def entries() -> dict[str, str]:
    """Return the parts of messages.txt by their titles."""
    parts = FILE.read_text(encoding="utf-8").split("\n## ")[1:]
    return {part.partition("\n")[0]: f"## {part.rstrip()}\n" for part in parts}


if __name__ == "__main__":
    os.environ["COLUMNS"] = "80"
    parts = [HEAD]
    with TemporaryDirectory() as folder, working_in(Path(folder)):
        command("fit", "--run", "finished")
        begin_and_interrupt("interrupted")
        shutil.move("runs", "made")
        prepare(Path.cwd())
        for title, mistake in (HELP | MISTAKES).items():
            shutil.copytree("made", "runs", dirs_exist_ok=True)
            parts.append(entry(title, mistake.args, *printed(mistake)))
    FILE.write_text("\n".join(parts), encoding="utf-8")
