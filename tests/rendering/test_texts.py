"""Texts by models on the pages of a document: Markdown, mathematics, languages, and what must not get through."""

import re

import nh3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from interleaver.rendering.texts import (
    UNDETERMINED,
    direction_of,
    escape_markdown,
    language_of,
    text_to_html,
    text_to_markdown,
)

EVIL = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a <b onclick=alert(1)>b</b>",
    "<!-- comment --> <?php ?> <![CDATA[x]]> <!DOCTYPE html>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java&#115;cript:alert(1))",
    "[x](&#106;avascript&colon;alert(1))",
    "[x](<javascript:alert(1)>)",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:x)",
    "[x][1]\n\n[1]: javascript:alert(1)",
    "[x]\n\n[x]: <javascript:alert(1)> 'title'",
    "<javascript:alert(1)>",
    "![x](http://example.com/track.png)",
    "![x][1]\n\n[1]: http://example.com/track.png",
    "\\![x](http://example.com/p.png) \\\\![y](http://example.com/q.png)",
    "[![x](http://example.com/p.png)](http://example.com)",
    "`code` <i>x</i> `` ` `` <script>",
    "$\\text{<script>alert(1)</script>}$",
    "$\\href{javascript:alert(1)}{x}$",
    "$$\\unknown{<img src=x onerror=alert(1)>}$$",
    "\\(<svg onload=alert(1)>\\)",
    "<math><mi xlink:href='javascript:alert(1)'>x</mi></math>",
    "<svg><style><img src=x></style></svg>",
    "<style>*{}</style><link rel=stylesheet href=x><iframe src=x></iframe>",
    '<http://example.com/a"onmouseover=alert(1)>',
    "| a |\n|---|\n| <script>alert(1)</script> |",
    "- item\n  <div onclick=alert(1)>\n",
    "    <script>indented code</script>",
    "```\n<script>fenced</script>\n```\n<script>x</script>",
    "> <script>quoted</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt; &#60;script&#62;",
]


@pytest.mark.parametrize("text", EVIL)
def test_nothing_runs_or_loads_from_the_page(text):
    html = text_to_html(text)
    assert not re.search(r"<(script|img|iframe|svg|style|link|object|embed|form)\b", html, re.IGNORECASE)
    assert not re.search(r"<[^>]*\son\w+\s*=", html)
    assert not re.search(r"""<[^>]*(?:href|src)\s*=\s*["']?\s*(?!https?:|mailto:)[a-z]+:""", html, re.IGNORECASE)
    assert nh3.is_html(html) or "<" not in html


def dangers_in(markdown):
    """What a viewer of Markdown that allows everything would find in a text."""
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    parser.validateLink = lambda url: True
    found, queue = [], list(parser.parse(markdown))
    for token in queue:
        queue += token.children or []
        link = str(token.attrGet("href") or "") if token.type == "link_open" else ""
        scheme = re.match(r"\s*([A-Za-z][\w+.-]*):", link)
        if token.type in ("html_block", "html_inline", "image") or (
            scheme and scheme[1].lower() not in ("http", "https", "mailto")
        ):
            found.append(token)
    return found


@pytest.mark.parametrize("text", EVIL)
def test_nothing_runs_or_loads_from_markdown(text):
    assert dangers_in(text_to_markdown(text)) == []


@given(st.text(st.sampled_from(list("<>![]()`*_&;:\\ \n#\"'abscript/-=~|$.1")), max_size=60))
def test_no_text_gets_through(text):
    assert dangers_in(text_to_markdown(text)) == []
    assert dangers_in(f"# {escape_markdown(text)}\n\n![{escape_markdown(text)}](p.png)")[1:] == []
    assert "<script" not in text_to_html(text)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60))
def test_plain_text_is_shown_as_it_is(text):
    (_, inline, _) = MarkdownIt("commonmark").parse(f"# x {escape_markdown(text)} x")
    shown = "".join(token.content for token in inline.children)
    assert shown.split() == ["x", *text.split(), "x"]


def test_markdown_of_a_step_is_set():
    html = text_to_html("**Mix** the dough\nslowly:\n\n- one\n- two\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n`x < y`")
    for part in (
        "<strong>Mix</strong>",
        "<br>",
        "<li>one</li>",
        "<td>1</td>",
        "text-align:right",
        "<code>x &lt; y</code>",
    ):
        assert part in html


@pytest.mark.parametrize("text", [r"$\frac{1}{2}$", r"\(\frac{1}{2}\)", r"$$\frac{1}{2}$$", r"\[\frac{1}{2}\]"])
def test_mathematics_is_set(text):
    html = text_to_html(f"So {text} is a half.")
    assert "<mfrac><mn>1</mn><mn>2</mn></mfrac>" in re.sub(r"\s+(?=<)", "", html)
    assert text_to_markdown(f"So {text} is a half.") == f"So {text} is a half."


@pytest.mark.parametrize("text", ["It costs $5 and then $10.", "$unfinished", "a_b and 3 * 4 * 5", "50% & more < less"])
def test_what_only_looks_like_it_stays_text(text):
    assert "<math" not in text_to_html(text)
    assert text.split("$")[0].strip().split(" &")[0] in text_to_html(text)


def test_mathematics_that_cannot_be_set_is_shown():
    assert "<code>\\nosuchcommand{x}</code>" in text_to_html(r"$\nosuchcommand{x}$")


@pytest.mark.parametrize(
    "text", ["**bold** and `<b>` code", "- a\n- b", "see <https://example.com/?a=1> or [x](https://y.z)"]
)
def test_harmless_markdown_passes_through(text):
    assert text_to_markdown(text) == text


@pytest.mark.parametrize(
    ("texts", "language", "direction"),
    [
        (["Mix the dough slowly and let it rest for an hour."], "en", "ltr"),
        (["Den Teig langsam rühren und eine Stunde ruhen lassen."], "de", "ltr"),
        (["**اخلط** العجين جيدا ثم اتركه ليرتاح"], "ar", "rtl"),
        (["מערבבים את הבצק לאט ונותנים לו לנוח"], "he", "rtl"),
        (["第一步:画一个红色的圆"], "zh", "ltr"),
        (["Hut"], UNDETERMINED, "ltr"),
        (["42"], UNDETERMINED, "ltr"),
        (["قف"], UNDETERMINED, "rtl"),
        ([], UNDETERMINED, "ltr"),
    ],
)
def test_language_and_direction(texts, language, direction):
    assert language_of(texts) == language
    assert direction_of(texts, language) == direction
