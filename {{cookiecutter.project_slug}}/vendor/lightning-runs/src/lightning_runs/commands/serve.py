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

from ..cli.arguments import run_name
from ..data.pictures import limited_pixels
from ..errors import UserError, reason
from ..names import program
from ..reports import charts
from ..reports.tables import as_json, csv_of_json, json_value
from ..runs import default_root, find
from .predict_onnx import OnnxModel

FORM = "multipart/form-data"
JSON = "application/json"
FILES = {"properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}}}
INPUTS = {"properties": {"inputs": {"type": "array", "items": {}}}}
SCHEMAS = {FORM: FILES, JSON: INPUTS, "text/csv": {}}
MAX_CELLS = 300_000  # of a table: ten megabytes of commas would take gigabytes
FOLDER = "/dev/shm" if os.access("/dev/shm", os.W_OK) else gettempdir()  # files in memory are quicker
PREFIX = re.compile(re.escape(FOLDER) + r".serve-\w+.\d+-")  # of the files of a request
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
        facts = model.facts
        # the columns of the table that JSON becomes; pictures come as files alone
        self.columns: Any = {"rows": facts.get("columns"), "texts": [facts.get("text")]}.get(facts["kind"])
        self.types = [FORM, JSON, "text/csv"] if self.columns else [FORM]
        self.num_requests = 0  # under way
        self.thread = ThreadPoolExecutor(1)

    async def answer(self, request: Request) -> list[dict[str, Any]]:
        """Return the predictions of a request's inputs in their order, or raise an HTTPException with a sentence."""
        if self.num_requests >= self.options.max_waiting:
            text = f"{self.num_requests} requests are under way. Try again in a second."
            raise HTTPException(503, text, {"Retry-After": "1"})
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

        count = self.options.max_inputs
        async with Request(request.scope, received).form(max_files=count, max_fields=count) as form:
            uploads = [upload for upload in form.getlist("files") if not isinstance(upload, str)]
            files = [(upload.filename or "file", await upload.read()) for upload in uploads]
        if not files:
            raise HTTPException(422, "the form has no files in its field files.")
        return kind, files

    def predict(self, kind: str, files: list[tuple[str, bytes]], run: RunOptions) -> list[dict[str, Any]]:
        """Write files as `predict` would be given them, and return the answers to the inputs in them."""
        answers: list[dict[str, Any]] = []
        with TemporaryDirectory(dir=FOLDER, prefix="serve-") as folder:
            paths = []
            try:
                for name, content in files:
                    table = csv_of_json(content, self.columns) if kind == JSON else content
                    if self.columns and sum(table.count(separator) for separator in b",;\t|\n\r") > MAX_CELLS:
                        raise UserError(f"{name} has more than {MAX_CELLS} cells. Send it in parts.")
                    # what a request calls a file is never a path, and nothing is unpacked
                    paths.append(Path(folder, f"{len(paths)}-" + re.sub(r"[^\w. -]|\.gz$", "_", name)[-60:]))
                    paths[-1].write_bytes(table)
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
    page = charts.template(Path(__file__).with_name("serve.html.jinja")).render()

    @app.post("/predict", dependencies=protected, openapi_extra={"requestBody": body})
    async def predict(request: Request) -> JSONResponse:
        """Predict files, or inputs in JSON or CSV; the answer is {"predictions": [...]} in their order."""
        return JSONResponse({"predictions": await service.answer(request)})

    @app.get("/model", dependencies=protected)
    async def model() -> JSONResponse:
        """Describe the model: its kind, classes, metrics and columns."""
        return JSONResponse(json_value(service.model.short_facts))

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(page)

    return app


def main(args: list[str]) -> int:
    """Serve until a signal comes, and answer what is under way."""
    text = "Serve an exported model: a page for people, /docs for programs. It needs no torch."
    parser = argparse.ArgumentParser(prog=f"{program()} serve", description=text, allow_abbrev=False)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("run", nargs="?", metavar="RUN", help="name or folder of a run (default: the newest finished)")
    source.add_argument("--onnx", type=Path, metavar="FILE", help="an exported model")
    parser.add_argument("--host", default="127.0.0.1", help="address (default: 127.0.0.1); 0.0.0.0 for every one")
    parser.add_argument("--port", type=int, default=8000, help="port (default: 8000); 0 for a free one")
    parser.add_argument(
        "--token", default=os.environ.get("SERVE_TOKEN", ""), help="what requests must bring (or: SERVE_TOKEN)"
    )
    for name, (default, text) in LIMITS.items():
        help_text = f"{text} (default: {default})"
        parser.add_argument(f"--{name}", type=type(default), default=default, metavar="N", help=help_text)
    options = parser.parse_args(args)
    host = options.host
    if not options.token and host not in LOOPBACK:
        raise UserError(f"--host {host} needs a token. Set one: export SERVE_TOKEN=$(openssl rand -hex 16)")
    run = None if options.onnx else find(default_root(), options.run and run_name(options.run), finished=True)
    model = OnnxModel(run.folder / "export" / "model.onnx" if run else options.onnx)
    try:
        listener = socket.create_server((host, options.port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise UserError(f"--host {host} --port {options.port} can't be used: {reason(error)}.") from error
    # else the second half of an answer waits 40 ms for the receipt of the first
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    app = application(Service(model, options), options.token)
    address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
    print(f"Serving {model.file} at {address} (Ctrl-C ends it). For programs: {address}/docs", flush=True)
    config = uvicorn.Config(app, http="h11", ws="none", log_level="error", timeout_graceful_shutdown=1)
    with limited_pixels(options.max_pixels):
        uvicorn.Server(config).run([listener])
    return 0
