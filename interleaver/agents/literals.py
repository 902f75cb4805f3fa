"""A lenient parser for the object in a model's answer: JSON, a Python literal, or something close to either.

Models that were trained on Python-style answers mix quotes, leave apostrophes unescaped, break lines inside strings and
omit the closing bracket. Text that can be read in exactly one way is accepted; anything else raises.
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

_BLANK = r"(?:\s++|//[^\n]*+|#[^\n]*+|/\*(?:(?!\*/).)*+\*/)*+"
"""Spaces and comments."""
_SPACE = re.compile(_BLANK, re.DOTALL)
_WORD = re.compile(r"[A-Za-z_]+")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_KEY = re.compile(rf"""{_BLANK}["'“‘`]?([A-Za-z_]\w*)["'”’`]?\s*+:""", re.DOTALL)
# What follows the closing quote of a value: the next key, or the end of its object, list or answer ...
_AFTER_VALUE = re.compile(
    rf"""{_BLANK}(?:$|(?:,{_BLANK})?["'“‘`]\w+["'”’`]\s*+:|,{_BLANK}(?:[}}\]]|$|[A-Za-z_]\w*\s*+:)"""
    rf"""|[}}\]]{_BLANK}(?:$|[,}}\]<`]))""",
    re.DOTALL,
)
# ... or, if no quote is followed by that, the end of an object with prose after it.
_AFTER_LAST_VALUE = re.compile(r"\s*+(?:,\s*+)?[}\]]")


def read_literal(text: str) -> tuple[Any, int]:
    """Read the object or list at the start of a text.

    Returns:
        The value, and the position after it.

    Raises:
        UnreadableAnswer: there is no such value, or it is cut off or contradicts itself; the message says where.
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
    except (ValueError, TypeError) as error:  # an integer with thousands of digits
        raise error if isinstance(error, UnreadableAnswer) else UnreadableAnswer(str(error)) from None


def read_json(text: str) -> tuple[Any, int]:
    """Return the JSON value at the start of a text and the position after it; raise ValueError if there is none."""
    return json.JSONDecoder(object_pairs_hook=_without_contradiction, strict=False).raw_decode(text)


def _read_python(text: str) -> tuple[Any, int]:
    end = max(text.rfind("}"), text.rfind("]")) + 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # users need no warning about a "\d" in a model's answer
        tree = ast.parse(text[:end].strip(), mode="eval")
    return _plain(tree.body), end


def _plain(node: ast.expr) -> Any:
    """Return the value of a Python literal; unlike `ast.literal_eval`, refuse a key with two different values."""
    if isinstance(node, ast.Dict):
        return _without_contradiction(
            [(_key(key), _plain(value)) for key, value in zip(node.keys, node.values, strict=True)]
        )
    if isinstance(node, ast.List | ast.Tuple):
        return [_plain(item) for item in node.elts]
    if isinstance(node, ast.Name):  # JSON keywords in a Python object
        if node.id in ("true", "false", "null"):
            return WORDS[node.id]
        raise ValueError(node.id)
    value = ast.literal_eval(node)
    if not isinstance(value, str | int | float | None):
        raise ValueError(f"{value!r:.80} is no JSON")
    return value


def _key(node: ast.expr | None) -> str:
    key = _plain(node) if node else None
    if not isinstance(key, str):
        raise ValueError(f"the key {key!r:.80} is not a string")
    return key


def _without_contradiction(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    merged_pairs: dict[Any, Any] = {}
    for key, value in pairs:
        if key in merged_pairs and merged_pairs[key] != value:
            raise UnreadableAnswer(f"{key!r} occurs twice with different values")
        merged_pairs[key] = value
    return merged_pairs


class _Reader:
    """A recursive-descent parser of text that is almost JSON or almost Python."""

    def __init__(self, text: str):
        self.text = text
        self.position = 0

    def read(self) -> tuple[Any, int]:
        value = self._value("the answer", 0)
        return value, self.position

    def _value(self, name: str, depth: int) -> Any:
        self._skip()
        character = self._peek()
        if depth > MAX_DEPTH:
            raise UnreadableAnswer(f"{name} is nested more than {MAX_DEPTH} levels deep")
        if character == "{":
            return self._object(depth)
        if character == "[":
            return self._list(name, depth)
        if character in QUOTES:
            return self._string(name)
        return self._bare(name)

    def _object(self, depth: int) -> dict[str, Any]:
        self.position += 1
        pairs: list[tuple[str, Any]] = []
        while True:
            self._skip(",")
            if self._peek() == "}":
                self.position += 1
                break
            if self._peek() == "" and pairs and depth == 0:
                break  # every value is complete; only the closing bracket is missing
            pairs.append(self._pair(depth))
        return _without_contradiction(pairs)

    def _pair(self, depth: int) -> tuple[str, Any]:
        key = _KEY.match(self.text, self.position)
        if not key:
            raise self._unexpected_error("a key")
        self.position = key.end()
        return key[1], self._value(repr(key[1]), depth + 1)

    def _list(self, name: str, depth: int) -> list[Any]:
        self.position += 1
        items: list[Any] = []
        while True:
            self._skip(",")
            if self._peek() == "]":
                self.position += 1
                return items
            if self._peek() == "":
                raise UnreadableAnswer(f"the list {name} is cut off after {len(items)} item(s)")
            items.append(self._value(f"item {len(items) + 1} of {name}", depth + 1))

    def _string(self, name: str) -> str:
        """Read a quoted text; what follows a quote tells whether it is the closing one or part of the text."""
        begin = self.position + 1
        closing_quote = re.compile(rf"(?<!\\)(?:\\\\)*{QUOTES[self.text[self.position]]}")
        ends = [match.end() for match in closing_quote.finditer(self.text, begin)]
        for after in (_AFTER_VALUE, _AFTER_LAST_VALUE):
            for end in ends:
                if after.match(self.text, end):
                    self.position = end
                    return _ESCAPE.sub(_unescape, self.text[begin : end - 1])
        raise UnreadableAnswer(f"{name} is cut off: its closing quote is missing")

    def _bare(self, name: str) -> Any:
        number = _NUMBER.match(self.text, self.position)
        word = _WORD.match(self.text, self.position)
        match = number or word
        if not match:
            raise self._unexpected_error(f"the value of {name}")
        after = self.text[match.end() :].lstrip()[:1]
        value: Any
        if number:
            value = float(number[0]) if re.search(r"[.eE]", number[0]) else int(number[0])
        elif match[0].lower() in WORDS:
            value = WORDS[match[0].lower()]
        elif name == repr("step_number"):
            value = match[0]  # as in the example of a prompt, "step_number: i"; steps are numbered by their order
        else:
            raise UnreadableAnswer(
                f"{name} is {match[0]!r}, which is neither text in quotes, a number, true, false nor null"
            )
        if after not in ("", ",", "}", "]", "#", "\\") and not _KEY.match(self.text, match.end()):
            raise UnreadableAnswer(f"{name} is {self.text[self.position : match.end() + 12].strip()!r}, not one value")
        self.position = match.end()
        return value

    def _unexpected_error(self, expected: str) -> UnreadableAnswer:
        remainder = self.text[self.position : self.position + 30].strip()
        return UnreadableAnswer(
            f"expected {expected} before {remainder!r}" if remainder else f"the text ends before {expected}"
        )

    def _peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def _skip(self, separator: str = "") -> None:
        while True:
            space = _SPACE.match(self.text, self.position)
            self.position = space.end() if space else self.position
            if not separator or self._peek() != separator:
                return
            self.position += 1


def _unescape(match: re.Match[str]) -> str:
    unicode, byte, letter = match.groups()
    if unicode or byte:
        return chr(int(unicode or byte, 16))
    if letter in ESCAPES:
        return ESCAPES[letter]
    return letter if letter in "\"'\\/`\n" else f"\\{letter}"
