"""Reading the one object in a model's answer: JSON, Python, or something near to both.

Models that were trained on Python-style answers mix quotes, leave apostrophes bare, break lines inside strings and
forget the last bracket. What has one meaning all the same is read; what has none, or two, raises.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from typing import Any

from interleaver.errors import UnreadableAnswer

MAX_DEPTH = 20
QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "`": "`"}
WORDS = {"true": True, "false": False, "none": None, "null": None}
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}

_SPACE = re.compile(r"(?:\s++|//[^\n]*+|#[^\n]*+)*+")
_WORD = re.compile(r"[A-Za-z_]+")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_KEY = re.compile(r"""\s*+["'“‘`]?([A-Za-z_]\w*)["'”’`]?\s*+:""")
# What stands after the quote that ends a value: the next key, or the end of its object, list or answer ...
_AFTER_VALUE = re.compile(
    r"""\s*+(?:$|(?:,\s*+)?["'“‘`]\w+["'”’`]\s*+:|,\s*+(?:[}\]]|$)|[}\]]\s*+(?:$|[,}\]<`]))""",
)
# ... or, where there is no such quote, the end of an object with prose behind it.
_AFTER_LAST_VALUE = re.compile(r"\s*+(?:,\s*+)?[}\]]")


def read_literal(text: str) -> tuple[Any, int]:
    """Read the object or list that a text begins with.

    Returns:
        The value, and the position behind it.

    Raises:
        UnreadableAnswer: it is none, is cut off, or contradicts itself; the message says where.
    """
    for strict in (read_json, _read_python):
        try:
            return strict(text)
        except UnreadableAnswer:
            raise
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
    try:
        return _Reader(text).read()
    except (ValueError, TypeError) as error:  # a number of thousands of digits
        raise error if isinstance(error, UnreadableAnswer) else UnreadableAnswer(str(error)) from None


def read_json(text: str) -> tuple[Any, int]:
    """The JSON value that a text begins with, and the position behind it; ValueError when there is none."""
    return json.JSONDecoder(object_pairs_hook=_without_contradiction, strict=False).raw_decode(text)


def _read_python(text: str) -> tuple[Any, int]:
    end = max(text.rfind("}"), text.rfind("]")) + 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a model's "\d" is no concern of the user's
        tree = ast.parse(text[:end].strip(), mode="eval")
    return _plain(tree.body), end


def _plain(node: ast.expr) -> Any:
    """The value of a Python literal, with a check that `ast.literal_eval` lacks: no key may stand twice."""
    if isinstance(node, ast.Dict):
        return _without_contradiction(
            [(_plain(key) if key else None, _plain(value)) for key, value in zip(node.keys, node.values, strict=True)]
        )
    if isinstance(node, ast.List | ast.Tuple):
        return [_plain(item) for item in node.elts]
    if isinstance(node, ast.Name):  # JSON's words within a Python object
        if node.id in ("true", "false", "null"):
            return WORDS[node.id]
        raise ValueError(node.id)
    return ast.literal_eval(node)


def _without_contradiction(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            raise UnreadableAnswer(f"{key!r} stands twice with different values")
        found[key] = value
    return found


class _Reader:
    """A recursive-descent reader of nearly-JSON, nearly-Python text."""

    def __init__(self, text: str):
        self.text = text
        self.at = 0

    def read(self) -> tuple[Any, int]:
        value = self._value("the answer", 0)
        return value, self.at

    def _value(self, name: str, depth: int) -> Any:
        self._skip()
        here = self._peek()
        if depth > MAX_DEPTH:
            raise UnreadableAnswer(f"{name} is nested more than {MAX_DEPTH} levels deep")
        if here == "{":
            return self._object(depth)
        if here == "[":
            return self._list(name, depth)
        if here in QUOTES:
            return self._string(name)
        return self._bare(name)

    def _object(self, depth: int) -> dict[str, Any]:
        self.at += 1
        pairs: list[tuple[str, Any]] = []
        while True:
            self._skip(",")
            if self._peek() == "}":
                self.at += 1
                break
            if self._peek() == "" and pairs and depth == 0:
                break  # every value is whole; only the last bracket is missing
            pairs.append(self._pair(depth))
        return _without_contradiction(pairs)

    def _pair(self, depth: int) -> tuple[str, Any]:
        key = _KEY.match(self.text, self.at)
        if not key:
            raise self._stopped("a key")
        self.at = key.end()
        return key[1], self._value(repr(key[1]), depth + 1)

    def _list(self, name: str, depth: int) -> list[Any]:
        self.at += 1
        items: list[Any] = []
        while True:
            self._skip(",")
            if self._peek() == "]":
                self.at += 1
                return items
            if self._peek() == "":
                raise UnreadableAnswer(f"the list {name} is cut off after {len(items)} item(s)")
            items.append(self._value(f"item {len(items) + 1} of {name}", depth + 1))

    def _string(self, name: str) -> str:
        """A quote within a text is told from the one that ends it by what follows."""
        begin = self.at + 1
        unescaped = re.compile(rf"(?<!\\)(?:\\\\)*{QUOTES[self.text[self.at]]}")
        ends = [found.end() for found in unescaped.finditer(self.text, begin)]
        for after in (_AFTER_VALUE, _AFTER_LAST_VALUE):
            for end in ends:
                if after.match(self.text, end):
                    self.at = end
                    return _ESCAPE.sub(_unescape, self.text[begin : end - 1])
        raise UnreadableAnswer(f"{name} is cut off: its closing quote is missing")

    def _bare(self, name: str) -> Any:
        number = _NUMBER.match(self.text, self.at)
        word = _WORD.match(self.text, self.at)
        found = number or word
        if not found:
            raise self._stopped(f"the value of {name}")
        after = self.text[found.end() :].lstrip()[:1]
        value: Any
        if number:
            value = float(number[0]) if re.search(r"[.eE]", number[0]) else int(number[0])
        elif found[0].lower() in WORDS:
            value = WORDS[found[0].lower()]
        else:
            raise UnreadableAnswer(
                f"{name} is {found[0]!r}, which is neither text in quotes, a number, true, false nor null"
            )
        if after not in ("", ",", "}", "]", "#", "\\") and not _KEY.match(self.text, found.end()):
            raise UnreadableAnswer(f"{name} is {self.text[self.at : found.end() + 12].strip()!r}, not one value")
        self.at = found.end()
        return value

    def _stopped(self, wanted: str) -> UnreadableAnswer:
        rest = self.text[self.at : self.at + 30].strip()
        return UnreadableAnswer(f"{wanted} was expected before {rest!r}" if rest else f"the text ends before {wanted}")

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _skip(self, also: str = "") -> None:
        while True:
            space = _SPACE.match(self.text, self.at)
            self.at = space.end() if space else self.at
            if not also or self._peek() != also:
                return
            self.at += 1


def _unescape(match: re.Match[str]) -> str:
    unicode, byte, letter = match.groups()
    if unicode or byte:
        return chr(int(unicode or byte, 16))
    if letter in ESCAPES:
        return ESCAPES[letter]
    return letter if letter in "\"'\\/`\n" else f"\\{letter}"
