"""An HTTP server that provides any generator of this package through the OpenAI Images API."""

from __future__ import annotations

import asyncio
import base64
import io
import re
import secrets
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from interleaver.errors import BackendError, BackendUnavailable, BadInput, Refusal, explain
from interleaver.pictures import MAX_BYTES, Picture
from interleaver.serving.edit_api import MAX_SIDE, MIN_SIDE, add_edit_route, edit_size
from interleaver.serving.guards import add_guards, error_response
from interleaver.serving.worker_pool import DrawingService, DrawRequest, QueueFull
from interleaver.types import Json

CALL_FIELDS = ("num_inference_steps", "guidance_scale", "true_cfg_scale", "negative_prompt")
MAX_FILES = 17
MAX_BODY = 128 * 2**20
OPEN_PATHS = ("/health", "/metrics")
"""Paths that need no key, and do not count as requests."""
BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)


class ImageRequest(BaseModel):
    """Fields of a generation or edit request; OpenAI fields that have no effect here are accepted and ignored."""

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
    negative_prompt: str | None = Field(None, max_length=32_000)
    mask_image: str | None = None
    quality: str | None = None
    background: str | None = None
    output_format: str = Field("png", pattern="^png$")
    moderation: str | None = None
    style: str | None = None
    input_fidelity: str | None = None
    user: str | None = None

    def seeds(self) -> list[int]:
        """Return consecutive seeds for the `n` pictures, starting at `seed`, or at a random number if it is None."""
        first = secrets.randbelow(2**31) if self.seed is None else self.seed
        return [(first + number) % 2**31 for number in range(self.n)]

    def draw_request(self, sources: tuple[Picture, ...], mask: Picture | None, seed: int) -> DrawRequest:
        """Return the draw request of one picture.

        Args:
            sources: pictures to edit; empty for a generation.
            mask: white where the generator may paint; None for no mask.
            seed: seed of this picture.
        """
        call_fields = self.model_dump(include=set(CALL_FIELDS), exclude_none=True)
        return DrawRequest(self.prompt, sources, seed, self._size(sources), mask, call_fields)

    def _size(self, sources: tuple[Picture, ...]) -> tuple[int, int]:
        if self.size == "auto":
            return edit_size(sources)
        match = re.fullmatch(r"(\d{2,5})x(\d{2,5})", self.size, re.ASCII)
        sides = (int(match[1]), int(match[2])) if match else (0, 0)
        if not MIN_SIDE <= min(sides) <= max(sides) <= MAX_SIDE:
            size_text, allowed_sides = self.size[:40], f"{MIN_SIDE} to {MAX_SIDE} pixels each"
            raise BadInput(f"size: {size_text!r} is not WIDTHxHEIGHT of {allowed_sides}, such as 1024x1024")
        return sides


def _edit_body() -> Json:
    """Return the OpenAPI description of an edit's form, which is read without FastAPI's help."""
    file = {"type": "string", "format": "binary"}
    schema = ImageRequest.model_json_schema()
    files = {"image[]": {"type": "array", "items": file, "maxItems": MAX_FILES - 1}, "image": file, "mask": file}
    schema["properties"] = files | {**schema["properties"], "mask_image": file}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


EDIT_BODY = _edit_body()


class Metrics:
    """Prometheus metrics of an image server."""

    def __init__(self, service: DrawingService):
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "interleaver_requests",
            "Requests by endpoint and HTTP status.",
            ["endpoint", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "interleaver_request_seconds", "Request duration, including time in the queue.", ["endpoint"],
            buckets=BUCKETS, registry=self.registry,
        )  # fmt: skip
        gauges = {
            "waiting": ("interleaver_waiting", "Pictures in the queue."),
            "drawing": ("interleaver_drawing", "Pictures that are being drawn."),
            "restarts": ("interleaver_worker_restarts", "Workers that died and were replaced."),
        }
        for name, (metric, text) in gauges.items():
            if hasattr(service, name):
                Gauge(metric, text, registry=self.registry).set_function(partial(getattr, service, name))


class MetricsMiddleware:
    """ASGI middleware that counts and times requests.

    It does not use Starlette's `BaseHTTPMiddleware`, which hides client disconnects from the endpoints.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, and record its status and duration."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start, status = time.monotonic(), 500

        async def send_and_record(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_record)
        finally:
            endpoint = scope["path"] if scope.get("route") else "unknown"
            self.metrics.requests.labels(endpoint, status).inc()
            self.metrics.seconds.labels(endpoint).observe(time.monotonic() - start)


def create_app(service: DrawingService, api_key: str | None = None, requests_per_minute: int | None = None) -> FastAPI:
    """Return the application of an image server.

    Args:
        service: service that draws the requested pictures.
        api_key: API key that clients must send as a bearer token; None for a server without authentication.
        requests_per_minute: maximum number of requests of one client address; None for no limit.
    """
    app = FastAPI(title="interleaver images")
    metrics = Metrics(service)
    _add_error_handlers(app)

    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=MAX_BODY)
    add_guards(app, api_key, requests_per_minute, OPEN_PATHS)
    app.add_middleware(MetricsMiddleware, metrics=metrics)

    @app.get("/health")
    async def health() -> Json:
        return {"status": "ok", "model": service.model}

    @app.get("/metrics")
    async def show_metrics() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models")
    async def models() -> Json:
        return {"object": "list", "data": [{"id": service.model, "object": "model", "owned_by": "interleaver"}]}

    @app.post("/v1/images/generations")
    async def generations(fields: ImageRequest, http_request: Request) -> Json:
        if fields.mask_image is not None:
            raise BadInput("mask_image: is for edits only; use /v1/images/edits, or leave it out")
        return await _answer(service, http_request, fields, (), None)

    @app.post("/v1/images/edits", openapi_extra={"requestBody": EDIT_BODY})
    async def edits(request: Request) -> Json:
        async with request.form(max_files=MAX_FILES, max_part_size=MAX_BYTES * 3 // 2) as form:
            sources, mask, fields = await _read_form(form.multi_items())
        if not sources:
            raise BadInput("image: is missing; an edit needs at least one picture")
        image_request = _validate_fields(fields)
        if image_request.mask_image is not None:
            mask = await asyncio.to_thread(_from_data_url, image_request.mask_image)
        return await _answer(service, request, image_request, tuple(sources), mask)

    add_edit_route(app, service)
    return app


async def _answer(
    service: DrawingService,
    request: Request,
    image_request: ImageRequest,
    sources: tuple[Picture, ...],
    mask: Picture | None,
) -> Json:
    if image_request.model is not None and image_request.model != service.model:
        raise HTTPException(404, f"model {image_request.model!r} is not served here; this server has {service.model!r}")
    requests = [image_request.draw_request(sources, mask, seed) for seed in image_request.seeds()]
    drawing = asyncio.create_task(service.draw(requests))
    while not drawing.done():
        await asyncio.wait([drawing], timeout=1.0)
        if not drawing.done() and await request.is_disconnected():
            drawing.cancel()
            raise HTTPException(499, "the client has disconnected")
    try:
        pictures = drawing.result()
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None  # if several pictures failed, only the first failure is reported
    encoding = [asyncio.to_thread(base64.b64encode, picture.data) for picture in pictures]
    return {"created": int(time.time()), "data": [{"b64_json": (await picture).decode()} for picture in encoding]}


async def _read_form(items: list[tuple[str, Any]]) -> tuple[list[Picture], Picture | None, dict[str, str]]:
    """Return the source pictures, the mask and the text fields of an edit request."""
    sources: list[Picture] = []
    mask = None
    fields: dict[str, str] = {}
    for name, value in items:
        if not isinstance(value, UploadFile):
            fields[name] = value
        elif name in ("image", "image[]"):
            sources.append(await _read_upload(value, f"image {len(sources) + 1}"))
        elif name == "mask":
            mask = await asyncio.to_thread(_white_where_transparent, await _read_upload(value, "mask"))
        elif name == "mask_image":
            mask = await _read_upload(value, "mask_image")
        else:
            raise BadInput(f"{name}: is not a file field of an edit; use image[], mask or mask_image")
    return sources, mask, fields


async def _read_upload(file: UploadFile, name: str) -> Picture:
    if (file.size or 0) > MAX_BYTES:
        raise BadInput(f"{name} is larger than {MAX_BYTES // 2**20} MiB")
    return await asyncio.to_thread(Picture.decode, await file.read(), name)


def _validate_fields(fields: Mapping[str, str]) -> ImageRequest:
    try:
        return ImageRequest.model_validate(fields)
    except ValidationError as error:
        raise BadInput(explain(error, ImageRequest)) from None


def _from_data_url(text: str) -> Picture:
    try:
        data = base64.b64decode(text.partition(",")[2], validate=True)
    except ValueError:
        raise BadInput("mask_image: is neither an uploaded file nor a base64 data: URL") from None
    return Picture.decode(data, "mask_image")


def _white_where_transparent(mask: Picture) -> Picture:
    """Convert an OpenAI mask, transparent where to paint, to one of this package, white where to paint."""
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(mask.data)) as image:
        return Picture.encode(ImageOps.invert(image.convert("RGBA").getchannel("A")))


def _add_error_handlers(app: FastAPI) -> None:
    """Return errors in the format that the `openai` SDK expects."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"] if part != "body")
        return error_response(
            400, f"{field}: {problem['msg']} (got {str(problem.get('input'))[:80]!r})", "invalid_request_error"
        )

    @app.exception_handler(BadInput)
    async def bad(_: Request, error: BadInput) -> JSONResponse:
        return error_response(400, str(error), "invalid_request_error")

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return error_response(error.status_code, str(error.detail), "invalid_request_error")

    @app.exception_handler(QueueFull)
    async def busy(_: Request, error: QueueFull) -> JSONResponse:
        return error_response(429, str(error), "rate_limit_error", {"Retry-After": str(error.retry_after)})

    @app.exception_handler(BackendError)
    async def failed(_: Request, error: BackendError) -> JSONResponse:
        if isinstance(error, Refusal):
            return error_response(400, str(error), "content_policy_violation")
        # Permanent errors must not have a 5xx status, because clients retry those.
        status = 503 if isinstance(error, BackendUnavailable) else 422
        return error_response(status, str(error), "server_error")

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> JSONResponse:
        return error_response(500, f"{type(error).__name__}: {error}", "server_error")
