"""Google's image models: Nano Banana (gemini-2.5-flash-image) and Nano Banana Pro (gemini-3-pro-image-preview)."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings

from interleaver.errors import Refusal, UnreadableAnswer
from interleaver.extras import require_extra
from interleaver.net.endpoints import CHECK_SECONDS, Endpoint
from interleaver.pictures import Picture, apply_policy
from interleaver.tools.endpoint_pictures import read_picture
from interleaver.tools.protocols import Capabilities, Size
from interleaver.tools.sizes import nearest_size
from interleaver.types import DRAWN_PICTURES, PicturePolicy

RATIOS: dict[Size, str] = {
    (width, height): f"{width}:{height}"
    for width, height in [(1, 1), (2, 3), (3, 2), (3, 4), (4, 3), (4, 5), (5, 4), (9, 16), (16, 9), (21, 9)]
}
"""The aspect ratios that the API offers, by width and height."""
FINAL_REASONS = {"SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "RECITATION"}
"""Reasons for an answer without a picture that hold for every further call; others, such as NO_IMAGE, may pass."""


@settings(config=ConfigDict(extra="forbid"))
class GeminiImages:
    """A generator that draws and edits with Google's image models, through `google-genai`.

    Attributes:
        model: name of the model.
        base_url: URL of a proxy; None for Google's own endpoint.
        api_key_env: environment variable with the API key.
        timeout: timeout of one call in seconds.
        aspect_ratio: aspect ratio of new pictures, such as "16:9"; None for the one nearest to the run's size.
        image_size: "1K", "2K" or "4K"; None for the model's default (Nano Banana supports 1K only).
        max_sources: maximum number of source pictures of an edit.
        pictures: how the sources of an edit are sent.
    """

    model: str
    base_url: str | None = None
    api_key_env: str = "GEMINI_API_KEY"
    timeout: float = Field(default=300.0, gt=0)
    aspect_ratio: str | None = None
    image_size: str | None = None
    max_sources: int = Field(default=14, ge=0, le=14)
    pictures: PicturePolicy = DRAWN_PICTURES

    def __post_init__(self) -> None:
        require_extra("google.genai", "gemini")
        self.endpoint = Endpoint("generator", self.model, self.base_url, self.api_key_env, self.timeout)

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the model."""
        return Capabilities(max_sources=self.max_sources)

    @property
    def resource(self) -> Hashable:
        """What backends at the same endpoint have in common; see `interleaver.calling.call`."""
        return self.endpoint.resource

    async def check(self) -> str:
        """Check that the model can be reached, or raise `BackendError`."""
        endpoint = replace(self.endpoint, timeout=min(self.timeout, CHECK_SECONDS))
        try:
            async with asyncio.timeout(endpoint.timeout), await self._connect(endpoint) as client:
                await client.models.get(model=self.model)
        except Exception as error:  # whatever the SDK raises
            raise endpoint.failure(error) from None
        return f"{self.model} at {endpoint.address} answers"

    async def _connect(self, endpoint: Endpoint) -> Any:
        return await asyncio.to_thread(self._client, endpoint)  # a new client reads certificates from disk

    def _client(self, endpoint: Endpoint) -> Any:
        from google.genai import Client, types

        options = types.HttpOptions(
            base_url=self.base_url, timeout=round(endpoint.timeout * 1000), httpx_async_client=endpoint.client()
        )
        return Client(api_key=endpoint.key, http_options=options).aio

    async def generate(self, prompt: str, sources: Sequence[Picture], seed: int, size: Size) -> Picture:
        """Draw or edit one picture; see `ImageGenerator.generate`."""
        from google.genai import types

        sent_pictures = await asyncio.to_thread(lambda: [apply_policy(source, self.pictures) for source in sources])
        parts = [types.Part.from_bytes(data=source.data, mime_type=source.media_type) for source in sent_pictures]
        shape = None if sources else (self.aspect_ratio or RATIOS[nearest_size(size, list(RATIOS))])
        config = types.GenerateContentConfig(
            response_modalities=["TEXT", "IMAGE"],
            seed=seed,
            image_config=types.ImageConfig(aspect_ratio=shape, image_size=self.image_size),
        )
        contents: list[Any] = [*parts, types.Part.from_text(text=prompt)]
        try:
            async with asyncio.timeout(self.timeout), await self._connect(self.endpoint) as client:
                answer = await client.models.generate_content(model=self.model, contents=contents, config=config)
        except Exception as error:  # whatever the SDK raises
            raise self.endpoint.failure(error) from None
        return await self._picture(answer)

    async def _picture(self, answer: Any) -> Picture:
        name = self.endpoint.name
        block_reason = getattr(answer.prompt_feedback, "block_reason", None)
        if block_reason:
            raise Refusal(f"{name}: a content filter refused the prompt ({_enum_text(block_reason)}); reword it")
        candidate = answer.candidates[0] if answer.candidates else None
        parts = (candidate.content.parts if candidate and candidate.content else None) or []
        for part in parts:
            if part.inline_data and part.inline_data.data and not part.thought:
                return await read_picture(base64.b64encode(part.inline_data.data).decode(), self.endpoint)
        answer_text = " ".join(part.text for part in parts if part.text)[:300]
        if candidate is None or candidate.finish_reason is None:
            raise UnreadableAnswer(f"{name} sent no picture")
        reason = _enum_text(candidate.finish_reason)
        explanation = answer_text or candidate.finish_message or "no reason given"
        if reason.removeprefix("IMAGE_") in FINAL_REASONS:
            raise Refusal(f"{name} drew nothing ({reason}): {explanation}")
        raise UnreadableAnswer(f"{name} sent no picture ({reason}): {explanation}")


def _enum_text(value: Any) -> str:
    return str(getattr(value, "value", value))
