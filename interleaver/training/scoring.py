"""Drawing again and judging, for rewards: many at a time, each piece of work once, and no failure breaks a batch."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field, fields

from interleaver.agents import Judge
from interleaver.graph.backends import call
from interleaver.pictures import Picture, resized, white_canvas
from interleaver.tools import ImageGenerator
from interleaver.types import Judgement, Plan, Step

log = logging.getLogger(__name__)
DEADLINE = 70.0
"""Seconds after which a piece of work counts as failed, as in the paper."""
KEPT = 100_000
"""Scores that are remembered; each is some hundred bytes."""
WINDOW = 200
"""Pieces of work that the share of failures is counted over."""
MOST_STEPS = 30
"""Of a plan that are drawn; a model that has gone astray may plan hundreds."""


@dataclass(frozen=True)
class Redraw:
    """A step that is to be drawn again.

    Attributes:
        before: the picture that the step started from.
        blank: whether that is only the white page that a critic sees where there was none.
        instruction: what the step should achieve.
        origin_prompt: the plan's prompt; a judge that reads prompts is shown this one.
        prompt: what it is drawn with.
        size: of the picture, where it is drawn anew.
        seed: of the drawing; 0 in the paper. The same for all answers, so that they are compared and not their luck.
    """

    before: Picture
    blank: bool
    instruction: str
    origin_prompt: str
    prompt: str
    size: tuple[int, int]
    seed: int = 0


@dataclass
class Counts:
    """What happened since the last report.

    Attributes:
        done: pieces of work that gave a score.
        cached: questions that had been answered before, or were being answered.
        failed: pieces of work without a score, by reason.
        judge_seconds: of each call.
        draw_seconds: likewise.
    """

    done: int = 0
    cached: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    judge_seconds: list[float] = field(default_factory=list)
    draw_seconds: list[float] = field(default_factory=list)


class Scorer:
    """Draws steps and plans with a generator and has a judge score them."""

    def __init__(
        self,
        generator: ImageGenerator,
        judge: Judge,
        *,
        drawings: int = 8,
        judgements: int = 8,
        deadline: float = DEADLINE,
        give_up: float = 1.0,
    ):
        """Set up a scorer.

        Args:
            generator: draws; any backend, pools included.
            judge: scores; any backend.
            drawings: at a time.
            judgements: at a time.
            deadline: seconds that one drawing or judgement may take once it has begun.
            give_up: once more than this share of the last pieces of work failed, nothing is tried any more.
        """
        self._generator = generator
        self._judge = judge
        self._limits = (drawings, judgements)
        self._slots: tuple[asyncio.Semaphore, asyncio.Semaphore] | None = None
        self._deadline = deadline
        self._give_up = give_up
        self._known: OrderedDict[Hashable, asyncio.Task[Judgement | None]] = OrderedDict()
        self._recent: deque[bool] = deque(maxlen=WINDOW)
        self.counts = Counts()

    @property
    def failing(self) -> float:
        """The share of the last pieces of work that failed, 0 to 1; 0 until a tenth of the window is full."""
        return sum(self._recent) / len(self._recent) if len(self._recent) >= WINDOW // 10 else 0.0

    def take_counts(self) -> Counts:
        """What happened since this was last called."""
        taken, self.counts = self.counts, Counts()
        return taken

    async def redraw(self, work: Redraw) -> Judgement | None:
        """Draw a step again and score it; None when that failed. Must always be called in the same event loop."""
        key = (work.before.ref.sha256, *(getattr(work, one.name) for one in fields(work) if one.name != "before"))
        return await self._once(key, lambda: self._redraw(work))

    async def document(
        self, request: str, plan: Plan, pictures: list[Picture], size: tuple[int, int]
    ) -> Judgement | None:
        """Draw every step of a plan once and score how well the last picture does what was requested.

        Args:
            request: what was asked for.
            plan: the plan.
            pictures: that came with the request.
            size: of a picture that is drawn anew.
        """
        prompts = tuple(step.prompt for step in plan.steps if step.prompt and step.draws)[:MOST_STEPS]
        key = (request, prompts, size, *(picture.ref.sha256 for picture in pictures))
        return await self._once(key, lambda: self._document(request, prompts, pictures, size))

    async def _once(self, key: Hashable, work: Callable[[], Awaitable[Judgement | None]]) -> Judgement | None:
        """Do a piece of work, or share what was or is being done; what failed is tried again the next time."""
        task = self._known.get(key)
        if self.failing > self._give_up:
            self.counts.failed["given up"] += 1
            return None
        if task is None or (task.done() and task.result() is None):
            self._known[key] = task = asyncio.ensure_future(self._safely(work))
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        else:
            self.counts.cached += 1
            self._known.move_to_end(key)
        return await asyncio.shield(task)

    async def _safely(self, work: Callable[[], Awaitable[Judgement | None]]) -> Judgement | None:
        try:
            scored = await work()
        except TimeoutError:
            self._fail("deadline", f"no score within {self._deadline:g} s")
            return None
        except Exception as error:  # whatever breaks in a backend must not break the batch
            self._fail(type(error).__name__, str(error))
            return None
        self._recent.append(False)
        self.counts.done += 1
        return scored

    def _fail(self, reason: str, said: str) -> None:
        self._recent.append(True)
        self.counts.failed[reason] += 1
        log.warning("a reward is neutral, since drawing or judging failed: %s", said)

    async def _redraw(self, work: Redraw) -> Judgement:
        sources = [] if work.blank else [work.before]
        picture = await self._draw(work.prompt, sources, work.size, work.seed)
        if (picture.width, picture.height) != (work.before.width, work.before.height):
            picture = await asyncio.to_thread(resized, picture, (work.before.width, work.before.height))
        step = Step(number=1, instruction=work.instruction, prompt=work.origin_prompt)
        return await self._score(step, work.before, picture)

    async def _document(
        self, request: str, prompts: tuple[str, ...], given: list[Picture], size: tuple[int, int]
    ) -> Judgement:
        drawn = list(given)
        for prompt in prompts:
            drawn.append(await self._draw(prompt, drawn[-1:], size))
        before = given[-1] if given else await asyncio.to_thread(white_canvas, *size)
        step = Step(number=1, instruction=request, prompt=request)
        return await self._score(step, before, drawn[-1] if drawn else before)

    async def _draw(self, prompt: str, sources: list[Picture], size: tuple[int, int], seed: int = 0) -> Picture:
        many = self._generator.capabilities.max_sources
        async with self._slot(0):
            began = time.monotonic()
            async with asyncio.timeout(self._deadline):
                picture = await call(
                    self._generator,
                    lambda: self._generator.generate(prompt, sources[-many:] if many else [], seed, size),
                    Picture,
                )
            self.counts.draw_seconds.append(time.monotonic() - began)
        return picture

    async def _score(self, step: Step, before: Picture, after: Picture) -> Judgement:
        async with self._slot(1):
            began = time.monotonic()
            async with asyncio.timeout(self._deadline):
                scored = await call(self._judge, lambda: self._judge.score(step, before, after), Judgement)
            self.counts.judge_seconds.append(time.monotonic() - began)
        return scored

    def _slot(self, which: int) -> asyncio.Semaphore:
        if self._slots is None:
            self._slots = (asyncio.Semaphore(self._limits[0]), asyncio.Semaphore(self._limits[1]))
        return self._slots[which]
