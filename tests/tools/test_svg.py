import io
import json
import time

import pytest
from PIL import Image
from support.fakes import ScriptedCritic, ScriptedPlanner, drawn_plan, plain_picture
from support.scripted_server import chat_reply, serving

from interleaver import build_graph
from interleaver.agents.exchanges import record_exchanges
from interleaver.errors import BackendError, UnreadableAnswer
from interleaver.tools.svg import SvgGenerator
from interleaver.tools.svg_rendering import SVG, embedded_drawing, read_drawing, render_drawing

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
RED = '<svg viewBox="0 0 100 100"><rect id="r" width="100" height="100" fill="red"/></svg>'


def pixel(picture, x=5, y=5):
    with Image.open(io.BytesIO(picture.data)) as image:
        return image.convert("RGB").getpixel((x, y))


async def test_a_model_draws_and_edits_what_it_drew():
    blue = RED.replace("red", "blue")
    with (
        serving(chat_reply(f"Here you are:\n```svg\n{RED}\n```"), chat_reply(blue)) as server,
        record_exchanges() as exchanges,
    ):
        generator = SvgGenerator(model="m", base_url=server.url)
        first = await generator.generate("a red square", [], 1, (120, 80))
        second = await generator.generate("make it blue", [first], 2, (512, 512))
    assert pixel(first, 60, 40) == (255, 0, 0) and (first.width, first.height) == (120, 80)
    assert pixel(second, 60, 40) == (0, 0, 255) and (second.width, second.height) == (120, 80)
    asked = server.requests[1].json["messages"][0]["content"][0]["text"]
    assert '<rect id="r"' in asked and "make it blue" in asked
    assert [exchange.role for exchange in exchanges] == ["generator", "generator"]


async def test_a_photograph_can_be_drawn_over_again_and_again():
    photograph = '<image href="source" width="64" height="64"/>'
    over = f'<svg viewBox="0 0 64 64">{photograph}<circle cx="32" cy="32" r="9" fill="red"/></svg>'
    more = over.replace("</svg>", '<circle cx="9" cy="9" r="6" fill="blue"/></svg>')
    with serving(chat_reply(over), chat_reply(more)) as server:
        generator = SvgGenerator(model="m", base_url=server.url)
        first = await generator.generate("mark the middle", [plain_picture((0, 200, 0))], 1, (9, 9))
        second = await generator.generate("mark the corner", [first], 1, (9, 9))
    assert [pixel(second, *at) for at in ((32, 32), (9, 9), (60, 60))] == [(255, 0, 0), (0, 0, 255), (0, 200, 0)]
    assert "base64" not in str([request.json for request in server.requests])


async def test_what_is_no_svg_is_asked_for_again_and_then_reported():
    with serving(chat_reply("I cannot draw."), chat_reply("<svg><rect></svg>")) as server:
        with pytest.raises(UnreadableAnswer, match=r"not well-formed: mismatched tag.*asked twice"):
            await SvgGenerator(model="m", base_url=server.url).generate("x", [], 1, (64, 64))
    assert "no complete <svg> element" in server.requests[1].json["messages"][2]["content"][0]["text"]


@pytest.mark.parametrize(
    "harm",
    [
        "<script>alert(1)</script>",
        '<image href="http://example.com/x.png"/>',
        '<image href="file:///etc/passwd"/>',
        '<image xlink:href="data:image/svg+xml;base64,AAAA"/>',
        '<image xmlns:s="http://www.w3.org/2000/svg" href="source" s:href="file:///example.png"/>',
        '<image href="source"/>',  # there is no photograph
        '<h:script xmlns:h="http://www.w3.org/1999/xhtml">alert(1)</h:script>',
        "<style>@import url(http://example.com/x.css);</style>",
        "<foreignObject><p>x</p></foreignObject>",
        '<a href="http://example.com"><text>x</text></a>',
        '<use href="http://example.com/x.svg#a"/>',
        '<rect onclick="alert(1)" ONLOAD="x()"/>',
        '<rect style="fill:url(http://example.com/x)"/>',
        "<rect fill=\"url('http://example.com/x')\"/>",
        '<rect style="fill:ur\\6c(http://example.com)"/>',
        '<animate attributeName="href" to="http://example.com"/>',
        '<set attributeName="href" to="javascript:alert(1)"/>',
    ],
)
def test_what_runs_or_reaches_outside_is_left_out(harm):
    drawn = read_drawing(RED.replace("</svg>", f"{harm}</svg>"))
    for sign in ("source", "script", "example", "file:", "data:", "import", "foreign", "alert", "animate"):
        assert sign not in drawn
    assert 'fill="red"' in drawn


def test_what_stays_inside_may_stay():
    paint = """<rect fill="url(#g)" stroke="url('#g')" style="opacity:.5"/>"""
    kept = f'<defs><linearGradient id="g"/></defs>{paint}<use href="#r"/>'
    drawn = read_drawing(RED.replace("</svg>", f"{kept}</svg>"))
    for part in ('fill="url(#g)"', "stroke=\"url('#g')", 'style="opacity:.5"', 'href="#r"'):
        assert part in drawn


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ('<svg xmlns="x"><!DOCTYPE svg></svg>', "not well-formed"),
        ("<svg></svg>", "draws nothing"),
        ("<svg><title>a cat</title></svg>", "draws nothing"),
        ("<svg><rect/>", "no complete"),
        (f"<svg>{'<rect/>' * 6000}</svg>", "6,001 elements"),
        (f"<svg>{'<g>' * 60}{'</g>' * 60}</svg>", "50 levels deep"),
        (f"<svg><path d='{'M0 0' * 60_000}'/></svg>", "characters"),
        (f"<svg>{'<use/>' * 600}</svg>", "600 times"),
    ],
)
def test_svg_that_is_broken_or_too_large_is_refused(answer, said):
    with pytest.raises(UnreadableAnswer, match=said):
        read_drawing(answer)


@pytest.mark.parametrize(
    "body",
    [
        '<style>.s{fill:gold}</style><circle class="s" r="40"/>',
        "<style type='text/css'><![CDATA[ circle { fill : gold } ]]></style><circle r='40'/>",
        "<style>/* { */ @import url(http://example.com/x.css); rect, #c {fill: gold}</style><circle id='c' r='40'/>",
        "<style>@media print { circle { fill: red } } circle{fill:gold}</style><circle r='40'/>",
        "<defs><style>g .s{fill:gold}</style></defs><g><circle class='s' r='40'/></g>",
        "<!-- sky -- blue --><circle fill='gold' r='40'/><!-- <rect/> -- -->",
        "<circle fill='gold' r='40'/><text>Salt & Pepper &nbsp;&deg;&copy; &unknown; AT&T &lt;</text>",
        "<a href='http://example.com'><circle fill='gold' r='40'/></a>",
        "<switch><g><circle fill='gold' r='40'/></g></switch>",
        "<circle fill='gold' r='40'><animate attributeName='r' to='0'/></circle>",
    ],
)
async def test_svg_as_models_write_it_is_drawn(body):
    drawing = read_drawing(f'<svg viewBox="0 0 80 80" xmlns="{SVG}">{body}</svg>', strict=True)
    assert "example" not in drawing
    assert read_drawing(drawing) == drawing
    picture = await render_drawing(drawing, None, 80, 80)
    assert Image.open(io.BytesIO(picture.data)).getpixel((10, 10)) == (255, 215, 0)


def test_entities_become_letters():
    drawing = read_drawing(f'<svg xmlns="{SVG}"><text>1&nbsp;&deg; &amp; &unknown; R&D &#176; &ltcc;</text></svg>')
    assert "1\xa0° &amp; &amp;unknown; R&amp;D ° \u2aa6" in drawing


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("<foreignObject><p>x</p></foreignObject>", "the foreignObject element"),
        ('<image href="http://example.com/x.png"/>', "the image element"),
        ("<style>rect{fill:url(http://example.com)}</style>", "the style of rect"),
    ],
)
async def test_a_model_is_told_once_what_cannot_be_drawn(body, named):
    with_harm = f'<svg xmlns="{SVG}" viewBox="0 0 8 8"><rect width="8" height="8"/>{body}</svg>'
    with serving(chat_reply(with_harm)) as server:
        await SvgGenerator(model="m", base_url=f"{server.url}/v1").generate("a box", [], 1, (8, 8))
    assert len(server.requests) == 2
    assert f"cannot be drawn: {named}" in json.dumps(server.requests[1].json["messages"][-1]["content"])


async def test_drawing_is_given_up_when_it_takes_too_long(monkeypatch):
    monkeypatch.setattr("interleaver.tools.svg_rendering.RENDER_SECONDS", 0.5)
    blur = '<filter id="f"><feGaussianBlur stdDeviation="5000"/></filter>'
    slow = f'<svg>{blur}<rect filter="url(#f)" width="9" height="9"/></svg>'
    started = time.monotonic()
    with pytest.raises(BackendError, match=r"more than 0.5 s to draw"):
        await render_drawing(read_drawing(slow), None, 4000, 4000)
    assert time.monotonic() - started < 5


async def test_parts_that_multiply_are_not_drawn():
    layers = "".join(f'<g id="a{n + 1}">{f"""<use href="#a{n}"/>""" * 8}</g>' for n in range(12))
    with pytest.raises(BackendError, match="cannot be drawn"):
        await render_drawing(read_drawing(f'<svg><rect id="a0" width="1" height="1"/>{layers}</svg>'), None, 64, 64)


def test_a_photograph_has_no_drawing():
    assert embedded_drawing(plain_picture()) == (None, None)


async def test_one_text_endpoint_makes_a_document(images):
    with serving(chat_reply(RED)) as server:
        graph = build_graph(
            planner=ScriptedPlanner(drawn_plan(1)),
            critic=ScriptedCritic(),
            generator=SvgGenerator(model="m", base_url=server.url),
            images=images,
        ).compile()
        result = await graph.ainvoke({"request": "a red square"})
    assert [block["type"] for block in result["document"]["blocks"]] == ["text", "image"]
