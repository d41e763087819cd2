"""``serve``: answer requests by an exported model, over HTTP and on a page, in one process and without torch."""

import argparse
import asyncio
import hmac
import os
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi_offline import FastAPIOffline
from onnxruntime import RunOptions
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..cli.arguments import run_name
from ..errors import UserError, reason
from ..names import program
from ..reports import charts
from ..reports.tables import as_json, csv_of_json, json_value
from ..runs import default_root, find
from .predict_onnx import OnnxModel

FORM = "multipart/form-data"
JSON = "application/json"
FILES = {"properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}}}
SCHEMAS = {FORM: FILES, JSON: {"properties": {"inputs": {"type": "array", "items": {}}}}, "text/csv": {}}
MAX_CELLS = 300_000  # of a table: ten megabytes of commas would take gigabytes
PREFIX = re.compile(re.escape(gettempdir()) + r".serve-\w+.\d+-")  # of the files of a request
LOOPBACK = ("127.0.0.1", "localhost", "::1")  # only this machine reaches them
LIMITS = {
    "max_bytes": (10_000_000, "largest size of a request"),
    "max_inputs": (1000, "largest number of inputs of a request"),
    "max_pixels": (25_000_000, "largest number of pixels of an image"),
    "max_seconds": (30.0, "longest time of a request, from its head to its answer"),
    "max_waiting": (128, "requests at once; further ones are told to try again (503)"),
}


class Service:
    """Predict the inputs of requests, one request after the other, because a model uses all cores for a batch."""

    def __init__(self, model: OnnxModel, options: argparse.Namespace) -> None:
        self.model = model
        self.options = options
        model.facts["max_pixels"] = options.max_pixels
        kind = model.facts.get("kind")
        self.columns: Any = {"rows": model.facts.get("columns"), "texts": [model.facts.get("text")]}.get(kind)
        self.types = [FORM] if kind in ("images", "masks") else [FORM, JSON, "text/csv"]  # pictures come as files
        self.num_requests = 0  # under way
        self.thread = ThreadPoolExecutor(1)

    async def answer(self, request: Request) -> list[dict[str, Any]]:
        """Return the predictions of a request's inputs in their order, or raise an HTTPException with a sentence."""
        if self.num_requests >= self.options.max_waiting:
            raise HTTPException(503, f"{self.num_requests} requests are under way. Try again.", {"Retry-After": "1"})
        self.num_requests += 1
        run = RunOptions()
        try:
            async with asyncio.timeout(self.options.max_seconds):
                kind, files = await self.receive(request)
                return await asyncio.get_running_loop().run_in_executor(self.thread, self.predict, kind, files, run)
        except TimeoutError as error:
            raise HTTPException(408, f"the request took more than {self.options.max_seconds:g} seconds.") from error
        except (ClientDisconnect, asyncio.CancelledError) as error:
            raise HTTPException(503, "the service is stopping. Try again later.") from error
        finally:
            run.terminate = True  # nobody waits for what is still computed
            self.num_requests -= 1

    async def receive(self, request: Request) -> tuple[str, list[tuple[str, bytes]]]:
        """Return the type of a request, and the names and contents of its files; a body is one file."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in self.types:
            raise HTTPException(415, f"send {' or '.join(self.types)}; the request is {kind or 'of no type'}.")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self.options.max_bytes:
                raise HTTPException(413, f"the request has more than {self.options.max_bytes} bytes. Send it in parts.")
        if kind != FORM:
            return kind, [("body", bytes(body))]

        async def received() -> dict[str, Any]:
            return {"type": "http.request", "body": bytes(body)}

        async with Request(request.scope, received).form(max_files=self.options.max_inputs) as form:
            uploads = [upload for upload in form.getlist("files") if not isinstance(upload, str)]
            files = [(upload.filename or "file", await upload.read()) for upload in uploads]
        if not files:
            raise HTTPException(422, "the form has no files in its field files.")
        return kind, files

    def predict(self, kind: str, files: list[tuple[str, bytes]], run: RunOptions) -> list[dict[str, Any]]:
        """Write files as `predict` would be given them, and return the answers to the inputs in them."""
        answers: list[dict[str, Any]] = []
        with TemporaryDirectory(prefix="serve-") as folder:
            paths = []
            try:
                for name, content in files:
                    written = csv_of_json(content, self.columns) if kind == JSON and self.columns else content
                    if self.columns and sum(written.count(separator) for separator in b",;\t|\n\r") > MAX_CELLS:
                        raise UserError(f"{name} has more than {MAX_CELLS} cells. Send it in parts.")
                    # what a request calls a file is never a path, and nothing is unpacked
                    paths.append(Path(folder, f"{len(paths)}-" + re.sub(r"[^\w. -]|\.gz$", "_", name)[-60:]))
                    paths[-1].write_bytes(written)
                for name, header, row in self.model.rows(paths, run):
                    if isinstance(row, str):
                        raise UserError(f"{name}: {row}.")
                    if len(answers) == self.options.max_inputs:
                        raise UserError(f"there are more than {len(answers)} inputs. Send them in parts.")
                    file = {"file": PREFIX.sub("", name)} if kind == FORM else {}
                    answers.append(file | as_json(header[1:], row[1:]))
            except Exception as error:  # decoders raise errors of many types
                text = str(error) if isinstance(error, UserError) else f"the inputs can't be used: {reason(error)}."
                raise HTTPException(422, PREFIX.sub("", text)[:1000]) from error
        return answers


class TimedProtocol(H11Protocol):
    """Close a connection on which the head of the next request takes longer than ``timeout_keep_alive``."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        self.conn.receive_data(data)  # the time runs on until a head is whole
        self.handle_events()


def application(service: Service, token: str) -> FastAPI:
    """Return the application; with a token, only the page, /docs and /health are open to everyone."""

    async def check(given: HTTPAuthorizationCredentials | None = Depends(HTTPBearer(auto_error=False))) -> None:  # noqa: B008
        if not hmac.compare_digest((given.credentials if given else "").encode(), token.encode()):
            raise HTTPException(401, "send the header Authorization: Bearer TOKEN.", {"WWW-Authenticate": "Bearer"})

    app: FastAPI = FastAPIOffline(title=str(service.model.facts.get("run")), redoc_url=None)
    protected = [Depends(check)] if token else []
    if not token:  # else a page of another site, whose name leads to this machine, could ask
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, "[::1]", "["])
    body = {"content": {kind: {"schema": SCHEMAS[kind]} for kind in service.types}}

    @app.post("/predict", dependencies=protected, openapi_extra={"requestBody": body})
    async def predict(request: Request) -> JSONResponse:
        """Predict files, or inputs in JSON or CSV; the answer is {"predictions": [...]} in their order."""
        return JSONResponse({"predictions": await service.answer(request)})

    @app.get("/model", dependencies=protected, summary="Kind, classes, metrics and columns of the model")
    async def model() -> JSONResponse:
        return JSONResponse(json_value({k: v for k, v in service.model.facts.items() if len(str(v)) < 100_000}))

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(charts.template(Path(__file__).with_name("serve.html.jinja")).render())

    return app


def main(args: list[str]) -> int:
    """Serve until a signal comes, and answer what is under way."""
    parser = argparse.ArgumentParser(f"{program()} serve", description="Serve an exported model.", allow_abbrev=False)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("run", nargs="?", metavar="RUN", help="name or folder of a run (default: the newest finished)")
    source.add_argument("--onnx", type=Path, metavar="FILE", help="an exported model")
    parser.add_argument("--host", default="127.0.0.1", help="address (default: 127.0.0.1); 0.0.0.0 for every one")
    parser.add_argument("--port", type=int, default=8000, help="port (default: 8000); 0 for a free one")
    parser.add_argument("--token", default=os.environ.get("SERVE_TOKEN", ""), help="secret of requests (SERVE_TOKEN)")
    for name, (default, text) in LIMITS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, metavar="N", help=f"{text} ({default})")
    options = parser.parse_args(args)
    if not options.token and options.host not in LOOPBACK:
        raise UserError(f"--host {options.host} needs a secret token: export SERVE_TOKEN=$(openssl rand -hex 16)")
    run = None if options.onnx else find(default_root(), options.run and run_name(options.run), finished=True)
    model = OnnxModel(run.folder / "export" / "model.onnx" if run else options.onnx)
    try:
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        listener = socket.create_server((options.host, options.port), family=family)
    except (OSError, OverflowError) as error:
        raise UserError(f"--host {options.host} --port {options.port} can't be used: {reason(error)}.") from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else half of an answer waits for 40 ms
    app = application(Service(model, options), options.token)
    address = f"http://{f'[{options.host}]' if ':' in options.host else options.host}:{listener.getsockname()[1]}"
    print(f"Serving {model.file} at {address} (Ctrl-C ends it). Its API: {address}/docs", flush=True)
    config = uvicorn.Config(app, http=TimedProtocol, ws="none", log_level="error", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run([listener])
    return 0
