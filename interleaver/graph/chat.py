"""The chat side of a run: its request among the messages, and the document as an answer."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any, Literal

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.messages.content import create_image_block, create_text_block
from pydantic import BaseModel, ValidationError

from interleaver.errors import BackendUnavailable
from interleaver.pictures import shrunk
from interleaver.traces.images import ImageStore
from interleaver.types import Document, ImageRef, Plan, StepResult, TextBlock

NAME = "interleaver"
"""The name on the graph's own messages, and the key of what they carry in their `response_metadata`."""
PREVIEW = 192
"""The longer side of a preview, in pixels."""


class Told(BaseModel):
    """What stands behind an answer: all that a later message needs to change the document.

    It travels in the answer's `response_metadata`, so a chat goes on wherever its messages are kept.
    """

    request: str
    given: list[ImageRef]
    plan: Plan
    results: dict[int, StepResult]


def unanswered(messages: Sequence[AnyMessage]) -> HumanMessage | None:
    """The newest human message, unless this graph has answered it; other agents may have spoken since."""
    for message in reversed(messages):
        if isinstance(message, AIMessage) and NAME in message.response_metadata:
            return None
        if isinstance(message, HumanMessage):
            return message
    return None


def last_told(messages: Sequence[AnyMessage]) -> Told | None:
    """The newest document of the chat; None when there is none."""
    for message in reversed(messages):
        said = message.response_metadata.get(NAME) if isinstance(message, AIMessage) else None
        if said:
            try:
                return Told.model_validate(said)
            except ValidationError:
                return None  # a client sends what it likes; without a document behind it the chat begins anew
    return None


def read_message(message: HumanMessage) -> tuple[str, list[str]]:
    """The text of a message, and its pictures as URLs."""
    text, images = [], []
    for block in message.content_blocks:
        if block["type"] == "text":
            text.append(block["text"])
        elif block["type"] == "image":
            url = block.get("url") or f"data:{block.get('mime_type', 'image/png')};base64,{block.get('base64', '')}"
            images.append(url)
    return "\n".join(text), images


async def answer(
    document: Document,
    told: Told | None,
    images: ImageStore,
    pictures: Literal["previews", "links"],
    note: str | None = None,
) -> AIMessage:
    """The document as a message.

    Args:
        document: what to tell.
        told: what stands behind it; None when there is nothing that a later message could change.
        images: the store of its pictures.
        pictures: *previews* shows each picture as an image block of at most `PREVIEW` pixels, with a link to the whole
            one; *links* as Markdown in the text, for front ends that show that.
        note: what to say before it.
    """
    blocks: list[Any] = [_paragraph(note)] if note else []
    if document.reason:
        blocks.append(_paragraph(f"({document.status}: {document.reason})"))
    for block in document.blocks:
        if isinstance(block, TextBlock):
            blocks.append(_paragraph(block.text))
            continue
        link = f"[{_plain(block.alt)}]({images.link(block.image)})"
        if pictures == "links":
            blocks.append(_paragraph(f"!{link}"))
        else:
            blocks += [*await preview_blocks([block.image], images), _paragraph(link)]
    metadata = {NAME: told.model_dump(mode="json", exclude_none=True) if told else {}}
    return AIMessage(content=blocks, name=NAME, response_metadata=metadata)


async def preview_blocks(refs: Sequence[ImageRef], images: ImageStore) -> list[dict[str, Any]]:
    """Small pictures as image content blocks, a few kilobytes each, in base64; none of what the store has lost."""
    blocks = []
    for ref in refs:
        try:
            picture = await images.get(ref)
        except BackendUnavailable:
            continue
        preview = await asyncio.to_thread(shrunk, picture, PREVIEW, "WEBP")
        encoded = base64.b64encode(preview.data).decode()
        blocks.append(dict(create_image_block(base64=encoded, mime_type=preview.media_type)))
    return blocks


def _paragraph(text: str) -> Any:
    # Whoever wants plain text joins the blocks with nothing in between.
    return create_text_block(f"{text}\n\n")


def _plain(alt: str) -> str:
    return " ".join(alt.replace("[", "(").replace("]", ")").split())
