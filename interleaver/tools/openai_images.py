"""Endpoints with the OpenAI Images API: OpenAI itself, vLLM-Omni, `interleaver serve generator`, and others."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Hashable, Sequence
from typing import Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings

from interleaver.errors import UnreadableAnswer
from interleaver.net.endpoints import Endpoint, is_azure, is_openai, openai_key_variable
from interleaver.net.failures import error_status, raise_answered_error
from interleaver.pictures import EXTENSIONS, Picture, apply_policy
from interleaver.tools.endpoint_pictures import read_picture
from interleaver.tools.masks import fit_mask, read_mask
from interleaver.tools.protocols import Capabilities, Size
from interleaver.tools.sizes import nearest_size
from interleaver.types import DRAWN_PICTURES, Json, PicturePolicy


@settings(config=ConfigDict(extra="forbid"))
class OpenAIImages:
    """A generator that draws with `images/generations` and edits with `images/edits`.

    Attributes:
        model: name of the model at the endpoint.
        base_url: URL of the endpoint; None for OpenAI's own.
        api_key_env: environment variable with the API key. None for OPENAI_API_KEY at OpenAI's own endpoint and no key
            at any other.
        timeout: timeout of one call in seconds.
        max_sources: maximum number of source pictures of an edit; 0 for a model that cannot edit.
        sizes: sizes (width, height) that the model offers, of which the one nearest in aspect ratio is requested; None
            for a model that takes any size.
        mask: path of a mask image, white where an edit may paint and black where it must not.
        extensions: whether the endpoint accepts `seed`, `response_format` and `mask_image`, which OpenAI's own does
            not; None for yes, except at OpenAI's own endpoint and Azure's, until an endpoint refuses them.
        extra_body: additional fields of the request body, such as `quality`, `num_inference_steps` or
            `guidance_scale`.
        pictures: how the sources of an edit are sent.
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
    pictures: PicturePolicy = DRAWN_PICTURES

    def __post_init__(self) -> None:
        key = openai_key_variable(self.api_key_env, self.base_url)
        self.endpoint = Endpoint("generator", self.model, self.base_url, key, self.timeout)
        self._mask = read_mask(self.mask) if self.mask else None
        is_plain = is_openai(self.base_url) or is_azure(self.base_url)
        self._has_extensions = not is_plain if self.extensions is None else self.extensions
        self._client = self.endpoint.openai()

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the model."""
        return Capabilities(max_sources=self.max_sources)

    @property
    def resource(self) -> Hashable:
        """What backends at the same endpoint have in common; see `interleaver.calling.call`."""
        return self.endpoint.resource

    async def check(self) -> str:
        """Check that the model can be reached; see `Endpoint.check`."""
        return await self.endpoint.check()

    async def generate(self, prompt: str, sources: Sequence[Picture], seed: int, size: Size) -> Picture:
        """Draw or edit one picture; see `ImageGenerator.generate`."""
        try:
            return await self._generate(prompt, sources, seed, size)
        except _NotSupported:
            self._has_extensions = False
            return await self._generate(prompt, sources, seed, size)

    async def _generate(self, prompt: str, sources: Sequence[Picture], seed: int, size: Size) -> Picture:
        has_extensions = self._has_extensions  # a call beside this one may find out that they are refused
        sources = await asyncio.to_thread(lambda: [apply_policy(source, self.pictures) for source in sources])
        if sources:
            size = sources[-1].width, sources[-1].height
        width, height = nearest_size(size, self.sizes) if self.sizes else size
        extra = dict(self.extra_body)
        if self._has_extensions:
            extra |= {"seed": seed, "response_format": "b64_json"}
        arguments: Json = {
            "model": self.model,
            "prompt": prompt,
            "n": 1,
            "size": f"{width}x{height}",
            "extra_body": extra,
        }
        try:
            async with asyncio.timeout(self.timeout):
                if sources:
                    arguments |= await asyncio.to_thread(self._files, sources, extra)
                    answer = await self._client.images.edit(**arguments)
                else:
                    answer = await self._client.images.generate(**arguments)
            if hasattr(answer, "to_dict"):  # else it is the text of an answer that is no JSON
                raise_answered_error(answer.to_dict())
        except Exception as error:  # whatever the SDK raises
            if has_extensions and error_status(error) in (400, 422) and _names_extension(error):
                raise _NotSupported from None
            raise self.endpoint.failure(error) from None
        return await self._picture(answer)

    def _files(self, sources: Sequence[Picture], extra: Json) -> Json:
        files: Json = {"image": [_file(source, f"image-{n}") for n, source in enumerate(sources, start=1)]}
        if self._mask:
            size = sources[-1].width, sources[-1].height
            mask = fit_mask(self._mask, size, transparent=not self._has_extensions)
            if self._has_extensions:  # vLLM-Omni's field; the SDK sends files only in the fields that it knows
                encoded = base64.b64encode(mask.data).decode()
                files["extra_body"] = {**extra, "mask_image": f"data:image/png;base64,{encoded}"}
            else:
                files["mask"] = _file(mask, "mask")
        return files

    async def _picture(self, answer: Any) -> Picture:
        data = getattr(answer, "data", None) or [None]
        text = getattr(data[0], "b64_json", None) or getattr(data[0], "url", None)
        if not text:
            raise UnreadableAnswer(f"{self.endpoint.name} sent no picture")
        return await read_picture(text, self.endpoint)


class _NotSupported(Exception):
    """The endpoint refuses a field that OpenAI's own API does not have."""


def _names_extension(error: Exception) -> bool:
    text = str(error).lower()
    return any(name in text for name in ("response_format", "seed", "mask_image"))


def _file(picture: Picture, name: str) -> tuple[str, bytes, str]:
    return f"{name}{EXTENSIONS[picture.media_type]}", picture.data, picture.media_type
