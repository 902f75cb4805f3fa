"""What the failures of model servers mean: their status, when to call again, and whether more calls can help."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

FILTER_CODES = (
    *("content_policy", "content_filter", "moderation_blocked", "safety_violation", "image_generation_user_error"),
    *("data_inspection_failed", "datainspectionfailed"),
)
"""Parts of the error codes with which servers refuse content."""
QUOTA_CODES = ("insufficient_quota", "billing", "arrearage", "quota_exceeded", "credit", "payment")
"""Parts of the error codes with which servers say that nothing is left to pay with."""
BUSY_WORDS = ("rate_limit", "ratelimit", "too_many_requests", "throttl", "overloaded", "resource_exhausted")
UNAVAILABLE_WORDS = ("unavailable", "timeout", "server_error", "internal", "upstream", "bad_gateway")
RETRY_INFO = "google.rpc.RetryInfo"
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


class AnsweredError(Exception):
    """An error that a server sent in a response with status 200.

    Attributes:
        body: the error, as a JSON object.
        status_code: the HTTP status that the server should have sent.
        response: the response, whose headers may say when to call again; None if it is not at hand.
    """

    response: object = None

    def __init__(self, error: object):
        self.body: dict[str, Any] = error if isinstance(error, dict) else {"message": str(error)}
        self.status_code = _status_of_code(self.body.get("code") or self.body.get("type"))
        super().__init__(str(self.body.get("message") or self.body))


def raise_answered_error(body: Mapping[str, Any]) -> None:
    """Raise an `AnsweredError` if a response holds an error and no answer."""
    if body.get("error") and not any(body.get(key) for key in ("choices", "data", "candidates")):
        raise AnsweredError(body["error"])
    for choice in body.get("choices") or []:
        if isinstance(choice, dict) and choice.get("error"):
            raise AnsweredError(choice["error"])


def _status_of_code(code: object) -> int:
    """Return the HTTP status that an error code stands for; 502 for an error without a code."""
    if isinstance(code, int) or (isinstance(code, str) and re.fullmatch(r"\d{3}", code, re.ASCII)):
        return int(code) if 400 <= int(code) < 600 else 502
    if code is None:
        return 502
    text = str(code).lower()
    if any(word in text for word in (*BUSY_WORDS, *QUOTA_CODES)):
        return 429
    return 503 if any(word in text for word in UNAVAILABLE_WORDS) else 400


def error_status(error: Exception) -> int | None:
    """Return the HTTP status in an SDK's exception; None if it has none."""
    for name in ("status_code", "code"):
        status = getattr(error, name, None)
        if isinstance(status, int) and 400 <= status < 600:
            return status
    return None


def error_codes(error: Exception) -> str:
    """Return the error codes and types that the server sent, in lower case."""
    codes = [getattr(error, "code", ""), getattr(error, "status", "")]
    for body in _bodies(error):
        codes += [body.get("code"), body.get("type"), body.get("status")]
    return " ".join(str(code).lower() for code in codes if code)


def error_parameters(error: Exception) -> set[str]:
    """Return the names of the request's fields that the server says it cannot use."""
    return {str(body["param"]) for body in _bodies(error) if body.get("param")}


def is_quota(error: Exception, status: int) -> bool:
    """Return whether an error says that the account has nothing left, so that no later call will help."""
    if status == 402:
        return True
    codes = error_codes(error)
    if status in (400, 403, 429) and any(word in codes for word in QUOTA_CODES):
        return True
    violations = [item for detail in _details(error) for item in detail.get("violations") or []]
    return status == 429 and any("perday" in str(item.get("quotaId", "")).lower() for item in violations)


def retry_after(error: Exception) -> float | None:
    """Return the seconds after which the server wants to be called again; None if it does not say.

    Sources: RFC 9110, section 10.2.3 (`Retry-After`); OpenAI's `retry-after-ms` and `x-ratelimit-*`; Google's
    `RetryInfo`.
    """
    headers: Mapping[str, str] = getattr(getattr(error, "response", None), "headers", None) or {}
    candidates = [
        _number(headers.get("retry-after-ms", ""), 0.001),
        _number(headers.get("retry-after", ""), 1.0),
        _until(headers.get("retry-after", "")),
        *(_duration(str(detail.get("retryDelay", ""))) for detail in _details(error) if _is_retry_info(detail)),
        *(
            _duration(headers.get(f"x-ratelimit-reset-{name}", ""))
            for name in ("requests", "tokens")
            if headers.get(f"x-ratelimit-remaining-{name}", "").strip() == "0"
        ),
    ]
    return next((seconds for seconds in candidates if seconds is not None), None)


def _is_retry_info(detail: Mapping[str, Any]) -> bool:
    return str(detail.get("@type", "")).endswith(RETRY_INFO)


def _bodies(error: Exception) -> Iterator[Mapping[str, Any]]:
    """Yield the JSON objects that describe an error: the body, and the error inside it."""
    for name in ("body", "details"):
        body = getattr(error, name, None)
        if isinstance(body, list) and len(body) == 1:  # as Google's OpenAI-compatible endpoint answers
            body = body[0]
        if isinstance(body, dict):
            yield body
            if isinstance(body.get("error"), dict):
                yield body["error"]


def _details(error: Exception) -> list[Mapping[str, Any]]:
    """Return the details of an error of Google's APIs."""
    details = [detail for body in _bodies(error) for detail in _as_list(body.get("details"))]
    return [detail for detail in details if isinstance(detail, dict)]


def _as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(text: str, unit: float) -> float | None:
    number = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*", text, re.ASCII)
    return float(number[1]) * unit if number else None


def _until(text: str) -> float | None:
    """Return the seconds until an HTTP date; None if the text is none."""
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def _duration(text: str) -> float | None:
    """Return the seconds of a duration such as "6m0s", "37.5s" or "20ms"."""
    milliseconds = re.fullmatch(r"(\d+(?:\.\d+)?)ms", text, re.ASCII)
    if milliseconds:
        return float(milliseconds[1]) / 1000
    match = _DURATION.fullmatch(text) if text and text.isascii() else None
    if not match:
        return _number(text, 1.0)
    return sum(float(number or 0) * unit for number, unit in zip(match.groups(), (86400, 3600, 60, 1), strict=True))
