"""A lock on a folder that is worked on: it tells who lives, and a process that is killed frees it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from .errors import UserError

_WAIT = 2.0  # seconds for a lock: somebody who only asks holds it for an instant, and a killed process's workers end
_locked: list[Locked] = []  # by this process


class Locked:
    """A folder that one process at a time works on.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: filelock.BaseFileLock | None = None

    def lock(self) -> None:
        """Lock the folder until this process ends. Where the file system has no locks, print a warning.

        Raises:
            UserError: Another process works on it.
        """
        self._lock = filelock.FileLock(self._file)
        try:
            self._lock.acquire(timeout=_WAIT)
        except filelock.Timeout as error:
            raise UserError(
                f"the run {self.folder.name} is in use: another process trains it. Wait for its end, or begin a run of"
                " your own: fit --run NAME"
            ) from error
        except (OSError, NotImplementedError):
            self._lock = None
            print(
                f"{self.folder.parent} is on a file system without locks: start no second process on this run.",
                flush=True,
            )
            return
        _locked.append(self)

    def unlock(self) -> None:
        """Free the lock, if this process has it."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def in_use(self) -> bool:
        """Whether a living process has the lock, as far as this machine can tell."""
        if self._lock is not None:
            return True
        if not self._file.is_file():
            return False
        try:
            with filelock.FileLock(self._file).acquire(blocking=False):
                return False
        except filelock.Timeout:
            return True
        except (OSError, NotImplementedError):  # a folder that may only be read, or no locks there
            return False

    @property
    def _file(self) -> Path:
        return self.folder / ".lock"


@contextlib.contextmanager
def locks_freed() -> Iterator[None]:
    """Free the locks that were taken meanwhile, for a later training in this process."""
    before = len(_locked)
    try:
        yield
    finally:
        while len(_locked) > before:
            _locked.pop().unlock()
