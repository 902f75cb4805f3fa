"""HTTP endpoints of models: URL, API key and timeout, and turning their failures into clear errors."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from interleaver.errors import BackendError, BackendUnavailable, BadInput, Refusal, UnreadableAnswer
from interleaver.extras import require_extra

MAX_DETAIL = 300
CHECK_SECONDS = 10.0
OPENAI = "https://api.openai.com/v1"
FILTER_CODES = ("content_policy", "content_filter", "moderation_blocked", "safety_violation")
NO_KEY = "none"
"""Sent in place of a missing API key: local servers need none, but the SDKs insist on one."""


def openai_key_variable(api_key_env: str | None, base_url: str | None) -> str | None:
    """Return the environment variable with the API key of an OpenAI-compatible endpoint; None for no key.

    If none is named, only OpenAI's own endpoint gets `OPENAI_API_KEY`: a key must never be sent to a server that it was
    not issued for.
    """
    return api_key_env or ("OPENAI_API_KEY" if base_url is None else None)


def is_local_address(base_url: str | None) -> bool:
    """Return whether a base URL leads to a machine of one's own: a private IP address, or a name without a domain."""
    host = (urlsplit(base_url or "").hostname or "").lower()
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return bool(host) and ("." not in host or host.endswith((".local", ".internal", ".localhost")))


class UnexpectedResponse(Exception):
    """A response that does not come from the expected API."""


@dataclass(frozen=True)
class Endpoint:
    """The HTTP endpoint that serves a model.

    Attributes:
        section: section of the profile that configures the endpoint (`planner`, `generator` ...), for messages.
        model: name of the model at the endpoint.
        base_url: base URL; None for the provider's own.
        api_key_env: environment variable that holds the API key; None sends no key.
        timeout: seconds that one call may take.
        secrets: strings besides the key that messages must not contain.
    """

    section: str
    model: str
    base_url: str | None
    api_key_env: str | None
    timeout: float
    secrets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.api_key_env is not None and not re.fullmatch("[A-Z][A-Z0-9_]*", self.api_key_env):
            # The value is not repeated, since it may be the key itself.
            raise BadInput(
                "api_key_env: give the name of an environment variable, such as MY_KEY, and never the key itself"
            )
        if self.base_url is None and self.api_key_env and self.key == NO_KEY:
            raise BadInput(
                f"{self.section} {self.model!r} needs an API key; set the environment variable {self.api_key_env}"
            )
        if self.base_url is not None and not self.base_url.startswith(("http://", "https://")):
            raise BadInput(f"base_url {self.address!r} does not begin with http:// or https://")
        if self.key != NO_KEY and not (self.key.isascii() and self.key.isprintable()):
            raise BadInput(f"the key in {self.api_key_env} has characters that are not printable ASCII; set it again")

    @property
    def key(self) -> str:
        """The API key; `NO_KEY` if the variable is not set."""
        return os.environ.get(self.api_key_env or "", "").strip() or NO_KEY

    @property
    def address(self) -> str:
        """The base URL for messages, without credentials and query, which may be secret."""
        if self.base_url is None:
            return "its provider"
        parts = urlsplit(self.base_url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    @property
    def name(self) -> str:
        """The name of the endpoint in messages."""
        return f"{self.section} {self.model!r} at {self.address}"

    def client(self) -> Any:
        """Return an HTTP client for a provider's SDK.

        Its calls raise `UnexpectedResponse` for responses that cannot come from an API, such as HTML pages.
        """
        httpx2 = require_extra("httpx2", "openai")

        async def check(response: Any) -> None:
            if not response.is_success:
                return
            kind = response.headers.get("content-type", "").partition(";")[0]
            if "text/event-stream" in kind:
                return
            if not (await response.aread()).strip():
                raise UnexpectedResponse("answered with an empty body")
            if not kind.endswith("json"):
                raise UnexpectedResponse(f"answered with {kind or 'an unknown content type'} instead of JSON")

        # One connection per call: connecting is fast compared to a model call, and a client without open connections
        # can be used from several event loops and never needs closing.
        limits = httpx2.Limits(max_keepalive_connections=0, max_connections=1000)
        hooks = {"response": [check]}
        return httpx2.AsyncClient(event_hooks=hooks, timeout=self.timeout, limits=limits, follow_redirects=True)

    def openai(self) -> Any:
        """Return a client of the `openai` SDK; values meant for OpenAI itself are not sent to other endpoints."""
        client = require_extra("openai", "openai").AsyncOpenAI(
            api_key=self.key,
            base_url=self.base_url or OPENAI,
            timeout=self.timeout,
            max_retries=0,  # the graph retries
            http_client=self.client(),
        )
        if self.base_url is not None:
            client.organization = client.project = None  # the SDK reads them from the environment
        return client

    async def check(self) -> str:
        """Check that an OpenAI-compatible endpoint can be reached and has the model; return a line that says so.

        Raises:
            BackendError: the endpoint cannot be reached, or does not have the model.
        """
        short_endpoint = replace(self, timeout=min(self.timeout, CHECK_SECONDS))
        try:
            async with asyncio.timeout(short_endpoint.timeout):
                models = [model.id.removeprefix("models/") async for model in short_endpoint.openai().models.list()]
        except Exception as error:  # whatever the SDK raises
            raise short_endpoint.failure(error) from None
        if self.model.removeprefix("models/") not in models:
            model_names = ", ".join(models[:10]) or "none"
            raise BackendError(f"{self.name} has no such model; check {self.section}.model (available: {model_names})")
        return f"{self.model} at {self.address} answers"

    def failure(self, error: Exception) -> BackendError:
        """Convert an exception of a model call to an error whose message names the endpoint and the field to fix.

        Works for every SDK whose exceptions have the HTTP status in `status_code` or `code`, such as openai, anthropic
        and google-genai.
        """
        if isinstance(error, BackendError):
            return error
        if isinstance(error, BadInput):
            return BackendError(f"{self.name}: {error}")
        status = _status(error)
        if status is not None:
            return self._status_failure(status, error)
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, UnexpectedResponse):
                return BackendError(f"{self.name} {cause}; check {self.section}.base_url (many APIs end in /v1)")
            if isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__:
                text = f"{self.name} did not answer within {self.timeout:g} s ({self.section}.timeout)"
                return BackendUnavailable(text)
            cause = cause.__cause__
        if _is_connection(error):
            reason = self._detail(_root_cause(error))
            hint = f"check {self.section}.base_url and that the server runs"
            if "CERTIFICATE_VERIFY_FAILED" in reason:
                hint = "set SSL_CERT_FILE to the file of its certificate authority"
            return BackendUnavailable(f"{self.name} cannot be reached ({reason}); {hint}")
        if isinstance(error, ValueError | TypeError | AttributeError | LookupError):
            return UnreadableAnswer(f"{self.name} sent a response that does not match its API: {self._detail(error)}")
        return BackendError(f"{self.name} failed: {type(error).__name__}: {self._detail(error)}")

    def _status_failure(self, status: int, error: Exception) -> BackendError:
        detail, section = self._detail(error), self.section
        if status in (401, 403):
            if self.api_key_env is None:
                hint = f"it requires an API key; set {section}.api_key_env to the environment variable that holds it"
            else:
                key_state = "is not set" if self.key == NO_KEY else "was refused"
                hint = f"the key in {self.api_key_env} {key_state}; set that variable or {section}.api_key_env"
            return BackendError(f"{self.name} answered {status}: {hint} ({detail})")
        if status in (404, 405):
            hint = f"check {section}.model and {section}.base_url"
            return BackendError(f"{self.name} answered {status}: {hint} ({detail})")
        if status in (408, 409, 425, 429) or status >= 500:
            busy = "is too busy" if status == 429 else "has a problem"
            return BackendUnavailable(f"{self.name} {busy} ({status}): {detail}", retry_after=_retry_after(error))
        if any(word in _error_codes(error) for word in FILTER_CODES):
            return Refusal(f"{self.name} refused (content filter): {detail}")
        return BackendError(f"{self.name} answered {status}: {detail}; check the settings of [{section}]")

    def _detail(self, error: object) -> str:
        """Return the server's error message on one line, without secrets."""
        text = " ".join(str(error).split()) or type(error).__name__
        body = getattr(error, "body", None)
        if isinstance(body, dict) and "message" not in body:  # servers whose error schema differs from OpenAI's
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


def _error_codes(error: Exception) -> str:
    """Return the error code and error type that the server sent, in lower case."""
    body = getattr(error, "body", None)
    body_codes = [body.get("code"), body.get("type")] if isinstance(body, dict) else []
    return " ".join(str(code).lower() for code in [getattr(error, "code", ""), *body_codes])


def _is_connection(error: Exception) -> bool:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & {"APIConnectionError", "ConnectError", "ConnectionError", "OSError", "TransportError"})


def _root_cause(error: BaseException) -> BaseException:
    """Return the innermost cause of an error that says anything; SDKs wrap it in "Connection error."."""
    cause = error
    while (inner := cause.__cause__) and str(inner):
        cause = inner
    return cause


def _retry_after(error: Exception) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    header = headers.get("retry-after", "")
    return min(float(header), 60.0) if header.replace(".", "", 1).isdigit() else None
