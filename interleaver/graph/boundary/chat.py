"""The chat side of a run: finding the request in the messages, and answering with the document."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any, Literal

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.messages.content import create_image_block, create_text_block
from pydantic import BaseModel, ValidationError

from interleaver import migrations
from interleaver.errors import BackendUnavailable
from interleaver.pictures import shrink_picture
from interleaver.store.images import ImageStore
from interleaver.types import Document, ImageRef, Plan, StepResult, TextBlock

NAME = "interleaver"
"""Name of the graph's own messages, and key of their data in `response_metadata`."""
PREVIEW_SIDE = 192
"""Maximum width and height of a preview, in pixels."""


class DocumentMemory(BaseModel):
    """What is needed to change a document in a later chat message.

    It is kept in the answer's `response_metadata`, so a chat can be continued wherever its messages are stored.
    """

    request: str
    images: list[ImageRef]
    plan: Plan
    results: dict[int, StepResult]


def open_message(messages: Sequence[AnyMessage]) -> HumanMessage | None:
    """Return the newest human message; None if there is none, or if this graph has already answered it.

    Messages of other agents that came after it are skipped.
    """
    for message in reversed(messages):
        if isinstance(message, AIMessage) and NAME in message.response_metadata:
            return None
        if isinstance(message, HumanMessage):
            return message
    return None


def latest_memory(messages: Sequence[AnyMessage]) -> DocumentMemory | None:
    """Return the memory of the newest document in the chat; None if there is none."""
    for message in reversed(messages):
        memory = message.response_metadata.get(NAME) if isinstance(message, AIMessage) else None
        if memory:
            try:
                return DocumentMemory.model_validate(migrations.migrate_memory(memory))
            except ValidationError:
                return None  # clients may send anything; without a valid memory the chat starts a new document
    return None


def read_message(message: HumanMessage) -> tuple[str, list[str]]:
    """Return the text of a message, and the URLs of its pictures."""
    text, images = [], []
    for block in message.content_blocks:
        if block["type"] == "text":
            text.append(block["text"])
        elif block["type"] == "image":
            url = block.get("url") or f"data:{block.get('mime_type', 'image/png')};base64,{block.get('base64', '')}"
            images.append(url)
    return "\n".join(text), images


def unchanged_note(plan: Plan, kept_steps: int, messages: Sequence[AnyMessage]) -> str | None:
    """Return a note for the user if a requested change left the plan as it was; None otherwise."""
    memory = latest_memory(messages)
    is_unchanged = memory is not None and memory.plan.steps == plan.steps and kept_steps == len(plan.steps)
    return f"Nothing changed. {plan.reasoning}".strip() if is_unchanged else None


async def answer_message(
    document: Document,
    memory: DocumentMemory | None,
    images: ImageStore,
    pictures: Literal["previews", "links"],
    note: str | None = None,
) -> AIMessage:
    """Return the document as a chat message.

    Args:
        document: the document.
        memory: what is needed to change the document later; None if there is nothing to change.
        images: the image store that has the document's pictures.
        pictures: `previews` shows each picture as an image block of at most `PREVIEW_SIDE` pixels, with a link to the
            full-size one; `links` shows it as a Markdown image, for front ends that render Markdown.
        note: text to put before the document.
    """
    blocks: list[Any] = [_paragraph(note)] if note else []
    if document.reason:
        blocks.append(_paragraph(f"({document.status}: {document.reason})"))
    for block in document.blocks:
        if isinstance(block, TextBlock):
            blocks.append(_paragraph(block.text))
            continue
        link = f"[{_link_text(block.alt)}]({images.link(block.image)})"
        if pictures == "links":
            blocks.append(_paragraph(f"!{link}"))
        else:
            blocks += [*await preview_blocks([block.image], images), _paragraph(link)]
    metadata = {NAME: memory.model_dump(mode="json", exclude_none=True) if memory else {}}
    return AIMessage(content=blocks, name=NAME, response_metadata=metadata)


async def preview_blocks(refs: Sequence[ImageRef], images: ImageStore) -> list[dict[str, Any]]:
    """Return previews of pictures as image content blocks: base64, a few kilobytes each.

    Pictures that the store no longer has are left out.
    """
    blocks = []
    for ref in refs:
        try:
            picture = await images.get(ref)
        except BackendUnavailable:
            continue
        preview = await asyncio.to_thread(shrink_picture, picture, PREVIEW_SIDE, "WEBP")
        encoded = base64.b64encode(preview.data).decode()
        blocks.append(dict(create_image_block(base64=encoded, mime_type=preview.media_type)))
    return blocks


def _paragraph(text: str) -> Any:
    # Clients that want plain text join the blocks without a separator.
    return create_text_block(f"{text}\n\n")


def _link_text(alt: str) -> str:
    return " ".join(alt.replace("[", "(").replace("]", ")").split())
