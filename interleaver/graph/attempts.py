"""Attempts at a step: drawing, drafting the next step, having the critic review, and closing the step."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Literal

from interleaver.agents import Critic
from interleaver.agents.exchanges import record_exchanges
from interleaver.calling import Stopwatch
from interleaver.errors import BackendError, BackendUnavailable, BadInput, UnreadableAnswer
from interleaver.graph.backends import Backends
from interleaver.graph.boundary.events import AttemptFailed, AttemptStarted, PictureReady, VerdictGiven, emit
from interleaver.graph.boundary.review import ReviewedAttempt, StepReview, ask
from interleaver.graph.budgets import spent_budget
from interleaver.graph.context import Context
from interleaver.graph.state import (
    RunState,
    attempt_key,
    attempts_of,
    current_step,
    images_of,
    record_draws,
    settings_of,
    step_records,
)
from interleaver.pictures import Picture
from interleaver.store.images import ImageStore
from interleaver.tools import ImageGenerator
from interleaver.types import Attempt, Failure, ImageRef, Json, Outcome, Step, StepResult, Verdict


def attempt_seed(run_seed: int, step: int, attempt: int) -> int:
    """Return the seed of an attempt, 0 to 2**31 - 1.

    It depends on the arguments alone, so an interrupted run draws the same pictures as an uninterrupted one.
    """
    digest = hashlib.sha256(f"{run_seed}/{step}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF


class AttemptMaker:
    """Draws steps with the generator and has the critic review the pictures."""

    def __init__(self, backends: Backends, images: ImageStore):
        self.backends = backends
        self.images = images

    async def draw(
        self, state: RunState, position: int, number: int, prompt: str, images: list[ImageRef], hint: str = ""
    ) -> tuple[Attempt, bool]:
        """Draw a step once.

        Args:
            state: state of the run.
            position: position of the step in the plan, from 0.
            number: number of the attempt, from 1.
            prompt: prompt for the generator.
            images: pictures that the attempt may build on, oldest first.
            hint: text that the generator is sent after the prompt.

        Returns:
            The attempt, and whether the generator was unavailable.
        """
        settings = settings_of(state)
        seed = attempt_seed(settings.seed, position, number)
        attempt = Attempt(step=position, attempt=number, prompt=prompt, seed=seed)
        unavailable = False
        fields = _attempt_fields(state, attempt)
        emit(AttemptStarted(prompt=prompt, ahead=position > state["position"], **fields))
        watch = Stopwatch()
        with record_exchanges() as attempt.exchanges:
            try:
                backend: ImageGenerator = await self.backends.pick("generator", settings)
                attempt.sources = _choose_sources(images, state, position, backend.capabilities.max_sources)
                sources = [await self.images.get(ref) for ref in attempt.sources]
                size = (settings.width, settings.height)
                generate = partial(backend.generate, prompt + hint, sources, seed, size)
                picture = await self.backends.call("generator", backend, lambda: watch.time(generate()), Picture)
                attempt.image = await self.images.put(picture)
            except (BackendError, BadInput) as error:
                attempt.error = str(error)
                unavailable = isinstance(error, BackendUnavailable)
                attempt.may_succeed = isinstance(error, UnreadableAnswer)
        attempt.draw_seconds = round(watch.seconds, 3)
        if attempt.image:
            emit(PictureReady(image=attempt.image, link=self.images.link(attempt.image), **fields))
        else:
            emit(AttemptFailed(error=attempt.error or "", **fields))
        return attempt, unavailable

    async def draw_ahead(self, state: RunState, attempt: Attempt) -> Attempt | None:
        """Draw a draft of the next step, as if this attempt had been accepted; None if none is due or it fails.

        The draft has the prompt, seed and sources that the step would get anyway.
        """
        steps, following = step_records(state), attempt.step + 1
        position = next((n for n in range(following, len(steps)) if record_draws(steps[n])), None)
        if not settings_of(state).lookahead or position is None or spent_budget(state) or not attempt.image:
            return None
        images = [*images_of(state), attempt.image]
        draft, _ = await self.draw(state, position, 1, steps[position]["prompt"], images)
        return draft if draft.image else None  # a draft that failed is drawn again when its turn comes

    async def review(self, state: RunState, attempt: Attempt) -> None:
        """Have the critic review an attempt, and add the verdict or the error to the attempt."""
        step, image = current_step(state), attempt.image
        assert step is not None and image is not None  # route_picture sends only drawn steps here
        watch = Stopwatch()
        with record_exchanges() as exchanges:
            try:
                backend: Critic = await self.backends.pick("critic", settings_of(state))
                after = await self.images.get(image)
                before = await self.images.get_before(attempt.sources, after)
                attempt.verdict = await self.backends.call(
                    "critic", backend, lambda: watch.time(backend.review(step, before, after, attempt.prompt)), Verdict
                )
            except (BackendError, BadInput) as error:
                attempt.error = f"the critic gave no verdict: {error}"
        attempt.exchanges += exchanges
        attempt.review_seconds = round(watch.seconds, 3)
        fields = _attempt_fields(state, attempt)
        if attempt.verdict:
            emit(VerdictGiven(verdict=attempt.verdict, **fields))
        else:
            emit(AttemptFailed(error=attempt.error or "", **fields))


def _attempt_fields(state: RunState, attempt: Attempt) -> dict[str, int]:
    """Return the fields of an event that identify its attempt."""
    number = step_records(state)[attempt.step]["number"]
    return {"step": attempt.step, "number": number, "attempt": attempt.attempt}


def _choose_sources(images: list[ImageRef], state: RunState, position: int, limit: int) -> list[ImageRef]:
    """Return the pictures to edit, at most `limit`; the last one is the picture that the step starts from."""
    sources = images if settings_of(state).references == "all" else images[-1:]
    if position == state.get("kept_steps", 0):
        sources = [ImageRef.model_validate(image) for image in state.get("added_images", [])] + sources
    return sources[-limit:] if limit else []


def record_attempt(attempt: Attempt) -> Json:
    """Return the state update that records an attempt."""
    return {"attempts": {attempt_key(attempt): attempt_record(attempt)}}


def attempt_record(attempt: Attempt) -> Json:
    """Return an attempt as it is stored in the state."""
    return attempt.model_dump(mode="json", exclude_none=True)


def close_step(step: Step, attempts: list[Attempt], settings: Context) -> StepResult:
    """Return the result of a step that gets no further attempts."""
    if not step.draws:
        return StepResult(outcome=Outcome.TEXT)
    last, drawn_attempts = attempts[-1], [attempt for attempt in attempts if attempt.image]
    if not drawn_attempts:
        return StepResult(outcome=Outcome.FAILED, reason=last.error)
    kept_attempt = last if last.image else drawn_attempts[-1]
    outcome, reason = Outcome.EXHAUSTED, None
    if last.image and last.verdict is None:
        outcome, reason = Outcome.UNVERIFIED, last.error
    elif last.verdict and last.verdict.accepted:
        outcome = Outcome.ACCEPTED
    else:
        last_reason = last.error or (last.verdict.reasoning if last.verdict else "")
        reason = f"none of {len(attempts)} attempt(s) was accepted: {last_reason}"
        if settings.on_exhausted == "keep_best":
            kept_attempt = max(drawn_attempts, key=_score)
    return StepResult(outcome=outcome, attempt=kept_attempt.attempt, image=kept_attempt.image, reason=reason)


def ask_about_step(state: RunState, images: ImageStore) -> Json:
    """Interrupt the run for a person's decision about a step without an accepted attempt; return the state update."""
    position, step = state["position"], current_step(state)
    assert step is not None  # routing sends only existing steps to the review
    attempts = [
        ReviewedAttempt(
            link=images.link(attempt.image) if attempt.image else None,
            **attempt.model_dump(include=set(ReviewedAttempt.model_fields)),
        )
        for attempt in attempts_of(state, position)
    ]
    answer = ask(StepReview(request=state["request"], step=step, attempts=attempts))
    if answer.action == "rewrite":
        return {"prompt": answer.prompt, "extra_attempts": attempts[-1].attempt}
    if answer.action == "stop":
        return {"failure": failure_record("review", f"stopped by the reviewer at step {step.number}")}
    if answer.action == "skip":
        result = StepResult(outcome=Outcome.FAILED, reason="skipped by the reviewer")
    else:
        (image,) = (attempt.image for attempt in attempts if attempt.attempt == answer.attempt)
        reason = "the critic accepted no attempt; the reviewer accepted this one"
        result = StepResult(outcome=Outcome.ACCEPTED, attempt=answer.attempt, image=image, reason=reason)
    return {"results": {str(position): result.model_dump(mode="json")}}


def _score(attempt: Attempt) -> tuple[float, int]:
    score = attempt.verdict.score if attempt.verdict and attempt.verdict.score is not None else 0.0
    return (score, attempt.attempt)


def early_end(state: RunState, step: Step, result: StepResult) -> Json | None:
    """Return the failure that ends the run after this step; None if the run continues."""
    if result.outcome is Outcome.EXHAUSTED and settings_of(state).on_exhausted == "stop":
        return failure_record("critic", f"step {step.number} was not accepted and on_exhausted is stop")
    budget = spent_budget(state)
    if budget and any(map(record_draws, step_records(state)[state["position"] + 1 :])):
        return failure_record("budget", budget)
    return None


def cut_off(state: RunState) -> Json | None:
    """Return the failure of a run that LangGraph's recursion limit cuts off; None if all steps have ended."""
    if current_step(state) is None and not state.get("needs_plan"):
        return None
    return failure_record(
        "limit", "LangGraph's recursion_limit cut the run off; invoke the thread again to go on, or raise the limit"
    )


def failure_record(
    where: Literal["planner", "generator", "critic", "budget", "review", "limit"], reason: object
) -> Json:
    """Return a `Failure` as it is stored in the state."""
    return Failure(where=where, reason=str(reason)).model_dump()
