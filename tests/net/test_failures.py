"""When a server wants to be called again, and whether that can help."""

import time
from email.utils import formatdate
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interleaver.errors import BackendError, BackendUnavailable, Refusal
from interleaver.net.endpoints import Endpoint
from interleaver.net.failures import AnsweredError, raise_answered_error, retry_after

INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37s"}


class Failure(Exception):
    def __init__(self, status, headers=None, body=None, details=None):
        super().__init__("failed")
        self.status_code, self.body, self.details = status, body, details
        self.response = SimpleNamespace(headers=headers or {})


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "6m0s"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "9" * 4300}, None),
        ({}, None),
    ],
)
def test_servers_say_in_many_ways_when_to_come_back(headers, seconds):
    assert retry_after(Failure(429, headers)) == seconds


def test_a_date_is_the_time_until_then():
    assert 50 < retry_after(Failure(503, {"retry-after": formatdate(time.time() + 60, usegmt=True)})) <= 60
    assert retry_after(Failure(503, {"retry-after": formatdate(time.time() - 60, usegmt=True)})) == 0


@pytest.mark.parametrize(
    "failure",
    [
        Failure(429, details={"error": {"code": 429, "details": [INFO]}}),
        Failure(429, body={"code": 429, "details": [{"@type": "other"}, INFO]}),
        Failure(429, body=[{"error": {"code": 429, "details": [INFO]}}]),
    ],
)
def test_google_says_it_in_the_body(failure):
    assert retry_after(failure) == 37.0


@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset-requests"]), st.text()))
def test_no_header_breaks_anything(headers):
    seconds = retry_after(Failure(429, headers | {"x-ratelimit-remaining-requests": "0"}))
    assert seconds is None or seconds >= 0


DAILY = [{"@type": "QuotaFailure", "violations": [{"quotaId": "GenerateRequestsPerDayPerProject"}]}]
MINUTE = [{"@type": "QuotaFailure", "violations": [{"quotaId": "GenerateRequestsPerMinute"}]}, INFO]


@pytest.mark.parametrize(
    ("failure", "kind", "said"),
    [
        (Failure(429), BackendUnavailable, "too busy"),
        (Failure(529), BackendUnavailable, "too busy"),
        (Failure(503), BackendUnavailable, "has a problem"),
        (Failure(503, {"retry-after": "3"}), BackendUnavailable, "too busy"),
        (Failure(429, body={"code": "insufficient_quota"}), BackendError, "plan and billing"),
        (Failure(402), BackendError, "plan and billing"),
        (Failure(400, body={"code": "billing_hard_limit_reached"}), BackendError, "plan and billing"),
        (Failure(400, body={"code": "Arrearage"}), BackendError, "plan and billing"),
        (Failure(429, details={"error": {"status": "RESOURCE_EXHAUSTED", "details": DAILY}}), BackendError, "billing"),
        (
            Failure(429, details={"error": {"status": "RESOURCE_EXHAUSTED", "details": MINUTE}}),
            BackendUnavailable,
            "busy",
        ),
        (Failure(403, body={"code": "content_filter"}), Refusal, "content filter"),
        (Failure(400, body={"code": "data_inspection_failed"}), Refusal, "content filter"),
        (AnsweredError({"code": 429, "message": "slow"}), BackendUnavailable, "too busy"),
        (AnsweredError({"code": "rate_limit_exceeded", "message": "slow"}), BackendUnavailable, "too busy"),
        (AnsweredError({"code": "insufficient_quota", "message": "pay"}), BackendError, "plan and billing"),
        (AnsweredError({"code": 502, "message": "upstream"}), BackendUnavailable, "has a problem"),
        (AnsweredError({"code": "server_error", "message": "x"}), BackendUnavailable, "has a problem"),
        (AnsweredError({"code": "invalid_request_error", "message": "x"}), BackendError, "answered 400"),
        (AnsweredError("out of memory"), BackendUnavailable, "has a problem .502.: out of memory"),
    ],
)
def test_what_a_failure_means(failure, kind, said):
    error = Endpoint("planner", "m", "http://127.0.0.1/v1", None, 5).failure(failure)
    assert type(error) is kind
    assert said.replace(".", "") in str(error).replace(".", "").replace("(", "").replace(")", "")


@pytest.mark.parametrize(
    ("body", "raises"),
    [
        ({"error": {"code": 429}}, True),
        ({"error": None, "choices": [{"message": {}}]}, False),
        ({"error": {}, "choices": []}, False),
        ({"error": {"code": 5}, "choices": [{"message": {"content": "x"}}]}, False),
        ({"choices": [{"error": {"code": 502}, "message": {"content": ""}}]}, True),
        ({"choices": None, "error": "no"}, True),
    ],
)
def test_errors_in_answers(body, raises):
    if raises:
        with pytest.raises(AnsweredError):
            raise_answered_error(body)
    else:
        raise_answered_error(body)
