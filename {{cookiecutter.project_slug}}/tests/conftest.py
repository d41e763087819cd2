"""What the tests share: a working folder of their own, and trained runs (`bundled.py` says of what)."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir
from functools import partial
from inspect import signature
from pathlib import Path

import pytest
import pytorch_lightning as pl
from bundled import OPTIONS, RUNS

try:
    from {{ cookiecutter.__package }} import train
except ImportError as error:
    raise pytest.UsageError(f"{error}. Name your classes in train.py: docs/own-classes.md") from error

# Whatever configs/default.yaml says, tests train on bundled data in one process on the CPU, and log to a file.
ON_CPU = {
    "logger": "csv",
    "trainer.accelerator": "cpu",
    "trainer.devices": "1",
    "trainer.strategy": "auto",
    "trainer.precision": "32-true",
}
# Lightning and scikit-learn set these for processes that they start.
SET_BY_TRAINING = {"PL_GLOBAL_SEED", "PL_SEED_WORKERS", "PYTORCH_NVML_BASED_CUDA_CHECK"}
SET_BY_TRAINING |= {"KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"}
BASES = (pl.LightningModule, pl.LightningDataModule)
CLASSES = [value for value in vars(train).values() if isinstance(value, type) and issubclass(value, BASES)]
ARGUMENTS = {name for value in CLASSES for name in signature(value).parameters}
# Classes of your own in train.py: they do not take the options in bundled.py.
OWN = [
    value.__name__
    for value in CLASSES
    if value.__module__.rpartition(".")[2] not in ("data", "module")
    or not {option.partition(".")[2] for option in OPTIONS} <= ARGUMENTS
]


def pytest_exception_interact(call: pytest.CallInfo, report: pytest.CollectReport) -> None:
    """Say what to do with a file that tests classes that are gone."""
    cause = call.excinfo and call.excinfo.value.__cause__
    if call.when == "collect" and isinstance(cause, ImportError):
        report.longrepr = f"{cause}. Change this import, or delete {report.nodeid}: docs/own-classes.md"


@pytest.fixture(scope="session", autouse=True)
def working_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a copy of the configurations, in which all tests run."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(Path(__file__).parents[1] / "configs", folder / "configs")
    with chdir(folder):
        yield folder


@pytest.fixture(autouse=True)
def nothing_left_behind(working_folder: Path) -> Iterator[None]:
    """Fail a test that leaves files in the working folder, or environment variables, behind."""
    before = dict(os.environ)
    yield
    after = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    left = {name for name, value in after.items() if before.get(name) != value} - SET_BY_TRAINING
    os.environ.clear()
    os.environ.update(before)
    assert not left
    assert [path.name for path in working_folder.iterdir()] == ["configs"]


def run_on_cpu(root: Path, command: str, *options: str, config: Path | None = None) -> int:
    overlay = ["-c", str(config)] if config else []
    fixed = (ON_CPU if OWN else {**OPTIONS, **ON_CPU}).items()
    words = [*overlay, *(f"--{name}={value}" for name, value in fixed), f"--trainer.default_root_dir={root}"]
    return train.main([command, *words, *options])


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., int]:
    """Run a command on the CPU, with its runs in ``tmp_path``; return its exit code."""
    return partial(run_on_cpu, tmp_path)


@pytest.fixture(scope="session", params=RUNS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trained run; copy it before changing it."""
    if OWN:
        pytest.fail(f"train.py trains {' and '.join(OWN)}: delete tests/test_train.py, which tests the classes before.")
    root = tmp_path_factory.mktemp("runs")
    assert run_on_cpu(root, "fit", "--run", request.param, *RUNS[request.param]) == 0
    return root / request.param
