"""What the tests of the machinery share: a folder with a configuration, and commands run with the toy task."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from toy import Toy, ToyData

from {{ cookiecutter.__package }} import runtime

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


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of one test; it has a configuration for the toy task."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "default.yaml").write_text(CONFIG, encoding="utf-8")
    return tmp_path


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Ctrl-C arrives, even if the tests were started by ``nohup``, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def run() -> Callable[..., int]:
    """Run a command with the toy task, or with the classes that are given; return its exit code."""

    def run(command: str, *options: str, module: type = Toy, data: type | None = ToyData) -> int:
        return runtime.main(module, data, [command, *options])

    return run


@pytest.fixture
def interrupt(run: Callable[..., int]) -> Callable[..., None]:
    """Begin a run, and press Ctrl-C while it trains batch ``at`` of epoch 1 (the second one)."""

    def interrupt(name: str, *options: str, module: type = Toy, data: type = ToyData, at: int = 2) -> None:
        whole_step = module.training_step

        def step(self: Toy, batch: object, batch_idx: int) -> object:
            if self.current_epoch == 1 and batch_idx == at:
                signal.raise_signal(signal.SIGINT)
            return whole_step(self, batch, batch_idx)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "training_step", step)
            assert run("fit", "--run", name, *options, module=module, data=data) == 130

    return interrupt
