"""Load on a service of digits: python tests/load.py PORT PID FOLDER, with the export of a run in FOLDER.

Prints requests per second, percentiles, and memory and open files of the service; compares each answer with the model.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def state(pid: str) -> str:
    """Resident memory in kB, and open files."""
    status = Path(f"/proc/{pid}/status").read_text()
    return f"{status.split('VmRSS:')[1].split()[0]} kB, {len(os.listdir(f'/proc/{pid}/fd'))} files"


async def client(port: int, jobs: list[int], bodies: list[bytes], expected: np.ndarray, times: list[float]) -> None:
    """Ask over one connection until no job is left; each answer is compared."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while jobs:
        i = jobs.pop() % len(bodies)
        start = time.perf_counter()
        head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(bodies[i])}\r\n"
        writer.write(f"{head}Content-Type: multipart/form-data; boundary==\r\n\r\n".encode() + bodies[i])
        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        found = await reader.readexactly(int(answer.split("content-length: ")[1].split("\r\n")[0]))
        times.append(time.perf_counter() - start)
        assert answer.startswith("http/1.1 200"), found
        [one] = json.loads(found)["predictions"]
        assert int(one["label"]) == expected[i].argmax(), i
        assert np.abs(np.array([*one["probabilities"].values()]) - expected[i]).max() < 1e-4, i
    writer.close()


async def main(port: int, pid: str, folder: Path) -> None:
    """Ask with 1, 16 and 64 clients."""
    with np.load(next(folder.glob("src/*/digits.npz"))) as digits:
        images = digits["test_images"]
    session = onnxruntime.InferenceSession(folder / "runs/a/export/model.onnx")
    (expected,) = session.run(None, {"images": images[:, None]})
    bodies = []
    for image in images:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG")
        head = b'--=\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        bodies.append(head + stream.getvalue() + b"\r\n--=--\r\n")
    start = time.perf_counter()
    for i in range(2000):
        session.run(None, {"images": images[i % len(images)][None, None]})
    print(f"onnxruntime in a loop: {2000 / (time.perf_counter() - start):.0f} per second")
    for clients, count in ((1, 300), (16, 700), (16, 1000), (64, 1000), (64, 8000)):
        jobs, times = [*range(count)], []
        start = time.perf_counter()
        await asyncio.gather(*(client(port, jobs, bodies, expected, times) for _ in range(clients)))  # pyright: ignore[reportArgumentType]
        rate, (p50, p99) = count / (time.perf_counter() - start), np.percentile(times, [50, 99]) * 1000
        print(
            f"{clients} clients, {count} answers, all as the model's: {rate:.0f}/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        )
        print(f"  {state(pid)}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
