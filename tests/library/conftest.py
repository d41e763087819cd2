"""What the tests of the library share: a folder with a configuration, and commands run with the toy task."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from toy import Command, begin_and_die, begin_and_interrupt, command, working_in


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
    return begin_and_interrupt


@pytest.fixture
def die() -> Callable[..., None]:
    """Begin a run that ends without a save, ``at`` a call of a step; 10 is the fourth of the second epoch."""
    return begin_and_die


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs, one finished and one interrupted."""
    with working_in(tmp_path_factory.mktemp("trained")) as folder:
        assert command("fit", "--run", "finished") == 0
        begin_and_interrupt("interrupted")
    return folder / "runs"


@pytest.fixture
def have(trained_once: Path, own_folder: Path) -> Callable[[str, str], None]:
    """Put a copy of a run into this test's folder, ``finished`` or ``interrupted``, under a name."""

    def have(kind: str, name: str) -> None:
        shutil.copytree(trained_once / kind, own_folder / "runs" / name)

    return have
