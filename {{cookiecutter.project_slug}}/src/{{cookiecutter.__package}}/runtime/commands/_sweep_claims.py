"""Which process works on which trial of a sweep: a table in the sweep's own database.

A trial is claimed in one transaction: by a row, whose key only one process can insert, or by an update that holds
only while the row is as it was read. Optuna's own heartbeats can tell that a process has died, but they let two
processes take the dead one's trial, and count it as failed, where here it goes on from its checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

_TABLE = Table(
    "sweep_claims",
    MetaData(),
    Column("study", String(255), primary_key=True),
    Column("trial", Integer, primary_key=True, autoincrement=False),
    Column("owner", String(255)),  # "" where a process has given the trial back
    Column("beat", Integer),  # counted up by a living owner
)


class Claims:
    """The claims on a sweep's trials.

    Args:
        engine: The database.
        study: The sweep's name.
        interval: Seconds between two signs of life.
        grace: Seconds without one after which a process counts as dead. On this machine its number tells at once.
    """

    def __init__(self, engine: Any, study: str, interval: float = 5, grace: float = 60) -> None:
        self._engine = engine
        self._study = study
        self._interval = interval
        self._grace = grace
        self._owner = f"{_machine()}|{os.getpid()}|{uuid.uuid4().hex[:12]}"
        self._seen: dict[int, tuple[tuple[str, int], float]] = {}  # a trial's row, and since when it is so
        self._mine: int | None = None
        self._released = threading.Event()
        self.lost = False
        _TABLE.metadata.create_all(engine)

    def take(self, trials: Iterable[int]) -> int | None:
        """Claim one of the trials; None if living processes have all of them."""
        self.lost = False
        for trial in trials:
            if self._take(trial):
                self._mine = trial
                self._released = threading.Event()
                threading.Thread(target=self._live, args=(trial, self._released), daemon=True).start()
                return trial
        return None

    def release(self) -> None:
        """Give back the trial that was taken last: it is done, or another process may go on with it."""
        self._released.set()
        if self._mine is not None:
            self._update(self._mine, owner=self._owner, to={"owner": ""})
        self._mine = None

    def owner(self, trial: int) -> str:
        """Machine and number of the process that works on a trial."""
        machine, pid, *_ = *(self._row(trial) or ("", 0))[0].split("|"), ""
        return f"process {pid} on {machine.split()[0]}" if machine else "another process"

    def _take(self, trial: int) -> bool:
        row = self._row(trial)
        if row is None:
            try:
                with self._engine.begin() as connection:
                    connection.execute(insert(_TABLE).values(study=self._study, trial=trial, owner=self._owner, beat=0))
            except IntegrityError:  # another process was quicker
                return False
            return True
        if not self._dead(trial, row):
            return False
        # only one of those who saw the same row can change it: each claim has an owner of its own
        return self._update(trial, owner=row[0], beat=row[1], to={"owner": self._owner, "beat": row[1] + 1})

    def _dead(self, trial: int, row: tuple[str, int]) -> bool:
        owner, _ = row
        if not owner:
            return True
        machine, pid, _ = owner.split("|")
        if machine == _machine() and os.name == "posix":
            try:
                os.kill(int(pid), 0)
            except ProcessLookupError:
                return True
            except PermissionError:
                pass
        # clocks of two machines need not agree, so only this process's own is looked at
        if self._seen.get(trial, (None, 0.0))[0] != row:
            self._seen[trial] = (row, time.monotonic())
        return time.monotonic() - self._seen[trial][1] > self._grace

    def _live(self, trial: int, released: threading.Event) -> None:
        while not released.wait(self._interval):
            with contextlib.suppress(SQLAlchemyError):  # the next sign may come through
                if not self._update(trial, owner=self._owner, to={"beat": _TABLE.c.beat + 1}) and not released.is_set():
                    self.lost = True
                    return

    def _row(self, trial: int) -> tuple[str, int] | None:
        query = select(_TABLE.c.owner, _TABLE.c.beat).where(_TABLE.c.study == self._study, _TABLE.c.trial == trial)
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        return (row.owner, row.beat) if row else None

    def _update(self, trial: int, to: dict[str, Any], **were: Any) -> bool:
        """Change a claim, if it still is as it was."""
        query = update(_TABLE).where(_TABLE.c.study == self._study, _TABLE.c.trial == trial).values(**to)
        for column, value in were.items():
            query = query.where(_TABLE.c[column] == value)
        with self._engine.begin() as connection:
            return connection.execute(query).rowcount == 1


def _machine() -> str:
    """This machine, or this container, in which processes have numbers of their own."""
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()
