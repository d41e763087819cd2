"""How fast `serve` answers, beside LitServe and plain onnxruntime: python tests/load.py PROJECT.

PROJECT is a bake of digits or penguins whose run ``a`` was exported. Each contestant is started, asked by 1, 16 and 64
clients, and ended, in turn, several times over; every answer is compared with what the run's checkpoint predicts.
``--litserve PYTHON`` names a Python that has litserve, onnxruntime, pillow, python-multipart and filelock; ``--other
PROJECT`` a second bake, such as one of the code before; and ``--endure`` compares 10,000 answers and tells the memory.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

CLIENTS = (1, 16, 64)
EXPORT = "runs/a/export"
HEAD = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n"


class Load:
    """Requests of a project, and what the checkpoint answers to each."""

    def __init__(self, project: Path) -> None:
        [package] = project.glob("src/*/runtime")
        self.project, self.package = project, package.parent.name
        kinds = {"digits.npz": self._images, "penguins.csv": self._rows}
        [kind] = [kind for name, kind in kinds.items() if (package.parent / name).is_file()]
        with tempfile.TemporaryDirectory() as folder:
            files, bodies, content_type = kind(package.parent, Path(folder))
            table = Path(folder, "expected.csv")
            self.run("predict", *files, "--run=a", f"--csv={table}")
            with table.open(newline="") as stream:
                self.expected = [*csv.DictReader(stream)]
        assert len(self.expected) == len(bodies)
        self.requests = [HEAD.format(content_type, len(body)).encode() + body for body in bodies]

    def _images(self, package: Path, folder: Path) -> tuple[list[str], list[bytes], str]:
        with np.load(package / "digits.npz") as digits:
            images = digits["test_images"]
        files, bodies = [], []
        for i, image in enumerate(images):
            stream = io.BytesIO()
            Image.fromarray(image).save(stream, "PNG")
            files.append(folder / f"{i:04}.png")
            files[-1].write_bytes(stream.getvalue())
            head = b'--=\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
            bodies.append(head + stream.getvalue() + b"\r\n--=--\r\n")
        return [*map(str, files)], bodies, "multipart/form-data; boundary=="

    def _rows(self, package: Path, _: Path) -> tuple[list[str], list[bytes], str]:
        with (package / "penguins.csv").open(newline="") as stream:
            rows = [*csv.DictReader(stream)]
        inputs = [{name: None if cell in ("", "NA") else cell for name, cell in row.items()} for row in rows]
        bodies = [json.dumps({"inputs": [row]}).encode() for row in inputs]
        return [str(package / "penguins.csv")], bodies, "application/json"

    def run(self, *arguments: str) -> None:
        """Run a command of the project to its end."""
        command = [sys.executable, "-m", self.package, *arguments]
        subprocess.run(command, cwd=self.project, env=environment(self.project), check=True, capture_output=True)

    def check(self, answers: list[bytes]) -> None:
        """Compare each answer with the checkpoint's: the label, and probabilities within 1e-4."""
        for i, answer in enumerate(answers):
            [found] = json.loads(answer)["predictions"]
            expected = self.expected[i % len(self.expected)]
            assert found["label"] == expected["label"], (i, found, expected)
            for name, value in found["probabilities"].items():
                assert abs(value - float(expected[f"p({name})"])) < 1e-4, (i, found, expected)


def environment(project: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(project.absolute() / "src"), "WANDB_MODE": "offline"}


def ask(port: int, clients: int, count: int, requests: list[bytes]) -> tuple[float, list[float], list[bytes]]:
    """Send requests, each client the next one when it has its answer; return all seconds, those of each, and answers.

    One thread for all clients, and no look into an answer: it shares the cores with what it measures.
    """
    seconds, answers = [0.0] * count, [b""] * count
    begun: dict[socket.socket, tuple[int, float]] = {}
    numbers = iter(range(count))

    def send(connection: socket.socket) -> None:
        if (i := next(numbers, None)) is None:
            del begun[connection]
            return
        begun[connection], answers[i] = (i, time.perf_counter()), b""
        connection.sendall(requests[i % len(requests)])

    with selectors.DefaultSelector() as selector:
        for _ in range(min(clients, count)):
            connection = socket.create_connection(("127.0.0.1", port), timeout=60)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(connection, selectors.EVENT_READ)
            begun[connection] = (0, 0.0)
        start = time.perf_counter()
        for connection in [*begun]:
            send(connection)
        while begun:
            ready = selector.select(60)
            assert ready, f"{len(begun)} requests have no answer after a minute"
            for key, _ in ready:
                connection: Any = key.fileobj
                i, sent = begun[connection]
                got = connection.recv(1 << 16)
                assert got, f"the connection was closed in the place of answer {i}, after {answers[i]!r}"
                answers[i] += got
                head, there, body = answers[i].partition(b"\r\n\r\n")
                if there and len(body) >= int(head.lower().split(b"content-length:")[1].split()[0]):
                    assert head.startswith(b"HTTP/1.1 200"), answers[i]
                    seconds[i], answers[i] = time.perf_counter() - sent, body
                    send(connection)
        total = time.perf_counter() - start
        for key in [*selector.get_map().values()]:
            key.fileobj.close()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    return total, seconds, answers


# ---- Processes


def processes(pid: int) -> list[int]:
    """A process and what it has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in processes(int(child)))]


def cpu_seconds(pid: int) -> float:
    """Seconds that a process and its children have computed."""
    ticks = 0
    for one in processes(pid):
        ticks += sum(map(int, Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_and_files(pid: int) -> tuple[float, int]:
    """Resident memory in MB, and open files."""
    kilobytes = Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]
    return int(kilobytes) / 1000, len(os.listdir(f"/proc/{pid}/fd"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def started(command: list[str], project: Path, port: int, log: Path) -> Iterator[tuple[int, float]]:
    """Start a service; yield its process and the seconds until its page of health answers."""
    start = time.perf_counter()
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=project, env=environment(project), stdout=stream, stderr=stream)
    try:
        while True:
            assert process.poll() is None, log.read_text()
            assert time.perf_counter() - start < 120, log.read_text()
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                    connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    if b" 200 " in connection.recv(100):
                        break
            except OSError:
                pass
            time.sleep(0.02)
        yield process.pid, time.perf_counter() - start
    finally:
        for pid in reversed(processes(process.pid)):
            os.kill(pid, 15)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def contestants(options: argparse.Namespace) -> dict[str, tuple[Path, list[str]]]:
    """The name of each, where it runs, and its command, which a port is added to."""
    found = {}
    for name, project in (("serve", options.project), ("the other", options.other)):
        if project:
            [package] = project.glob("src/*/runtime")
            command = [sys.executable, "-m", package.parent.name, "serve", f"{EXPORT}/model.onnx", "--port"]
            found[name] = (project, command)
            found[f"{name}, no batches"] = (project, [*command[:-1], "--batch_size=1", "--wait_ms=0", "--port"])
    if options.litserve:
        file = Path(__file__).with_name("load_litserve.py").absolute()
        command = [str(options.litserve), str(file), f"{EXPORT}/model.onnx"]
        found |= {"LitServe": (options.project, [*command, "64"])}
        found |= {"LitServe, no batches": (options.project, [*command, "1"])}
    return found


def in_a_loop(load: Load) -> float:
    """Answers per second of onnxruntime alone, one input at a time, without reading any."""
    session = onnxruntime.InferenceSession(load.project / EXPORT / "model.onnx", providers=["CPUExecutionProvider"])
    [given] = session.get_inputs()
    kind = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}[given.type]
    array = np.ones((1, *given.shape[1:]), kind)
    start = time.perf_counter()
    for _ in range(2000):
        session.run(None, {given.name: array})
    return 2000 / (time.perf_counter() - start)


def endure(load: Load, command: list[str]) -> None:
    """Compare 10,000 answers to 64 clients, and tell memory and open files after 1,000 and after all."""
    port, found = free_port(), []
    with started([*command, str(port)], load.project, port, Path(tempfile.gettempdir(), "endure.log")) as (pid, _):
        for count in (1000, 9000):
            load.check(ask(port, 64, count, load.requests)[2])
            time.sleep(2)  # the connections are closed
            found.append(memory_and_files(pid))
    (first, files), (last, files_last) = found
    print("10,000 answers to 64 clients, each the checkpoint's; after 1,000 and after all:")
    print(f"{first:.1f} and {last:.1f} MB ({last / first - 1:+.1%}), {files} and {files_last} open files", flush=True)


def main() -> None:
    """Measure, and print a line for each contestant and number of clients: medians over the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--litserve", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=1000, help="requests of each measurement")
    parser.add_argument("--endure", action="store_true", help="compare 10,000 answers, and tell how memory grows")
    options = parser.parse_args()
    load, names = Load(options.project), contestants(options)
    if options.endure:
        endure(load, names["serve"][1])
        return
    found: dict[tuple[str, int], list[tuple[float, ...]]] = defaultdict(list)
    starts: dict[str, list[float]] = defaultdict(list)
    loops = []
    for i in range(options.rounds):
        loops.append(in_a_loop(load))
        print(f"round {i + 1}: load {os.getloadavg()[0]:.1f}, onnxruntime in a loop {loops[-1]:.0f}/s", flush=True)
        for name, (project, command) in names.items():
            port = free_port()
            log = Path(tempfile.gettempdir(), f"load-{os.getpid()}.log")
            with started([*command, str(port)], project, port, log) as (pid, start):
                starts[name].append(start)
                load.check(ask(port, 16, 100, load.requests)[2])  # it warms up
                for clients in CLIENTS:
                    before = cpu_seconds(pid)
                    total, seconds, answers = ask(port, clients, options.count, load.requests)
                    computed = (cpu_seconds(pid) - before) / options.count
                    load.check(answers)
                    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
                    found[name, clients].append((options.count / total, p50, p99, computed * 1000))
                memory, files = memory_and_files(pid)
            print(f"  {name}: start {start:.1f} s, {memory:.1f} MB, {files} files", flush=True)
    print(f"medians of {options.rounds} rounds; onnxruntime in a loop {statistics.median(loops):.0f}/s")
    print("| | clients | answers/s | p50 ms | p99 ms | CPU ms of an answer | start s |\n|---|---|---|---|---|---|---|")
    for (name, clients), rounds in found.items():
        rate, p50, p99, computed = (statistics.median(values) for values in zip(*rounds, strict=True))
        start = f"{statistics.median(starts[name]):.1f}"
        print(f"| {name} | {clients} | {rate:.0f} | {p50:.1f} | {p99:.1f} | {computed:.2f} | {start} |")


if __name__ == "__main__":
    main()
