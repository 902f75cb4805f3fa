import asyncio
import itertools
from types import SimpleNamespace

import pytest
from support.fakes import PlainGenerator, plain_picture
from support.image_endpoint import image_reply
from support.scripted_server import Reply, serving

from interleaver.errors import BackendError, BackendUnavailable, BadInput, Refusal, UnreadableAnswer
from interleaver.registry import create_backend
from interleaver.tools import combined

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
DOWN = BackendUnavailable("down")


class Slow(PlainGenerator):
    """Takes its time, and notices how many calls it is at."""

    def __init__(self, seconds=0.05, **kwargs):
        super().__init__(**kwargs)
        self.seconds, self.now, self.most = seconds, 0, 0

    async def generate(self, *args):
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.seconds)
            return await super().generate(*args)
        finally:
            self.now -= 1


class Stuck(PlainGenerator):
    """Draws nothing until it is released."""

    def __init__(self):
        super().__init__()
        self.called, self.released = asyncio.Event(), asyncio.Event()

    async def generate(self, *args):
        self.called.set()
        await self.released.wait()
        return await super().generate(*args)


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves when a test moves it, and by a thousandth of a second whenever it is read."""
    clock = SimpleNamespace(now=0.0)

    def read():
        clock.now += 0.001
        return clock.now

    monkeypatch.setattr(combined, "time", SimpleNamespace(monotonic=read))
    return clock


@pytest.fixture
def pool(monkeypatch):
    def made(*members, **settings):
        queue = list(members)
        monkeypatch.setattr(combined, "create_backend", lambda *args, **kwargs: queue.pop(0))
        return combined.GeneratorPool(members=[{"backend": "x"}] * len(members), **settings)

    return made


def draw(generator, times=1):
    return asyncio.gather(*[generator.generate(f"p{n}", [], n, (64, 64)) for n in range(times)])


async def test_work_goes_to_the_one_with_the_least_to_do(pool):
    first, second = Slow(), Slow()
    await draw(pool(first, second), 4)
    assert first.most == second.most == 2
    free, stuck = PlainGenerator(), Stuck()
    both = pool(free, stuck)
    calls = draw(both, 2)
    await stuck.called.wait()
    await one_after_another(both, 8)
    assert (len(free.calls), len(stuck.calls)) == (9, 0)  # the one that is stuck gets no more
    stuck.released.set()
    await calls
    assert len(stuck.calls) == 1


async def one_after_another(generator, times):
    for _ in range(times):
        await draw(generator)


async def test_a_failing_one_is_set_aside_and_tried_again_later(pool, clock):
    ill, well = PlainGenerator({0: DOWN}), PlainGenerator()
    both = pool(ill, well, set_aside=30)
    await one_after_another(both, 4)
    assert (len(ill.calls), len(well.calls)) == (1, 4)  # nothing is lost, and it is left alone after its failure
    clock.now += 31
    await one_after_another(both, 4)
    assert len(ill.calls) == 3  # tried again once its rest was over, and back in turn since


async def test_it_rests_longer_each_time(pool, clock):
    ill = PlainGenerator({n: DOWN for n in range(9)})
    both = pool(ill, PlainGenerator(), set_aside=5, timeout=1e9)
    tries = []
    for second in range(40):
        clock.now, count = float(second), len(ill.calls)
        await draw(both)
        tries += [second] * (len(ill.calls) - count)
    gaps = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert gaps[0] >= 5 and gaps[1] >= 10 and gaps == sorted(gaps)


async def test_when_all_fail_the_error_says_so(pool):
    with pytest.raises(BackendUnavailable, match=r"failed \(2 of the pool's 2\); last error: down"):
        await draw(pool(PlainGenerator({0: DOWN}), PlainGenerator({0: DOWN})))


async def test_what_no_other_could_do_better_is_not_tried_again(pool):
    other = PlainGenerator()
    with pytest.raises(BackendError, match="refused"):
        await draw(pool(PlainGenerator({0: BackendError("refused")}), other))
    assert not other.calls


async def test_a_time_limit_covers_all_of_it(pool):
    first, second = Stuck(), Stuck()
    with pytest.raises(BackendUnavailable, match=r"within 0.1 s \(generator.timeout\)"):
        await draw(pool(first, second, timeout=0.1))
    assert not (first.called.is_set() and second.called.is_set())  # no time was left for the second


async def test_a_real_pool_loses_nothing_when_an_endpoint_dies():
    with serving(image_reply()) as alive, serving(Reply({"error": "x"}, 500)) as ill, serving(Reply()) as gone:
        members = [
            {"backend": "openai-images", "model": "m", "base_url": f"{server.url}/v1"} for server in (gone, ill, alive)
        ]
        gone.stop()
        pool = create_backend("generator", "pool", members=members)
        pictures = await draw(pool, 20)
        gone.start()
    assert pictures == [plain_picture()] * 20
    assert len(alive.requests) == 20 and len(ill.requests) < 20


async def test_one_draws_and_another_edits():
    settings = {"backend": "openai-images", "model": "m"}
    with serving(image_reply()) as drawing, serving(image_reply()) as editing:
        generator = create_backend(
            "generator",
            "draw-and-edit",
            draw={**settings, "base_url": drawing.url},
            edit={**settings, "base_url": editing.url, "max_sources": 3},
        )
        await generator.generate("a", [], 1, (64, 64))
        await generator.generate("b", [plain_picture()], 1, (64, 64))
    assert [len(drawing.requests), len(editing.requests)] == [1, 1]
    assert generator.capabilities.max_sources == 3


def test_time_limits_follow_from_the_members():
    member = {"backend": "openai-images", "model": "m", "base_url": "http://127.0.0.1:1"}
    members = [{**member, "timeout": 10}, {**member, "timeout": 20}]
    assert create_backend("generator", "pool", members=members).timeout == 30
    assert create_backend("generator", "pool", members=members, timeout=5).timeout == 5
    assert create_backend("generator", "draw-and-edit", draw=members[0], edit=members[1]).timeout == 20


@pytest.mark.parametrize(
    ("backend", "settings", "said"),
    [
        ("pool", {"members": []}, "members: .*at least 1"),
        ("pool", {"members": [{"model": "m"}]}, r"generator.members\[0\] has no field 'backend'"),
        ("pool", {"members": [{"backend": "svgg"}]}, r"generator.members\[0\]: generator 'svgg' is unknown"),
        ("draw-and-edit", {"draw": {"backend": "sandbox"}, "edit": {}}, "generator.edit has no field 'backend'"),
    ],
)
def test_members_are_checked(backend, settings, said):
    with pytest.raises(BadInput, match=said):
        create_backend("generator", backend, **settings)


@pytest.mark.parametrize(("failure", "calls"), [(Refusal("no"), 1), (None, 0)])
async def test_a_fallback_draws_what_is_refused_and_nothing_else(failure, calls, monkeypatch):
    made = {"main": PlainGenerator({0: failure} if failure else {}), "fallback": PlainGenerator()}
    monkeypatch.setattr(combined, "make_member", lambda member, name: made[member["backend"]])
    both = create_backend("generator", "with-fallback", main={"backend": "main"}, fallback={"backend": "fallback"})
    assert await both.generate("a cat", [], 7, (64, 64)) == plain_picture((7, 0, 1))
    assert len(made["fallback"].calls) == calls


async def test_a_fallback_is_not_for_what_is_down_or_answers_in_words(monkeypatch):
    for failure in (DOWN, UnreadableAnswer("words")):
        made = {"main": PlainGenerator({0: failure}), "fallback": PlainGenerator()}
        monkeypatch.setattr(combined, "make_member", lambda member, name, made=made: made[member["backend"]])
        both = create_backend("generator", "with-fallback", main={"backend": "main"}, fallback={"backend": "fallback"})
        with pytest.raises(type(failure)):
            await both.generate("a cat", [], 7, (64, 64))
        assert not made["fallback"].calls
