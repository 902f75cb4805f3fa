import asyncio

import pytest
from support.fakes import plain_picture

from interleaver import calling
from interleaver.errors import BackendError, BackendUnavailable
from interleaver.tools import Capabilities
from interleaver.training.scoring import Redraw, Scorer
from interleaver.types import Plan, Scores, Step

GOOD = Scores(editing=9, preserving=8, naturalness=7, soundness=10, success=True)


class Generator:
    capabilities = Capabilities(max_sources=1)

    def __init__(self, seconds=0.0, size=(64, 64)):
        self.calls, self.at_once, self.most = [], 0, 0
        self.seconds, self.size = seconds, size

    async def generate(self, prompt, sources, seed, size):
        self.calls.append((prompt, len(sources), seed, size))
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await asyncio.sleep(self.seconds)
            if prompt == "broken":
                raise BackendError("I cannot draw that")
            return plain_picture((len(self.calls) % 250, 9, 9), self.size)
        finally:
            self.at_once -= 1


class Judging:
    def __init__(self, fails=()):
        self.fails, self.steps, self.pictures = list(fails), [], []

    async def score(self, step, before, after):
        self.steps.append(step)
        self.pictures.append((before, after))
        if self.fails:
            raise self.fails.pop(0)
        return GOOD


def work(prompt="p", blank=False, shade=10):
    before = plain_picture((shade, 200, 200))
    return Redraw(before, blank, "A red square.", "a square", prompt, (before.width, before.height))


async def test_a_step_is_drawn_once_with_seed_0_and_judged_against_its_instruction():
    generator, judge = Generator(), Judging()
    scorer = Scorer(generator, judge)
    assert await scorer.redraw(work()) == GOOD
    assert [call[:3] for call in generator.calls] == [("p", 1, 0)]
    assert (judge.steps[0].goal, judge.steps[0].prompt) == ("A red square.", "a square")
    await scorer.redraw(work(blank=True))
    assert generator.calls[1][1] == 0  # a critic's white page is no picture to edit


async def test_the_same_work_is_done_once_also_at_the_same_time():
    generator, judge = Generator(0.01), Judging()
    scorer = Scorer(generator, judge)
    await asyncio.gather(*(scorer.redraw(work()) for _ in range(10)))
    await scorer.redraw(work())
    await scorer.redraw(work("another"))
    await scorer.redraw(work(shade=11))
    assert len(generator.calls) == len(judge.steps) == 3
    counts = scorer.take_counts()
    assert (counts.done_count, counts.cached_count, counts.failed.total()) == (3, 10, 0)
    assert len(counts.judge_seconds) == len(counts.draw_seconds) == 3 and scorer.take_counts().done_count == 0


async def test_no_more_than_allowed_at_a_time():
    generator = Generator(0.005)
    scorer = Scorer(generator, Judging(), drawings=3)
    await asyncio.gather(*(scorer.redraw(work(f"p{number}")) for number in range(20)))
    assert generator.most == 3 and len(generator.calls) == 20


@pytest.mark.parametrize(
    ("generator", "judge", "prompt", "reason"),
    [
        (Generator(), Judging(), "broken", "BackendError"),
        (Generator(), Judging([BackendError("no scores")]), "p", "BackendError"),
        (Generator(), Judging([ZeroDivisionError("a bug in a judge")]), "p", "BackendError"),
        (Generator(5), Judging(), "p", "deadline"),
    ],
)
async def test_a_failure_is_counted_and_gives_no_score(generator, judge, prompt, reason):
    scorer = Scorer(generator, judge, deadline=0.05)
    assert await scorer.redraw(work(prompt)) is None
    assert dict(scorer.take_counts().failed) == {reason: 1}


async def test_what_failed_is_tried_again_the_next_time():
    scorer = Scorer(Generator(), Judging([BackendError("a bad moment")]))
    assert await scorer.redraw(work()) is None
    assert await scorer.redraw(work()) == GOOD


async def test_an_unavailable_judge_is_asked_again(monkeypatch):
    from tenacity import wait_none

    monkeypatch.setattr(calling, "BACKOFF", wait_none())
    judge = Judging([BackendUnavailable("busy"), BackendUnavailable("busy")])
    assert await Scorer(Generator(), judge).redraw(work()) == GOOD


async def test_the_share_of_failures():
    scorer = Scorer(Generator(), Judging())
    for number in range(30):
        await scorer.redraw(work("broken" if number % 3 else f"p{number}"))
    assert scorer.failing == pytest.approx(2 / 3)
    fresh = Scorer(Generator(), Judging())
    await fresh.redraw(work("broken"))
    assert fresh.failing == 0  # one piece of work says nothing yet


async def test_a_result_of_another_size_is_judged_at_the_size_of_its_source():
    judge = Judging()
    await Scorer(Generator(size=(20, 30)), judge).redraw(work())
    before, after = judge.pictures[0]
    assert (after.width, after.height) == (before.width, before.height)


async def test_a_document_is_drawn_step_by_step_and_its_last_picture_judged():
    generator, judge = Generator(), Judging()
    steps = [
        Step(number=1, prompt="one", instruction="1"),
        Step(number=2, auxiliary_text="a word"),
        Step(number=3, prompt="two", instruction="2"),
    ]
    scored = await Scorer(generator, judge).document("both", Plan(steps=steps), [], (32, 32))
    assert scored == GOOD
    assert [call[:3] for call in generator.calls] == [("one", 0, 0), ("two", 1, 0)]
    assert judge.steps[0].goal == "both"
