"""The addresses that `serve` answers at, who may ask, and the connections below."""

from __future__ import annotations

import asyncio
import hmac
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h11
import uvicorn
from fastapi import Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware.trustedhost import TrustedHostMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from .service import Service, plain

# the page loads nothing from elsewhere, and no other page may show it in a frame
POLICY = (
    "default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:;"
    " frame-ancestors 'none'"
)
FILES = {"type": "array", "items": {"type": "string", "format": "binary"}}
INPUTS = {"type": "array", "items": {"anyOf": [{"type": "object"}, {"type": "string"}]}}
TYPES = {"multipart/form-data": ("files", FILES), "application/json": ("inputs", INPUTS)}
BODY = {kind: {"schema": {"type": "object", "properties": {name: of}}} for kind, (name, of) in TYPES.items()}


def application(service: Service, token: str) -> Any:
    """Return the ASGI application; with a token, requests must bring it, but for the page and the state of health."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        work = asyncio.create_task(service.work())
        yield
        work.cancel()
        service.close()

    # async, for what is not goes to a thread and back
    async def check(given: HTTPAuthorizationCredentials | None = Depends(HTTPBearer(auto_error=False))) -> None:  # noqa: B008
        if not hmac.compare_digest((given.credentials if given else "").encode(), token.encode()):
            text = "a token is required: send the header Authorization: Bearer TOKEN."
            raise HTTPException(401, text, {"WWW-Authenticate": "Bearer"})

    name, only = str(service.facts.get("run", "model")), [Depends(check)] if token else []
    app = FastAPIOffline(title=name, version=service.digest, redoc_url=None, lifespan=lifespan)
    if not token:  # a page of another site, whose name leads to this machine, can't ask
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "[", "testserver"])

    _add_of_model(app, service, only)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Tell that the service answers."""
        return {"status": "ok"}

    page = Path(__file__).with_name("serve.html.jinja").read_text(encoding="utf-8")

    @app.get("/", include_in_schema=False)
    def index() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})

    return app


def _add_of_model(app: Any, service: Service, only: list[Any]) -> None:
    """Add the addresses that ask the model; ``only`` lets those through who may."""

    @app.post("/predict", dependencies=only, openapi_extra={"requestBody": {"content": BODY}})
    async def predict(request: Request) -> Any:
        """Predict files, or inputs in JSON; the answer is {"predictions": […]} in their order."""
        start, code = time.perf_counter(), 500
        try:
            found, code = await service.answer(request), 200
            return JSONResponse({"predictions": found})
        except HTTPException as error:
            code = error.status_code
            raise
        finally:
            service.seconds.labels(str(code)).observe(time.perf_counter() - start)

    @app.get("/model", dependencies=only)
    def model() -> Any:
        """Tell what the model is: classes, metrics, inputs, commit."""
        facts = {key: value for key, value in service.facts.items() if key != "tokenizer"}
        inputs = [{**one, "shape": ["batch", *one["shape"][1:]]} for one in facts["inputs"]]
        return plain({**facts, "inputs": inputs, "model": service.digest, "kind": service.intake.kind})

    @app.get("/metrics", dependencies=only)
    def metrics() -> Response:
        """Count requests, seconds and batches, for Prometheus."""
        return Response(generate_latest(service.registry), media_type=CONTENT_TYPE_LATEST)


class Connection(H11Protocol):
    """A connection that is closed when a request's head takes too long to come; `Service` looks at what follows it."""

    max_seconds = 30.0
    timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self.timer = self.loop.call_later(self.max_seconds, transport.close)

    def data_received(self, data: bytes) -> None:
        """Wait on while the head has not come whole."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE and self.timer:
            self.timer.cancel()
            self.timer = None
        elif self.conn.their_state is h11.IDLE and not self.timer:
            self.timer = self.loop.call_later(self.max_seconds, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; where it comes as the body of a request, that one has one answer, this or its own."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        self.transport.close()
        if self.cycle:
            self.cycle.disconnected = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        super().connection_lost(exc)
        if self.timer:
            self.timer.cancel()


def run(service: Service, token: str, sock: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM comes, and finish what is under way."""
    seconds = service.options.max_seconds
    http = type("Connection", (Connection,), {"max_seconds": seconds})
    config = uvicorn.Config(
        application(service, token),
        http=http,
        ws="none",
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=int(seconds) + 1,
    )
    uvicorn.Server(config).run([sock])
