"""An exported model: served, it answers as `predict` does, refuses what it can't use in a sentence, and lives on."""

import argparse
import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
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
from processes import free_port
from starlette.testclient import TestClient
from starts import LIBRARY_ALONE, WITHOUT_TORCH
from tokenizers import Tokenizer, models, pre_tokenizers
from toy import assert_fails
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


def save_model(graph: str, facts: dict[str, Any]) -> Path:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> toy {graph}')
    onnx.helper.set_model_props(model, {"facts": json.dumps(facts)})
    onnx.save(model, "model.onnx")
    return Path("model.onnx")


def write_model(kind: str) -> Path:
    dtype, shape = INPUTS.get(kind, ("uint8", [1, 2, 2]))
    sizes = ", ".join(map(str, ["batch", *shape]))
    outputs = FIRST_CHANNEL if kind == "masks" else SOFTMAX
    inputs = [{"name": "items", "dtype": dtype, "shape": ["batch", *shape]}]
    facts = {"kind": kind, "run": "toy", "class_names": list("abcd"), "inputs": inputs, **FACTS[kind]}
    return save_model(f"({dtype.replace('float32', 'float')}[{sizes}] items) => {outputs}", facts)


def client(model: Path, token: str = "", **limits: float) -> TestClient:
    options = {name: default for name, (default, _) in serve.LIMITS.items()} | limits
    service = serve.Service(predict_onnx.OnnxModel(model), argparse.Namespace(**options))
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
    response = client(write_model(kind)).post("/predict", files=upload(*FILES[kind]))
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


def test_json_and_csv_are_answered_like_files() -> None:
    asked = client(write_model("rows"))
    expected = asked.post("/predict", files=upload(("new.csv", TABLE))).json()
    assert [answer.pop("file") for answer in expected["predictions"]] == ["new.csv:2", "new.csv:3"]
    inputs = [ROW, {**ROW, "z": 0, "y": None, "w": 3, "more": 1}]
    assert asked.post("/predict", json={"inputs": inputs}).json() == expected
    response = asked.post("/predict", content=TABLE, headers={"Content-Type": "text/csv; charset=utf-8"})
    assert response.json() == expected


JSON = {"Content-Type": "application/json"}
PICTURE = png(np.arange(64).reshape(8, 8))
LARGE = ("a.png", png(np.zeros((400, 400))))
WRONG: list[tuple[str, dict[str, Any], int, str]] = [
    ("images", {"files": upload(("a.png", b"text"))}, 422, "a.png: it can't be read as a picture"),
    ("images", {"files": upload(LARGE)}, 422, "more than 10000 pixels"),
    ("images", {"files": upload(*[LARGE] * 6)}, 400, "Too many files"),
    ("images", {"json": {"inputs": [1]}}, 415, "send multipart/form-data; the request is application/json"),
    ("rows", {"content": b"w" * 600_000, "headers": JSON}, 413, "more than 500000 bytes"),
    ("rows", {"content": b"[" * 40_000, "headers": JSON}, 422, "not a JSON object"),
    ("rows", {"json": {"inputs": [ROW, {}]}}, 422, "input 1 lacks the columns w, x, y, z"),
    ("rows", {"files": upload(("a.csv", b"," * 400_000))}, 422, "a.csv has more than 300000 cells"),
]


@pytest.mark.parametrize(("kind", "request_", "code", "text"), WRONG)
def test_a_wrong_request_is_refused_in_a_sentence(kind, request_, code, text) -> None:
    limits: dict[str, Any] = {"max_inputs": 5, "max_bytes": 500_000, "max_pixels": 10_000}
    response = client(write_model(kind), **limits).post("/predict", **request_)
    assert (response.status_code, text in response.json()["detail"]) == (code, True), response.text
    assert "serve-" not in response.text  # no path of the service


def test_a_token_is_required_where_there_is_one() -> None:
    asked = client(write_model("rows"), token="secret")
    for header, code in (({}, 401), ({"Authorization": "Bearer x"}, 401), ({"Authorization": "Bearer secret"}, 200)):
        assert asked.post("/predict", json={"inputs": [ROW]}, headers=header).status_code == code


def test_the_page_and_the_docs_load_nothing_from_elsewhere() -> None:
    asked = client(write_model("texts"))
    for path in ("/", "/docs"):
        assert not re.search(r"(src|href|url)\s*[=:(]\s*[\"']?(https?:)?//", asked.get(path).raise_for_status().text)
    assert asked.get("/health", headers={"Host": "evil.example"}).status_code == 400


LIMITS = ("--max_bytes=50000", "--max_inputs=5", "--max_seconds=2", "--max_waiting=8", "--max_pixels=10000")
HEAD = "POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"


@contextmanager
def serving(*options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Serve the model of rows in a process that can't import torch."""
    command = [*WITHOUT_TORCH, "serve", f"--onnx={write_model('rows')}", "--port=0", *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=LIBRARY_ALONE, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield process, int(re.findall(r"http://127.0.0.1:(\d+)", line)[0])
        finally:
            process.kill()


def request(body: bytes, kind: str = "application/json") -> bytes:
    return f"{HEAD}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode("latin-1") + body


def form(content: bytes, name: str = "a.png") -> bytes:
    part = f'--=\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode() + content
    return request(part + b"\r\n--=--\r\n", "multipart/form-data; boundary==")


def rows(inputs: Any) -> bytes:
    return request(json.dumps({"inputs": inputs}).encode())


GOOD = rows([ROW])


def connected(port: int, sent: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    with suppress(OSError):  # the service may answer and close before all was sent
        connection.sendall(sent)
    return connection


def received(connection: socket.socket) -> bytes:
    with connection, suppress(ConnectionResetError):
        return b"".join(iter(lambda: connection.recv(65536), b""))
    return b""


VALUES = ["x" * 40_000, 10**300, -(10**400), "9" * 5000, "\ud800", "\0", [1], {}, True, "nan"]
KINDS = ["", "multipart/form-data; boundary=", "a/b; =", "\x80", "multipart/form-data; boundary==" + "x" * 300]
HEADS = ["Content-Length: -1", "Content-Length: 9, 5", "Transfer-Encoding: chunked\r\n\r\nzz", "X: " + "y" * 70_000]
HOSTILE = [
    *(form(b"w,x\n" + line * 40_000, "a.csv") for line in (b",", b"\n", b'"', b"\xff")),
    *(form(TABLE, name) for name in ("/etc/passwd", "..", "\0", "x" * 9000, "a.csv:1")),
    *(rows(inputs) for inputs in ([ROW] * 9, ROW, None, [1, "a"], *([ROW | {"w": value}] for value in VALUES))),
    *(form(TABLE)[:length] for length in range(0, 240, 20)),
    *(request(body, kind) for kind in KINDS for body in (b"{}", b"[" * 9000, b"\xff\xfe\0", b"")),
    *(f"{HEAD}{head}\r\n\r\n".encode() for head in (*HEADS, "")),
]


def test_hostile_requests_harm_nobody() -> None:
    def answers(sent: bytes) -> tuple[bytes, bytes]:
        connection = connected(port, sent)
        if b"\r\n\r\n" not in sent:  # a head that never ends is never answered
            connection.shutdown(socket.SHUT_WR)
        beside = connected(port, GOOD)
        return received(connection), received(beside).partition(b"\r\n\r\n")[2]

    with serving(*LIMITS) as (_, port), ThreadPoolExecutor(3) as pool:
        expected = received(connected(port, GOOD)).partition(b"\r\n\r\n")[2]
        found = list(pool.map(answers, HOSTILE))
        assert {beside for _, beside in found} == {expected}
        codes = [int(answer.split()[1]) for answer, _ in found if answer]
        assert {code for code in codes if code >= 500} <= {503}
        waiting = [connected(port, GOOD[:-9]) for _ in range(8)]
        time.sleep(0.3)
        assert received(connected(port, GOOD)).startswith(b"HTTP/1.1 503 ")
        assert {received(connection)[:13] for connection in waiting} == {b"HTTP/1.1 408 "}
        assert received(connected(port, GOOD)).endswith(expected)


def test_a_connection_without_a_whole_head_is_closed() -> None:
    with serving() as (_, port):
        slow = connected(port, HEAD.encode())
        silent = connected(port, b"")
        for _ in range(11):  # each byte in time, but never a whole head
            time.sleep(0.5)
            with suppress(OSError):
                slow.send(b"x")
        for connection in (silent, slow):
            connection.settimeout(1)
            assert b"HTTP" not in received(connection)  # else the socket's time runs out


@pytest.mark.slow
def test_the_documented_litserve_program_answers_and_ends() -> None:
    page = Path(serve.__file__).parents[1] / "docs" / "serve.md"
    (program,) = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    Path("app.py").write_text(program, encoding="utf-8")
    port = free_port()
    command = [sys.executable, "app.py", str(write_model("images")), str(port)]
    with subprocess.Popen(command, env=os.environ | LIBRARY_ALONE) as process, ThreadPoolExecutor(9) as pool:
        for _ in range(600):
            with suppress(ConnectionRefusedError):
                connected(port, b"").close()
                break
            time.sleep(0.1)
        sent = [form(b"text" if i % 10 == 0 else PICTURE) for i in range(200)]
        codes = [answer[9:12] for answer in pool.map(lambda one: received(connected(port, one)), sent)]
        process.terminate()
        assert codes == [b"422" if i % 10 == 0 else b"200" for i in range(200)]
        assert process.wait(20) == 0


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_lets_what_is_under_way_be_answered(name, code) -> None:
    with serving() as (process, port):
        asked = connected(port, GOOD[:-9])
        stuck = connected(port, GOOD[:-9])
        time.sleep(1)
        process.send_signal(getattr(signal, name))
        time.sleep(0.3)
        asked.sendall(GOOD[-9:])
        assert received(asked).startswith(b"HTTP/1.1 200 ")
        assert b"the service is stopping" in received(stuck)
        _, printed = process.communicate(timeout=2)
        assert process.returncode == code
        assert "Traceback" not in printed


def test_a_service_that_cannot_start_is_told_why(run, monkeypatch, capsys) -> None:
    assert_fails("--port 70000 can't be used", "serve", f"--onnx={write_model('rows')}", "--port=70000")
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    assert run("serve") == 1
    assert re.search(r"fastapi.*\[serve\]", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (None, ["model.onnx can't be used"]),
        ({"columns": {"w": {"mean": 0.0, "std": 1.0}}}, ["model.onnx can't take new.csv:2"]),
        ({"kind": "os.path"}, ["new.csv is neither JSON nor an array of NumPy"]),
    ],
)
def test_a_model_that_can_not_be_used_is_refused(facts, words, monkeypatch) -> None:
    if facts is None:
        Path("model.onnx").write_bytes(b"text")
    else:
        monkeypatch.setitem(FACTS, "rows", facts)
        write_model("rows")
    Path("new.csv").write_text("w,x\n1,0\n")
    assert_fails(words, "predict", "new.csv", "--onnx=model.onnx")
