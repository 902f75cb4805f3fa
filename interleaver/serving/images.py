"""A small server with the OpenAI Images API over any generator of this package."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import io
import re
import secrets
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from interleaver.errors import BackendError, BackendUnavailable, BadInput, Refused, explain
from interleaver.pictures import MAX_BYTES, Picture, encoded
from interleaver.serving.desk import Busy, Desk, Order

Json = dict[str, Any]
CALL = ("num_inference_steps", "guidance_scale", "true_cfg_scale", "negative_prompt")
MIN_SIDE, MAX_SIDE = 64, 4096
MAX_FILES = 17
MAX_BODY = 256 * 2**20
BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)


class ImageRequest(BaseModel):
    """The fields of a request; those of OpenAI that make no difference here are taken and ignored."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(min_length=1, max_length=32_000)
    model: str | None = None
    n: int = Field(1, ge=1, le=10)
    size: str = "auto"
    response_format: str = Field("b64_json", pattern="^b64_json$")
    seed: int | None = Field(None, ge=0, lt=2**31)
    num_inference_steps: int | None = Field(None, ge=1, le=200)
    guidance_scale: float | None = Field(None, ge=0)
    true_cfg_scale: float | None = Field(None, ge=0)
    negative_prompt: str | None = None
    mask_image: str | None = None
    quality: str | None = None
    background: str | None = None
    output_format: str = Field("png", pattern="^png$")
    moderation: str | None = None
    style: str | None = None
    input_fidelity: str | None = None
    user: str | None = None

    def seeds(self) -> list[int]:
        """A seed for each of the `n` pictures: consecutive ones, from a random one where none was asked for."""
        first = secrets.randbelow(2**31) if self.seed is None else self.seed
        return [(first + number) % 2**31 for number in range(self.n)]

    def order(self, sources: tuple[Picture, ...], mask: Picture | None, seed: int) -> Order:
        """What is to be drawn."""
        given = self.model_dump(include=set(CALL), exclude_none=True)
        return Order(self.prompt, sources, seed, self._size(sources), mask, given)

    def _size(self, sources: tuple[Picture, ...]) -> tuple[int, int]:
        if self.size == "auto":
            return (sources[-1].width, sources[-1].height) if sources else (1024, 1024)
        found = re.fullmatch(r"(\d{2,5})x(\d{2,5})", self.size, re.ASCII)
        sides = (int(found[1]), int(found[2])) if found else (0, 0)
        if not MIN_SIDE <= min(sides) <= max(sides) <= MAX_SIDE:
            said, allowed = self.size[:40], f"{MIN_SIDE} to {MAX_SIDE} pixels each"
            raise BadInput(f"size: {said!r} is not WIDTHxHEIGHT of {allowed}, such as 1024x1024")
        return sides


class Metrics:
    """What Prometheus is told."""

    def __init__(self, desk: Desk):
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "interleaver_requests",
            "Requests by endpoint and HTTP status.",
            ["endpoint", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "interleaver_request_seconds", "From the request to its answer, the queue included.", ["endpoint"],
            buckets=BUCKETS, registry=self.registry,
        )  # fmt: skip
        gauges = {
            "waiting": ("interleaver_waiting", "Orders in the queue."),
            "drawing": ("interleaver_drawing", "Orders that are being drawn."),
            "restarts": ("interleaver_worker_restarts", "Workers that died and were replaced."),
        }
        for name, (metric, text) in gauges.items():
            if hasattr(desk, name):
                Gauge(metric, text, registry=self.registry).set_function(partial(getattr, desk, name))


class Measured:
    """Counts and times requests.

    Plain ASGI, since Starlette's base class for middleware hides from an endpoint that its client has gone.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started, status = time.monotonic(), 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watch)
        finally:
            endpoint = scope["path"] if scope.get("route") else "unknown"
            self.metrics.requests.labels(endpoint, status).inc()
            self.metrics.seconds.labels(endpoint).observe(time.monotonic() - started)


def create_app(desk: Desk, api_key: str | None = None) -> FastAPI:
    """The server.

    Args:
        desk: draws what is ordered.
        api_key: what clients must send as a bearer token; None lets everyone in.
    """
    app = FastAPI(title="interleaver images")
    metrics = Metrics(desk)
    _add_error_handlers(app)

    def check_key(request: Request) -> None:
        sent = request.headers.get("authorization", "").removeprefix("Bearer ")
        if api_key is not None and not hmac.compare_digest(sent.encode(), api_key.encode()):
            raise HTTPException(401, "the API key is missing or wrong")

    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=MAX_BODY)
    app.add_middleware(Measured, metrics=metrics)

    @app.get("/health")
    async def health() -> Json:
        return {"status": "ok", "model": desk.model}

    @app.get("/metrics")
    async def show_metrics() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models", dependencies=[Depends(check_key)])
    async def models() -> Json:
        return {"object": "list", "data": [{"id": desk.model, "object": "model", "owned_by": "interleaver"}]}

    @app.post("/v1/images/generations", dependencies=[Depends(check_key)])
    async def generations(asked: ImageRequest, request: Request) -> Json:
        if asked.mask_image is not None:
            raise BadInput("mask_image: is for edits; a picture that is drawn anew has nothing to mask")
        return await _answer(desk, request, asked, (), None)

    @app.post("/v1/images/edits", dependencies=[Depends(check_key)])
    async def edits(request: Request) -> Json:
        async with request.form(max_files=MAX_FILES, max_part_size=MAX_BYTES * 3 // 2) as form:
            sources, mask, fields = await _read_form(form.multi_items())
        if not sources:
            raise BadInput("image: there is none; an edit needs at least one picture")
        asked = _validated(fields)
        if asked.mask_image is not None:
            mask = await asyncio.to_thread(_from_data_url, asked.mask_image)
        return await _answer(desk, request, asked, tuple(sources), mask)

    return app


async def _answer(
    desk: Desk, request: Request, asked: ImageRequest, sources: tuple[Picture, ...], mask: Picture | None
) -> Json:
    if asked.model is not None and asked.model != desk.model:
        raise HTTPException(404, f"model {asked.model!r} is not served here; this server has {desk.model!r}")
    orders = [asked.order(sources, mask, seed) for seed in asked.seeds()]
    drawing = asyncio.create_task(desk.draw(orders))
    while not drawing.done():
        await asyncio.wait([drawing], timeout=1.0)
        if not drawing.done() and await request.is_disconnected():
            drawing.cancel()  # nobody waits for it any more
            raise HTTPException(499, "the client has gone")
    try:
        pictures = drawing.result()
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None  # of several pictures; the first failure tells enough
    encoding = [asyncio.to_thread(base64.b64encode, picture.data) for picture in pictures]
    return {"created": int(time.time()), "data": [{"b64_json": (await one).decode()} for one in encoding]}


async def _read_form(items: list[tuple[str, Any]]) -> tuple[list[Picture], Picture | None, dict[str, str]]:
    """The sources, the mask and the other fields of an edit."""
    sources: list[Picture] = []
    mask = None
    fields: dict[str, str] = {}
    for name, value in items:
        if not isinstance(value, UploadFile):
            fields[name] = value
        elif name in ("image", "image[]"):
            sources.append(await _upload(value, f"image {len(sources) + 1}"))
        elif name == "mask":
            mask = await asyncio.to_thread(_white_where_transparent, await _upload(value, "mask"))
        elif name == "mask_image":
            mask = await _upload(value, "mask_image")
        else:
            raise BadInput(f"{name}: is not a file that an edit takes; there are image[], mask and mask_image")
    return sources, mask, fields


async def _upload(file: UploadFile, name: str) -> Picture:
    if (file.size or 0) > MAX_BYTES:
        raise BadInput(f"{name} is larger than {MAX_BYTES // 2**20} MiB")
    return await asyncio.to_thread(Picture.decode, await file.read(), name)


def _validated(fields: Mapping[str, str]) -> ImageRequest:
    try:
        return ImageRequest.model_validate(fields)
    except ValidationError as error:
        raise BadInput(explain(error, ImageRequest)) from None


def _from_data_url(text: str) -> Picture:
    try:
        return Picture.decode(base64.b64decode(text.partition(",")[2], validate=True), "mask_image")
    except binascii.Error:
        raise BadInput("mask_image: is neither a file nor a data: URL") from None


def _white_where_transparent(mask: Picture) -> Picture:
    """OpenAI's way of writing a mask, as the generators here understand it."""
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(mask.data)) as image:
        return encoded(ImageOps.invert(image.convert("RGBA").getchannel("A")))


def _add_error_handlers(app: FastAPI) -> None:
    """Errors in the form that the `openai` SDK reads."""

    def told(status: int, message: str, kind: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": {"message": message, "type": kind, "code": None}}, status, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"] if part != "body")
        return told(
            400, f"{where}: {problem['msg']} (it is {str(problem.get('input'))[:80]!r})", "invalid_request_error"
        )

    @app.exception_handler(BadInput)
    async def bad(_: Request, error: BadInput) -> JSONResponse:
        return told(400, str(error), "invalid_request_error")

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return told(error.status_code, str(error.detail), "invalid_request_error")

    @app.exception_handler(Busy)
    async def busy(_: Request, error: Busy) -> JSONResponse:
        return told(429, str(error), "rate_limit_error", {"Retry-After": str(error.retry_after)})

    @app.exception_handler(BackendError)
    async def failed(_: Request, error: BackendError) -> JSONResponse:
        if isinstance(error, Refused):
            return told(400, str(error), "content_policy_violation")
        # What will not get better by asking again is not 5xx, or clients would ask again.
        status = 503 if isinstance(error, BackendUnavailable) else 422
        return told(status, str(error), "server_error")

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> JSONResponse:
        return told(500, f"{type(error).__name__}: {error}", "server_error")
