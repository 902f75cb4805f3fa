"""Pictures in chat messages, in every form in which clients of chat models send them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import HumanMessage

TEXTS = ("text", "input_text", "output_text")


@dataclass
class MessageContent:
    """What a message holds.

    Attributes:
        text: its text.
        images: addresses of its pictures: http(s), `data:` and `sha256:` URLs.
        unusable: a phrase for each attachment that is no picture, or whose bytes are not in the message.
    """

    text: str = ""
    images: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)


def read_message(message: HumanMessage) -> MessageContent:
    """Return the content of a message.

    Understood are the blocks of LangChain (of Python and of JavaScript, versions 0 and 1), OpenAI (chat completions
    and responses), Anthropic, Google and Bedrock. Nothing is left out in silence: whatever is neither text nor a
    usable picture is named in `unusable`.
    """
    content, texts = MessageContent(), []
    blocks = [message.content] if isinstance(message.content, str) else message.content
    for block in blocks:
        if isinstance(block, str):
            texts.append(block)
        elif block.get("type") in TEXTS:
            texts.append(str(block.get("text", "")))
        elif is_picture_block(block):
            content.images.append(picture_address(block))
        else:
            content.unusable.append(_describe(block))
    content.text = "\n".join(texts)
    return content


def is_picture_block(block: Mapping[str, Any]) -> bool:
    """Return whether a content block holds a picture, or says where one is."""
    return bool(picture_address(block))


def picture_address(block: Mapping[str, Any]) -> str:
    """Return the address of the picture in a content block; "" if it has none."""
    stored = (block.get("extras") or {}).get("interleaver")
    if isinstance(stored, str):
        return stored
    inner = _inner(block)
    media_type = _media_type(inner) or _media_type(block)
    if media_type and not media_type.startswith("image/"):
        return ""
    if block.get("type") in _FILES and not _is_picture(inner, media_type):
        return ""
    address = next((inner[key] for key in _ADDRESSES if isinstance(inner.get(key), str)), "")
    if re.match(r"(?i)(https?|sha256|data):", address.strip()):
        return str(address.strip())
    data = next((inner[key] for key in _DATA if isinstance(inner.get(key), str)), "") or address
    return f"data:{media_type or 'image/png'};base64,{data}" if data else ""


_FILES = ("file", "input_file", "media", "document", "audio", "video", "text-plain")
"""Types of blocks that hold a picture only if they say so."""
_ADDRESSES = ("url", "image_url", "file_url", "file_uri", "fileUri", "uri", "base64", "data", "bytes", "file_data")
_DATA = ("base64", "data", "bytes", "file_data")
_INNER = ("source", "image_url", "inline_data", "inlineData", "file_data", "fileData", "file", "image")
"""Keys under which a block may keep its picture in an object of its own."""


def _inner(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the object that holds the picture: the innermost one under a known key, or the block itself."""
    nested = next((block[key] for key in _INNER if isinstance(block.get(key), Mapping)), None)
    return block if nested is None else _inner(nested)


def _media_type(block: Mapping[str, Any]) -> str:
    names = ("mime_type", "mimeType", "media_type", "mediaType")
    media_type = next((block[name] for name in names if isinstance(block.get(name), str)), "")
    data_url = next((block[key] for key in _ADDRESSES if str(block.get(key, "")).startswith("data:")), "")
    image_format = block.get("format")
    if media_type or data_url:
        return str(media_type or data_url.removeprefix("data:").partition(";")[0])
    return f"image/{image_format}" if isinstance(image_format, str) else ""


def _is_picture(block: Mapping[str, Any], media_type: str) -> bool:
    if media_type:
        return media_type.startswith("image/")
    name = str(block.get("filename") or block.get("url") or block.get("file_url") or block.get("file_uri") or "")
    return bool(re.search(r"(?i)\.(png|jpe?g|webp|gif|avif|heic|bmp|tiff?)$", name))


def _describe(block: Mapping[str, Any]) -> str:
    """Return a phrase that names an attachment which cannot be used, and why."""
    inner = _inner(block)
    name = next((str(part[key]) for part in (inner, block) for key in ("filename", "name") if part.get(key)), "")
    title = f" {name!r}" if name else ""
    file_id = next((inner[key] for key in ("file_id", "fileId", "id") if isinstance(inner.get(key), str)), None)
    if file_id:
        return f"the file{title} with the id {file_id!r}, which only the provider that stores it can read"
    media_type = _media_type(inner) or _media_type(block)
    if media_type:
        return f"the file{title} of type {media_type}"
    return f"a block{title} of type {block.get('type')!r}"
