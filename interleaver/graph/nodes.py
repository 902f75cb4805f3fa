"""The nodes of the state machine: each reads the state, does one thing and returns what changed."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from langchain_core.messages import AIMessage
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from interleaver.agents import Critic, Planner
from interleaver.agents.exchanges import recording
from interleaver.errors import BackendError, BackendUnavailable, BadInput
from interleaver.graph.compose import compose_document, tell
from interleaver.graph.context import Context
from interleaver.graph.inputs import IMAGE_TAG, read_input
from interleaver.graph.review import PlanReview, read_answer
from interleaver.graph.state import (
    RunState,
    attempts_of,
    current_step,
    draft_after,
    key_of,
    pictures_of,
    plan_of,
    settings_of,
    spent_budget,
)
from interleaver.pictures import Picture, white_canvas
from interleaver.registry import Kind, create
from interleaver.tools import ImageGenerator
from interleaver.traces.images import ImageStore
from interleaver.types import Attempt, Failure, ImageRef, Outcome, Plan, Step, StepResult, Verdict

log = logging.getLogger(__name__)
Update = dict[str, Any]
T = TypeVar("T")
NO_LIMIT = 86_400.0
BACKOFF = wait_random_exponential(multiplier=0.5, max=20)
"""How long to wait, in seconds, before an unavailable backend is called again."""


@dataclass
class Backends:
    """The models behind the nodes: those the graph was built with, and others by name for a run that asks for them."""

    planner: Planner | None = None
    critic: Critic | None = None
    generator: ImageGenerator | None = None
    _named: dict[tuple[Kind, str], Any] = field(default_factory=dict)

    async def pick(self, kind: Kind, settings: Context) -> Any:
        """The backend of a kind that these settings ask for."""
        name, built_with = getattr(settings, kind), getattr(self, kind)
        if name is None and built_with is not None:
            return built_with
        key = (kind, name or "sandbox")
        if key not in self._named:
            # Making a backend imports its module and may read files, which would block the loop.
            self._named[key] = await asyncio.to_thread(create, *key)
        return self._named[key]


def attempt_seed(run_seed: int, step: int, attempt: int) -> int:
    """The seed of an attempt, 0 to 2**31 - 1.

    It depends on nothing else, so a run that was interrupted draws the same pictures as one that was not.
    """
    digest = hashlib.sha256(f"{run_seed}/{step}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF


async def call(backend: object, work: Callable[[], Awaitable[T]], answer: type[T]) -> T:
    """Call a backend: again, with backoff, while it is unavailable and its `timeout`, if it has one, is not spent.

    Args:
        backend: the backend that is called.
        work: the call.
        answer: the type that it must return.

    Raises:
        BackendUnavailable: it stayed unavailable.
        BackendError: it failed otherwise, or its answer is not of the type `answer`.
    """
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(BackendUnavailable),
        wait=_pause,
        stop=stop_after_attempt(4) | stop_before_delay(getattr(backend, "timeout", None) or NO_LIMIT),
        reraise=True,
    )
    try:
        given: object = await retrying(_as_coroutine, work)
    except (BackendError, BadInput):
        raise
    except Exception as error:
        # Backends come from other packages too: whatever breaks inside one must end in an explicit status.
        log.debug("a backend failed", exc_info=True)
        raise BackendError(f"{type(error).__name__}: {error}") from error
    if not isinstance(given, answer):
        raise BackendError(f"the backend answered a {type(given).__name__} instead of a {answer.__name__}")
    return given


def _pause(retry: RetryCallState) -> float:
    """Seconds before the next try: as long as the other side asked for, at least the backoff."""
    error = retry.outcome.exception() if retry.outcome else None
    asked = error.retry_after if isinstance(error, BackendUnavailable) else None
    return max(BACKOFF(retry), asked or 0.0)


async def _as_coroutine(work: Callable[[], Awaitable[T]]) -> T:
    # tenacity awaits coroutine functions only, and a lambda is none.
    return await work()


class Nodes:
    """The node functions, bound to their backends and the image store."""

    def __init__(self, backends: Backends, images: ImageStore):
        self.backends = backends
        self.images = images

    async def planner(self, state: RunState, runtime: Runtime[Context]) -> Update:
        """Write the plan."""
        settings = runtime.context or Context()
        feedback = state.get("feedback", "")
        fresh: Update = {
            "settings": settings.model_dump(),
            "images": [],
            "feedback": "",
            "plan": {"steps": []},
            "attempts": None,
            "results": None,
            "drafts": None,
            "position": 0,
            "prompt": "",
            "failure": None,
            "document": {},
            "status": "running",
        }
        started = time.monotonic()
        with recording() as exchanges:
            try:
                request, images = await read_input(state, self.images)
                fresh |= {"request": request, "given": [image.ref.model_dump() for image in images]}
                backend: Planner = await self.backends.pick("planner", settings)
                wanted = _with_feedback(request, feedback)
                plan = (await call(backend, lambda: backend.plan(wanted, images), Plan)).numbered()
            except (BackendError, BadInput) as error:
                fresh["failure"] = _failure("planner", error)
        earlier = state.get("plan_exchanges", []) if feedback else []
        fresh["plan_exchanges"] = earlier + [
            exchange.model_dump(mode="json", exclude_none=True) for exchange in exchanges
        ]
        if fresh["failure"]:
            return fresh
        seconds = time.monotonic() - started + (state.get("plan_seconds", 0.0) if feedback else 0.0)
        return fresh | {
            "plan": plan.model_dump(mode="json"),
            "plan_seconds": round(seconds, 3),
            "prompt": _first_prompt(plan, 0),
        }

    async def review(self, state: RunState) -> Update:
        """Pause until a person has approved, edited or rejected the plan."""
        question = PlanReview(request=state["request"], plan=plan_of(state))
        while True:
            answer = interrupt(question.model_dump(mode="json"))
            try:
                reply = read_answer(answer)
                break
            except BadInput as error:
                question = question.model_copy(update={"error": str(error)})
        if reply.action == "reject":
            return {"feedback": reply.feedback}
        plan = reply.plan.numbered() if reply.plan else question.plan
        return {"plan": plan.model_dump(mode="json"), "prompt": _first_prompt(plan, 0)}

    async def generator(self, state: RunState) -> Update:
        """Draw the step at work once, or take the drawing that was made ahead."""
        position = state["position"]
        before = attempts_of(state)
        draft = draft_after(state, before[-1]) if before else None
        if draft and draft.step == position and before[-1].step < position:
            return _record(draft)
        number = len(attempts_of(state, position)) + 1
        attempt, unavailable = await self._draw(state, position, number, state["prompt"], pictures_of(state))
        return _record(attempt) | ({"failure": _failure("generator", attempt.error)} if unavailable else {})

    async def critic(self, state: RunState) -> Update:
        """Judge the picture that was just drawn."""
        attempt = attempts_of(state, state["position"])[-1]
        _, draft = await asyncio.gather(self._judge(state, attempt), self._draw_ahead(state, attempt))
        update = _record(attempt)
        if draft:
            if not (attempt.verdict and attempt.verdict.accepted):
                draft.discarded = f"drawn ahead on attempt {attempt.attempt} of the step before, which was not accepted"
            update["drafts"] = {key_of(attempt): _dump(draft)}
        return update

    async def refine(self, state: RunState) -> Update:
        """Take over the critic's better prompt."""
        verdict = attempts_of(state, state["position"])[-1].verdict
        return {"prompt": (verdict.refined_prompt if verdict else "") or state["prompt"]}

    async def accept(self, state: RunState) -> Update:
        """Close the step at work and turn to the next."""
        position = state["position"]
        step, attempts = current_step(state), attempts_of(state, position)
        assert step is not None  # route_step sends only existing steps here
        result = close_step(step, attempts, settings_of(state))
        update: Update = {
            "results": {str(position): result.model_dump(mode="json")},
            "position": position + 1,
            "prompt": _first_prompt(plan_of(state), position + 1),
        }
        if not state.get("failure"):
            update["failure"] = _early_end(state, step, result)
        return update

    async def compose(self, state: RunState) -> Update:
        """Lay the finished steps out as the document."""
        document = compose_document(state)
        return {
            "document": document.model_dump(mode="json"),
            "status": document.status,
            "messages": [AIMessage(content=tell(document))],
        }

    async def _draw(
        self, state: RunState, position: int, number: int, prompt: str, pictures: list[ImageRef]
    ) -> tuple[Attempt, bool]:
        """Draw a step once; the attempt, and whether the generator is out of reach."""
        settings = settings_of(state)
        seed = attempt_seed(settings.seed, position, number)
        attempt = Attempt(step=position, attempt=number, prompt=prompt, seed=seed)
        unavailable = False
        started = time.monotonic()
        with recording() as attempt.exchanges:
            try:
                backend: ImageGenerator = await self.backends.pick("generator", settings)
                attempt.sources = _sources(pictures, settings, backend.capabilities.max_sources)
                sources = [await self.images.get(ref) for ref in attempt.sources]
                size = (settings.width, settings.height)
                picture = await call(backend, lambda: backend.generate(prompt, sources, seed, size), Picture)
                attempt.image = await self.images.put(picture)
            except (BackendError, BadInput) as error:
                attempt.error = str(error)
                unavailable = isinstance(error, BackendUnavailable)
        attempt.draw_seconds = round(time.monotonic() - started, 3)
        return attempt, unavailable

    async def _draw_ahead(self, state: RunState, attempt: Attempt) -> Attempt | None:
        """The next drawing, made as if this attempt had been accepted; it is the very one that would be made later."""
        steps, following = plan_of(state).steps, attempt.step + 1
        position = next((n for n in range(following, len(steps)) if steps[n].draws), None)
        if not settings_of(state).lookahead or position is None or spent_budget(state) or not attempt.image:
            return None
        pictures = [*pictures_of(state), attempt.image]
        draft, _ = await self._draw(state, position, 1, steps[position].prompt or "", pictures)
        return draft if draft.image else None  # what failed ahead of its turn is tried again in its turn

    async def _judge(self, state: RunState, attempt: Attempt) -> None:
        """Add the critic's verdict to an attempt, or why there is none."""
        step, image = current_step(state), attempt.image
        assert step is not None and image is not None  # route_picture sends only drawn steps here
        started = time.monotonic()
        with recording() as exchanges:
            try:
                backend: Critic = await self.backends.pick("critic", settings_of(state))
                after = await self.images.get(image)
                before = await self._before(attempt, after)
                attempt.verdict = await call(
                    backend, lambda: backend.judge(step, before, after, attempt.prompt), Verdict
                )
            except (BackendError, BadInput) as error:
                attempt.error = f"the critic gave no verdict: {error}"
        attempt.exchanges += exchanges
        attempt.judge_seconds = round(time.monotonic() - started, 3)

    async def _before(self, attempt: Attempt, after: Picture) -> Picture:
        """The picture an attempt started from; a white canvas when it was drawn anew."""
        if attempt.sources:
            return await self.images.get(attempt.sources[-1])
        canvas = await asyncio.to_thread(white_canvas, after.width, after.height)
        await self.images.put(canvas)  # the exchange with the critic refers to it
        return canvas


def close_step(step: Step, attempts: list[Attempt], settings: Context) -> StepResult:
    """The result of a step, from its attempts."""
    if not step.draws:
        return StepResult(outcome=Outcome.TEXT)
    last, drawn = attempts[-1], [attempt for attempt in attempts if attempt.image]
    if not drawn:
        return StepResult(outcome=Outcome.FAILED, reason=last.error)
    kept = last if last.image else drawn[-1]
    if last.image and last.verdict is None:
        return StepResult(outcome=Outcome.UNVERIFIED, attempt=kept.attempt, image=kept.image, reason=last.error)
    if last.verdict and last.verdict.accepted:
        return StepResult(outcome=Outcome.ACCEPTED, attempt=kept.attempt, image=kept.image)
    if settings.on_exhausted == "keep_best":
        kept = max(drawn, key=_score)
    said = last.error or (last.verdict.reasoning if last.verdict else "")
    reason = f"none of {len(attempts)} attempt(s) was accepted: {said}"
    return StepResult(outcome=Outcome.EXHAUSTED, attempt=kept.attempt, image=kept.image, reason=reason)


def _score(attempt: Attempt) -> tuple[float, int]:
    score = attempt.verdict.score if attempt.verdict and attempt.verdict.score is not None else 0.0
    return (score, attempt.attempt)


def _early_end(state: RunState, step: Step, result: StepResult) -> dict[str, str] | None:
    """The failure that ends the run after this step, if there is one."""
    if result.outcome is Outcome.EXHAUSTED and settings_of(state).on_exhausted == "stop":
        return _failure("critic", f"step {step.number} was not accepted and on_exhausted is stop")
    spent = spent_budget(state)
    later = plan_of(state).steps[state["position"] + 1 :]
    if spent and any(step.draws for step in later):
        return _failure("budget", spent)
    return None


def _failure(where: Literal["planner", "generator", "critic", "budget"], reason: object) -> dict[str, str]:
    return Failure(where=where, reason=str(reason)).model_dump()


def _record(attempt: Attempt) -> Update:
    return {"attempts": {key_of(attempt): _dump(attempt)}}


def _dump(attempt: Attempt) -> dict[str, Any]:
    return attempt.model_dump(mode="json", exclude_none=True)


def _first_prompt(plan: Plan, position: int) -> str:
    return (plan.steps[position].prompt or "") if position < len(plan.steps) else ""


def _sources(pictures: list[ImageRef], settings: Context, limit: int) -> list[ImageRef]:
    wanted = pictures if settings.references == "all" else pictures[-1:]
    return wanted[-limit:] if limit else []


def _with_feedback(request: str, feedback: str) -> str:
    if not feedback:
        return request
    said = feedback.replace(IMAGE_TAG, "[image]")  # the tags of the request are as many as its pictures
    return f"{request}\n\nAbout the last plan the reader said: {said}"
