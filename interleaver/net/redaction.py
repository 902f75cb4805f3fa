"""Taking secrets out of what a server sends back: errors often repeat the key, and traces would keep it."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterator

MASK = b"***"
SHORTEST = 8
"""Length in characters of the shortest secret that is looked for; shorter ones are words that an answer may contain."""
WINDOW = 12
"""Length in characters of a part of a secret that is looked for in short texts."""
SHORT_TEXT = 100_000
"""Size in bytes up to which a text is searched for parts of secrets; errors are shorter, pictures are longer."""


def redact(data: bytes, secrets: Collection[str]) -> bytes:
    """Return data with `***` in the place of secrets: whole, in base64, and in short texts also parts of them.

    Upper and lower case are not told apart.

    Args:
        data: what a server sent.
        secrets: API keys and the like; those shorter than `SHORTEST` are ignored.
    """
    forms = {form for secret in secrets if len(secret) >= SHORTEST for form in _forms(secret.encode())}
    lower_data = data.lower()
    parts = [form.lower() for form in forms]
    if len(data) <= SHORT_TEXT:
        parts = [window for part in parts for window in _windows(part)]
    places = sorted(place for part in set(parts) for place in _find(lower_data, part))
    result: list[bytes] = []
    position = 0
    for start, end in places:
        if end <= position:
            continue
        if start > position or not result:
            result += [data[position:start], MASK]
        position = end
    return b"".join([*result, data[position:]])


def _forms(secret: bytes) -> Iterator[bytes]:
    """Yield a secret, and how it looks within base64 at each of the three places where it may begin."""
    yield secret
    for offset in range(3):
        base64_text = base64.b64encode(bytes(offset) + secret)
        begin, end = -(-offset * 8 // 6), (offset + len(secret)) * 8 // 6  # letters that depend on the secret alone
        yield base64_text[begin:end]
        yield base64_text[begin:end].translate(bytes.maketrans(b"+/", b"-_"))


def _windows(part: bytes) -> list[bytes]:
    return [part[start : start + WINDOW] for start in range(max(len(part) - WINDOW, 0) + 1)]


def _find(data: bytes, part: bytes) -> Iterator[tuple[int, int]]:
    return (match.span() for match in re.finditer(re.escape(part), data))
