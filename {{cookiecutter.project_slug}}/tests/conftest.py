"""What the tests share: a working folder of their own, and trained runs (`bundled.py` says of what)."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bundled import OPTIONS, RUNS

from {{ cookiecutter.__package }}.train import main

PROJECT = Path(__file__).parents[1]
# Whatever configs/default.yaml says, tests train on bundled data in one process on the CPU, and log to a file.
ON_CPU = {
    **OPTIONS,
    "logger": "csv",
    "trainer.accelerator": "cpu",
    "trainer.devices": "1",
    "trainer.strategy": "auto",
    "trainer.precision": "32-true",
}
# Lightning and the trainer script set these for processes that they start.
SET_BY_TRAINING = {"PL_GLOBAL_SEED", "PL_SEED_WORKERS", "PYTORCH_NVML_BASED_CUDA_CHECK"}
SET_BY_TRAINING |= {"KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"}  # by scikit-learn, when it is imported


@pytest.fixture(scope="session", autouse=True)
def working_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a copy of the configurations, in which all tests run."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(PROJECT / "configs", folder / "configs")
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


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
    fixed = [word for name, value in ON_CPU.items() for word in (f"--{name}", value)]
    return main([command, *overlay, *fixed, "--trainer.default_root_dir", str(root), *options])


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., int]:
    """Run a command of the trainer script on the CPU, with its runs in ``tmp_path``; return its exit code."""

    def run(command: str, *options: str, config: Path | None = None) -> int:
        return run_on_cpu(tmp_path, command, *options, config=config)

    return run


@pytest.fixture(scope="session", params=RUNS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trained run; copy it before changing it."""
    root = tmp_path_factory.mktemp("runs")
    assert run_on_cpu(root, "fit", "--run", request.param, *RUNS[request.param]) == 0
    return root / request.param
