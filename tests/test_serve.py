"""A served export: answers as `predict` gives them, limits, tokens, what is kept, and the page."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from combinations import VALUES
from PIL import Image
from project import PACKAGE, TEMPLATE, clean_environment, read_rows
from test_render import render
from warm import run

SMALL = ("--run=a", "--trainer.max_epochs=1", "--trainer.limit_train_batches=5", "--trainer.accelerator=cpu")
BLOCKED = "import sys, runpy; sys.modules.update(dict.fromkeys(('torch', 'pytorch_lightning', 'torchvision')));"
PROGRAM = f"{BLOCKED} sys.argv[0] = 'x'; runpy.run_module('{PACKAGE}', run_name='__main__', alter_sys=True)"
MODEL = "runs/a/export/model.onnx"
LIMITS = ("--max_bytes=200000", "--max_pixels=10000", "--max_inputs=20", "--max_seconds=2", "--max_waiting=8")


def exported(dataset: str, folder: Path) -> Path:
    answers = {name: values[0] for name, values in VALUES.items()}
    project = render({**answers, "dataset": dataset, "logger": "csv", "accelerator": "cpu"}, folder / dataset)
    answered = run(project, ["fit", *SMALL], ["export", "a"], own=True)
    assert [code for code, _ in answered] == [0, 0], answered
    with np.load(TEMPLATE / ".tasks/image_classification/src/{{cookiecutter.__package}}/digits.npz") as digits:
        for i, image in enumerate(digits["test_images"][:20]):
            Image.fromarray(image).save(project / f"{i:02}.png")
    return project


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    return exported("digits", tmp_path_factory.mktemp("served"))


def command(project: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start a command in a process that can't import torch."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=project,
        env=clean_environment(project) | {"PYTHONUNBUFFERED": "1"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def predictions(store: Path) -> list[dict[str, Any]]:
    """What is kept, in its order, while a service may write it."""
    with closing(sqlite3.connect(f"{store.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM predictions ORDER BY id")]


class Served:
    """A service that runs, and how to ask it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        assert process.stderr
        line = process.stdout.readline()
        found = re.search(r"^Serving .*model.onnx at http://[\d.]+:(\d+) ", line)
        assert found, line + process.stderr.read()
        self.process, self.port = process, int(found.group(1))

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Send a request; return the status, and the answer, which may be JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET" if body is None else "POST", path, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            return answer.status, json.loads(text) if "json" in (answer.getheader("content-type") or "") else text
        finally:
            connection.close()

    def predict(self, files: Sequence[tuple[str, bytes]] = (), inputs: Any = None, **headers: str) -> tuple[int, Any]:
        """Send files, or inputs as JSON."""
        kind, body = ("application/json", json.dumps({"inputs": inputs}).encode()) if inputs else form(*files)
        return self.ask("/predict", body, **{"Content-Type": kind}, **headers)

    def end(self, sent: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; return the exit code and what was printed."""
        self.process.send_signal(sent)
        output = "".join(self.process.communicate(timeout=30))
        return self.process.returncode, output


@contextmanager
def serving(project: Path, *options: str, **variables: str) -> Iterator[Served]:
    process = command(project, "serve", MODEL, "--port=0", *options, **variables)
    try:
        yield Served(process)
    finally:
        process.kill()
        process.communicate()


def form(*files: tuple[str, bytes], field: str = "files") -> tuple[str, bytes]:
    parts = [
        f'--=\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode() + content + b"\r\n"
        for name, content in files
    ]
    return "multipart/form-data; boundary==", b"".join(parts) + b"--=--\r\n"


def png(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (width, height)).save(stream, "PNG")
    return stream.getvalue()


def by_predict(project: Path, *files: str) -> list[dict[str, str]]:
    process = command(project, "predict", *files, "--onnx", MODEL, "--csv=expected.csv")
    output = process.communicate(timeout=60)
    assert process.returncode == 0, output
    return read_rows(project / "expected.csv")


def told(answer: dict[str, Any], kind: str) -> dict[str, Any]:
    """An answer as a row of the table that `predict` writes."""
    group = {"probabilities": "p", "shares": "share"}[kind]
    row = {key: value for key, value in answer.items() if key not in (kind, "mask")}
    return row | {f"{group}({name})": value for name, value in answer[kind].items()}


def assert_equal(answers: list[dict[str, Any]], expected: list[dict[str, str]], kind: str = "probabilities") -> None:
    assert len(answers) == len(expected) > 0
    for answer, row in zip(answers, expected, strict=True):
        for name, value in told(answer, kind).items():
            assert row[name] == value if isinstance(value, str) else float(row[name]) == pytest.approx(value, abs=2e-6)


# ---- Answers


def test_images_are_answered_in_their_order_as_predict_answers_them_without_torch(digits):
    names = [f"{i:02}.png" for i in range(20)]
    expected = by_predict(digits, *names)
    assert len({row["p(0)"] for row in expected}) == 20
    with serving(digits, "--wait_ms=100") as served:
        code, found = served.predict([(name, (digits / name).read_bytes()) for name in names])
        assert code == 200, found
        assert_equal(found["predictions"], expected)

        def one(i: int) -> tuple[int, Any]:
            return served.predict([(names[i], (digits / names[i]).read_bytes())])

        with ThreadPoolExecutor(16) as pool:  # those that wait are computed together, and none is mixed up
            answers = [*pool.map(one, [*range(20)] * 5)]
        assert {code for code, _ in answers} == {200}
        assert_equal([found["predictions"][0] for _, found in answers], expected * 5)
        metrics = served.ask("/metrics")[1]
        assert "\npredictions_total 120.0\n" in metrics
        assert '\npredict_batch_inputs_bucket{le="1024.0"} ' in metrics  # sizes, where seconds are the default
        count = re.search(r"\npredict_batch_inputs_count (\d+)", metrics)
        assert count
        assert int(count[1]) < 60
        assert served.ask("/health") == (200, {"status": "ok"})
        code, model = served.ask("/model")
        assert (code, model["kind"], model["class_names"], model["run"]) == (200, "images", [*"0123456789"], "a")
        assert model["inputs"][0]["shape"] == ["batch", 1, 8, 8]
        assert 0 <= model["metrics"]["test/accuracy"] <= 1


def test_as_many_files_as_are_taken_are_answered_by_their_names(digits):
    good = (digits / "00.png").read_bytes()
    with serving(digits) as served:
        code, found = served.predict([(f"{i}.png:{i}", good) for i in range(1000)])
        assert code == 200, found
        assert [one["file"] for one in found["predictions"]] == [f"{i}.png:{i}" for i in range(1000)]


@pytest.mark.parametrize("dataset", ["penguins", pytest.param("glosses", marks=pytest.mark.slow)])
def test_rows_and_texts_are_answered_alike_from_json_and_from_files(tmp_path, dataset):
    project = exported(dataset, tmp_path)
    if dataset == "penguins":
        lines = (project / "src" / PACKAGE / "penguins.csv").read_text().splitlines()[:12]
        (project / "new.csv").write_text("\n".join([*lines, "Adelie,Moon,,,,,NA,2009"]))
        rows = read_rows(project / "new.csv")
        inputs: list[Any] = [
            {name: None if value in ("", "NA") else value for name, value in row.items()} for row in rows
        ]
        inputs[0]["bill_length_mm"] = float(inputs[0]["bill_length_mm"] or 0)  # a number or its text
        wrong = {"an object of no columns": {}, "a list": [1], "a list as value": inputs[0] | {"island": ["Biscoe"]}}
        says = ["input 1 lacks columns: island, ", "input 1 is no object", "input 1 has a value that is no number"]
    else:
        inputs = ['a large, striped "cat"', "bread\nand butter", "a person who paints; with a brush"]
        quoted = [text.replace('"', '""') for text in inputs]
        (project / "new.csv").write_text("text\n" + "\n".join(f'"{text}"' for text in quoted))
        wrong = {"empty": " ", "a number": 1, "half a character": "\ud800"}
        says = ["of 2 inputs, 1 are empty.", "input 1 is no text.", "an input has half a character"]
    expected = by_predict(project, "new.csv")
    with serving(project) as served:
        code, found = served.predict(inputs=inputs)
        assert code == 200, found
        assert_equal(found["predictions"], expected)
        code, found = served.predict([("../new.csv", (project / "new.csv").read_bytes())])
        assert [one["file"].partition(":")[0] for one in found["predictions"]] == ["../new.csv"] * len(expected)
        assert_equal([{**one, "file": one["file"][3:]} for one in found["predictions"]], expected)
        for value, text in zip(wrong.values(), says, strict=True):
            code, found = served.predict(inputs=[inputs[0], value])
            assert (code, text in found["detail"]) == (422, True), found
        code, found = served.predict([("x.csv", b"one,two\n" + b"," * 299_999 + b"\n" * 3)])
        assert (code, "10000 lines or 300000 cells" in found["detail"]) == (413, True), found
        code, found = served.predict([("x.csv", b"one,two\n1,2\n")])
        assert (code, found["detail"].startswith("x.csv ")) == (422, True), found  # without the service's own paths
        assert served.predict(inputs=inputs)[0] == 200
    kept = predictions(project / "runs/a/export/predictions.sqlite")
    assert [row["label"] for row in kept[: len(inputs)]] == [row["label"] for row in expected]


@pytest.mark.slow
def test_a_mask_is_answered_as_a_file_in_the_size_of_the_image(tmp_path):
    project = exported("digit_scenes", tmp_path)
    [expected] = by_predict(project, "00.png")
    with serving(project) as served:
        code, found = served.predict([("00.png", (project / "00.png").read_bytes())])
        assert code == 200, found
        assert_equal(found["predictions"], [expected], "shares")
        mask = found["predictions"][0]["mask"]
    assert base64.b64decode(mask) == (project / expected["mask"]).read_bytes()
    [kept] = predictions(project / "runs/a/export/predictions.sqlite")
    assert kept["label"] is None
    assert kept["probability"] == pytest.approx(float(expected["confidence"]), abs=1e-5)


def test_a_project_that_reads_no_files_says_what_it_lacks(tmp_path):
    answers = {name: values[0] for name, values in VALUES.items()}
    process = command(render({**answers, "dataset": "own"}, tmp_path), "serve")
    output = "".join(process.communicate(timeout=60))
    assert process.returncode == 1
    assert output.startswith("error: serve needs a function read(paths, facts), which __main__.py gives to runtime.")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--host=0.0.0.0"], 1, "--host 0.0.0.0 can be reached from other machines, so requests must bring a token."),
        (["--port=70000"], 1, "--host 127.0.0.1 --port 70000 can't be used: "),
        (["--max_bytes=0"], 2, "argument --max_bytes: 0 is too small or too large; it must be at least 1"),
        (["--port=x"], 2, "argument --port: invalid number value: 'x'"),
        (["missing.onnx"], 1, "missing.onnx does not exist. Write it with: "),
        (["nothing"], 1, "nothing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_can_not_be_served_is_told_in_a_sentence(digits, arguments, code, says):
    process = command(digits, "serve", *([MODEL] if arguments[0][0] == "-" else []), *arguments)
    output = "".join(process.communicate(timeout=60))
    assert process.returncode == code, output
    assert says in output
    assert "Traceback" not in output


# ---- Limits


def open_files(served: Served) -> int:
    """How many files and sockets the service has open; 0 where the system does not tell."""
    return len(os.listdir(f"/proc/{served.process.pid}/fd")) if sys.platform == "linux" else 0


def test_hostile_requests_are_refused_in_a_sentence_and_the_service_lives_on(digits):
    good = ("a.png", (digits / "00.png").read_bytes())
    with serving(digits, *LIMITS) as served:
        assert served.predict([good])[0] == 200  # which opens what stays open
        before = open_files(served)
        files = {
            "a bomb": (
                422,
                "a.png: it can't be read as an image: Image size (16000000 pixels) exceeds",
                png(4000, 4000),
            ),
            "a truncated file": (422, "a.png: it can't be read as an image: ", good[1][:60]),
            "no image": (422, "a.png: it can't be read as an image: cannot identify image file 'a.png'", b"no image"),
            "nothing": (422, "a.png: it can't be read as an image: ", b""),
            "too long": (413, "the request has more than 200000 bytes.", bytes(300_000)),
        }
        for name, (expected, text, content) in files.items():
            code, found = served.predict([("a.png", content)])
            assert (code, text in found["detail"]) == (expected, True), (name, found)
        for name in ("../../../../tmp/x.png", "/etc/passwd", "a\\..\\b.png", "%2e%2e%2f", "x" * 5000, ".png", "\u0000"):
            code, found = served.predict([(name, good[1])])
            assert code in (200, 400, 422), found
            assert code != 200 or found["predictions"][0]["file"] == name[:200]
        bodies = {
            (415, "the model takes files in the field files"): ("application/json", b'{"inputs": [1]}'),
            (415, "the request is of no type."): ("", b"x"),
            (422, "the form has no files in its field files."): form(good, field="other"),
            (400, "Too many files"): form(*[good] * 21),
            (400, "Missing boundary in multipart"): ("multipart/form-data", b"x"),
        }
        for (expected, text), (kind, body) in bodies.items():
            code, found = served.ask("/predict", body, **({"Content-Type": kind} if kind else {}))
            assert (code, text in str(found)) == (expected, True), found
        assert served.ask("/predict")[0] == 405
        assert served.ask("/nowhere")[0] == 404
        assert served.ask("/health", Host="evil.example")[0] == 400  # a name that leads to this machine

        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary==\r\n"
        slow = connected(served.port, head + b"Content-Length: 1000\r\n\r\n--=\r\n")
        no_end, mute = connected(served.port, head), connected(served.port, b"")
        half = connected(served.port, head + b"Content-Length: 1000\r\n\r\n--=\r\n")
        half.shutdown(socket.SHUT_WR)
        connected(served.port, head + b"Content-Length: 1000\r\n\r\n").close()
        connected(served.port, b"\x16\x03\x01 no HTTP\r\n\r\n").close()
        chunk = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n"
        for _ in range(9):  # the wrong chunk and the lacking type are two mistakes, and one is answered
            assert received(connected(served.port, chunk))[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 415")
        assert served.predict([good])[0] == 200  # meanwhile
        answer = received(slow)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"the request took more than 2 seconds to arrive or to be answered." in answer
        assert [received(one) for one in (no_end, mute, half)] == [b""] * 3

        waiting = [connected(served.port, head + b"Content-Length: 1000\r\n\r\n--=\r\n") for _ in range(8)]
        time.sleep(0.5)
        code, found = served.predict([good])
        assert (code, found["detail"]) == (
            503,
            "8 requests are under way, and no more are taken. Come again in a second.",
        )
        for one in waiting:
            assert received(one).startswith(b"HTTP/1.1 408 ")
        assert served.predict([good])[0] == 200
        until = time.monotonic() + 20  # a connection that was half closed is given up after some seconds
        while open_files(served) > before and time.monotonic() < until:
            time.sleep(0.5)
        assert open_files(served) <= before
        code, output = served.end()
        assert (code, "Traceback" in output) == (143, False), output


def connected(port: int, sent: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(sent)
    return connection


def received(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    with connection:
        try:
            return b"".join(iter(lambda: connection.recv(65536), b""))
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT], ids=lambda sent: sent.name)
def test_a_signal_lets_what_is_under_way_be_answered(digits, sent):
    kind, body = form(("a.png", (digits / "00.png").read_bytes()))
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    with serving(digits) as served:
        asked = connected(served.port, head.encode() + body[:-9])
        time.sleep(0.7)
        served.process.send_signal(sent)
        time.sleep(0.7)
        asked.sendall(body[-9:])
        assert received(asked).startswith(b"HTTP/1.1 200 ")
        output = "".join(served.process.communicate(timeout=30))
        assert served.process.returncode == {"SIGTERM": 143, "SIGINT": 130}[sent.name], output


def test_a_request_that_is_alone_waits_for_no_others(digits):
    with serving(digits, "--wait_ms=60000", "--max_seconds=3") as served:
        assert served.predict([("a.png", (digits / "00.png").read_bytes())])[0] == 200


# ---- Who may ask


def test_a_token_is_required_where_there_is_one(digits):
    good = ("a.png", (digits / "00.png").read_bytes())
    with serving(digits, "--host=0.0.0.0", SERVE_TOKEN="sécret") as served:
        for path in ("/model", "/metrics"):
            assert served.ask(path)[0] == 401
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic sécret"}):
            code, found = served.predict([good], **header)
            assert code == 401
            assert found["detail"] == "a token is required: send the header Authorization: Bearer TOKEN."
        assert served.predict([good], Authorization="Bearer sécret")[0] == 200
        assert [served.ask(path)[0] for path in ("/", "/health", "/docs")] == [200, 200, 200]


# ---- What is kept


def test_predictions_are_kept_and_the_oldest_are_removed(digits, tmp_path):
    images = [(f"{i:02}.png", (digits / f"{i:02}.png").read_bytes()) for i in range(20)]
    store = tmp_path / "kept.sqlite"
    with serving(digits, f"--store={store}", "--store_rows=30") as served:
        served.predict(images)
        found = served.predict(images)[1]["predictions"]
        assert len(predictions(store)) == 30  # while it is being written
    kept = predictions(store)  # it was killed
    assert [(row["label"], row["probability"]) for row in kept[10:]] == [
        (one["label"], pytest.approx(one["probability"], abs=1e-5)) for one in found
    ]
    assert {*json.loads(kept[0]["statistics"])} >= {"brightness", "contrast"}
    reference = json.loads((digits / "runs/a/export/reference.json").read_text())
    assert kept[0]["model"] == reference["model"]
    process = command(digits, "drift", "a", f"--store={store}")
    output = "".join(process.communicate(timeout=60))
    assert process.returncode in (0, 3), output
    assert "30 predictions of the model" in output


def test_where_nothing_can_be_kept_it_serves_and_says_so_once(digits, tmp_path):
    (tmp_path / "file").write_text("no folder")
    good = ("a.png", (digits / "00.png").read_bytes())
    with serving(digits, f"--store={tmp_path}/file/kept.sqlite") as served:
        assert [served.predict([good])[0] for _ in range(3)] == [200] * 3
        assert served.end()[1].count("note: predictions are not kept, for ") == 1
    store = tmp_path / "kept.sqlite"
    with serving(digits, f"--store={store}") as served:
        with sqlite3.connect(store) as connection:
            connection.execute("DROP TABLE predictions")
        assert [served.predict([good])[0] for _ in range(3)] == [200] * 3
        assert served.end()[1].count("note: predictions are not kept: no such table: predictions.") == 1


def test_a_kill_while_predictions_are_written_loses_at_most_the_last(tmp_path):
    source = TEMPLATE / "src/{{cookiecutter.__package}}/runtime/commands"
    code = f"""
import itertools, sys
sys.dont_write_bytecode = True
sys.path.insert(0, {str(source)!r})
from pathlib import Path
from store import Store
store = Store(Path("kept.sqlite"), 10**6)
for i in itertools.count():
    store.add([(float(i), "m", "a", 0.5, "{{}}")] * 3)
    print(i + 1, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for line in process.stdout:
        if int(line) == 200:
            process.send_signal(signal.SIGKILL)
            break
    written = int([200, *map(int, process.communicate()[0].splitlines())][-1])
    kept = predictions(tmp_path / "kept.sqlite")
    assert len(kept) in (3 * written, 3 * written + 3)
    assert [row["time"] for row in kept[::3]] == [float(i) for i in range(len(kept) // 3)]


# ---- The page


def test_the_page_and_the_docs_name_no_other_address(digits):
    with serving(digits) as served:
        for path in ("/", "/docs"):
            code, page = served.ask(path)
            assert code == 200
            assert "http" not in page.replace("http-equiv", "")
            assert not re.search(r"(src|href|url)\s*[=:(]\s*[\"']?//", page)
        assert "/predict" in served.ask("/openapi.json")[1]["paths"]
        script = re.search(r'src="(/[^"]*\.js)"', served.ask("/docs")[1])
        assert script
        assert served.ask(script.group(1))[0] == 200
