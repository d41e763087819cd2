"""What `serve` does with a request: take its inputs in, predict them in a batch with others, keep it, answer."""

from __future__ import annotations

import asyncio
import base64
import math
import os
import re
import shutil
import sqlite3
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException, Request
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.requests import ClientDisconnect

from .. import predictions
from ..errors import reason
from . import statistics
from .intake import Arrays, Intake
from .store import Store

MEMORY = "/dev/shm"
GROUPS = {"p": "probabilities", "share": "shares"}  # the columns p(cat), p(dog) … of a table


class Service:
    """Predict what requests hold.

    Args:
        session: The exported model, in onnxruntime.
        facts: What is stored with it.
        digest: Which model it is, for the store.
        intake: Reads the inputs of a request.
        rows: The project's function that makes a table of predictions, or None.
        store: Keeps the predictions; None keeps none.
        options: The limits and sizes of `serve`.
    """

    def __init__(
        self,
        session: Any,
        facts: dict[str, Any],
        digest: str,
        intake: Intake,
        rows: Callable[..., Any] | None,
        store: Store | None,
        options: Namespace,
    ) -> None:
        self.session, self.facts, self.digest, self.intake = session, facts, digest, intake
        self.rows = rows or (lambda columns, facts: predictions.table(columns, facts.get("class_names")))
        self.store, self.options, self.under_way, self.failed = store, options, 0, False
        self.outputs = [output.name for output in session.get_outputs()]
        self.queue: asyncio.Queue[tuple[list[Arrays], list[str], asyncio.Future[Any]]] = asyncio.Queue()
        # requests are written into memory, if it has the room: on a disk, that takes longer than all else of an answer
        room = shutil.disk_usage(MEMORY).free if os.access(MEMORY, os.W_OK) else 0
        self.folder = MEMORY if room >= options.max_bytes * options.max_waiting else None
        self.computing = ThreadPoolExecutor(1)  # a model uses all cores for one batch
        self.registry = CollectorRegistry()
        sizes = [2**i for i in range(11)]
        self.batches = Histogram("predict_batch_inputs", "Inputs of a batch", buckets=sizes, registry=self.registry)
        self.seconds = Histogram("predict_seconds", "Seconds of a request", ["code"], registry=self.registry)
        self.predicted = Counter("predictions", "Inputs that were predicted", registry=self.registry)

    async def answer(self, request: Request) -> list[dict[str, Any]]:
        """Predict the inputs of a request, in their order.

        Raises:
            HTTPException: With a sentence that says what is wrong.
        """
        if self.under_way >= self.options.max_waiting:
            text = f"{self.under_way} requests are under way, and no more are taken. Come again in a second."
            raise HTTPException(503, text, {"Retry-After": "1"})
        self.under_way += 1
        try:
            async with asyncio.timeout(self.options.max_seconds):
                with tempfile.TemporaryDirectory(dir=self.folder, ignore_cleanup_errors=True) as folder:
                    files, count = await self.intake.write(request, Path(folder))
                    names, arrays, kept = await asyncio.to_thread(self.intake.read_all, files, count)
                    future = asyncio.get_running_loop().create_future()
                    self.queue.put_nowait((arrays, kept, future))
                    return await asyncio.to_thread(self._answers, names, await future, files)
        except TimeoutError as error:
            text = f"the request took more than {self.options.max_seconds:g} seconds to arrive or to be answered."
            raise HTTPException(408, text) from error
        except ClientDisconnect as error:  # nobody is there to be told
            raise HTTPException(400, "the request has no end.") from error
        finally:
            self.under_way -= 1

    def _answers(self, names: list[str], results: list[Arrays], files: dict[Path, str]) -> list[dict[str, Any]]:
        """Tell of each input what a table of predictions has; files of a request by the names that it gave them."""
        answers = []
        for name, result in zip(names, results, strict=True):
            header, [row] = self.rows({"file": [name], **{key: [v.tolist()] for key, v in result.items()}}, self.facts)
            answer: dict[str, Any] = {}
            for key, cell in zip(header, row, strict=True):
                if key == "file":
                    path = name if Path(name) in files else name.rpartition(":")[0]  # one of a row ends in :LINE
                    if given := files.get(Path(path)):
                        answer[key] = given + name[len(path) :]
                elif group := re.fullmatch(r"(\w+)\((.*)\)", key, re.DOTALL):
                    answer.setdefault(GROUPS.get(group[1], group[1]), {})[group[2]] = plain(cell)
                else:
                    answer[key] = plain(cell)
            answers.append(answer)
        return answers

    async def work(self) -> None:
        """Compute what waits, for ever: a batch is what comes within ``wait_ms``, or while another is computed.

        Where no other request is under way, there is nothing to wait for.
        """
        loop = asyncio.get_running_loop()
        while True:
            group, until = [await self.queue.get()], loop.time() + self.options.wait_ms / 1000
            while len(group) < self.under_way and sum(len(arrays) for arrays, *_ in group) < self.options.batch_size:
                try:
                    async with asyncio.timeout_at(until if self.queue.empty() else None):
                        group.append(await self.queue.get())
                except TimeoutError:
                    break
            try:
                results = await loop.run_in_executor(self.computing, self._compute, group)
            except Exception as error:  # onnxruntime has a dozen classes of its own
                text = f"the model can't take the inputs: {reason(error)}."
                results = [HTTPException(422, text) for _ in group]
            for (*_, future), result in zip(group, results, strict=True):
                if future.done():  # its time is over
                    continue
                future.set_exception(result) if isinstance(result, Exception) else future.set_result(result)

    def _compute(self, group: Sequence[tuple[list[Arrays], list[str], Any]]) -> list[Any]:
        """Return for each request the outputs for each of its inputs, by name, without the dimension of the batch."""
        every, size = [one for arrays, *_ in group for one in arrays], self.options.batch_size
        found: list[Arrays] = []
        for first in range(0, len(every), size):
            batch = every[first : first + size]
            results = self.session.run(None, {name: np.stack([one[name] for one in batch]) for name in batch[0]})
            found += [dict(zip(self.outputs, of, strict=True)) for of in zip(*results, strict=True)]
            self.batches.observe(len(batch))
        self.predicted.inc(len(found))
        self._keep(found, [text for _, kept, _ in group for text in kept])
        each = iter(found)
        return [[*islice(each, len(arrays))] for arrays, *_ in group]

    def _keep(self, results: list[Arrays], kept: list[str]) -> None:
        """Keep predictions, before they are answered."""
        if self.store is None:
            return
        now, names = time.time(), self.facts.get("class_names")
        labelled = [(*statistics.of_output(of, names), text) for of, text in zip(results, kept, strict=True)]
        try:
            self.store.add([(now, self.digest, *row) for row in labelled])
        except sqlite3.Error as error:  # such as of a full disk; when there is room again, it goes on
            if not self.failed:
                print(f"note: predictions are not kept: {error}.", file=sys.stderr, flush=True)
            self.failed = True

    def close(self) -> None:
        """Finish what is computed, and close the store."""
        self.computing.shutdown()
        if self.store is not None:
            self.store.close()


def plain(value: Any) -> Any:
    """Return a value as JSON has it: a file in Base64, and null for what is not finite."""
    if isinstance(value, predictions.Attached):
        return base64.b64encode(value.content).decode()
    if isinstance(value, dict):
        return {str(key): plain(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [plain(of) for of in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
