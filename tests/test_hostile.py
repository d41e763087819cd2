"""Hostile requests, forty of each kind, on images and on rows: `serve` refuses each in a sentence and lives on."""

from __future__ import annotations

import io
import json
import socket
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import load
import pytest
from PIL import Image
from test_serve import Served, connected, exported, form, open_files, png, received, serving

pytestmark = pytest.mark.slow
EACH = 40
LIMITS = ("--max_bytes=300000", "--max_pixels=100000", "--max_inputs=50", "--max_seconds=3", "--max_waiting=12")
HEAD = "POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
ROW = {
    "island": "Biscoe",
    "bill_length_mm": 40,
    "bill_depth_mm": 18,
    "flipper_length_mm": 190,
    "body_mass_g": 3700,
    "sex": "male",
    "year": 2008,
}
Kind = Callable[[int], bytes]


def request(kind: str, body: bytes, *headers: str) -> bytes:
    lines = [f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers]
    return (HEAD + "\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def upload(content: bytes, name: str = "a.png") -> bytes:
    return request(*form((name, content)))


def rows(inputs: object) -> bytes:
    return request("application/json", json.dumps({"inputs": inputs}).encode())


def image(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.effect_noise((40, 40), 50).save(stream, kind)
    return stream.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb(i: int) -> bytes:
    """A small file that claims, or unfolds to, much."""
    side = 2 ** (9 + i % 20) + i
    claimed = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    small, zeros = png(8, 8), zlib.compress(bytes(20_000_000 + i))
    return upload(
        [
            small[:8] + claimed + small[33:],
            png(1000 + 100 * i, 1000),
            small[:33] + chunk((b"zTXt", b"iCCP")[i % 2], b"x\0\0" + zeros) + small[33:],
            b"GIF89a" + struct.pack("<HH", 65535, 60000 + i) + image("GIF")[10:],
            b"BM" + bytes(12) + struct.pack("<Iii", 40, 2**29 + i, 2**29) + image("BMP")[26:],
        ][i % 5]
    )


def table_bomb(i: int) -> bytes:
    """A small table that would take much memory."""
    return upload([b"a,b\n" + b"," * 290_000, b"\n" * 290_000, b'a,b\n"' + b"x" * 290_000][i % 3], f"{i}.csv")


def truncated(i: int) -> bytes:
    content = image(("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")[i % 6])
    return upload(content[: len(content) * (i + 1) // (EACH + 3)])


def cut(i: int) -> bytes:
    """A table or a JSON object that ends within."""
    text = json.dumps({"inputs": [ROW]})
    if i % 2:
        return request("application/json", text[: len(text) * i // EACH].encode())
    content = ",".join(ROW) + "\n" + ",".join(map(str, ROW.values()))
    return upload(content[: 3 + len(content) * i // EACH].encode(), "a.csv")


def wrong_type(i: int) -> bytes:
    types = ("", "text/plain", "application/json", "multipart/form-data", "multipart/form-data; boundary=", "a/b; =")
    types += ("application/x-www-form-urlencoded", "multipart/form-data; boundary=" + "x" * 300, "image/png", "\x80")
    bodies = (
        b"{}",
        b'{"inputs": {"a": 1}}',
        b"[" * 9000,
        b"\xff\xfe\x00",
        image("PNG"),
        b'{"inputs": [[1], NaN]}',
        b"",
    )
    return request(types[i % len(types)], bodies[i % len(bodies)])


def huge_rows(i: int) -> bytes:
    values = ("x" * 200_000, 10**300, -(10**400), 1e308, "9" * 5000, "\ud800", "\0", [1], {"a": 1}, True, " ", "nan")
    many = [ROW] * 2000, [ROW | {f"c{j}": j for j in range(15_000)}], [ROW | {"year": values[i % len(values)]}]
    return rows(many[i % 3])


def huge(i: int) -> bytes:
    """More files, fields or bytes than are taken."""
    files = [("a.png", png(8, 8))] * (51 + i)
    bodies = form(*files), form(("a.png", bytes(300_000 + i))), form(*files, field="x" * 999)
    return request(*bodies[i % 3])


def path_trick(i: int) -> bytes:
    names = (
        "../../../../etc/passwd",
        "/etc/passwd",
        "a\\..\\b",
        "%2e%2e%2f",
        "x" * 9000,
        ".png",
        "\0",
        "CON",
        "~",
        "..",
    )
    name = names[i % len(names)] + ("", ".png", "/", ".csv:1")[i % 4]
    return upload(png(8, 8) if i % 2 else b"root:x:0", name)


def malformed(i: int) -> bytes:
    """No HTTP, or headers that contradict one another."""
    body = b"--=\r\nContent-Disposition: form-data\r\n\r\n\r\n--=--\r\n"
    return [
        b"\x16\x03\x01\x02\x00 no HTTP\r\n\r\n",
        request("multipart/form-data; boundary==", body, "Transfer-Encoding: chunked"),
        (HEAD + f"Content-Length: -{i}\r\n\r\n").encode(),
        (HEAD + f"Content-Length: {10**i}, 5\r\n\r\n").encode(),
        (HEAD + "Transfer-Encoding: chunked\r\n\r\nzz\r\n").encode(),
        (HEAD + f"X: {'y' * 70_000}\r\n\r\n").encode(),
        request("multipart/form-data; boundary==", body[i:]),
        request("multipart/form-data; boundary==", b"--=\r\n" * 1000 * (i + 1)),
        f"{['PUT', 'DELETE', 'TRACE', 'CONNECT', 'X'][i % 5]} /predict HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
        f"GET /{'../' * i}etc/passwd HTTP/1.1\r\nHost: {'evil.example' if i % 2 else 'localhost'}\r\n\r\n".encode(),
    ][i % 10]


def answer(port: int, sent: bytes) -> bytes:
    """Send a request; the service may answer and close before all was sent."""
    connection = connected(port, b"")
    with suppress(OSError):
        connection.sendall(sent)
        if b"Connection: close" not in sent:
            connection.shutdown(socket.SHUT_WR)
    return received(connection)


def slow(port: int, sent: bytes, i: int) -> bytes:
    """Send a request in pieces, and its last ones never."""
    ends = [len(sent) * j // 60 for j in range(5 + i)]
    connection = connected(port, b"")
    with suppress(OSError):
        for first, last in pairwise(ends):
            connection.sendall(sent[first:last])
            time.sleep(0.1)
    return received(connection)


def half_closed(port: int, sent: bytes, i: int) -> bytes:
    """Send a part of a request, and say that no more comes, or go away."""
    connection = connected(port, sent[: len(sent) * (i + 1) // (EACH + 2)])
    if i % 2:
        connection.close()
        return b""
    connection.shutdown(socket.SHUT_WR)
    return received(connection)


def assert_told(answers: list[bytes], name: str) -> Counter[int]:
    """No answer but what names a mistake of the sender, or that there are too many at once."""
    codes: Counter[int] = Counter()
    for found in filter(None, answers):
        code = int(found.split()[1])
        codes[code] += 1
        assert code < 500 or (code == 503 and b"Come again in a second." in found), (name, found)
    return codes


def assert_all_told(served: Served, kinds: dict[str, Kind], good: bytes) -> None:
    with ThreadPoolExecutor(8) as pool:
        for name, kind in kinds.items():
            codes = assert_told([*pool.map(lambda i, kind=kind: answer(served.port, kind(i)), range(EACH))], name)
            # where the service closes before all has come, the system may throw the answer away
            assert codes.total() > EACH // 2, (name, codes)
    with ThreadPoolExecutor(EACH) as pool:
        for name, sender in {"half-closed": half_closed, "slow": slow}.items():
            assert_told([*pool.map(lambda i, s=sender: s(served.port, good, i), range(EACH))], name)
        slowly = [connected(served.port, good[:-9]) for _ in range(12)]
        time.sleep(0.5)
        codes = assert_told([*pool.map(lambda _: answer(served.port, good), range(EACH))], "too many")
        assert codes == {503: EACH}
        for connection in slowly:
            assert received(connection).startswith(b"HTTP/1.1 408 ")
    assert answer(served.port, good).startswith(b"HTTP/1.1 200 ")


IMAGES = {"bombs": bomb, "truncated": truncated, "wrong types": wrong_type, "huge": huge}
ROWS = {"bombs": table_bomb, "cut": cut, "wrong types": wrong_type, "huge rows": huge_rows}
BOTH = {"path tricks": path_trick, "malformed": malformed}


@pytest.fixture(scope="module", params=["digits", "penguins"])
def project(request, tmp_path_factory) -> Path:
    return exported(request.param, tmp_path_factory.mktemp("hostile"))


def test_hostile_requests_of_every_kind_are_told_and_the_service_lives_on(project):
    of_images = project.parent.name == "digits"
    good = upload(png(8, 8)) if of_images else rows([ROW])
    with serving(project, *LIMITS) as served:
        assert answer(served.port, good).startswith(b"HTTP/1.1 200 ")
        before = open_files(served)
        assert_all_told(served, (IMAGES if of_images else ROWS) | BOTH, good)
        until = time.monotonic() + 20
        while open_files(served) > before and time.monotonic() < until:
            time.sleep(0.5)
        assert open_files(served) <= before
        code, output = served.end()
        assert (code, "Traceback" in output) == (143, False), output


def test_ten_thousand_answers_are_the_checkpoint_s_and_memory_does_not_grow(project):
    asked = load.Load(project)
    with serving(project) as served:
        found = []
        for count in (1000, 9000):
            asked.check(load.ask(served.port, 64, count, asked.requests)[2])
            found.append(load.memory_and_files(served.process.pid)[0])
    assert found[1] < 1.05 * found[0]
