"""Scoring for GRPO rewards: draws and judges concurrently, caches results, and survives failures of the backends.

A scoring task is one redrawn step or one whole document, drawn and then scored by the judge.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field, fields

from interleaver.agents import Judge
from interleaver.calling import call
from interleaver.pictures import Picture, resize_picture, white_canvas
from interleaver.tools import ImageGenerator
from interleaver.types import Plan, Scores, Step

log = logging.getLogger(__name__)
DEADLINE_SECONDS = 70.0
"""Default timeout of one drawing or one judge call in seconds, as in the paper."""
CACHE_SIZE = 100_000
"""Maximum number of cached results; each takes a few hundred bytes."""
WINDOW = 200
"""Number of most recent scoring tasks over which the failure rate is computed."""
MAX_STEPS = 30
"""Maximum number of steps that are drawn per plan; a degenerate model may plan hundreds."""


@dataclass(frozen=True)
class Redraw:
    """A step to redraw with another prompt.

    Attributes:
        before: picture that the step starts from.
        blank: whether `before` is only the blank canvas that the critic was shown because the step has no source
            picture.
        instruction: what the step should achieve.
        origin_prompt: prompt of the step in the plan, shown to judges that read prompts.
        prompt: prompt to draw with.
        size: width and height in pixels of the new picture, for steps without a source picture.
        seed: seed of the drawing; 0 in the paper. All answers share it, so that their scores differ by the prompt and
            not by the seed.
    """

    before: Picture
    blank: bool
    instruction: str
    origin_prompt: str
    prompt: str
    size: tuple[int, int]
    seed: int = 0


@dataclass
class ScoringCounts:
    """Statistics of the scoring tasks since the last report.

    Attributes:
        done_count: number of tasks that gave a score.
        cached_count: number of requests answered from the cache or by a task already in progress.
        failed: number of tasks without a score, by reason.
        judge_seconds: duration of each judge call, in seconds.
        draw_seconds: duration of each drawing, in seconds.
    """

    done_count: int = 0
    cached_count: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    judge_seconds: list[float] = field(default_factory=list)
    draw_seconds: list[float] = field(default_factory=list)


class Scorer:
    """Draws steps and plans with a generator and has a judge score the pictures."""

    def __init__(
        self,
        generator: ImageGenerator,
        judge: Judge,
        *,
        drawings: int = 8,
        judgements: int = 8,
        deadline: float = DEADLINE_SECONDS,
        give_up: float = 1.0,
    ):
        """Create a scorer.

        Args:
            generator: backend that draws; may be a pool.
            judge: backend that scores.
            drawings: maximum number of simultaneous drawings.
            judgements: maximum number of simultaneous judge calls.
            deadline: timeout of one drawing or one judge call in seconds, without the time spent waiting for a slot.
            give_up: failure rate over the last `WINDOW` tasks, 0 to 1, above which no further task is started.
        """
        self._generator = generator
        self._judge = judge
        self._limits = (drawings, judgements)
        self._slots: tuple[asyncio.Semaphore, asyncio.Semaphore] | None = None
        self._deadline = deadline
        self._give_up = give_up
        self._tasks: OrderedDict[Hashable, asyncio.Task[Scores | None]] = OrderedDict()
        self._recent: deque[bool] = deque(maxlen=WINDOW)
        self.counts = ScoringCounts()

    @property
    def failing(self) -> float:
        """Failure rate over the last `WINDOW` tasks, 0 to 1; 0 until a tenth of the window is filled."""
        return sum(self._recent) / len(self._recent) if len(self._recent) >= WINDOW // 10 else 0.0

    def take_counts(self) -> ScoringCounts:
        """Return the statistics since the last call, and reset them."""
        counts, self.counts = self.counts, ScoringCounts()
        return counts

    async def redraw(self, redraw_task: Redraw) -> Scores | None:
        """Redraw a step and return its scores; None if that failed.

        Equal tasks share one result, so all calls must be made in the same event loop.
        """
        key = (
            redraw_task.before.ref.sha256,
            *(getattr(redraw_task, attribute.name) for attribute in fields(redraw_task) if attribute.name != "before"),
        )
        return await self._once(key, lambda: self._redraw(redraw_task))

    async def document(self, request: str, plan: Plan, pictures: list[Picture], size: tuple[int, int]) -> Scores | None:
        """Draw every step of a plan once and return the scores of the last picture against the request.

        Args:
            request: text of the request.
            plan: plan to draw; only its first `MAX_STEPS` drawn steps count.
            pictures: pictures of the request.
            size: width and height in pixels of pictures that are drawn without a source picture.

        Returns:
            The judge's scores; None if drawing or judging failed.
        """
        prompts = tuple(step.prompt for step in plan.steps if step.prompt and step.draws)[:MAX_STEPS]
        key = (request, prompts, size, *(picture.ref.sha256 for picture in pictures))
        return await self._once(key, lambda: self._document(request, prompts, pictures, size))

    async def _once(self, key: Hashable, work: Callable[[], Awaitable[Scores | None]]) -> Scores | None:
        """Return the cached result for a key, or that of the task in progress, or start a new task.

        Failures are not cached: the next call with the same key tries again.
        """
        task = self._tasks.get(key)
        if self.failing > self._give_up:
            self.counts.failed["given up"] += 1
            return None
        if task is None or (task.done() and task.result() is None):
            self._tasks[key] = task = asyncio.ensure_future(self._safely(work))
            if len(self._tasks) > CACHE_SIZE:
                self._tasks.popitem(last=False)
        else:
            self.counts.cached_count += 1
            self._tasks.move_to_end(key)
        return await asyncio.shield(task)

    async def _safely(self, work: Callable[[], Awaitable[Scores | None]]) -> Scores | None:
        try:
            scores = await work()
        except TimeoutError:
            self._fail("deadline", f"no score within {self._deadline:g} s")
            return None
        except Exception as error:  # an error in a backend must not abort the batch
            self._fail(type(error).__name__, str(error))
            return None
        self._recent.append(False)
        self.counts.done_count += 1
        return scores

    def _fail(self, reason: str, message: str) -> None:
        self._recent.append(True)
        self.counts.failed[reason] += 1
        log.warning("using a neutral reward because drawing or judging failed: %s", message)

    async def _redraw(self, redraw_task: Redraw) -> Scores:
        sources = [] if redraw_task.blank else [redraw_task.before]
        picture = await self._draw(redraw_task.prompt, sources, redraw_task.size, redraw_task.seed)
        if (picture.width, picture.height) != (redraw_task.before.width, redraw_task.before.height):
            picture = await asyncio.to_thread(
                resize_picture, picture, (redraw_task.before.width, redraw_task.before.height)
            )
        step = Step(number=1, instruction=redraw_task.instruction, prompt=redraw_task.origin_prompt)
        return await self._score(step, redraw_task.before, picture)

    async def _document(
        self, request: str, prompts: tuple[str, ...], request_pictures: list[Picture], size: tuple[int, int]
    ) -> Scores:
        pictures = list(request_pictures)
        for prompt in prompts:
            pictures.append(await self._draw(prompt, pictures[-1:], size))
        before = request_pictures[-1] if request_pictures else await asyncio.to_thread(white_canvas, *size)
        step = Step(number=1, instruction=request, prompt=request)
        return await self._score(step, before, pictures[-1] if pictures else before)

    async def _draw(self, prompt: str, sources: list[Picture], size: tuple[int, int], seed: int = 0) -> Picture:
        max_sources = self._generator.capabilities.max_sources
        async with self._slot(0):
            start = time.monotonic()
            async with asyncio.timeout(self._deadline):
                picture = await call(
                    self._generator,
                    lambda: self._generator.generate(prompt, sources[-max_sources:] if max_sources else [], seed, size),
                    Picture,
                )
            self.counts.draw_seconds.append(time.monotonic() - start)
        return picture

    async def _score(self, step: Step, before: Picture, after: Picture) -> Scores:
        async with self._slot(1):
            start = time.monotonic()
            async with asyncio.timeout(self._deadline):
                scores = await call(self._judge, lambda: self._judge.score(step, before, after), Scores)
            self.counts.judge_seconds.append(time.monotonic() - start)
        return scores

    def _slot(self, index: int) -> asyncio.Semaphore:
        if self._slots is None:
            self._slots = (asyncio.Semaphore(self._limits[0]), asyncio.Semaphore(self._limits[1]))
        return self._slots[index]
