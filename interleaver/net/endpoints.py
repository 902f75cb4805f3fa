"""HTTP endpoints of models: URL, API key and timeout, and turning their failures into clear errors."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import os
import re
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from interleaver.errors import BackendError, BackendUnavailable, BadInput, Refusal, UnreadableAnswer
from interleaver.extras import require_extra
from interleaver.net.clients import UnexpectedResponse, bounded_client
from interleaver.net.failures import FILTER_CODES, error_codes, error_parameters, error_status, is_quota, retry_after
from interleaver.net.redaction import redact

MAX_DETAIL = 300
CHECK_SECONDS = 10.0
BUSY_STATUSES = (429, 529)
"""Statuses of a server that works but has too much to do; 529 is Anthropic's."""
OPENAI = "https://api.openai.com/v1"
AZURE_HOSTS = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")
NO_KEY = "none"
"""Sent in place of a missing API key: local servers need none, but the SDKs insist on one."""


def host_of(base_url: str | None) -> str:
    """Return the host name of a base URL in lower case; OpenAI's for None, "" if it has none."""
    return (urlsplit(base_url or OPENAI).hostname or "").lower().rstrip(".")


def is_openai(base_url: str | None) -> bool:
    """Return whether a base URL is OpenAI's own, with or without a region (`eu.api.openai.com`)."""
    host = host_of(base_url)
    return host == "api.openai.com" or host.endswith(".api.openai.com")


def is_azure(base_url: str | None) -> bool:
    """Return whether a base URL is a resource of Azure OpenAI."""
    return host_of(base_url).endswith(AZURE_HOSTS)


def openai_key_variable(api_key_env: str | None, base_url: str | None) -> str | None:
    """Return the environment variable with the API key of an OpenAI-compatible endpoint; None for no key.

    If none is named, only hosts that a key was issued for get it: OpenAI's own `OPENAI_API_KEY`, Azure's
    `AZURE_OPENAI_API_KEY`.
    """
    default = "OPENAI_API_KEY" if is_openai(base_url) else "AZURE_OPENAI_API_KEY" if is_azure(base_url) else None
    return api_key_env or default


def is_local_address(base_url: str | None) -> bool:
    """Return whether a base URL leads to a machine of one's own: a private IP address, or a name without a domain."""
    host = host_of(base_url)
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return bool(host) and ("." not in host or host.endswith((".local", ".internal", ".localhost")))


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
        if self.is_provider and self.api_key_env and self.key == NO_KEY:
            raise BadInput(
                f"{self.section} {self.model!r} needs an API key; set the environment variable {self.api_key_env}"
            )
        if self.base_url is not None and not self.base_url.startswith(("http://", "https://")):
            raise BadInput(f"base_url {self.address!r} does not begin with http:// or https://")
        parts = urlsplit(self.base_url or "")
        if "@" in parts.netloc or parts.query or parts.fragment:
            # The value is not repeated, since these parts are often secret.
            raise BadInput(
                f"base_url {self.address!r} has a user name, a query or a fragment, which would reach logs and traces; "
                "leave it out, and give a key by api_key_env"
            )
        if self.key != NO_KEY and not (self.key.isascii() and self.key.isprintable()):
            raise BadInput(f"the key in {self.api_key_env} has characters that are not printable ASCII; set it again")

    @property
    def is_provider(self) -> bool:
        """Whether the endpoint is the provider's own, which accepts no call without a key."""
        return self.base_url is None or is_openai(self.base_url) or is_azure(self.base_url)

    @property
    def resource(self) -> tuple[str, str]:
        """What backends at the same endpoint have in common: the address, and a hash of the key."""
        return self.base_url or OPENAI, hashlib.sha256(self.key.encode()).hexdigest()

    @property
    def key(self) -> str:
        """The API key; `NO_KEY` if the variable is not set."""
        return os.environ.get(self.api_key_env or "", "").strip() or NO_KEY

    @property
    def all_secrets(self) -> tuple[str, ...]:
        """The key, if there is one, and the other strings that nobody else may see."""
        return (*self.secrets, *([self.key] if self.key != NO_KEY else []))

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

        It is a `bounded_client` whose calls also raise `UnexpectedResponse` for responses that cannot come from an API,
        such as HTML pages.
        """

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

        client = bounded_client(require_extra("httpx2", "openai"), self.timeout, self.all_secrets)
        client.event_hooks["response"].append(check)
        return client

    def openai(self) -> Any:
        """Return a client of the `openai` SDK; values meant for OpenAI itself are not sent to other endpoints."""
        client = require_extra("openai", "openai").AsyncOpenAI(
            api_key=self.key,
            base_url=self.base_url or OPENAI,
            timeout=self.timeout,
            max_retries=0,  # the graph retries
            http_client=self.client(),
        )
        if not is_openai(self.base_url):
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
            if error_status(error) in (404, 405, 501):
                return f"{self.model} at {self.address}: the server lists no models (--deep asks this one)"
            raise short_endpoint.failure(error) from None
        name = self.model.removeprefix("models/")
        if name not in models and f"{name}:latest" not in models:  # Ollama's names have tags
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
        status = error_status(error)
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
        answered = f"{self.name} answered {status}"
        if any(word in error_codes(error) for word in FILTER_CODES):
            return Refusal(f"{self.name} refused (content filter): {detail}")
        if is_quota(error, status):
            return BackendError(f"{answered}: the account has no quota left; check its plan and billing ({detail})")
        if status in (401, 403):
            return BackendError(f"{answered}: {self._access_hint(detail)} ({detail})")
        if status in (404, 405):
            return BackendError(f"{answered}: check {section}.model and {section}.base_url ({detail})")
        if status in BUSY_STATUSES or status in (408, 409, 425) or status >= 500:
            delay = retry_after(error)
            is_busy = status in BUSY_STATUSES or delay is not None
            state = "is too busy" if is_busy else "has a problem"
            return BackendUnavailable(f"{self.name} {state} ({status}): {detail}", retry_after=delay, busy=is_busy)
        if "size" in error_parameters(error):
            return BackendError(f"{answered}: {detail}; set {section}.sizes to the sizes that the model offers")
        return BackendError(f"{answered}: {detail}; check the settings of [{section}]")

    def _access_hint(self, detail: str) -> str:
        if "verified" in detail or "verify" in detail:
            return "the organisation must be verified with the provider before it may use this model"
        if self.api_key_env is None:
            return f"it requires an API key; set {self.section}.api_key_env to the environment variable that holds it"
        key_state = "is not set" if self.key == NO_KEY else "was refused"
        return f"the key in {self.api_key_env} {key_state}; set that variable or {self.section}.api_key_env"

    def _detail(self, error: object) -> str:
        """Return the server's error message on one line, without secrets."""
        text = " ".join(str(error).split()) or type(error).__name__
        body = getattr(error, "body", None)
        if isinstance(body, dict) and "message" not in body:  # servers whose error schema differs from OpenAI's
            text = f"{text}: {body.get('detail') or body}"
        elif isinstance(body, str) and body.strip() and body.strip() not in text:
            text = f"{text}: {' '.join(body.split())}"
        for secret in filter(None, self.all_secrets):
            text = text.replace(secret, "***")
        text = redact(text.encode(), self.all_secrets).decode(errors="replace")
        return text if len(text) <= MAX_DETAIL else f"{text[:MAX_DETAIL]} ..."


def _is_connection(error: Exception) -> bool:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & {"APIConnectionError", "ConnectError", "ConnectionError", "OSError", "TransportError"})


def _root_cause(error: BaseException) -> BaseException:
    """Return the innermost cause of an error that says anything; SDKs wrap it in "Connection error."."""
    cause = error
    while (inner := cause.__cause__) and str(inner):
        cause = inner
    return cause
