"""Signals: before training starts they end the process at once; from then on they ask it to save and to stop.

Only the standard library, because `__main__` calls this before torch and Lightning are imported.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# By name, because not every system has all signals. 75 (try again) asks a cluster to queue a job again.
EXIT_CODES = {"SIGTERM": 143, "SIGINT": 130, "SIGUSR1": 75, "SIGHUP": 129}


class Stopped(SystemExit):
    """A signal ended the process; ``code`` is its exit code and ``name`` the signal's."""

    def __init__(self, signum: int) -> None:
        self.name = signal.Signals(signum).name
        super().__init__(EXIT_CODES[self.name])


class _Request:
    """The signal that this process has received, and how it reacts."""

    signum: int | None = None
    deferred = False  # whether training is under way and looks at `signum` before each batch
    process = 0  # its id


_request = _Request()


def install() -> dict[int, Any]:
    """Handle all signals except those that this process was started to ignore (``nohup``); return earlier handlers."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    _request.process = os.getpid()
    signums = [getattr(signal, name) for name in EXIT_CODES if hasattr(signal, name)]
    return {signum: signal.signal(signum, _handle) for signum in signums if signal.getsignal(signum) != signal.SIG_IGN}


def _handle(signum: int, frame: FrameType | None) -> None:
    if os.getpid() != _request.process:  # a worker that loads data: it ends with the training, or by SIGTERM
        if signum == signal.SIGTERM:
            os._exit(EXIT_CODES["SIGTERM"])
        return
    is_first = _request.signum is None
    if is_first:
        _request.signum = signum
    if not _request.deferred or (signum == signal.SIGINT and not is_first):
        raise Stopped(_request.signum or signum)


@contextmanager
def handled() -> Iterator[None]:
    """Handle signals, and restore the earlier handlers afterwards."""
    _request.signum = None
    before = install()
    try:
        yield
    finally:
        immediate()
        for signum, handler in before.items():
            signal.signal(signum, handler)


def defer() -> None:
    """From now on only note a signal, for `requested`. A second Ctrl-C still ends the process at once."""
    _request.deferred = True
    install()  # again, because the Trainer has replaced the handlers


def immediate() -> None:
    """From now on a signal ends the process at once."""
    _request.deferred = False


def requested() -> int | None:
    """Return the signal that asked this process to stop, or None."""
    return _request.signum
