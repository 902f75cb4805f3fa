"""The chat side of a run: finding the request in the messages, and answering with the document."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.messages.content import create_image_block, create_text_block

from interleaver.errors import BackendUnavailable, BadInput
from interleaver.graph.boundary.attachments import picture_address, read_message
from interleaver.graph.boundary.memory import DocumentMemory, forget
from interleaver.graph.channels import NAME, is_answer
from interleaver.pictures import Picture, decode_data_url, shrink_picture
from interleaver.store.images import ImageStore
from interleaver.types import IMAGE_TAG, Document, ImageBlock, ImageRef, TextBlock

PREVIEW_SIDE = 192
"""Maximum width and height of a preview, in pixels."""
MODEL_SIDES = (768, 512, 256)
"""Maximum width and height of the copy that stays in a message, in pixels; the first that is small enough in bytes."""
MAX_INLINE = 100_000
"""Length in characters up to which a picture in a message stays as it is."""
MAX_BACKGROUND = 8_000
"""Length in characters of what the planner is told of a conversation; its end counts."""
HANDOFF_BACK = "transfer_back"
"""Prefix of the calls with which langgraph-supervisor notes that an agent has handed back."""


@dataclass
class ChatRequest:
    """What a chat asks for.

    Attributes:
        text: the request.
        images: addresses of the pictures that came since the last document, see `MessageContent`.
        unusable: a phrase for each attachment that cannot be used.
        background: what else was said since the last document, for the planner to read; "" if nothing was.
        is_new: whether a new document is meant, whatever the chat has made before.
    """

    text: str
    images: list[str]
    unusable: list[str]
    background: str = ""
    is_new: bool = False


def read_chat(messages: Sequence[AnyMessage]) -> ChatRequest | None:
    """Return what a chat asks for: its newest human message, unless this graph has answered it.

    An agent that hands the conversation over a second time asks again: for the task that its call names, or else for
    what the person asked. What other agents found since the last document is the background.
    """
    answers = [n for n, message in enumerate(messages) if is_answer(message)]
    start = answers[-1] + 1 if answers else 0
    recent = messages[start:]
    people = [message for message in recent if isinstance(message, HumanMessage)]
    task = _handoff_task(recent)
    if not people and task is None:
        return None
    contents = [read_message(message) for message in people]
    text = contents[-1].text if contents else task or _last_human_text(messages[:start])
    surroundings = [message for message in recent if not people or message is not people[-1]]
    background = [_line(message) for message in surroundings]
    if people and task:
        background.append(f"task: {task}")
    return ChatRequest(
        text=text,
        images=[image for content in contents for image in content.images],
        unusable=[phrase for content in contents for phrase in content.unusable],
        background="\n".join(line for line in background if line).replace(IMAGE_TAG, "[image]")[-MAX_BACKGROUND:],
        is_new=not people and not task,
    )


def _handoff_task(messages: Sequence[AnyMessage]) -> str | None:
    """Return the task in the call with which the messages end, by which an agent handed over.

    "" if the call names no task; None if the messages do not end with a call and its results.
    """
    last = next((message for message in reversed(messages) if not isinstance(message, ToolMessage)), None)
    calls = last.tool_calls if isinstance(last, AIMessage) else []
    if not calls or calls[-1]["name"].startswith(HANDOFF_BACK):
        return None
    return "\n".join(value for value in calls[-1]["args"].values() if isinstance(value, str))


def _last_human_text(messages: Sequence[AnyMessage]) -> str:
    people = (message for message in reversed(messages) if isinstance(message, HumanMessage))
    return next((read_message(message).text for message in people), "")


def _line(message: AnyMessage) -> str:
    """Return a message as a line of the background; "" for tool messages, and for what only hands over."""
    if isinstance(message, HumanMessage):
        return f"user: {read_message(message).text}"
    if isinstance(message, AIMessage) and message.text and not message.response_metadata.get("__is_handoff_back"):
        return f"{message.name or 'assistant'}: {message.text}"
    return ""


async def lighten(messages: Sequence[AnyMessage], images: ImageStore) -> list[AnyMessage]:
    """Take out of a chat what would make it grow with each turn.

    A large picture that is sent as base64 is stored as it is; in its message stays a smaller copy, which other models
    can still read, with the link to the whole one. Answers before the newest one need no memory any more.

    Returns:
        The messages that changed, with their ids, so that they replace the former ones.
    """
    new_messages: list[AnyMessage] = []
    answers = [message for message in messages if is_answer(message) and message.response_metadata[NAME]]
    for message in messages:
        if isinstance(message, HumanMessage) and isinstance(message.content, list):
            content = [await _stored_block(block, images) for block in message.content]
            if content != message.content:
                new_messages.append(message.model_copy(update={"content": content}))
        elif message in answers[:-1]:
            metadata = message.response_metadata | {NAME: forget(message.response_metadata[NAME])}
            if metadata != message.response_metadata:
                new_messages.append(message.model_copy(update={"response_metadata": metadata}))
    return new_messages


async def _stored_block(block: Any, images: ImageStore) -> Any:
    address = picture_address(block) if isinstance(block, dict) else ""
    if not address.startswith("data:") or len(address) <= MAX_INLINE:
        return block
    try:
        picture = await asyncio.to_thread(decode_data_url, address, "a picture of the chat")
    except BadInput:
        return block  # the answer to its message says what is wrong with it
    ref = await images.put(picture)
    smaller = await asyncio.to_thread(_readable_copy, picture)
    return _image_block(smaller, **{NAME: f"sha256:{ref.sha256}"})


def _readable_copy(picture: Picture) -> Picture:
    """Return a smaller copy whose base64 is at most `MAX_INLINE` characters long."""
    for side in MODEL_SIDES:
        smaller = shrink_picture(picture, side, "WEBP")
        if len(smaller.data) * 4 / 3 <= MAX_INLINE:
            break
    return smaller


async def answer_message(
    document: Document,
    memory: DocumentMemory | None,
    images: ImageStore,
    pictures: Literal["auto", "previews", "links"],
    unchanged_steps: int = 0,
    notes: Sequence[str] = (),
) -> AIMessage:
    """Return the document as a chat message.

    Args:
        document: the document.
        memory: what is needed to change the document later; None if there is nothing to change.
        images: the image store that has the document's pictures.
        pictures: `previews` shows each picture as an image block of at most `PREVIEW_SIDE` pixels, with a link to the
            full-size one; `links` shows it as a Markdown image, for front ends that render Markdown; `auto` is `links`
            if the store has a public URL.
        unchanged_steps: number of leading steps that look as before; one line with links stands for them.
        notes: texts to put before the document.
    """
    blocks: list[Any] = [_paragraph(note) for note in notes]
    if document.reason:
        blocks.append(_paragraph(f"({document.status}: {document.reason})"))
    kept_images = [block for block in document.blocks if isinstance(block, ImageBlock) and block.step < unchanged_steps]
    if kept_images:
        steps = [document.steps[block.step] for block in kept_images]
        titles = [f"{step.number}. {step.name}".rstrip(". ") for step in steps]
        links = ", ".join(_link(title, block.image, images) for title, block in zip(titles, kept_images, strict=True))
        blocks.append(_paragraph(f"Unchanged: {links}"))
    as_markdown = pictures == "links" or (pictures == "auto" and images.public_url is not None)
    for block in document.blocks:
        if block.step is not None and block.step < unchanged_steps:
            continue
        if isinstance(block, TextBlock):
            blocks.append(_paragraph(block.text))
            continue
        link = _link(block.alt, block.image, images)
        if as_markdown:
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
        blocks.append(_image_block(await asyncio.to_thread(shrink_picture, picture, PREVIEW_SIDE, "WEBP")))
    return blocks


def _image_block(picture: Picture, **extras: Any) -> dict[str, Any]:
    encoded = base64.b64encode(picture.data).decode()
    return dict(create_image_block(base64=encoded, mime_type=picture.media_type, **extras))


def _paragraph(text: str) -> Any:
    # Clients that want plain text join the blocks without a separator.
    return create_text_block(f"{text}\n\n")


def _link(text: str, image: ImageRef, images: ImageStore) -> str:
    title = " ".join(text.replace("[", "(").replace("]", ")").split())
    return f"[{title}]({images.link(image)})"
