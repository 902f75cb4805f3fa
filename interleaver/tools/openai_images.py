"""Any endpoint with the OpenAI Images API: OpenAI itself, vLLM-Omni, `interleaver serve generator`, and others."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings

from interleaver.endpoints import Endpoint, openai_key
from interleaver.errors import UnreadableAnswer
from interleaver.pictures import EXTENSIONS, Picture
from interleaver.tools.generators import Capabilities, Size, from_base64, mask_for, nearest, read_mask

Json = dict[str, Any]


@settings(config=ConfigDict(extra="forbid"))
class OpenAIImages:
    """Draws by `images/generations` and edits by `images/edits`.

    Attributes:
        model: the model's name at the endpoint.
        base_url: the endpoint; None for OpenAI's own.
        api_key_env: the environment variable that holds the key. None: OPENAI_API_KEY for OpenAI's own endpoint, no
            key for any other.
        timeout: seconds that one call may take.
        max_sources: how many pictures an edit may show the model; 0 for a model that only draws anew.
        sizes: the sizes that the model offers, as (width, height); of them the one nearest in shape to the wanted is
            asked for. None: any size.
        mask: a picture file, white where an edit may paint and black where it must not.
        extensions: whether the endpoint takes what OpenAI's own does not: `seed`, `response_format` and `mask_image`.
            None: every endpoint but OpenAI's own.
        extra_body: further fields, as the server takes them: `quality`, `num_inference_steps`, `guidance_scale` ...
    """

    model: str
    base_url: str | None = None
    api_key_env: str | None = None
    timeout: float = Field(default=300.0, gt=0)
    max_sources: int = Field(default=16, ge=0, le=16)
    sizes: list[Size] | None = None
    mask: str | None = None
    extensions: bool | None = None
    extra_body: Json = Field(default_factory=dict)

    def __post_init__(self) -> None:
        key = openai_key(self.api_key_env, self.base_url)
        self.endpoint = Endpoint("generator", self.model, self.base_url, key, self.timeout)
        self._mask = read_mask(self.mask) if self.mask else None
        self._extended = self.base_url is not None if self.extensions is None else self.extensions
        self._client = self.endpoint.openai()

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return Capabilities(max_sources=self.max_sources)

    async def check(self) -> str:
        """Say that the model can be reached, or raise; see `Endpoint.check`."""
        return await self.endpoint.check()

    async def generate(self, prompt: str, sources: Sequence[Picture], seed: int, size: Size) -> Picture:
        """Draw or edit one picture; see `ImageGenerator.generate`."""
        if sources:
            size = sources[-1].width, sources[-1].height
        width, height = nearest(size, self.sizes) if self.sizes else size
        extra = dict(self.extra_body)
        if self._extended:
            extra |= {"seed": seed, "response_format": "b64_json"}
        asked: Json = {"model": self.model, "prompt": prompt, "n": 1, "size": f"{width}x{height}", "extra_body": extra}
        try:
            async with asyncio.timeout(self.timeout):
                if sources:
                    asked |= await asyncio.to_thread(self._files, sources, extra)
                    answer = await self._client.images.edit(**asked)
                else:
                    answer = await self._client.images.generate(**asked)
        except Exception as error:  # whatever the SDK raises
            raise self.endpoint.failure(error) from None
        return await self._picture(answer)

    def _files(self, sources: Sequence[Picture], extra: Json) -> Json:
        files: Json = {"image": [_file(source, f"image-{n}") for n, source in enumerate(sources, start=1)]}
        if self._mask:
            size = sources[-1].width, sources[-1].height
            mask = mask_for(self._mask, size, transparent=not self._extended)
            if self._extended:  # vLLM-Omni's name for it; the SDK sends files under the names that it knows only
                encoded = base64.b64encode(mask.data).decode()
                files["extra_body"] = {**extra, "mask_image": f"data:image/png;base64,{encoded}"}
            else:
                files["mask"] = _file(mask, "mask")
        return files

    async def _picture(self, answer: Any) -> Picture:
        data = getattr(answer, "data", None)
        encoded = getattr(data[0], "b64_json", None) if data else None
        if encoded:
            return await from_base64(encoded, self.endpoint.name)
        where = "a URL instead of the picture; ask the server for b64_json" if data else "no picture"
        raise UnreadableAnswer(f"{self.endpoint.name} sent {where}")


def _file(picture: Picture, name: str) -> tuple[str, bytes, str]:
    return f"{name}{EXTENSIONS[picture.media_type]}", picture.data, picture.media_type
