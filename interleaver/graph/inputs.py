"""From what a caller sends to a request with pictures in the store."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Any

from langchain_core.messages import AnyMessage, HumanMessage

from interleaver.errors import BadInput
from interleaver.graph.state import RunState
from interleaver.pictures import MAX_BYTES, Picture
from interleaver.traces.images import ImageStore
from interleaver.types import ImageRef

MAX_REQUEST = 20_000
IMAGE_TAG = "<image>"


def check_request(request: object, images: int) -> None:
    """Check a request against the number of its pictures.

    Raises:
        BadInput: it is empty, longer than `MAX_REQUEST` characters, or its `<image>` tags and pictures do not match.
    """
    if not isinstance(request, str):
        raise BadInput(f"the request is a {type(request).__name__}; give a string")
    if not request.strip():
        raise BadInput('the request is empty; say what to make, for example "How to draw a cat step by step?"')
    if len(request) > MAX_REQUEST:
        raise BadInput(f"the request has {len(request):,} characters; at most {MAX_REQUEST:,} are allowed")
    tags = request.count(IMAGE_TAG)
    if tags and tags != images:
        raise BadInput(
            f"the request has {tags} {IMAGE_TAG} tag(s) but {images} picture(s) came with it; "
            "give one picture for each tag"
        )


async def read_input(state: RunState, store: ImageStore) -> tuple[str, list[Picture]]:
    """The request and its pictures, from the chat when it ends in a human message, else from `request`.

    Pictures that arrive as bytes are put into the store.

    Raises:
        BadInput: the request or a picture cannot be used.
    """
    if state.get("feedback"):  # the same request again, read already
        refs = [ImageRef.model_validate(image) for image in state["given"]]
        return state["request"], [await store.get(ref) for ref in refs]
    messages = state.get("messages", [])
    if messages and isinstance(messages[-1], HumanMessage):
        request, given = _read_message(messages[-1])
    else:
        request, given = state.get("request", ""), state.get("images", [])
    check_request(request, len(given))
    return request, [await _read_image(image, number, store) for number, image in enumerate(given, start=1)]


def _read_message(message: AnyMessage) -> tuple[str, list[Any]]:
    text, images = [], []
    for block in message.content_blocks:
        if block["type"] == "text":
            text.append(block["text"])
        elif block["type"] == "image":
            url = block.get("url") or f"data:{block.get('mime_type', 'image/png')};base64,{block.get('base64', '')}"
            images.append(url)
    return "\n".join(text), images


async def _read_image(image: Any, number: int, store: ImageStore) -> Picture:
    name = f"picture {number} of the request"
    if not isinstance(image, str):
        try:
            ref = ImageRef.model_validate(image)
        except ValueError:
            raise BadInput(f"{name} is neither an ImageRef nor a data: URL") from None
        return await store.get(ref)
    if not image.startswith("data:"):
        raise BadInput(f"{name} is given as {image[:40]!r}; only ImageRefs and data: URLs are accepted")
    encoded = image.partition(",")[2]
    if len(encoded) > MAX_BYTES * 4 // 3 + 4:
        raise BadInput(f"{name} is larger than {MAX_BYTES // 2**20} MiB")
    picture = await asyncio.to_thread(_decode, encoded, name)
    await store.put(picture)
    return picture


def _decode(encoded: str, name: str) -> Picture:
    try:
        data = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise BadInput(f"{name} is not valid base64") from None
    return Picture.decode(data, name)
