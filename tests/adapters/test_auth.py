"""The users of a LangGraph server; `tests/integration/test_tenants.py` has two of them on a real one."""

import hashlib
import importlib
import sys

import pytest
from langgraph_sdk import Auth

from interleaver import BadInput

DIGEST = hashlib.sha256(b"key-of-alice").hexdigest()


@pytest.fixture
def load(tmp_path, monkeypatch):
    def load_module(text):
        (tmp_path / "users.toml").write_bytes(text)
        monkeypatch.setenv("INTERLEAVER_USERS", str(tmp_path / "users.toml"))
        monkeypatch.delitem(sys.modules, "interleaver.adapters.auth", raising=False)
        return importlib.import_module("interleaver.adapters.auth")

    return load_module


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "users"),
        (b"[users]", "users"),
        (b"[users]\nalice = 1", "users.alice"),
        (b'[users]\nalice = "secret"', "users.alice of .* is not a SHA-256"),
        (b'[users]\nalice = "' + DIGEST.upper().encode() + b'"', "users.alice of .* is not a SHA-256"),
        (b"\xff", "cannot be used"),
        (b"[users", "cannot be used"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_without_its_content(load, text, reason):
    with pytest.raises(BadInput, match=reason) as error:
        load(text)
    assert "secret" not in str(error.value)


def test_the_file_must_be_named(load, monkeypatch):
    monkeypatch.delenv("INTERLEAVER_USERS", raising=False)
    monkeypatch.delitem(sys.modules, "interleaver.adapters.auth", raising=False)
    with pytest.raises(BadInput, match="INTERLEAVER_USERS is not set"):
        importlib.import_module("interleaver.adapters.auth")


async def test_a_key_says_who_somebody_is(load):
    module = load(f'[users]\nalice = "{DIGEST}"\n'.encode())
    for authorization, headers in (
        ("Bearer key-of-alice", {}),
        ("bearer key-of-alice", {}),
        (None, {b"x-api-key": b"key-of-alice"}),
    ):
        user = await module.authenticate(authorization, headers)
        assert user["identity"] == "alice"
    for authorization, headers in (
        (None, {}),
        ("", {}),
        ("Bearer", {}),
        ("Basic key-of-alice", {}),
        (DIGEST, {}),
        (f"Bearer {DIGEST}", {}),
        (None, {b"x-api-key": b"key-of-alicee"}),
    ):
        with pytest.raises(Auth.exceptions.HTTPException):
            await module.authenticate(authorization, headers)
