import asyncio
import time

import pytest
from conftest import PlainGenerator, plain_picture
from scripted_server import Reply, serving
from test_openai_images import image_reply

from interleaver.errors import BackendError, BackendUnavailable, BadInput
from interleaver.registry import create
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


@pytest.fixture
def pool(monkeypatch):
    def made(*members, **settings):
        queue = list(members)
        monkeypatch.setattr(combined, "create", lambda *args, **kwargs: queue.pop(0))
        return combined.GeneratorPool(members=[{"backend": "x"}] * len(members), **settings)

    return made


def draw(generator, times=1):
    return asyncio.gather(*[generator.generate(f"p{n}", [], n, (64, 64)) for n in range(times)])


async def test_work_goes_to_the_one_with_the_least_to_do(pool):
    fast, slow = Slow(0.01), Slow(0.2)
    both = pool(fast, slow)
    workers = [draw(both) for _ in range(4)]
    await asyncio.gather(*workers)
    assert fast.most == slow.most == 2
    for _ in range(10):
        await draw(both)
    many = asyncio.gather(*[one_after_another(both, 8) for _ in range(2)])
    before = len(fast.calls)
    await many
    assert len(fast.calls) - before > 10  # of 16: the slow one is at its first while the fast one works


async def one_after_another(generator, times):
    for _ in range(times):
        await draw(generator)


async def test_a_failing_one_is_set_aside_and_tried_again_later(pool):
    ill, well = PlainGenerator({0: DOWN}), PlainGenerator()
    both = pool(ill, well, set_aside=0.1)
    await one_after_another(both, 4)
    assert (len(ill.calls), len(well.calls)) == (1, 4)  # nothing is lost, and it is left alone after its failure
    await asyncio.sleep(0.12)
    await one_after_another(both, 4)
    assert len(ill.calls) == 3  # tried again once its rest was over, and back in turn since


async def test_it_rests_longer_each_time(pool):
    ill = PlainGenerator({n: DOWN for n in range(9)})
    both = pool(ill, PlainGenerator(), set_aside=0.05)
    for _ in range(20):
        await draw(both)
        await asyncio.sleep(0.02)
    assert 2 <= len(ill.calls) <= 4  # after 0, 0.05, 0.15 and 0.35 s


async def test_when_all_fail_the_error_says_so(pool):
    with pytest.raises(BackendUnavailable, match="2 of the pool's 2 generators were tried in vain; the last one: down"):
        await draw(pool(PlainGenerator({0: DOWN}), PlainGenerator({0: DOWN})))


async def test_what_no_other_could_do_better_is_not_tried_again(pool):
    other = PlainGenerator()
    with pytest.raises(BackendError, match="refused"):
        await draw(pool(PlainGenerator({0: BackendError("refused")}), other))
    assert not other.calls


async def test_a_time_limit_covers_all_of_it(pool):
    started = time.monotonic()
    with pytest.raises(BackendUnavailable, match=r"within 0.1 s \(generator.timeout\)"):
        await draw(pool(Slow(5), Slow(5), timeout=0.1))
    assert time.monotonic() - started < 2


async def test_a_real_pool_loses_nothing_when_an_endpoint_dies():
    with serving(image_reply()) as alive, serving(Reply({"error": "x"}, 500)) as ill, serving(Reply()) as gone:
        members = [
            {"backend": "openai-images", "model": "m", "base_url": f"{server.url}/v1"} for server in (gone, ill, alive)
        ]
        gone.stop()
        pool = create("generator", "pool", members=members)
        pictures = await draw(pool, 20)
        gone.start()
    assert pictures == [plain_picture()] * 20
    assert len(alive.requests) == 20 and len(ill.requests) < 20


async def test_one_draws_and_another_edits():
    settings = {"backend": "openai-images", "model": "m"}
    with serving(image_reply()) as drawing, serving(image_reply()) as editing:
        generator = create(
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
    assert create("generator", "pool", members=members).timeout == 30
    assert create("generator", "pool", members=members, timeout=5).timeout == 5
    assert create("generator", "draw-and-edit", draw=members[0], edit=members[1]).timeout == 20


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
        create("generator", backend, **settings)
