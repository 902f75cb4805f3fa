"""Calls to one endpoint by everybody in a process: slots, pauses, retries."""

import asyncio
import contextlib
import time
from types import SimpleNamespace

import pytest
from tenacity import wait_none

from interleaver import calling
from interleaver.calling import Stopwatch, call, queue_of
from interleaver.errors import BackendError, BackendUnavailable


class Endpoint:
    """Answers as many calls at once as it has room for, and says to the others that it is busy."""

    timeout = 60

    def __init__(self, room=1000, seconds=0.0, resource=None, retry_after=None):
        self.room, self.seconds, self.resource, self.retry_after = room, seconds, resource, retry_after
        self.now = self.most = self.asked = 0
        self.was_refused = asyncio.Event()

    async def answer(self):
        self.asked += 1
        if self.now >= self.room:
            self.was_refused.set()
            raise BackendUnavailable("busy", retry_after=self.retry_after, busy=True)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.now -= 1
        return "answer"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(calling, "BACKOFF", wait_none())
    monkeypatch.setattr(calling, "BUSY_SECONDS", (0.01, 0.05))
    monkeypatch.setattr(calling, "SPREAD", 0.01)


async def test_a_busy_endpoint_answers_everybody_in_the_end():
    """Thirty-two callers at an endpoint with room for four, which today's limit of four attempts would not get."""
    endpoint = Endpoint(room=4, seconds=0.01)
    answers = await asyncio.gather(*(call(endpoint, endpoint.answer, str) for _ in range(32)))
    assert answers == ["answer"] * 32
    assert endpoint.most == 4


async def test_backends_at_one_endpoint_share_its_pauses():
    first, second = Endpoint(resource=("http://one", "key")), Endpoint(resource=("http://one", "key"))
    other = Endpoint(resource=("http://one", "another key"))
    queue_of(first).pause(0.2)
    start = time.monotonic()
    await call(other, other.answer, str)
    assert time.monotonic() - start < 0.2
    await call(second, second.answer, str)
    assert time.monotonic() - start >= 0.2


async def test_nobody_keeps_a_slot_while_waiting():
    """One call is told to wait; the other must not wait for its slot."""
    endpoint = Endpoint(room=0, resource="slots")
    waiting = asyncio.create_task(call(endpoint, endpoint.answer, str, concurrency=1))
    await endpoint.was_refused.wait()
    endpoint.room = 1
    assert await call(endpoint, endpoint.answer, str, concurrency=1) == "answer"
    assert await waiting == "answer"
    assert endpoint.most == 1


@pytest.mark.parametrize("concurrency", [1, 3, None])
async def test_slots_are_for_everybody_at_the_endpoint(concurrency):
    members = [Endpoint(seconds=0.01, resource=f"slots of {concurrency}") for _ in range(2)]
    total = most = 0

    async def count(member):
        nonlocal total, most
        total += 1
        most = max(most, total)
        try:
            return await member.answer()
        finally:
            total -= 1

    await asyncio.gather(*(call(one, lambda one=one: count(one), str, concurrency) for one in members * 5))
    assert most == (concurrency or 10)


async def test_a_pause_beyond_the_time_limit_is_not_waited_for():
    endpoint = Endpoint(room=0, retry_after=3600.0)
    start = time.monotonic()
    with pytest.raises(BackendUnavailable):
        await call(endpoint, endpoint.answer, str)
    assert time.monotonic() - start < 5 and endpoint.asked == 1


async def test_an_endpoint_that_stays_busy_is_given_up_when_the_time_is_over():
    endpoint = Endpoint(room=0)
    endpoint.timeout = 0.3
    with pytest.raises(BackendUnavailable):
        await call(endpoint, endpoint.answer, str)
    assert endpoint.asked > 4


@pytest.mark.parametrize(
    ("failure", "calls"), [(BackendUnavailable("down"), 4), (BackendError("no"), 1), (KeyError("x"), 1)]
)
async def test_only_what_may_pass_is_tried_again(failure, calls):
    made = 0

    async def fail():
        nonlocal made
        made += 1
        raise failure

    with pytest.raises(BackendError):
        await call(object(), fail, str)
    assert made == calls


async def test_a_pause_grows_while_nothing_is_answered_and_ends_with_an_answer():
    queue = calling.CallQueue()
    lengths = []
    for _ in range(5):
        queue.pause(None)
        lengths.append(queue.paused_until - time.monotonic())
        queue.paused_until = 0.0
    assert lengths[0] < lengths[1] < lengths[2]
    assert max(lengths) <= 0.05
    endpoint = Endpoint(resource="resumed")
    calling.queue_of(endpoint).pauses = 3
    await call(endpoint, endpoint.answer, str)
    assert calling.queue_of(endpoint).pauses == 0


async def test_others_do_not_wait_for_a_pause_that_is_too_long_for_them():
    first = Endpoint(room=0, retry_after=3600.0, resource="for an hour")
    second = Endpoint(resource="for an hour")
    for endpoint in (first, second):
        start = time.monotonic()
        with pytest.raises(BackendUnavailable):
            await call(endpoint, endpoint.answer, str)
        assert time.monotonic() - start < 5
    assert second.asked == 0


@pytest.mark.parametrize("retry_after", [0.0, 1e-9])
async def test_no_endpoint_is_asked_without_a_pause(retry_after):
    endpoint = Endpoint(room=0, retry_after=retry_after)
    endpoint.timeout = 0.3
    with pytest.raises(BackendUnavailable):
        await call(endpoint, endpoint.answer, str)
    assert endpoint.asked < 40


async def test_waiting_for_a_slot_takes_no_time_of_the_call():
    member = Endpoint(seconds=0.1, resource="one at a time")
    member.timeout = 0.25
    hiccups = iter([None] * 4 + [BackendUnavailable("down"), None])

    async def answer():
        if failure := next(hiccups):
            raise failure
        return await member.answer()

    assert await asyncio.gather(*(call(member, answer, str, 1) for _ in range(5))) == ["answer"] * 5


async def test_only_the_work_itself_is_measured(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(calling, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    watch = Stopwatch()
    await watch.time(asyncio.sleep(0))
    await watch.time(asyncio.sleep(0))
    assert watch.seconds == 2


class Down:
    """An endpoint that is down until `up` is set, or for so many calls."""

    timeout = 60

    def __init__(self, up_after=1_000_000):
        self.resource = object()
        self.up = asyncio.Event()
        self.up_after = up_after
        self.asked = 0

    async def answer(self):
        self.asked += 1
        if self.asked > self.up_after:
            self.up.set()
        if not self.up.is_set():
            raise BackendUnavailable("down")
        return "answer"


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(calling, "PROBE_SECONDS", (0.05, 0.2))
    monkeypatch.setattr(calling, "PATIENCE", 0.3)


async def test_an_endpoint_that_is_down_for_good_costs_a_few_calls(impatient):
    """Forty calls, one after the other and many at once: without the shared count they would be 160."""
    endpoint = Down()
    for size in (1,) * 8 + (32,):
        outcomes = await asyncio.gather(
            *(call(endpoint, endpoint.answer, str) for _ in range(size)), return_exceptions=True
        )
        assert all(isinstance(outcome, BackendUnavailable) for outcome in outcomes)
    assert endpoint.asked <= 24
    with pytest.raises(BackendUnavailable, match=r"has not answered for \d+ s, and is called again in \d+ s|down"):
        await call(endpoint, endpoint.answer, str)


async def test_calls_wait_for_an_endpoint_that_comes_back_soon(impatient, monkeypatch):
    monkeypatch.setattr(calling, "PATIENCE", 60.0)
    endpoint = Down(up_after=8)
    waiting = [call(endpoint, endpoint.answer, str) for _ in range(20)]
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert outcomes.count("answer") >= 12  # those whose own attempts were not used up before
    assert await call(endpoint, endpoint.answer, str) == "answer" and queue_of(endpoint).down_since is None


async def test_an_endpoint_that_was_given_up_is_used_again_once_it_answers(impatient):
    endpoint = Down()
    queue = queue_of(endpoint)
    while not queue.given_up:
        await asyncio.gather(*(call(endpoint, endpoint.answer, str) for _ in range(4)), return_exceptions=True)
        await asyncio.sleep(0.01)
    endpoint.up.set()
    while queue.down_since is not None:
        with contextlib.suppress(BackendUnavailable):
            await call(endpoint, endpoint.answer, str)
        await asyncio.sleep(0.02)
    assert await call(endpoint, endpoint.answer, str) == "answer"


@pytest.mark.parametrize("error", [BackendError("a bad prompt"), ValueError("odd")])
async def test_errors_that_are_answers_do_not_count(error):
    endpoint = Down()

    async def refuse():
        raise error

    for _ in range(20):
        with pytest.raises(BackendError):
            await call(endpoint, refuse, str)
    assert queue_of(endpoint).down_since is None


async def test_a_call_that_hangs_is_made_once_more(monkeypatch):
    endpoint = Down()
    endpoint.timeout = 0.05

    async def hang():
        endpoint.asked += 1
        await asyncio.sleep(0.06)
        raise BackendUnavailable("no answer within 0.05 s")

    with pytest.raises(BackendUnavailable):
        await call(endpoint, hang, str)
    assert endpoint.asked == 2
