"""A served model: it answers as `predict --onnx` does, refuses what it can't use in a sentence, and lives on."""

import argparse
import base64
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest
from lightning_runs import errors
from lightning_runs.commands import predict_onnx, serve
from PIL import Image
from starlette.testclient import TestClient
from tokenizers import Tokenizer, models, pre_tokenizers
from written import read_table

TOKENIZER = Tokenizer(models.WordLevel({"[PAD]": 0, "cat": 1, "dog": 2, "bird": 3}, unk_token="[PAD]"))
TOKENIZER.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
TOKENIZER.enable_truncation(4)
TOKENIZER.enable_padding(length=4)
FACTS: dict[str, dict[str, Any]] = {
    "rows": {"columns": {name: {"mean": 0.0, "std": 1.0} for name in "wxyz"}},
    "texts": {"text": "text", "whole_files": False, "tokenizer": TOKENIZER.to_str()},
    "images": {},
    "masks": {"labels": [0, 7], "class_names": ["a", "b"]},
}
TABLE = b"z,y,x,w\n1,0,0,0\n0,,0,3\n"
ROW = {"z": 1, "y": 0, "x": 0.0, "w": "0"}
INPUTS = {"rows": ("float32", [4]), "texts": ("int64", [4])}  # of pictures: uint8, one channel of 2 x 2 pixels
SOFTMAX = "(float[batch, 4] probabilities) {n = Cast<to=1>(items) f = Flatten(n) probabilities = Softmax(f)}"
FIRST_CHANNEL = """(uint8[batch, 2, 2] mask, float[batch] confidence) <int64[1] c = {1}, int64[3] p = {1, 2, 3}>
    {mask = Squeeze(items, c) n = Cast<to=1>(items) confidence = ReduceMean<keepdims=0>(n, p)}"""


def write_model(kind: str) -> Path:
    """Write model.onnx: the softmax of four numbers, or for masks the pixels themselves."""
    dtype, shape = INPUTS.get(kind, ("uint8", [1, 2, 2]))
    sizes = ", ".join(map(str, ["batch", *shape]))
    outputs = FIRST_CHANNEL if kind == "masks" else SOFTMAX
    head = '<ir_version: 10, opset_import: ["": 20]>'
    model = onnx.parser.parse_model(f"{head} toy ({dtype.replace('float32', 'float')}[{sizes}] items) => {outputs}")
    inputs = [{"name": "items", "dtype": dtype, "shape": ["batch", *shape]}]
    facts = {"kind": kind, "run": "toy", "class_names": list("abcd"), "inputs": inputs, **FACTS[kind]}
    onnx.helper.set_model_props(model, {"facts": json.dumps(facts)})
    onnx.save(model, "model.onnx")
    return Path("model.onnx")


def client(kind: str, token: str = "", **limits: float) -> TestClient:
    options = {name: default for name, (default, _) in serve.LIMITS.items()} | limits
    service = serve.Service(predict_onnx.OnnxModel(write_model(kind)), argparse.Namespace(**options))
    return TestClient(serve.application(service, token), base_url="http://localhost", raise_server_exceptions=False)


def png(pixels: Any, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(stream, kind)
    return stream.getvalue()


def upload(*files: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", file) for file in files]


FILES = {
    "rows": [("new.csv", TABLE)],
    "texts": [("new.txt", b"cat dog\nbird\n"), ("more.csv", b'text\n"cat, cat"\n')],
    "images": [("a.png", png([[0, 9], [0, 0]])), ("b.png", png([[9, 8], [0, 0]])), ("c.gif", png([[1, 2]] * 2, "GIF"))],
    "masks": [("a.png", png([[0, 1], [1, 1]])), ("b.png", png([[0, 0], [1, 1]]))],
}


@pytest.mark.parametrize("kind", FILES)
def test_answers_are_those_of_predict(kind) -> None:
    response = client(kind).post("/predict", files=upload(*FILES[kind]))
    assert response.status_code == 200, response.text
    for name, content in FILES[kind]:
        Path(name).write_bytes(content)
    assert predict_onnx.main([*dict(FILES[kind]), "--onnx=model.onnx", "--csv=out.csv"]) == 0
    expected = read_table(Path("out.csv"))
    answers = response.json()["predictions"]
    assert len(answers) == len(expected) > 1
    for answer, row in zip(answers, expected, strict=True):
        for group, letter in (("probabilities", "p"), ("shares", "share")):
            answer |= {f"{letter}({name})": value for name, value in answer.pop(group, {}).items()}
        if kind == "masks":
            assert base64.b64decode(answer.pop("mask")) == Path(row.pop("mask")).read_bytes()
        assert {name: "nan" if value is None else str(value) for name, value in answer.items()} == row


@pytest.mark.parametrize(
    ("kind", "inputs"), [("rows", [ROW, {**ROW, "z": 0, "y": None, "w": 3, "more": 1}]), ("texts", ["cat dog", "bird"])]
)
def test_json_and_csv_are_answered_like_files(kind, inputs) -> None:
    asked = client(kind)
    table = TABLE if kind == "rows" else b"text\ncat dog\nbird\n"
    [*expected] = asked.post("/predict", files=upload(("new.csv", table))).json()["predictions"]
    assert [answer.pop("file") for answer in expected] == ["new.csv:2", "new.csv:3"]
    assert asked.post("/predict", json={"inputs": inputs}).json() == {"predictions": expected}
    response = asked.post("/predict", content=table, headers={"Content-Type": "text/csv; charset=utf-8"})
    assert response.json() == {"predictions": expected}


def test_batches_keep_the_order_and_names_are_no_paths(monkeypatch) -> None:
    monkeypatch.setattr(predict_onnx, "BATCH_SIZE", 3)
    names = [f"../{i}/\0:x.png" for i in range(8)]
    files = [(name, png([[0, i], [i // 2, 0]])) for i, name in enumerate(names)]
    asked = client("images")
    answers = asked.post("/predict", files=upload(*files)).json()["predictions"]
    assert [answer["file"] for answer in answers] == [f".._{i}__00_x.png" for i in range(8)]
    alone = [asked.post("/predict", files=upload(file)).json()["predictions"][0] for file in files]
    assert [answer["probabilities"] for answer in answers] == [answer["probabilities"] for answer in alone]


FORM = {"Content-Type": "multipart/form-data"}
JSON = {"Content-Type": "application/json"}
LARGE = ("a.png", png(np.zeros((400, 400))))
WRONG: list[tuple[str, dict[str, Any], int, str]] = [
    ("images", {"files": upload(("a.png", b"text"))}, 422, "a.png: it can't be read as a picture"),
    ("images", {"files": upload(LARGE)}, 422, "more than 10000 pixels"),
    ("images", {"files": upload(*[LARGE] * 6)}, 400, "Too many files"),
    ("images", {"files": [("other", LARGE)]}, 422, "no files in its field files"),
    ("images", {"json": {"inputs": [1]}}, 415, "send multipart/form-data; the request is application/json"),
    ("images", {"content": b"x", "headers": FORM}, 400, "boundary"),
    ("rows", {"content": b"w" * 600_000, "headers": JSON}, 413, "more than 500000 bytes"),
    ("rows", {"content": b"[" * 40_000, "headers": JSON}, 422, "not a JSON object"),
    ("rows", {"json": {"inputs": []}}, 422, "at least one input"),
    ("rows", {"json": {"inputs": [ROW, {}]}}, 422, "input 1 lacks the columns w, x, y, z"),
    ("rows", {"json": {"inputs": [ROW | {"w": [1]}]}}, 422, "input 0 has a value that is not a number"),
    ("rows", {"json": {"inputs": [dict.fromkeys(ROW)]}}, 422, "input 0 is empty"),
    ("rows", {"json": {"inputs": [ROW | {"w": "many"}]}}, 422, "body:2 has 'many', which is not a number"),
    ("rows", {"json": {"inputs": [ROW] * 6}}, 422, "more than 5 inputs"),
    ("rows", {"files": upload(("a.csv", b"w,x\n1,2\n"))}, 422, "a.csv lacks columns"),
    ("rows", {"files": upload(("a.csv", b"," * 400_000))}, 422, "a.csv has more than 300000 cells"),
    ("texts", {"content": b'{"inputs": ["\\ud800"]}', "headers": JSON}, 422, "surrogates not allowed"),
    ("texts", {"files": upload(("a.gz", zlib.compress(b"text")))}, 422, "a_ is not UTF-8"),
]


@pytest.mark.parametrize(("kind", "request_", "code", "text"), WRONG)
def test_a_wrong_request_is_refused_in_a_sentence(kind, request_, code, text) -> None:
    response = client(kind, max_inputs=5, max_bytes=500_000, max_pixels=10_000).post("/predict", **request_)
    assert (response.status_code, text in response.json()["detail"]) == (code, True), response.text
    assert "serve-" not in response.text  # no path of the service


def test_a_token_is_required_where_there_is_one() -> None:
    asked = client("rows", token="secret")
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"}):
        assert asked.post("/predict", json={"inputs": [ROW]}, headers=header).status_code == 401
        assert asked.get("/model", headers=header).status_code == 401
    good = {"Authorization": "Bearer secret"}
    assert asked.post("/predict", json={"inputs": [ROW]}, headers=good).status_code == 200
    assert [asked.get(path).status_code for path in ("/", "/health", "/docs")] == [200] * 3


def test_the_page_and_the_docs_load_nothing_from_elsewhere() -> None:
    asked = client("texts")
    for path in ("/", "/docs"):
        page = asked.get(path).text
        assert not re.search(r"(src|href|url)\s*[=:(]\s*[\"']?(https?:)?//", page)
    script = re.search(r'src="(/[^"]*\.js)"', asked.get("/docs").text)
    assert script is not None
    assert asked.get(script[1]).status_code == 200
    assert {*asked.get("/openapi.json").json()["paths"]} == {"/predict", "/model", "/health"}
    assert "tokenizer" not in asked.get("/model").json()
    assert asked.get("/health", headers={"Host": "evil.example"}).status_code == 400


# ---- A process, and what reaches it through a socket

LIMITS = ("--max_bytes=50000", "--max_inputs=5", "--max_seconds=2", "--max_waiting=8", "--max_pixels=10000")
PROGRAM = """if True:
    import sys, lightning_runs.commands
    sys.modules["torch"] = None
    raise SystemExit(lightning_runs.commands.early(["serve", "--onnx=model.onnx", "--port=0", *sys.argv[1:]]))
"""
HEAD = "POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"


@contextmanager
def serving(*options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Serve model.onnx in a process that can't import torch; yield it and its port."""
    command = [sys.executable, "-c", PROGRAM, *options]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield process, int(re.findall(r"http://127.0.0.1:(\d+)", line)[0])
        finally:
            process.kill()


def request(body: bytes, kind: str = "application/json", head: str = "") -> bytes:
    return f"{HEAD}{head}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode("latin-1") + body


def form(content: bytes, name: str = "a.png", count: int = 1) -> bytes:
    part = f'--=\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode() + content
    return request((part + b"\r\n") * count + b"--=--\r\n", "multipart/form-data; boundary==")


def rows(inputs: Any) -> bytes:
    return request(json.dumps({"inputs": inputs}).encode())


def connected(port: int, sent: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    with suppress(OSError):  # the service may answer and close before all was sent
        connection.sendall(sent)
    return connection


def received(connection: socket.socket) -> bytes:
    with connection, suppress(ConnectionResetError):
        return b"".join(iter(lambda: connection.recv(65536), b""))
    return b""


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


PICTURE = png(np.arange(64).reshape(8, 8))
ZEROS = b"x\0\0" + zlib.compress(bytes(20_000_000))  # they unfold to 20 MB
SIZES = [struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0) for side in (2**10, 2**14, 2**30)]
VALUES = ["x" * 40_000, 10**300, -(10**400), 1e308, "9" * 5000, "\ud800", "\0", [1], {}, True, " ", "nan"]
KINDS = ["", "multipart/form-data; boundary=", "a/b; =", "\x80", "multipart/form-data; boundary==" + "x" * 300]
HEADS = ["Content-Length: -1", "Content-Length: 9, 5", "Transfer-Encoding: chunked\r\n\r\nzz", "X: " + "y" * 70_000]
HOSTILE = {
    "images": [
        *(form(PICTURE[:8] + chunk(b"IHDR", size) + PICTURE[33:]) for size in SIZES),
        *(form(PICTURE[:33] + chunk(name, ZEROS) + PICTURE[33:]) for name in (b"zTXt", b"iCCP")),
        *(form(png([[1] * 40] * 40, kind)[:-9]) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")),
        *(form(PICTURE, name) for name in ("/etc/passwd", "..", "\0", "x" * 9000, "CON", ".png", "a.csv:1")),
    ],
    "rows": [
        *(form(b"w,x\n" + line * 40_000, "a.csv") for line in (b",", b"\n", b'"', b"\xff")),
        *(rows([ROW | {"w": value}]) for value in VALUES),
        *(rows(inputs) for inputs in ([ROW] * 9, [[]], ROW, None, [1, "a"])),
    ],
    "both": [
        form(PICTURE, count=6),
        form(bytes(60_000)),
        *(form(PICTURE)[:length] for length in range(0, 240, 20)),
        *(request(body, kind) for kind in KINDS for body in (b"{}", b"[" * 9000, b"\xff\xfe\0", b"")),
        request(b"--=\r\n" * 5000, "multipart/form-data; boundary=="),
        request(b"0\r\n\r\n", head="Transfer-Encoding: chunked\r\n"),
        b"\x16\x03\x01\x02\x00 no HTTP\r\n\r\n",
        *(f"{HEAD}{head}\r\n\r\n".encode() for head in HEADS),
        *(HEAD.replace("POST", method).encode() + b"\r\n" for method in ("PUT", "TRACE", "X", "GET /../..")),
    ],
}


@pytest.mark.parametrize(("kind", "good"), [("images", form(PICTURE)), ("rows", rows([ROW]))])
def test_hostile_requests_harm_nobody(kind, good) -> None:
    write_model(kind)
    hostile = HOSTILE[kind] + HOSTILE["both"]

    def answers(number: int) -> tuple[bytes, bytes]:
        connection = connected(port, hostile[number])
        if number % 2 or b"\r\n\r\n" not in hostile[number]:  # a head that never ends is never answered
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        beside = connected(port, good)
        return received(connection), received(beside).partition(b"\r\n\r\n")[2]

    with serving(*LIMITS) as (process, port), ThreadPoolExecutor(3) as pool:
        expected = received(connected(port, good)).partition(b"\r\n\r\n")[2]
        found = list(pool.map(answers, range(len(hostile))))
        assert {beside for _, beside in found} == {expected}
        codes = [int(answer.split()[1]) for answer, _ in found if answer]
        assert len(codes) > len(found) / 2
        assert {code for code in codes if code >= 500} <= {503}
        waiting = [connected(port, good[:-9]) for _ in range(8)]
        time.sleep(0.3)
        refused = received(connected(port, good))
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"8 requests are under way. Try again." in refused
        assert {received(connection)[:13] for connection in waiting} == {b"HTTP/1.1 408 "}
        assert received(connected(port, good)).endswith(expected)
        assert process.poll() is None


def test_a_connection_without_a_whole_head_is_closed() -> None:
    write_model("rows")
    with serving() as (_, port):
        silent = connected(port, b"")
        slow = connected(port, HEAD.encode())
        used = connected(port, rows([ROW]).replace(b"Connection: close\r\n", b""))
        assert used.recv(65536).startswith(b"HTTP/1.1 200 ")
        connections = (slow, used)
        start = time.monotonic()
        while time.monotonic() - start < 5.5:  # each byte in time, but never a whole head
            for connection in connections:
                with suppress(OSError):
                    connection.send(b"x")
            time.sleep(0.5)
        for connection in (silent, *connections):
            connection.settimeout(1)
            assert b"HTTP" not in received(connection)  # else the socket's time runs out


@pytest.mark.slow
def test_the_documented_litserve_program_answers_and_ends() -> None:
    pytest.importorskip("litserve")
    page = Path(serve.__file__).parents[1] / "docs" / "serve.md"
    (program,) = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    assert len(program.splitlines()) <= 65
    Path("app.py").write_text(program, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "app.py", str(write_model("images")), str(port)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment, start_new_session=True) as process, ThreadPoolExecutor(9) as pool:
        try:
            until = time.monotonic() + 60
            while time.monotonic() < until and not can_connect(port):
                time.sleep(0.1)
            sent = [form(b"text" if i % 10 == 0 else PICTURE) for i in range(200)]
            codes = [answer[9:12] for answer in pool.map(lambda one: received(connected(port, one)), sent)]
            assert codes == [b"422" if i % 10 == 0 else b"200" for i in range(200)]
            process.terminate()
            assert process.wait(20) == 0
            assert not can_connect(port)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def can_connect(port: int) -> bool:
    with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@pytest.mark.slow
def test_memory_stays_while_thousands_of_answers_are_right() -> None:
    write_model("images")
    pictures = [png(np.random.default_rng(i).integers(0, 255, (8, 8))) for i in range(50)]
    with serving() as (process, port), ThreadPoolExecutor(64) as pool:
        expected = [received(connected(port, form(picture))).partition(b"\r\n\r\n")[2] for picture in pictures]
        memory = []
        for count in (1000, 9000):
            found = pool.map(lambda i: received(connected(port, form(pictures[i % 50]))), range(count))
            assert all(answer.endswith(expected[i % 50]) for i, answer in enumerate(found))
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
            memory.append(int(re.findall(r"VmRSS:\s+(\d+)", status)[0]))
        assert memory[1] < 1.05 * memory[0]


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_lets_what_is_under_way_be_answered(name, code) -> None:
    write_model("rows")
    good = rows([ROW])
    with serving() as (process, port):
        asked = connected(port, good[:-9])
        stuck = connected(port, good[:-9])
        idle = connected(port, b"")
        time.sleep(1)
        start = time.monotonic()
        process.send_signal(getattr(signal, name))
        time.sleep(0.3)
        asked.sendall(good[-9:])
        assert received(asked).startswith(b"HTTP/1.1 200 ")
        assert b"the service is stopping" in received(stuck)
        assert received(idle) == b""
        _, printed = process.communicate(timeout=10)
        assert process.returncode == code
        assert time.monotonic() - start < 2
        assert "Traceback" not in printed


def test_a_port_that_cannot_be_used_is_named(run, capsys) -> None:
    write_model("rows")
    assert run("serve", "--onnx=model.onnx", "--port=70000") == 1
    assert "--port 70000 can't be used" in capsys.readouterr().err


def test_missing_packages_are_named(run, monkeypatch, capsys) -> None:
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    assert run("serve") == 1
    assert re.search(r"fastapi.*\[serve\]", capsys.readouterr().err)
