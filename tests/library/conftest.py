"""What the tests of the machinery share: a folder with a configuration, and commands run with the toy task."""

import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

import lightning_runs
import pytest
from toy import Toy, ToyData

CONFIG = """
seed_everything: 1
trainer:
  accelerator: cpu
  devices: 1
  max_epochs: 3
  log_every_n_steps: 1
  default_root_dir: runs
  enable_model_summary: false
  enable_progress_bar: false
  callbacks:
    - class_path: pytorch_lightning.callbacks.ModelCheckpoint
      init_args:
        monitor: val/loss
"""


Command = Callable[..., int]


def command(name: str, *options: str, module: type = Toy, data: type | None = ToyData) -> int:
    return lightning_runs.run(module, data, [name, *options], package="toy_project")


def begin_and_interrupt(name: str, *options: str, module: Any = Toy, data: type = ToyData) -> int:
    whole_step = module.training_step

    def step(self: Toy, batch: Any, batch_idx: int) -> Any:
        if self.current_epoch == 1 and batch_idx == 2:
            signal.raise_signal(signal.SIGINT)
        return whole_step(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "training_step", step)
        return command("fit", "--run", name, *options, module=module, data=data)


@contextmanager
def working_in(folder: Path) -> Iterator[Path]:
    """A folder with a configuration for the toy task, in which Ctrl-C arrives even under ``nohup``."""
    (folder / "configs").mkdir()
    (folder / "configs" / "default.yaml").write_text(CONFIG, encoding="utf-8")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with chdir(folder):
        yield folder
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working folder of one test."""
    with working_in(tmp_path_factory.mktemp("toy")) as folder:
        yield folder


@pytest.fixture
def run() -> Command:
    """Run a command with the toy task, or with the classes that are given; return its exit code."""
    return command


@pytest.fixture
def interrupt() -> Callable[..., None]:
    """Begin a run, and press Ctrl-C while it trains the third batch of its second epoch."""

    def interrupt(name: str, *options: str, **classes: type) -> None:
        assert begin_and_interrupt(name, *options, **classes) == 130

    return interrupt


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs, one finished and one interrupted."""
    with working_in(tmp_path_factory.mktemp("trained")) as folder:
        assert command("fit", "--run", "finished") == 0
        assert begin_and_interrupt("interrupted") == 130
    return folder / "runs"


@pytest.fixture
def have(trained_once: Path, own_folder: Path) -> Callable[[str, str], None]:
    """Put a copy of a run into this test's folder, ``finished`` or ``interrupted``, under a name."""

    def have(kind: str, name: str) -> None:
        shutil.copytree(trained_once / kind, own_folder / "runs" / name)

    return have
