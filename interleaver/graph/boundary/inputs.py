"""Turning a caller's input into a validated request whose pictures are in the store."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from interleaver.errors import BadInput
from interleaver.graph.boundary.chat import DocumentMemory, latest_memory, open_message, read_message
from interleaver.graph.state import RunState
from interleaver.net.fetching import fetch_image_bytes
from interleaver.pictures import MAX_BYTES, Picture
from interleaver.store.images import ImageStore
from interleaver.types import ImageRef

MAX_REQUEST = 20_000
IMAGE_TAG = "<image>"


@dataclass(frozen=True)
class RunInputs:
    """The input of one run, not validated yet.

    Attributes:
        request: the request, with an `<image>` tag in the place of each picture.
        images: the request's pictures, as the caller sent them.
        memory: the chat's document, which the request may ask to change; None if there is none.
    """

    request: Any
    images: Any
    memory: DocumentMemory | None = None


def check_request(request: object, images: int) -> None:
    """Validate a request.

    Args:
        request: the request.
        images: number of pictures that came with it.

    Raises:
        BadInput: it is not a string, is empty, is longer than `MAX_REQUEST` characters, or has another number of
            `<image>` tags than of pictures.
    """
    if not isinstance(request, str):
        raise BadInput(f"the request is a {type(request).__name__}; give a string")
    if not request.strip():
        raise BadInput(
            "the request is empty, and there is no unanswered chat message; say what to make, for example "
            '"How to draw a cat?"'
        )
    if len(request) > MAX_REQUEST:
        raise BadInput(f"the request has {len(request):,} characters; at most {MAX_REQUEST:,} are allowed")
    tags = request.count(IMAGE_TAG)
    if tags and tags != images:
        raise BadInput(
            f"the request has {tags} {IMAGE_TAG} tag(s) but {images} picture(s) came with it; "
            "give one picture for each tag"
        )


def read_inputs(state: RunState) -> RunInputs:
    """Return the input of a run: a new `request`, else the unanswered chat message, else the previous `request`."""
    request, messages = state.get("request", ""), state.get("messages", [])
    if request and request != (state.get("handled_request") or state.get("heard")):
        return RunInputs(request, state.get("images") or [])
    message = open_message(messages)
    if message:
        return RunInputs(*read_message(message), latest_memory(messages))
    if state.get("feedback"):  # the same request again; its pictures are already stored
        return RunInputs(request, state["request_images"])
    return RunInputs(request, state.get("images") or [])


async def read_pictures(task: RunInputs, store: ImageStore, hosts: Collection[str]) -> list[Picture]:
    """Validate a request and return its pictures; those sent as `data:` or http(s) URLs are put into the store.

    Args:
        task: the input of the run.
        store: the image store.
        hosts: hosts with private addresses from which pictures may be fetched.

    Raises:
        BadInput: the request or a picture cannot be used.
    """
    if not isinstance(task.images, list):
        raise BadInput(f"images is a {type(task.images).__name__}; give a list")
    check_request(task.request, len(task.images))
    return [
        await read_image(image, f"picture {number} of the request", store, hosts)
        for number, image in enumerate(task.images, start=1)
    ]


async def read_image(image: Any, name: str, store: ImageStore, hosts: Collection[str] = ()) -> Picture:
    """Return a picture that a caller sent, after putting it into the store.

    Args:
        image: an `ImageRef` as JSON, a link of this store (`sha256:...` or a public URL), a `data:` URL, or an http(s)
            URL.
        name: name of the picture in error messages.
        store: the image store.
        hosts: hosts with private addresses from which pictures may be fetched.

    Raises:
        BadInput: the image is none of these, cannot be fetched, or is not a picture.
    """
    if not isinstance(image, str):
        try:
            return await store.get(ImageRef.model_validate(image))
        except ValueError:
            raise BadInput(f"{name} is neither an ImageRef as JSON nor a string (a link or URL)") from None
    sha256 = store.parse_link(image)
    if sha256:
        return await store.find(sha256)
    scheme = image.partition(":")[0].lower()
    if scheme == "data":
        picture = await asyncio.to_thread(_decode, image.partition(",")[2], name)
    elif scheme in ("http", "https"):
        picture = await asyncio.to_thread(Picture.decode, await fetch_image_bytes(image, name, hosts), name)
    else:
        raise BadInput(
            f"{name} is given as {image[:40]!r}; send an ImageRef, a data: URL, or an http(s) URL (no file is read)"
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
