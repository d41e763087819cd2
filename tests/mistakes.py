"""Bad input and what the trainer says to it: test_mistakes.py checks it, and docs/mistakes.md shows it."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from project import PACKAGE, SMALL

# A superuser may write anywhere; without its capabilities this process is one that may not.
WITHOUT_RIGHTS = """
import ctypes
libc = ctypes.CDLL(None)
if hasattr(libc, "capset"):
    libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
"""
WITHOUT_NETWORK = """
import urllib.error, urllib.request
def refuse(*args, **kwargs): raise urllib.error.URLError("Name or service not known")
urllib.request.urlopen = refuse
"""


def in_second_epoch(code: str) -> str:
    """Python that has one statement executed once, at the start of the second epoch."""
    return f"""
import multiprocessing, os, shutil, signal
from {PACKAGE}.module import ImageClassifier
def on_train_epoch_start(self):
    if self.current_epoch == 1 and "done" not in globals():
        globals()["done"] = True
        {code}
ImageClassifier.on_train_epoch_start = on_train_epoch_start
"""


@dataclass(frozen=True)
class Mistake:
    """A command that can't do what it is asked to.

    Args:
        what: What is wrong, for a reader.
        arguments: Of the trainer script.
        code: The exit code.
        says: A part of the output, in one line, without a path of the machine.
        prepare: Makes the bad input, in the project's folder.
        before: Python to run first; such a command has a process of its own.
        mend: Takes the bad input away again; after it, ``--resume`` goes on. Only for what happens in mid-run.
    """

    what: str
    arguments: tuple[str, ...]
    code: int
    says: str
    prepare: Callable[[Path], object] = field(default=lambda project: None)
    before: str = ""
    mend: Callable[[Path], object] | None = None


def _fit(*options: str) -> tuple[str, ...]:
    return ("fit", *SMALL, *options)


def _config(name: str, content: bytes, what: str, says: str) -> Mistake:
    return Mistake(what, ("fit", "-c", name), 2, says, lambda project: (project / name).write_bytes(content))


def _tensors(what: str, says: str, **files: Any) -> Mistake:
    """corrupt_mnist with other files: tensors, bytes, or None for none."""
    folder = "data/" + what.replace(" ", "-").replace(",", "")

    def prepare(project: Path) -> None:
        datasets.write("corrupt_mnist", project / folder)
        for name, content in files.items():
            file = project / folder / f"{name}.pt"
            if isinstance(content, bytes):
                file.write_bytes(content)
            elif content is None:
                file.unlink()
            else:
                torch.save(content, file)

    arguments = _fit("--data.dataset=corrupt_mnist", f"--data.root={folder}")
    return Mistake(f"corrupt_mnist: {what}", arguments, 1, says.replace("ROOT", folder), prepare)


def _mnist(what: str, says: str, file: str, change: Callable[[Path], object]) -> Mistake:
    folder = "data/" + what.replace(" ", "-")

    def prepare(project: Path) -> None:
        datasets.write("mnist", project / folder)
        change(project / folder / "MNIST" / "raw" / file)

    arguments = _fit("--data.dataset=mnist", f"--data.root={folder}")
    return Mistake(f"mnist: {what}", arguments, 1, says.replace("ROOT", folder), prepare)


def _images(
    what: str, says: str, change: Callable[[Path], object], *options: str, before: str = "", mend: Any = None
) -> Mistake:
    folder = "data/" + what.replace(" ", "-").replace(",", "")

    def prepare(project: Path) -> None:
        datasets.image_folder(project / folder)
        (project / folder / "train" / "circle" / "broken.jpg").unlink()
        change(project / folder)

    options = ("--data.dataset=image_folder", f"--data.root={folder}", "--data.image_size=16", *options)
    options = (*options, "--trainer.limit_train_batches=1.0")
    says, before = says.replace("ROOT", folder), before.replace("ROOT", folder)
    mended = None if mend is None else lambda project: mend(project / folder)
    return Mistake(f"images: {what}", _fit(*options), 1, says, prepare, before, mended)


def _idx_header(file: Path, *shape: int) -> None:
    file.write_bytes(struct.pack(f">{1 + len(shape)}I", 0x0800 + len(shape), *shape) + bytes(int(np.prod(shape))))


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("executed",)


def _run_checkpoint(run: str, name: str) -> Callable[[Path], object]:
    return lambda project: shutil.copy(project / "runs" / run / "checkpoints" / "last.ckpt", project / name)


_LABELS = torch.arange(100) % 10
_FEW = "--data.num_workers=0"
_FOLDERS = [
    Mistake(
        "`data.root` is not there",
        _fit("--data.dataset=image_folder", "--data.root=data/none"),
        1,
        "data/none/train is missing: put your files into data/none/train/CLASS/ and data/none/test/CLASS/"
        " (--data.root names another folder).",
    ),
    Mistake(
        "`data.root` is a file",
        _fit("--data.dataset=image_folder", "--data.root=afile"),
        1,
        "afile/train is missing: put your files into afile/train/CLASS/ and afile/test/CLASS/",
        lambda project: (project / "afile").write_text("x"),
    ),
    Mistake(
        "`data.root` is empty",
        _fit("--data.dataset=corrupt_mnist", "--data.root=empty"),
        1,
        "empty/train_images_0.pt is missing: data.root must be the folder with the corrupt MNIST files.",
        lambda project: (project / "empty").mkdir(),
    ),
    Mistake(
        "no network, and no files",
        _fit("--data.dataset=mnist", "--data.root=empty2"),
        1,
        "mnist could not be read from empty2 or downloaded: Error downloading train-images-idx3-ubyte.gz",
        lambda project: (project / "empty2").mkdir(),
        WITHOUT_NETWORK,
    ),
    Mistake(
        "`data.root` is read-only",
        _fit("--data.dataset=mnist", "--data.root=sealed"),
        1,
        "mnist could not be read from sealed or downloaded: [Errno 13] Permission denied: 'sealed/MNIST'",
        lambda project: (project / "sealed").mkdir(mode=0o555),
        WITHOUT_RIGHTS,
    ),
    Mistake(
        "the folder for runs is read-only",
        _fit("--run=a", "--trainer.default_root_dir=sealed2"),
        1,
        "sealed2: Permission denied.",
        lambda project: (project / "sealed2").mkdir(mode=0o555),
        WITHOUT_RIGHTS,
    ),
    _images(
        "a class folder that may not be read",
        "ROOT/train/circle can't be used: Permission denied.",
        lambda root: (root / "train" / "circle").chmod(0),
        before=WITHOUT_RIGHTS,
    ),
]
_IMAGES = [
    _images(
        "no test folder",
        "ROOT/test is missing: put your files into ROOT/train/CLASS/ and ROOT/test/CLASS/",
        lambda root: shutil.rmtree(root / "test"),
    ),
    _images(
        "a single class",
        "ROOT/train must have a folder of files for each of at least two classes; it has only square.",
        lambda root: shutil.rmtree(root / "train" / "circle"),
    ),
    _images(
        "an empty class folder",
        "ROOT/train/round has no file that ends in one of .jpg .jpeg .png .bmp .gif .tif .tiff .webp.",
        lambda root: [(root / part / "round").mkdir() for part in ("train", "test")],
    ),
    _images(
        "other classes in test",
        "ROOT/test and ROOT/train must have the same class folders; in test, missing: circle; not in train: cone.",
        lambda root: (root / "test" / "circle").rename(root / "test" / "cone"),
    ),
    _images(
        "other classes in val",
        "ROOT/val and ROOT/train must have the same class folders; in val, missing: circle; not in train: cone.",
        lambda root: [(root / "val" / name).mkdir(parents=True) for name in ("cone", "square")],
    ),
    _images(
        "a file that is none",
        "ROOT/train/circle/000.jpg can't be read as an image: cannot identify image file 'ROOT/train/circle/000.jpg'."
        " Replace it, or leave such files out with --data.skip_corrupt true.",
        lambda root: (root / "train" / "circle" / "000.jpg").write_text("<html>not found</html>"),
    ),
    _images(
        "a file that may not be read",
        "ROOT/train/circle/000.jpg can't be read as an image: Permission denied.",
        lambda root: (root / "train" / "circle" / "000.jpg").chmod(0),
        before=WITHOUT_RIGHTS,
    ),
    _images(
        "a file that was cut off",
        "ROOT/train/circle/000.jpg can't be read as an image: ",
        lambda root: _cut(root / "train" / "circle" / "000.jpg"),
        _FEW,
    ),
    _images(
        "a file that was cut off, read by a worker",
        "ROOT/train/circle/000.jpg can't be read as an image: ",
        lambda root: _cut(root / "train" / "circle" / "000.jpg"),
        "--data.num_workers=1",
    ),
]
_TENSORS = [
    _tensors(
        "a label 10",
        "ROOT/train_target_0.pt has labels of type torch.int64 from 1 to 10; they must be whole numbers from 0 to 9.",
        train_target_0=_LABELS + 1,
    ),
    _tensors(
        "a negative label",
        "ROOT/test_target.pt has labels of type torch.int64 from -1 to 4; they must be whole numbers from 0 to 9.",
        test_target=_LABELS[:50] % 6 - 1,
    ),
    _tensors(
        "labels of type float",
        "ROOT/train_target_0.pt has labels of type torch.float32 from 0.0 to 4.5; they must be whole numbers",
        train_target_0=_LABELS / 2,
    ),
    _tensors(
        "fewer labels than images",
        "ROOT/train_target_1.pt has labels of shape (90,) for 100 images; each needs one label.",
        train_target_1=_LABELS[:90],
    ),
    _tensors(
        "smaller images",
        "ROOT/train_images_0.pt has images of shape (100, 14, 14); they must be (N, 1, 28, 28).",
        train_images_0=torch.rand(100, 14, 14),
    ),
    _tensors(
        "no images",
        "ROOT/test_images.pt has images of shape (0, 28, 28); they must be (N, 1, 28, 28).",
        test_images=torch.rand(0, 28, 28),
    ),
    _tensors(
        "pixels that are not a number",
        "ROOT/train_images_0.pt has pixels of type torch.float32 from nan to nan; they must be uint8, or floats",
        train_images_0=torch.full((100, 28, 28), torch.nan),
    ),
    _tensors(
        "pixels of type int64",
        "ROOT/train_images_0.pt has pixels of type torch.int64 from 1 to 1; they must be uint8, or floats from 0 to 1",
        train_images_0=torch.ones(100, 28, 28, dtype=torch.int64),
    ),
    _tensors(
        "a list",
        "ROOT/train_images_0.pt holds no plain tensor, but a value of type list.",
        train_images_0=[1, 2],
    ),
    _tensors(
        "code in a file",
        "ROOT/train_images_0.pt can't be read as a tensor: it holds print, and code in a file is never executed.",
        train_images_0=_Code(),
    ),
    _tensors(
        "an empty file",
        "ROOT/train_target_1.pt can't be read as a tensor: it is empty or damaged (EOFError).",
        train_target_1=b"",
    ),
    _tensors(
        "a missing file",
        "ROOT/train_target_1.pt is missing: data.root must be the folder with the corrupt MNIST files.",
        train_target_1=None,
    ),
    _mnist(
        "a file cut off",
        "mnist could not be read from ROOT or downloaded: shape '[200, 28, 28]' is invalid for input of size 78392",
        "train-images-idx3-ubyte",
        _cut,
    ),
    _mnist(
        "more labels than images",
        "the test part of mnist in ROOT has labels of shape (60,) for 50 images; each needs one label.",
        "t10k-labels-idx1-ubyte",
        lambda file: _idx_header(file, 60),
    ),
    _mnist(
        "images of another size",
        "the test part of mnist in ROOT has images of shape (50, 14, 14); they must be (N, 1, 28, 28).",
        "t10k-images-idx3-ubyte",
        lambda file: _idx_header(file, 50, 14, 14),
    ),
]
_OPTIONS = [
    Mistake("batch size 0", _fit("--data.batch_size=0"), 1, "data.batch_size is 0; it must be at least 1."),
    Mistake("a negative batch size", _fit("--data.batch_size=-4"), 1, "data.batch_size is -4; it must be at least 1"),
    Mistake(
        "a batch larger than the data",
        _fit("--data.batch_size=2000"),
        1,
        "data.batch_size is 2000, but there are only 1293 items for training. Choose a smaller --data.batch_size.",
    ),
    Mistake(
        "a value that is no number",
        _fit("--data.batch_size=many"),
        2,
        "--data.batch_size is 'many'; it must be a value of type int.",
    ),
    Mistake(
        "a value of several types",
        _fit("--trainer.max_epochs=many"),
        2,
        "--trainer.max_epochs is 'many'; it must be a value of type int or null.",
    ),
    Mistake(
        "a fraction above 1",
        _fit("--data.val_fraction=1.5"),
        1,
        "data.val_fraction is 1.5; it must lie between 0 and 1, such as 0.1.",
    ),
    Mistake(
        "a negative learning rate",
        _fit("--model.optimizer.init_args.lr=-1"),
        1,
        "Invalid learning rate: -1.0",
    ),
    Mistake(
        "a misspelt option",
        _fit("--trainer.max_epoch=3"),
        2,
        "there is no option --trainer.max_epoch. Did you mean --trainer.max_epochs",
    ),
    Mistake(
        "a misspelt option of the network",
        _fit("--model.network.init_args.widht=3"),
        2,
        "there is no option widht. Did you mean width?",
    ),
    Mistake(
        "a network that is not there",
        _fit(f"--model.network={PACKAGE}.network.Conv"),
        2,
        f"there is no Conv in {PACKAGE}.network; give the class as package.module.Class.",
    ),
    Mistake(
        "a data set that is not there",
        _fit("--data.dataset=iris"),
        2,
        "--data.dataset is 'iris'; it must be one of 'digits', 'mnist'",
    ),
    Mistake(
        "a value that follows from others",
        _fit("--model.num_classes=7"),
        2,
        "--model.num_classes can't be set: it follows the data module's num_classes.",
    ),
    Mistake(
        "a checkpoint's monitor that is not logged",
        _fit("--trainer.callbacks+=pytorch_lightning.callbacks.ModelCheckpoint", "--trainer.callbacks.monitor=val/f2"),
        1,
        "ModelCheckpoint monitors val/f2, which is not logged. Choose one of val/loss, val/accuracy, val/f1.",
    ),
    Mistake(
        "early stopping's monitor that is not logged",
        _fit("--trainer.callbacks+=pytorch_lightning.callbacks.EarlyStopping", "--trainer.callbacks.monitor=val/f2"),
        1,
        "EarlyStopping monitors val/f2, which is not logged. Choose one of val/loss, val/accuracy, val/f1.",
    ),
    Mistake(
        "a schedule's monitor that is not logged",
        _fit("--model.scheduler=pytorch_lightning.cli.ReduceLROnPlateau", "--model.scheduler.monitor=val/f2"),
        1,
        "ReduceLROnPlateau monitors val/f2, which is not logged. Choose one of val/loss, val/accuracy, val/f1.",
    ),
    Mistake(
        "nothing to train", _fit("--trainer.max_epochs=0"), 1, "nothing was trained: the limits on epochs, steps or"
    ),
    Mistake("the loss diverges", _fit("--model.optimizer.init_args.lr=1e30"), 1, "the training has diverged; "),
    Mistake("an impossible name", _fit("--run=a/b"), 1, "--run is 'a/b'; a run's name is made of letters, digits and"),
    Mistake("no such command", ("tset",), 2, "there is no command tset. Did you mean test?"),
]
_FILES = [
    _config("cut.yaml", b"trainer: [\n", "not YAML", "cut.yaml is not YAML: "),
    _config(
        "binary.yaml", b"\xff\xfe\x00", "not text", "binary.yaml is not YAML: 'utf-8' codec can't decode byte 0xff"
    ),
    _config("empty.yaml", b"# none\n", "empty", "empty.yaml holds no options. Write them as in configs/default.yaml."),
    _config("list.yaml", b"- 1\n", "a list", "list.yaml holds no options. Write them as in configs/default.yaml."),
    _config(
        "number.yaml",
        b"trainer: 3\n",
        "a section without options",
        "trainer is 3 in number.yaml; it must hold options, as in configs/default.yaml.",
    ),
    _config(
        "nothing.yaml",
        b"model:\ntrainer:\n  max_epochs: 1\n",
        "a group without options",
        "model is empty in nothing.yaml. Write options below it, or remove the line.",
    ),
    _config(
        "misspelt.yaml",
        b"trainer:\n  max_epochz: 3\n",
        "a misspelt key",
        "there is no option trainer.max_epochz (misspelt.yaml has it). Did you mean --trainer.max_epochs",
    ),
    _config(
        "type.yaml",
        b"trainer:\n  max_epochs: many\n",
        "a value of a wrong type",
        "--trainer.max_epochs is 'many'; it must be a value of type int or null.",
    ),
    Mistake("missing", ("fit", "-c", "missing.yaml"), 2, "missing.yaml"),
    Mistake("a folder", ("fit", "-c", "configs"), 2, "there is no file configs. Files of options: configs/ddp.yaml"),
]
_DEVICES = [
    Mistake(
        "a GPU that is not there",
        _fit("--trainer.accelerator=gpu"),
        1,
        "trainer.accelerator is gpu, but no such device was found that this torch",
    ),
    Mistake(
        "an accelerator that does not exist",
        _fit("--trainer.accelerator=quantum"),
        1,
        "You selected an invalid accelerator name: `accelerator='quantum'`. Available names are: ",
    ),
    Mistake(
        "a TPU that is not there",
        _fit("--trainer.accelerator=tpu"),
        1,
        "Requirement 'torch_xla>=1.13' not met. HINT: ",
    ),
    Mistake(
        "far more processes than cores",
        _fit("--trainer.devices=100000"),
        1,
        "trainer.devices is 100000, and the device is cpu: here it must be 1 to ",
    ),
    Mistake(
        "a negative number of devices",
        _fit("--trainer.devices=-1"),
        1,
        "`devices` selected with `CPUAccelerator` should be an int > 0.",
    ),
    Mistake(
        "a strategy that does not exist", _fit("--trainer.strategy=dpp"), 1, "You selected an invalid strategy name"
    ),
    Mistake(
        "a precision that a CPU has not",
        _fit("--trainer.precision=16-true"),
        1,
        "trainer.precision is 16-true, and the device is cpu: a CPU has no 16-bit float training.",
    ),
    Mistake(
        "a strategy that a CPU has not",
        _fit("--trainer.strategy=fsdp"),
        1,
        "trainer.strategy is fsdp, and the device is cpu: FSDP needs NVIDIA GPUs.",
    ),
    Mistake(
        "machines that nothing has started",
        _fit("--trainer.num_nodes=2"),
        1,
        "trainer.num_nodes is 2, but nothing started this process on several machines;",
    ),
]
# These find the runs `trained` and, of another width and of two classes, `narrow` and `folder`.
_CHECKPOINTS = [
    Mistake("no run to resume", ("fit", "--resume", "--trainer.default_root_dir=none"), 1, "no unfinished run in none"),
    Mistake("no such run to resume", ("fit", "--resume=nothing"), 1, "there is no run nothing in runs (newest: "),
    Mistake("no run to test", ("test", "--trainer.default_root_dir=none"), 1, "no finished run in none. Train one"),
    Mistake("no such run to test", ("test", "--run=nothing"), 1, "there is no run nothing in runs (newest: "),
    Mistake("a missing file", ("test", "--ckpt_path=no.ckpt"), 1, "the checkpoint no.ckpt does not exist."),
    Mistake("an address", ("fit", "--ckpt_path=http://127.0.0.1/a.ckpt"), 1, "is an address. Download it"),
    Mistake(
        "damaged",
        ("test", "--ckpt_path=damaged.ckpt"),
        1,
        "the checkpoint damaged.ckpt can't be read: it is empty or damaged (UnpicklingError).",
        lambda project: (project / "damaged.ckpt").write_bytes(b"no checkpoint"),
    ),
    Mistake(
        "with code in it",
        ("test", "--ckpt_path=code.ckpt"),
        1,
        "the checkpoint code.ckpt can't be read: it holds print, and code in a file is never executed.",
        lambda project: torch.save({"state_dict": _Code()}, project / "code.ckpt"),
    ),
    Mistake(
        "of another program",
        ("test", "--ckpt_path=weights.ckpt"),
        1,
        "the checkpoint weights.ckpt is none that a training has written. Give one of runs/NAME/checkpoints.",
        lambda project: torch.save({"weights": torch.ones(3)}, project / "weights.ckpt"),
    ),
    Mistake(
        "of another model",
        ("test", "--ckpt_path=narrow.ckpt"),
        1,
        "the checkpoint narrow.ckpt is of another model: network.init_args.width is 8 there and 32 here. Give the"
        " options that it was trained with, as they stand in its run's config.yaml, and the network as it was.",
        _run_checkpoint("narrow", "narrow.ckpt"),
    ),
    Mistake(
        "of another model, to go on with",
        _fit("--ckpt_path=wide.ckpt"),
        1,
        "the checkpoint wide.ckpt is of another model: network.init_args.width is 8 there and 32 here.",
        _run_checkpoint("narrow", "wide.ckpt"),
    ),
    Mistake(
        "of another number of classes",
        ("test", "--ckpt_path=classes.ckpt"),
        1,
        "the checkpoint classes.ckpt is of another model: input_shape is (3, 16, 16) there and (1, 8, 8) here,"
        " num_classes is 2 there and 10 here",
        _run_checkpoint("folder", "classes.ckpt"),
    ),
    Mistake(
        "of a network whose code was changed",
        ("test", "--run=trained"),
        1,
        "is of another model: network.extra.bias is None there and (2,) here, network.extra.weight is None there and",
        before=f"""
import functools, torch
from {PACKAGE}.network import ConvNet
made = ConvNet.__init__
@functools.wraps(made)
def __init__(self, *args, **kwargs):
    made(self, *args, **kwargs)
    self.extra = torch.nn.Linear(2, 2)
ConvNet.__init__ = __init__
""",
    ),
]
# In the second epoch; the first one's checkpoint is kept, and `--resume` goes on once the cause is gone.
_MIDWAY = [
    _images(
        "one is deleted in mid-run",
        "ROOT/train/square/000.jpg can't be read as an image: No such file or directory.",
        lambda root: None,
        _FEW,
        before=in_second_epoch("shutil.move('ROOT/train/square/000.jpg', 'ROOT/moved')"),
        mend=lambda root: shutil.move(root / "moved", root / "train" / "square" / "000.jpg"),
    ),
    _images(
        "a process that reads them is killed",
        "a process that loads batches has died: DataLoader worker (pid",
        lambda root: None,
        "--data.num_workers=2",
        before=in_second_epoch("os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)"),
        mend=lambda root: None,
    ),
    Mistake(
        "the run's folder may no longer be written to",
        _fit(),
        1,
        "metrics.csv can't be written: Permission denied.",
        before=WITHOUT_RIGHTS
        + in_second_epoch(
            "[os.chmod(f, 0o444) for f in (self.trainer.log_dir, self.trainer.log_dir + '/metrics.csv')]"
        ),
        mend=lambda project: [
            f.chmod(0o755) for run in (project / "runs").iterdir() for f in (run, run / "metrics.csv")
        ],
    ),
]
MISTAKES = {
    "Folders": _FOLDERS,
    "Folders of images": _IMAGES,
    "Files of tensors": _TENSORS,
    "Options": _OPTIONS,
    "Configuration files": _FILES,
    "Devices": _DEVICES,
    "Checkpoints and runs": _CHECKPOINTS,
    "In mid-run": _MIDWAY,
}


def table() -> str:
    """Return ``docs/mistakes.md``: all mistakes with their exit code and message."""
    text = (
        "# What a generated project says to bad input\n\n"
        "Made from the table that `tests/test_mistakes.py` checks, by `python tests/tables.py`. Each is one message"
        " without a traceback.\nNothing is lost: runs and checkpoints that were there stay as they were,"
        " and a run that was cut short goes on with\n`fit --resume` once the cause is gone.\n\n"
    )
    text += "| What is wrong | Exit code | What is said |\n|---|---|---|\n"
    for group, mistakes in MISTAKES.items():
        text += f"| **{group}** | | |\n"
        text += "".join(f"| {m.what} | {m.code} | {m.says.replace('|', chr(92) + '|')} |\n" for m in mistakes)
    return text
