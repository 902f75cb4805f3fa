"""Turning a caller's input into a validated request whose pictures are in the store."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from interleaver.errors import BackendUnavailable, BadInput
from interleaver.graph.boundary.attachments import picture_address
from interleaver.graph.boundary.changes import Change, ReviseChange, read_change
from interleaver.graph.boundary.chat import read_chat
from interleaver.graph.boundary.memory import DocumentMemory, answered_requests, latest_memory, own_memory
from interleaver.graph.state import RunState, failure_of
from interleaver.net.fetching import fetch_image_bytes
from interleaver.pictures import Picture, decode_data_url
from interleaver.store.images import ImageStore
from interleaver.types import IMAGE_TAG, ImageRef

MAX_REQUEST = 20_000
"""Length of a request in characters."""
MAX_IMAGES = 64
"""Number of pictures of a request."""


@dataclass
class RunInputs:
    """The input of one run, not validated yet.

    Attributes:
        request: the request, with an `<image>` tag in the place of each picture; what to change if `change` is set.
        images: the request's pictures, as the caller sent them.
        change: the change of a document that is asked for; None for a new document.
        memory: the document that is to be changed; None for a new document.
        background: what else the planner should know, see `ChatRequest`.
        unusable: a phrase for each attachment that cannot be used.
        continues: whether nothing new is asked for, and a run that was cut off by a limit goes on.
    """

    request: Any = ""
    images: Any = field(default_factory=list)
    change: Change | None = None
    memory: DocumentMemory | None = None
    background: str = ""
    unusable: Sequence[str] = ()
    continues: bool = False


def check_request(request: object, images: int) -> None:
    """Validate a request.

    Args:
        request: the request.
        images: number of pictures that came with it.

    Raises:
        BadInput: it is not a string, is empty, is longer than `MAX_REQUEST` characters, has more than `MAX_IMAGES`
            pictures, or another number of `<image>` tags than of pictures.
    """
    if not isinstance(request, str):
        raise BadInput(f"the request is a {type(request).__name__}; give a string")
    if not request.strip():
        raise BadInput(
            "the request is empty, and there is no unanswered chat message; say what to make, for example "
            '"How to draw a cat?"'
        )
    if images > MAX_IMAGES:
        raise BadInput(f"{images:,} pictures came with the request; at most {MAX_IMAGES} are allowed")
    if len(request) > MAX_REQUEST:
        raise BadInput(f"the request has {len(request):,} characters; at most {MAX_REQUEST:,} are allowed")
    tags = request.count(IMAGE_TAG)
    if tags and tags != images:
        raise BadInput(
            f"the request has {tags} {IMAGE_TAG} tag(s) but {images} picture(s) came with it; "
            "give one picture for each tag"
        )


def read_inputs(state: RunState) -> RunInputs:
    """Return the input of a run: a `change`, else a new `request`, else the open chat message, else the old `request`.

    Raises:
        BadInput: the change is not valid, or there is no document to change.
    """
    request, messages = state.get("request") or "", state.get("messages") or []
    images = state.get("images") or []
    if state.get("change"):
        if _was_cut_off(state) and state["change"] == state.get("handled_change"):
            return RunInputs(continues=True)
        change = read_change(state["change"])
        memory = own_memory(state) or latest_memory(messages)
        if memory is None:
            raise BadInput("there is no document to change; send a request first")
        words, pictures = (change.request, change.images) if isinstance(change, ReviseChange) else ("", [])
        return RunInputs(words, pictures, change, memory)
    handled_request = state.get("handled_request") or state.get("heard")
    if request and request not in [handled_request, *answered_requests(messages)]:
        return RunInputs(request, images)
    chat = read_chat(messages)
    if _was_cut_off(state) and (chat is None or chat.is_new or chat.text in (request, state.get("revision"))):
        return RunInputs(continues=True)
    if chat is None:
        return RunInputs(request, images)
    inputs = RunInputs(chat.text, [*images, *chat.images], background=chat.background, unusable=chat.unusable)
    memory = None if chat.is_new else latest_memory(messages) or own_memory(state)
    if memory:
        inputs.change, inputs.memory = ReviseChange(request=chat.text), memory
    return inputs


def _was_cut_off(state: RunState) -> bool:
    failure = failure_of(state)
    return failure is not None and failure.where == "limit"


async def read_pictures(request: object, images: object, store: ImageStore, hosts: Collection[str]) -> list[Picture]:
    """Validate a request and return its pictures; those sent as `data:` or http(s) URLs are put into the store.

    Args:
        request: the request.
        images: its pictures, as the caller sent them.
        store: the image store.
        hosts: hosts with private addresses from which pictures may be fetched.

    Raises:
        BadInput: the request or a picture cannot be used.
    """
    if not isinstance(images, list):
        raise BadInput(f"images is a {type(images).__name__}; give a list")
    check_request(request, len(images))
    return [
        await read_image(image, f"picture {number} of the request", store, hosts)
        for number, image in enumerate(images, start=1)
    ]


async def read_image(image: Any, name: str, store: ImageStore, hosts: Collection[str] = ()) -> Picture:
    """Return a picture that a caller sent, after putting it into the store.

    Args:
        image: an `ImageRef` as JSON, a content block, a link of this store (`sha256:...` or a public URL), a `data:`
            URL, or an http(s) URL.
        name: name of the picture in error messages.
        store: the image store.
        hosts: hosts with private addresses from which pictures may be fetched.

    Raises:
        BadInput: the image is none of these, cannot be fetched, or is not a picture.
    """
    if isinstance(image, Mapping) and "sha256" not in image:
        image = picture_address(image) or image
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
        picture = await asyncio.to_thread(decode_data_url, image, name)
    elif scheme in ("http", "https"):
        stored = await _find_by_address(image, store)
        if stored:
            return stored
        picture = await asyncio.to_thread(Picture.decode, await fetch_image_bytes(image, name, hosts), name)
    else:
        raise BadInput(
            f"{name} is given as {image[:40]!r}; send an ImageRef, a data: URL, or an http(s) URL (no file is read)"
        )
    await store.put(picture)
    return picture


async def _find_by_address(address: str, store: ImageStore) -> Picture | None:
    """Return the store's picture that an address names by its hash; a server that moved left its old links behind."""
    match = re.search(r"/([0-9a-f]{64})\.[a-z]+$", address)
    try:
        return await store.find(match[1]) if match else None
    except (BadInput, BackendUnavailable):
        return None
