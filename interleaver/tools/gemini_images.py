"""Google's image models: Nano Banana (gemini-2.5-flash-image) and Nano Banana Pro (gemini-3-pro-image-preview)."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings

from interleaver.endpoints import CHECK_SECONDS, Endpoint
from interleaver.errors import Refused, UnreadableAnswer
from interleaver.extras import need
from interleaver.pictures import Picture
from interleaver.tools.generators import Capabilities, Size, from_base64, nearest

RATIOS: dict[Size, str] = {
    (width, height): f"{width}:{height}"
    for width, height in [(1, 1), (2, 3), (3, 2), (3, 4), (4, 3), (4, 5), (5, 4), (9, 16), (16, 9), (21, 9)]
}
"""The aspect ratios that the API offers."""


@settings(config=ConfigDict(extra="forbid"))
class GeminiImages:
    """Draws and edits through `google-genai`.

    Attributes:
        model: the model's name.
        base_url: another address than Google's own, for a proxy.
        api_key_env: the environment variable that holds the key.
        timeout: seconds that one call may take.
        aspect_ratio: of a picture drawn anew, such as "16:9"; None: the one nearest to the run's width and height.
        image_size: "1K", "2K" or "4K"; None leaves it to the model (Nano Banana knows 1K only).
        max_sources: how many pictures an edit may show the model.
    """

    model: str
    base_url: str | None = None
    api_key_env: str = "GEMINI_API_KEY"
    timeout: float = Field(default=300.0, gt=0)
    aspect_ratio: str | None = None
    image_size: str | None = None
    max_sources: int = Field(default=14, ge=0, le=14)

    def __post_init__(self) -> None:
        need("google.genai", "gemini")
        self.endpoint = Endpoint("generator", self.model, self.base_url, self.api_key_env, self.timeout)

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return Capabilities(max_sources=self.max_sources)

    async def check(self) -> str:
        """Say that the model can be reached, or raise `BackendError`."""
        endpoint = replace(self.endpoint, timeout=min(self.timeout, CHECK_SECONDS))
        try:
            async with asyncio.timeout(endpoint.timeout), await self._connect(endpoint) as client:
                await client.models.get(model=self.model)
        except Exception as error:  # whatever the SDK raises
            raise endpoint.failure(error) from None
        return f"{self.model} at {endpoint.where} answers"

    async def _connect(self, endpoint: Endpoint) -> Any:
        return await asyncio.to_thread(self._client, endpoint)  # it reads certificates from disk

    def _client(self, endpoint: Endpoint) -> Any:
        from google.genai import Client, types

        options = types.HttpOptions(
            base_url=self.base_url, timeout=round(endpoint.timeout * 1000), httpx_async_client=endpoint.client()
        )
        return Client(api_key=endpoint.key, http_options=options).aio

    async def generate(self, prompt: str, sources: Sequence[Picture], seed: int, size: Size) -> Picture:
        """Draw or edit one picture; see `ImageGenerator.generate`."""
        from google.genai import types

        parts = [types.Part.from_bytes(data=source.data, mime_type=source.media_type) for source in sources]
        shape = None if sources else (self.aspect_ratio or RATIOS[nearest(size, list(RATIOS))])
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
        blocked = getattr(answer.prompt_feedback, "block_reason", None)
        if blocked:
            raise Refused(f"{name}: a content filter refused the prompt ({_plain(blocked)}); reword it")
        candidate = answer.candidates[0] if answer.candidates else None
        parts = (candidate.content.parts if candidate and candidate.content else None) or []
        for part in parts:
            if part.inline_data and part.inline_data.data and not part.thought:
                return await from_base64(base64.b64encode(part.inline_data.data).decode(), name)
        said = " ".join(part.text for part in parts if part.text)[:300]
        if candidate is None or candidate.finish_reason is None:
            raise UnreadableAnswer(f"{name} sent no picture")
        reason = _plain(candidate.finish_reason)
        if reason not in ("STOP", "MAX_TOKENS"):
            raise Refused(f"{name} drew nothing ({reason}): {said or candidate.finish_message or 'no reason given'}")
        raise UnreadableAnswer(f"{name} sent no picture ({reason}){': ' + said if said else ''}")


def _plain(value: Any) -> str:
    return str(getattr(value, "value", value))
