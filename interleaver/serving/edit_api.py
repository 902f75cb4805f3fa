"""The `/edit` protocol of the released InterleaveThinker services, for clients such as its reward function."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
import uuid
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from interleaver.errors import BackendError, BackendUnavailable, BadInput
from interleaver.pictures import Picture
from interleaver.serving.worker_pool import DrawingService, DrawRequest, QueueFull
from interleaver.types import Json

DEFAULT_SIDE = 1024
MIN_SIDE, MAX_SIDE = 64, 4096
MAX_AREA = 2048 * 2048


class EditRequest(BaseModel):
    """Fields of an edit request; others, such as the number of steps, are ignored, as the released services do."""

    prompt: str = Field(min_length=1, max_length=32_000)
    image: str | None = None
    seed: int | None = Field(None, ge=0, lt=2**31)
    width: int | None = Field(None, ge=MIN_SIDE, le=MAX_SIDE)
    height: int | None = Field(None, ge=MIN_SIDE, le=MAX_SIDE)

    def draw_request(self, sources: tuple[Picture, ...], seed: int) -> DrawRequest:
        """Return the draw request; without a size that of `edit_size`."""
        width, height = edit_size(sources)
        return DrawRequest(self.prompt, sources, seed, (self.width or width, self.height or height), None, {})


def edit_size(sources: tuple[Picture, ...]) -> tuple[int, int]:
    """Return the size of an edit that asks for none: that of the last source, made smaller or larger if it is extreme.

    A photograph of 48 megapixels would take a generator's whole memory; sides are 64 to 4096 pixels, and the area is at
    most that of 2048x2048.
    """
    if not sources:
        return DEFAULT_SIDE, DEFAULT_SIDE
    width, height = sources[-1].width, sources[-1].height
    scale = min(1.0, (MAX_AREA / (width * height)) ** 0.5, MAX_SIDE / max(width, height))
    return tuple(min(max(round(side * scale), MIN_SIDE), MAX_SIDE) for side in (width, height))


def add_edit_route(app: FastAPI, service: DrawingService) -> None:
    """Add `POST /edit` to the application of an image server."""

    @app.post("/edit")
    async def edit(fields: EditRequest) -> Any:
        start = time.monotonic()
        seed = secrets.randbelow(2**31) if fields.seed is None else fields.seed
        try:
            sources = (await asyncio.to_thread(_decode, fields.image),) if fields.image else ()
            (picture,) = await service.draw([fields.draw_request(sources, seed)])
        except (BackendError, BadInput, QueueFull, ExceptionGroup) as raised:
            error = raised.exceptions[0] if isinstance(raised, ExceptionGroup) else raised
            is_busy, is_bad = isinstance(error, BackendUnavailable | QueueFull), isinstance(error, BadInput)
            status = 503 if is_busy else 400 if is_bad else 500
            return JSONResponse({"detail": f"Image editing failed: {error}"}, status)
        return _answer(fields, seed, picture, time.monotonic() - start)


def _answer(fields: EditRequest, seed: int, picture: Picture, seconds: float) -> Json:
    return {
        "success": True,
        "task_id": str(uuid.uuid4()),
        "original_image": fields.image,
        "edited_image": base64.b64encode(picture.data).decode(),
        "seed": seed,
        "original_prompt": fields.prompt,
        "enhanced_prompt": None,
        "gpu_id": 0,
        "processing_time": round(seconds, 3),
        "error": None,
    }


def _decode(base64_text: str) -> Picture:
    try:
        data = base64.b64decode(base64_text, validate=True)
    except ValueError:
        raise BadInput("image: is not base64") from None
    return Picture.decode(data, "image")
