"""A contestant's process: imports its framework once, then runs each task in a fork of its own.

It reads a task a line and answers with a line; both are JSON. A fork has imported everything and used nothing: it has
memory and threads of its own, and a pseudo-terminal, for progress bars are drawn for terminals.
"""

import importlib
import json
import os
import pty
import resource
import sys
import time
import traceback
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from masks import MaskTask
from tables import TableTask
from task import Stopwatch, Task
from texts import TextTask

WARMUP_STEPS = 20
KINDS: dict[str, type[Task]] = {"csv_file": TableTask, "glosses": TextTask, "digit_scenes": MaskTask}


def main() -> None:
    """Serve tasks until there are no more."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a framework prints is no answer
    try:
        contestant = importlib.import_module(f"contestants.{sys.argv[1]}")
    except Exception as error:
        answers.write(json.dumps({"error": f"{type(error).__name__}: {error}".splitlines()[0]}) + "\n")
        return
    distribution = getattr(contestant, "DISTRIBUTION", "torch")
    answers.write(json.dumps({"version": f"{distribution} {metadata.version(distribution)}"}) + "\n")
    for line in sys.stdin:
        task = json.loads(line)
        kind = KINDS.get(task["dataset"], Task)
        answers.write(json.dumps(run(contestant, kind(**task))) + "\n")


def run(contestant: Any, task: Task) -> dict[str, Any]:
    """Run a task in a fork, and say what was measured, or the error."""
    folder = Path(task.folder)
    begin = time.perf_counter()
    process, terminal = pty.fork()
    if process == 0:
        try:
            answer = measure(contestant, task)
        except BaseException as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        (folder / "answer.json").write_text(json.dumps(answer))
        sys.stdout.flush()
        os._exit(0)
    with (folder / "output.txt").open("wb") as log:
        while output := _read(terminal):
            log.write(output)
    os.close(terminal)
    usage: resource.struct_rusage = os.wait4(process, 0)[2]
    answer = json.loads((folder / "answer.json").read_text())
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return {**answer, "peak_memory": usage.ru_maxrss * unit, "process_seconds": time.perf_counter() - begin}


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # what Linux says when the other side is closed
        return b""


def measure(contestant: Any, task: Task) -> dict[str, Any]:
    """Train, and say how long it took and how good the result is."""
    os.chdir(task.folder)
    torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    steps = task.count // task.batch_size * task.epochs
    watch = Stopwatch(task.network_class, min(WARMUP_STEPS, steps // 4))
    contestant.train(task, watch)
    watch.stop()
    assert watch.network is not None
    return {**watch.result(), "accuracy": task.test_accuracy(watch.network)}


if __name__ == "__main__":
    main()
