"""From what a caller sends to a request with pictures in the store."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from interleaver.errors import BadInput
from interleaver.graph.chat import Told, last_told, read_message, unanswered
from interleaver.graph.fetching import fetch
from interleaver.graph.state import RunState
from interleaver.pictures import MAX_BYTES, Picture
from interleaver.traces.images import ImageStore
from interleaver.types import ImageRef

MAX_REQUEST = 20_000
IMAGE_TAG = "<image>"


@dataclass(frozen=True)
class Task:
    """What a run is asked to do.

    Attributes:
        request: with an `<image>` tag where each picture belongs; not checked yet.
        given: the pictures that came with it, as they came.
        told: the document that the chat has come to, which the request may want to change.
    """

    request: Any
    given: Any
    told: Told | None = None


def check_request(request: object, images: int) -> None:
    """Check a request against the number of its pictures.

    Raises:
        BadInput: it is empty, longer than `MAX_REQUEST` characters, or its `<image>` tags and pictures do not match.
    """
    if not isinstance(request, str):
        raise BadInput(f"the request is a {type(request).__name__}; give a string")
    if not request.strip():
        raise BadInput(
            'the request is empty, and no chat message is open; say what to make, for example "How to draw a cat?"'
        )
    if len(request) > MAX_REQUEST:
        raise BadInput(f"the request has {len(request):,} characters; at most {MAX_REQUEST:,} are allowed")
    tags = request.count(IMAGE_TAG)
    if tags and tags != images:
        raise BadInput(
            f"the request has {tags} {IMAGE_TAG} tag(s) but {images} picture(s) came with it; "
            "give one picture for each tag"
        )


def read_task(state: RunState) -> Task:
    """What is asked: a `request` that is new, else the open message of the chat, else the `request` as before."""
    request, messages = state.get("request", ""), state.get("messages", [])
    if request and request != state.get("heard"):
        return Task(request, state.get("images") or [])
    message = unanswered(messages)
    if message:
        return Task(*read_message(message), last_told(messages))
    if state.get("feedback"):  # the same request again, its pictures read already
        return Task(request, state["given"])
    return Task(request, state.get("images") or [])


async def read_pictures(task: Task, store: ImageStore, hosts: Collection[str]) -> list[Picture]:
    """The pictures of a request; those that arrive as bytes or by address are put into the store.

    Raises:
        BadInput: the request or a picture cannot be used.
    """
    if not isinstance(task.given, list):
        raise BadInput(f"images is a {type(task.given).__name__}; give a list")
    check_request(task.request, len(task.given))
    return [
        await read_image(image, f"picture {number} of the request", store, hosts)
        for number, image in enumerate(task.given, start=1)
    ]


async def read_image(image: Any, name: str, store: ImageStore, hosts: Collection[str] = ()) -> Picture:
    """A picture that a caller sent, which is in the store afterwards.

    Args:
        image: an `ImageRef` as JSON, a link of this store (`sha256:...` or its public address), a `data:` URL, or an
            `http(s)://` address.
        name: what to call the picture in an error message.
        store: where pictures are kept.
        hosts: hosts that may be asked for pictures although their addresses are private.

    Raises:
        BadInput: it is none of these, it cannot be fetched, or it is no picture.
    """
    if not isinstance(image, str):
        try:
            return await store.get(ImageRef.model_validate(image))
        except ValueError:
            raise BadInput(f"{name} is neither an ImageRef as JSON nor a text (a link, data: URL or address)") from None
    sha256 = store.linked(image)
    if sha256:
        return await store.find(sha256)
    scheme = image.partition(":")[0].lower()
    if scheme == "data":
        picture = await asyncio.to_thread(_decode, image.partition(",")[2], name)
    elif scheme in ("http", "https"):
        picture = await asyncio.to_thread(Picture.decode, await fetch(image, name, hosts), name)
    else:
        raise BadInput(
            f"{name} is given as {image[:40]!r}; send an ImageRef, a data: URL, or an http(s) address (no file is read)"
        )
    await store.put(picture)
    return picture


def _decode(encoded: str, name: str) -> Picture:
    if len(encoded) > MAX_BYTES * 4 // 3 + 4:
        raise BadInput(f"{name} is larger than {MAX_BYTES // 2**20} MiB")
    try:
        data = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise BadInput(f"{name} is not valid base64") from None
    return Picture.decode(data, name)
