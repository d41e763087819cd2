"""``serve [RUN | model.onnx]``: answer requests by an exported model, over HTTP and on a page, without torch."""

from __future__ import annotations

import argparse
import ipaddress
import os
import socket
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import UserError, require
from . import PROGRAM, exports
from .store import Store

TOKEN = "SERVE_TOKEN"  # the environment variable, for the options of a process can be read by every user


def main(args: list[str], read: Callable[..., Any] | None, rows: Callable[..., Any] | None) -> int:
    """Serve until a signal comes; what is under way is then finished.

    Args:
        args: The command line after ``serve``.
        read: Reads new inputs, and ``rows`` makes a table of predictions, both as for ``predict --onnx``.
        rows: See there.

    Raises:
        UserError: The model, the address or an option can't be used.
    """
    options = _parse(args)
    if read is None:
        raise UserError(
            "serve needs a function read(paths, facts), which __main__.py gives to runtime.early. docs/export.md says"
            " what it yields."
        )
    require("serve", "fastapi", "fastapi_offline", "uvicorn", "onnxruntime", "python_multipart", "prometheus_client")
    token = os.environ.get(TOKEN, "")
    if not token and not _is_loopback(options.host):
        raise UserError(
            f"--host {options.host} can be reached from other machines, so requests must bring a token. Choose one:"
            f" export {TOKEN}=$(openssl rand -hex 16)"
        )
    from .application import run
    from .intake import Intake
    from .predict_onnx import open_model
    from .service import Service

    named = str(options.model).endswith(".onnx")
    file = Path(options.model) if named else exports.find(options.model)[0] / "model.onnx"
    session, facts = open_model(file, "serve")
    store = _store(options.store or file.with_name("predictions.sqlite"), options.store_rows)
    sock = _listen(options.host, options.port)
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = f"http://{host}:{sock.getsockname()[1]}"
    print(f"Serving {file} at {address} (Ctrl-C ends it). For programs: {address}/docs", flush=True)
    digest = exports.model_id(file)
    run(Service(session, facts, digest, Intake(facts, read, options), rows, store, options), token, sock)
    return 0


def _parse(args: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} serve",
        description="Serve an exported model: a page for people, /docs for programs. It needs no torch. On another"
        f" address than this machine's own, requests must bring the token that the environment variable {TOKEN} has.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )

    def number(least: float, kind: type = int) -> Callable[[str], Any]:
        def parse(text: str) -> Any:
            value = kind(text)
            if not least <= value < 2**62:
                raise argparse.ArgumentTypeError(f"{text} is too small or too large; it must be at least {least}")
            return value

        parse.__name__ = "number"  # which argparse names where it is none
        return parse

    def add(name: str, default: Any, kind: Any, text: str) -> None:
        parser.add_argument(f"--{name}", default=default, type=kind, metavar="X", help=text)

    text = "name or folder of a run, or a file model.onnx (default: the newest finished run)"
    parser.add_argument("model", nargs="?", metavar="RUN", help=text)
    add("host", "127.0.0.1", str, "address; 0.0.0.0 for every one that this machine has")
    add("port", 8000, number(0), "port; 0 for a free one")
    add("store", None, Path, "SQLite file of predictions, without inputs; None: predictions.sqlite beside the model")
    add("store_rows", 1_000_000, number(1), "predictions that are kept; the oldest are removed")
    add("batch_size", 64, number(1), "largest number of inputs that are computed at once")
    add("wait_ms", 2.0, number(0, float), "milliseconds to wait for further inputs for a batch")
    add("max_bytes", 10_000_000, number(1), "largest size of a request")
    add("max_pixels", 25_000_000, number(1), "largest number of pixels of an image")
    add("max_inputs", 1000, number(1), "largest number of inputs of a request")
    add("max_seconds", 30.0, number(0.1, float), "longest time of a request, from its first byte to the answer")
    add("max_waiting", 128, number(1), "requests under way at once; further ones are told to come again (503)")
    return parser.parse_args(args)


def _store(path: Path, rows: int) -> Store | None:
    """Open the file of predictions; None, which is said, where it can't be written."""
    try:
        return Store(path, rows)
    except sqlite3.Error as error:
        print(f"note: predictions are not kept, for {path} can't be written: {error}.", file=sys.stderr)
        return None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    """Take the port, before the model is said to be served."""
    try:
        sock = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        # else the second half of each answer waits 40 ms for the receipt of the first: asyncio sets it by itself only
        # on sockets whose protocol is named
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"--host {host} --port {port} can't be used: {why}. Choose another, or 0 for a free one."
        ) from error
