"""A generator behind the `/edit` protocol of the released InterleaveThinker services."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings

from interleaver.errors import UnreadableAnswer
from interleaver.net.clients import bounded_client
from interleaver.net.endpoints import CHECK_SECONDS, Endpoint
from interleaver.net.failures import AnsweredError
from interleaver.pictures import Picture, apply_policy
from interleaver.tools.endpoint_pictures import read_picture
from interleaver.tools.protocols import Capabilities, Size
from interleaver.types import DRAWN_PICTURES, Json, PicturePolicy

if TYPE_CHECKING:
    import httpx


@settings(config=ConfigDict(extra="forbid"))
class EditService:
    """A generator that draws and edits with `POST /edit`; an edit has one source.

    The released services draw 1024x1024 whatever is asked; `interleaver serve generator` answers the same protocol and
    heeds the size.

    Attributes:
        base_url: URL of the service, without `/edit`.
        api_key_env: environment variable with a bearer token; None sends none, as the released services expect.
        timeout: timeout of one call in seconds.
        extra_body: additional fields of the request, such as `num_inference_steps`, for services that heed them.
        pictures: how the source of an edit is sent.
    """

    base_url: str
    api_key_env: str | None = None
    timeout: float = Field(default=300.0, gt=0)
    extra_body: Json = Field(default_factory=dict)
    pictures: PicturePolicy = DRAWN_PICTURES

    def __post_init__(self) -> None:
        self.endpoint = Endpoint("generator", "edit-service", self.base_url, self.api_key_env, self.timeout)

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the service: an edit has one source."""
        return Capabilities(max_sources=1)

    @property
    def resource(self) -> Hashable:
        """What backends at the same endpoint have in common; see `interleaver.calling.call`."""
        return self.endpoint.resource

    async def check(self) -> str:
        """Check that the service can be reached, or raise `BackendError`."""
        await self._request("GET", "health", None, min(self.timeout, CHECK_SECONDS))
        return f"{self.endpoint.address} answers"

    async def generate(self, prompt: str, sources: Sequence[Picture], seed: int, size: Size) -> Picture:
        """Draw or edit one picture; see `ImageGenerator.generate`."""
        base64_text = None
        if sources:
            source = await asyncio.to_thread(apply_policy, sources[-1], self.pictures)
            base64_text, size = base64.b64encode(source.data).decode(), (source.width, source.height)
        body = {"image": base64_text, "prompt": prompt, "seed": seed, "width": size[0], "height": size[1]}
        answer = await self._request("POST", "edit", body | self.extra_body, self.timeout)
        picture = answer.get("edited_image") if isinstance(answer, dict) else None
        if not isinstance(picture, str):
            raise UnreadableAnswer(f"{self.endpoint.name} sent no picture")
        return await read_picture(picture, self.endpoint)

    async def _request(self, method: str, path: str, body: Json | None, seconds: float) -> Any:
        import httpx

        headers = {"Authorization": f"Bearer {self.endpoint.key}"} if self.api_key_env else {}
        try:
            async with asyncio.timeout(seconds), bounded_client(httpx, seconds, self.endpoint.all_secrets) as client:
                response = await client.request(
                    method, f"{self.base_url.rstrip('/')}/{path}", json=body, headers=headers
                )
            if not response.is_success:
                raise _failure(response, _error_text(response))
            answer = response.json() if response.content else {}
            if isinstance(answer, dict) and answer.get("success") is False:
                raise _failure(response, answer.get("error"))
        except Exception as error:  # whatever the client raises
            raise self.endpoint.failure(error) from None
        return answer


def _error_text(response: httpx.Response) -> object:
    """Return what an error says, which is HTML where a proxy answers."""
    try:
        answer = response.json()
    except ValueError:
        return response.reason_phrase
    return (answer.get("detail") or answer.get("error")) if isinstance(answer, dict) else answer


def _failure(response: httpx.Response, message: object) -> AnsweredError:
    """Return the error of a response; one with status 200 and `success` false counts as the server's."""
    status = response.status_code
    error = AnsweredError({"code": status if status >= 400 else 500, "message": str(message)})
    error.response = response  # with the headers that say when to call again
    return error
