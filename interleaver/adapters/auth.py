"""Users of a LangGraph server: each has a key, and sees only the threads, pictures and memory of that user.

`examples/tenants/langgraph.json` refers to it. The environment variable INTERLEAVER_USERS names a TOML file with the
SHA-256 of each user's key, as `printf %s "$KEY" | sha256sum` prints it:

    [users]
    alice = "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90"

Clients send the key as a bearer token or in the header `x-api-key`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import tomllib
from pathlib import Path

from langgraph_sdk import Auth
from pydantic import BaseModel, Field, ValidationError

from interleaver.errors import BadInput, explain
from interleaver.text_files import read_text_file
from interleaver.types import Json

USERS_VARIABLE = "INTERLEAVER_USERS"


class Users(BaseModel):
    """The content of the file: the SHA-256 of the key of each user, by name."""

    users: dict[str, str] = Field(min_length=1)


def _load() -> dict[str, str]:
    path = os.environ.get(USERS_VARIABLE)
    if not path:
        raise BadInput(f"the variable {USERS_VARIABLE} is not set; give the path of a TOML file with the users' keys")
    try:
        users = Users.model_validate(tomllib.loads(read_text_file(Path(path)))).users
    except (OSError, ValueError) as error:
        reason = explain(error, Users) if isinstance(error, ValidationError) else str(error)
        raise BadInput(f"the file {path!r} ({USERS_VARIABLE}) cannot be used: {reason}") from None
    for name, digest in users.items():
        if len(digest) != 64 or digest.strip("0123456789abcdef"):
            raise BadInput(f"users.{name} of {path!r} ({USERS_VARIABLE}) is not a SHA-256 in 64 lower-case hex digits")
    return users


_users = _load()
auth = Auth()


@auth.authenticate
async def authenticate(authorization: str | None, headers: dict[bytes, bytes]) -> Auth.types.MinimalUserDict:
    """Return the user whose key a request has."""
    scheme, _, token = (authorization or "").partition(" ")
    key = token.strip().encode() if scheme.lower() == "bearer" else headers.get(b"x-api-key", b"")
    digest = hashlib.sha256(key).hexdigest()
    # All are compared, so that the time tells nothing.
    names = [name for name, known in _users.items() if hmac.compare_digest(known, digest)]
    if not names:
        raise Auth.exceptions.HTTPException(401, "the API key is missing or wrong")
    return {"identity": names[0], "is_authenticated": True}


@auth.on
async def only_own(ctx: Auth.types.AuthContext, value: Json) -> Json:
    """Mark what a user makes as that user's, and hide what is not."""
    own = {"owner": ctx.user.identity}
    value.setdefault("metadata", {}).update(own)
    return own


@auth.on.assistants
async def read_assistants(ctx: Auth.types.AuthContext, value: Json) -> None:
    """Let users see the server's own assistants, and make none, since all would see those."""
    if ctx.action not in ("read", "search"):
        raise Auth.exceptions.HTTPException(403, "assistants cannot be changed")


@auth.on.store
async def own_namespace(ctx: Auth.types.AuthContext, value: Json) -> None:
    """Keep what users store apart: under the name of each."""
    value["namespace"] = (ctx.user.identity, *(value.get("namespace") or ()))
