"""Secrets are taken out of what servers send back, in whatever form."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interleaver.net.redaction import redact

KEY = "sk-Canary0123456789abcdefXYZ"


@pytest.mark.parametrize("form", [
    KEY, KEY.upper(), KEY.lower(), f"Bearer {KEY}", KEY[:15], KEY[5:20], KEY[-12:], KEY + KEY, KEY.replace("-", "-", 1),
    base64.b64encode(KEY.encode()).decode(), base64.b64encode(f"user:{KEY}".encode()).decode(),
    base64.b64encode(f"me:{KEY}:".encode()).decode(), base64.urlsafe_b64encode(f"x{KEY}".encode()).decode().rstrip("="),
    f"https://user:{KEY}@host/?token={KEY}",
])  # fmt: skip
def test_a_key_is_found_in_every_form(form):
    text = json.dumps({"error": {"message": f"Incorrect key: {form}."}}).encode()
    result = redact(text, [KEY])
    assert b"***" in result
    lower = result.lower()
    assert not any(KEY[n : n + 12].lower().encode() in lower for n in range(len(KEY) - 12))
    encoded = base64.b64encode(KEY.encode()).decode().lower()
    assert encoded[:20].encode() not in lower
    assert json.loads(result)  # it is still JSON


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_nothing_else_is_changed(before, after):
    assert redact(before + KEY.encode() + after, [KEY]).count(b"***") >= 1
    if KEY[:12].lower().encode() not in (before + after).lower():
        assert redact(before, [KEY]) == before


def test_long_data_keeps_what_only_looks_like_a_part():
    """A picture in base64 may contain any twelve letters."""
    data = b"a" * 200_000 + KEY[:12].encode() + b"b"
    assert redact(data, [KEY]) == data
    assert KEY.encode() not in redact(data + KEY.encode(), [KEY])


@pytest.mark.parametrize("secrets", [[], [""], ["short"], ["1234567"]])
def test_short_keys_are_words(secrets):
    assert redact(b"a short answer 1234567", secrets) == b"a short answer 1234567"
