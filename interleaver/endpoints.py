"""Endpoints that speak HTTP: their address, key and time-out, and what their failures mean."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from interleaver.errors import BackendError, BackendUnavailable, BadInput, Refused, UnreadableAnswer
from interleaver.extras import need

MAX_DETAIL = 300
CHECK_SECONDS = 10.0
OPENAI = "https://api.openai.com/v1"
FILTERED = ("content_policy", "content_filter", "moderation_blocked", "safety_violation")
NO_KEY = "none"
"""Sent where there is no key: local servers ask for no key, and the SDKs insist on one."""


def openai_key(api_key_env: str | None, base_url: str | None) -> str | None:
    """The variable of the key for an endpoint of the OpenAI kind.

    Where none is named, OpenAI's own endpoint gets `OPENAI_API_KEY` and every other one no key: a key must not travel
    to somebody it was not made for.
    """
    return api_key_env or ("OPENAI_API_KEY" if base_url is None else None)


class NotTheApi(Exception):
    """Something answered, but not the API that was asked for."""


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served.

    Attributes:
        section: the part of the profile that configures it, for messages: `planner`, `generator` ...
        model: the model's name there.
        base_url: its address; None for the provider's own.
        api_key_env: the environment variable that holds the key; None sends none.
        timeout: seconds that one call may take.
        secrets: texts that no message may hold; the key is one of them anyway.
    """

    section: str
    model: str
    base_url: str | None
    api_key_env: str | None
    timeout: float
    secrets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.api_key_env is not None and not re.fullmatch("[A-Z][A-Z0-9_]*", self.api_key_env):
            # Not told, since it may be the key itself.
            raise BadInput(
                "api_key_env: give the name of an environment variable, such as MY_KEY, and never the key itself"
            )
        if self.base_url is None and self.api_key_env and self.key == NO_KEY:
            raise BadInput(f"{self.section} {self.model!r} needs a key; set the variable {self.api_key_env}")
        if self.base_url is not None and not self.base_url.startswith(("http://", "https://")):
            raise BadInput(f"base_url {self.where!r} does not begin with http:// or https://")
        if self.key != NO_KEY and not (self.key.isascii() and self.key.isprintable()):
            raise BadInput(f"the key in {self.api_key_env} has characters that no key has; set that variable anew")

    @property
    def key(self) -> str:
        """The key, or `NO_KEY` where the variable is not set."""
        return os.environ.get(self.api_key_env or "", "").strip() or NO_KEY

    @property
    def where(self) -> str:
        """Its address as messages tell it: without what may be secret in it."""
        if self.base_url is None:
            return "its provider"
        parts = urlsplit(self.base_url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self.section} {self.model!r} at {self.where}"

    def client(self) -> Any:
        """An HTTP client for a provider's SDK, one that tells an answer of the API from any other page."""
        httpx2 = need("httpx2", "openai")

        async def check(response: Any) -> None:
            if not response.is_success:
                return
            kind = response.headers.get("content-type", "").partition(";")[0]
            if "text/event-stream" in kind:
                return
            if not (await response.aread()).strip():
                raise NotTheApi("answered with an empty body")
            if not kind.endswith("json"):
                raise NotTheApi(f"answered {kind or 'something untyped'} instead of JSON")

        # A connection a call: one is nothing beside the seconds that a model takes, and a client that keeps none open
        # can be used from one event loop after another and never needs closing.
        limits = httpx2.Limits(max_keepalive_connections=0, max_connections=1000)
        hooks = {"response": [check]}
        return httpx2.AsyncClient(event_hooks=hooks, timeout=self.timeout, limits=limits, follow_redirects=True)

    def openai(self) -> Any:
        """A client of the `openai` SDK; what was meant for OpenAI alone is told to no other endpoint."""
        client = need("openai", "openai").AsyncOpenAI(
            api_key=self.key,
            base_url=self.base_url or OPENAI,
            timeout=self.timeout,
            max_retries=0,  # the graph retries
            http_client=self.client(),
        )
        if self.base_url is not None:
            client.organization = client.project = None  # the SDK takes them from the environment
        return client

    async def check(self) -> str:
        """Ask an endpoint of the OpenAI kind which models it has; returns a line that says that all is well.

        Raises:
            BackendError: it cannot be reached, or does not have the model.
        """
        hasty = replace(self, timeout=min(self.timeout, CHECK_SECONDS))
        try:
            async with asyncio.timeout(hasty.timeout):
                models = [model.id.removeprefix("models/") async for model in hasty.openai().models.list()]
        except Exception as error:  # whatever the SDK raises
            raise hasty.failure(error) from None
        if self.model.removeprefix("models/") not in models:
            some = ", ".join(models[:10]) or "none"
            raise BackendError(f"{self.name} has no such model; check {self.section}.model (there are: {some})")
        return f"{self.model} at {self.where} answers"

    def failure(self, error: Exception) -> BackendError:
        """What an exception of a model call means, as one line that names the endpoint and the field to fix.

        Works for every SDK whose exceptions carry an HTTP status in `status_code` or `code`, as those of openai,
        anthropic and google-genai do.
        """
        if isinstance(error, BackendError):
            return error
        status = _status(error)
        if status is not None:
            return self._refused_call(status, error)
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, NotTheApi):
                return BackendError(f"{self.name} {cause}; check {self.section}.base_url (many APIs end in /v1)")
            if isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__:
                text = f"{self.name} did not answer within {self.timeout:g} s ({self.section}.timeout)"
                return BackendUnavailable(text)
            cause = cause.__cause__
        if _is_connection(error):
            return BackendUnavailable(
                f"{self.name} cannot be reached ({self._detail(error.__cause__ or error)}); check "
                f"{self.section}.base_url and that the server runs"
            )
        if isinstance(error, ValueError | TypeError | AttributeError | LookupError):
            return UnreadableAnswer(f"{self.name} answered something else than its API promises: {self._detail(error)}")
        return BackendError(f"{self.name} failed: {type(error).__name__}: {self._detail(error)}")

    def _refused_call(self, status: int, error: Exception) -> BackendError:
        detail, section = self._detail(error), self.section
        if status in (401, 403):
            if self.api_key_env is None:
                hint = f"it wants a key; name the variable that holds it in {section}.api_key_env"
            else:
                found = "is not set" if self.key == NO_KEY else "was refused"
                hint = f"the key in {self.api_key_env} {found}; set that variable or {section}.api_key_env"
            return BackendError(f"{self.name} answered {status}: {hint} ({detail})")
        if status in (404, 405):
            hint = f"check {section}.model and {section}.base_url"
            return BackendError(f"{self.name} answered {status}: {hint} ({detail})")
        if status in (408, 409, 425, 429) or status >= 500:
            busy = "is too busy" if status == 429 else "has a problem"
            return BackendUnavailable(f"{self.name} {busy} ({status}): {detail}", retry_after=_retry_after(error))
        if any(word in _kind(error) for word in FILTERED):
            return Refused(f"{self.name} refused (content filter): {detail}")
        return BackendError(f"{self.name} answered {status}: {detail}; check the settings of [{section}]")

    def _detail(self, error: object) -> str:
        """The server's own words on one line, without the key."""
        text = " ".join(str(error).split()) or type(error).__name__
        body = getattr(error, "body", None)
        if isinstance(body, dict) and "message" not in body:  # servers that don't tell errors the way OpenAI does
            text = f"{text}: {body.get('detail') or body}"
        for secret in (self.key, *self.secrets):
            if secret and secret != NO_KEY:
                text = text.replace(secret, "***")
        return text if len(text) <= MAX_DETAIL else f"{text[:MAX_DETAIL]} ..."


def _status(error: Exception) -> int | None:
    for name in ("status_code", "code"):
        status = getattr(error, name, None)
        if isinstance(status, int) and 400 <= status < 600:
            return status
    return None


def _kind(error: Exception) -> str:
    """What the server calls the error: its code and type."""
    body = getattr(error, "body", None)
    told = [body.get("code"), body.get("type")] if isinstance(body, dict) else []
    return " ".join(str(one).lower() for one in [getattr(error, "code", ""), *told])


def _is_connection(error: Exception) -> bool:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & {"APIConnectionError", "ConnectError", "ConnectionError", "OSError", "TransportError"})


def _retry_after(error: Exception) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    said = headers.get("retry-after", "")
    return min(float(said), 60.0) if said.replace(".", "", 1).isdigit() else None
