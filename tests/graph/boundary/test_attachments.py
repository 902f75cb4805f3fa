"""Pictures in chat messages, in the forms of many clients."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan, noise_picture, plain_picture

from interleaver import build_graph
from interleaver.errors import BadInput
from interleaver.graph.boundary.attachments import read_message
from interleaver.pictures import decode_data_url

PICTURE = plain_picture()
DATA = base64.b64encode(PICTURE.data).decode()
URL = f"data:image/png;base64,{DATA}"
WEB = "https://example.org/a.png"

FORMS = {
    "LangChain 1": {"type": "image", "mime_type": "image/png", "base64": DATA},
    "LangChain 1, address": {"type": "image", "url": WEB},
    "LangChain 0": {"type": "image", "source_type": "base64", "mime_type": "image/png", "data": DATA},
    "LangChain 0, address": {"type": "image", "source_type": "url", "url": WEB},
    "LangChain.js, Agent Chat UI": {"type": "image", "mimeType": "image/png", "data": DATA, "metadata": {"name": "a"}},
    "OpenAI": {"type": "image_url", "image_url": {"url": URL, "detail": "high"}},
    "OpenAI, a text": {"type": "image_url", "image_url": WEB},
    "OpenAI responses": {"type": "input_image", "image_url": URL},
    "OpenAI file": {"type": "file", "file": {"filename": "a.png", "file_data": URL}},
    "OpenAI responses, file": {"type": "input_file", "filename": "a.png", "file_data": URL},
    "OpenAI responses, file address": {"type": "input_file", "file_url": WEB},
    "Anthropic": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}},
    "Anthropic, address": {"type": "image", "source": {"type": "url", "url": WEB}},
    "Google media": {"type": "media", "mime_type": "image/png", "data": DATA},
    "Google media, address": {"type": "media", "mime_type": "image/png", "file_uri": WEB},
    "Google inline": {"inline_data": {"mime_type": "image/png", "data": DATA}},
    "Google inline, JavaScript": {"inlineData": {"mimeType": "image/png", "data": DATA}},
    "Google file": {"fileData": {"mimeType": "image/png", "fileUri": WEB}},
    "file block": {"type": "file", "mime_type": "image/png", "base64": DATA},
    "a URL in base64": {"type": "image", "mime_type": "image/png", "base64": URL},
    "no media type": {"type": "image", "base64": DATA},
}


@pytest.mark.parametrize("block", FORMS.values(), ids=FORMS)
def test_every_form_of_a_picture_is_read(block):
    content = read_message(HumanMessage([{"type": "text", "text": "Go on"}, block]))
    assert content.text == "Go on" and not content.unusable
    (address,) = content.images
    assert address == WEB or decode_data_url(address) == PICTURE


UNUSABLE = {
    "PDF": ({"type": "file", "mime_type": "application/pdf", "base64": "JVBERi0="}, "application/pdf"),
    "PDF with a name": ({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,J"}},
                        "'a.pdf' of type application/pdf"),
    "OpenAI file id": ({"type": "image", "file_id": "file-1"}, "file-1"),
    "OpenAI nested file id": ({"type": "file", "file": {"file_id": "file-2"}}, "file-2"),
    "OpenAI responses file id": ({"type": "input_image", "file_id": "file-3"}, "file-3"),
    "Anthropic file id": ({"type": "image", "source": {"type": "file", "file_id": "file_4"}}, "file_4"),
    "Anthropic document": ({"type": "document", "source": {"type": "base64", "media_type": "application/pdf",
                            "data": "JQ=="}}, "application/pdf"),
    "audio": ({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}, "input_audio"),
    "video": ({"type": "media", "mime_type": "video/mp4", "data": "AA"}, "video/mp4"),
    "LangChain audio": ({"type": "audio", "base64": "AA==", "mime_type": "audio/wav"}, "audio/wav"),
    "LangChain video": ({"type": "video", "url": "https://example.org/a.mp4"}, "video"),
    "LangChain text": ({"type": "text-plain", "base64": "AA==", "mime_type": "text/plain"}, "text/plain"),
    "something new": ({"type": "hologram"}, "hologram"),
}  # fmt: skip


@pytest.mark.parametrize("block, phrase", UNUSABLE.values(), ids=UNUSABLE)
async def test_what_cannot_be_used_is_named_in_the_answer(images, block, phrase):
    graph = build_graph(
        planner=ScriptedPlanner(drawn_plan(1)), critic=ScriptedCritic(), generator=PlainGenerator(), images=images
    ).compile()
    result = await graph.ainvoke({"messages": [HumanMessage([{"type": "text", "text": "Go on"}, block])]})
    assert result["status"] == "complete"
    answer = result["messages"][-1].content[0]["text"]
    assert answer.startswith("Not used: ") and phrase in answer


async def test_what_cannot_be_used_is_named_when_nothing_else_was_sent(images):
    graph = build_graph(planner=ScriptedPlanner(drawn_plan(1)), images=images).compile()
    block = UNUSABLE["PDF with a name"][0]
    result = await graph.ainvoke({"messages": [HumanMessage([block])]})
    assert result["status"] == "failed" and "'a.pdf'" in result["messages"][-1].content[0]["text"]


@given(st.integers(1, 80), st.booleans(), st.booleans(), st.integers(0, 2))
def test_base64_is_read_however_it_is_wrapped(columns, padded, url_safe, wraps):
    encoded = DATA if padded else DATA.rstrip("=")
    if url_safe:
        encoded = encoded.replace("+", "-").replace("/", "_")
    encoded = "\r\n".join(encoded[n : n + columns] for n in range(0, len(encoded), columns))
    for _ in range(wraps + 1):
        encoded = f"data:image/png;base64,{encoded}"
    assert decode_data_url(encoded) == PICTURE


@pytest.mark.parametrize(
    "url", ["data:image/png;base64,", "data:,", "data:image/png;base64,%%%", "data:image/png;base64,A"]
)
def test_what_is_no_base64_is_refused(url):
    with pytest.raises(BadInput):
        decode_data_url(url)


async def test_large_pictures_of_a_chat_are_moved_into_the_store(images):
    large = noise_picture((900, 700))
    block = {"type": "image", "mime_type": "image/png", "base64": base64.b64encode(large.data).decode()}
    generator = PlainGenerator()
    graph = build_graph(
        planner=ScriptedPlanner(drawn_plan(1)), critic=ScriptedCritic(), generator=generator, images=images
    ).compile()
    result = await graph.ainvoke({"messages": [HumanMessage([{"type": "text", "text": "Go on"}, block], id="1")]})
    human = result["messages"][0]
    assert human.id == "1" and len(str(human.content)) < 150_000
    assert human.content[0] == {"type": "text", "text": "Go on"} and human.content[1]["type"] == "image"
    assert generator.calls[0][2] == [large.ref.sha256]  # the generator was given the whole picture
    again = await graph.ainvoke({"messages": [HumanMessage(human.content)]})
    assert generator.calls[1][2] == [large.ref.sha256] and again["messages"][0].content == human.content
