"""The nodes of the state machine: each reads the state, does one thing and returns what changed."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Collection
from typing import Any, cast

from langgraph.runtime import Runtime

from interleaver.agents import Critic, Planner, Reviser
from interleaver.agents.exchanges import recording
from interleaver.errors import BackendError, BackendUnavailable, BadInput
from interleaver.graph import tracing
from interleaver.graph.backends import Backends, call
from interleaver.graph.chat import Told, answer, last_told
from interleaver.graph.compose import blocks_of, compose_document
from interleaver.graph.context import Context, RunSettings, given_settings
from interleaver.graph.events import (
    AttemptFailed,
    AttemptStarted,
    BlockReady,
    DocumentReady,
    PictureReady,
    PlanReady,
    StepEnded,
    VerdictGiven,
    emit,
)
from interleaver.graph.inputs import IMAGE_TAG, Task, read_pictures, read_task
from interleaver.graph.outcomes import close_step, early_end, failed
from interleaver.graph.review import PlanReview, ReviewedAttempt, StepReview, ask
from interleaver.graph.revision import keep, told_by
from interleaver.graph.state import (
    RunState,
    attempts_of,
    current_step,
    draft_after,
    key_of,
    pictures_of,
    plan_of,
    result_of,
    settings_of,
    spent_budget,
)
from interleaver.pictures import Picture, white_canvas
from interleaver.tools import ImageGenerator
from interleaver.traces.images import ImageStore
from interleaver.types import (
    Attempt,
    Block,
    ImageBlock,
    ImageRef,
    Outcome,
    Plan,
    StepResult,
    Verdict,
)

Update = dict[str, Any]


def attempt_seed(run_seed: int, step: int, attempt: int) -> int:
    """The seed of an attempt, 0 to 2**31 - 1.

    It depends on nothing else, so a run that was interrupted draws the same pictures as one that was not.
    """
    digest = hashlib.sha256(f"{run_seed}/{step}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF


class Nodes:
    """The node functions, bound to their backends, the image store and the settings that a run has by default."""

    def __init__(self, backends: Backends, images: ImageStore, defaults: RunSettings, image_hosts: Collection[str]):
        self.backends = backends
        self.images = images
        self.defaults = defaults
        self.image_hosts = image_hosts

    async def planner(self, state: RunState, runtime: Runtime[Context]) -> Update:
        """Write the plan, or change the one that the chat has come to."""
        settings = Context.model_validate(self.defaults.model_dump() | given_settings(runtime.context))
        fresh: Update = {
            "settings": settings.model_dump(),
            "given": [],
            "inserted": [],
            "plan": {"steps": []},
            "attempts": None,
            "results": None,
            "drafts": None,
            "kept": 0,
            "position": 0,
            "prompt": "",
            "granted": 0,
            "failure": None,
            "document": {},
            "status": "running",
        }
        started = time.monotonic()
        with recording() as exchanges:
            try:
                task = read_task(state)
                fresh |= {"request": task.request, "heard": task.request}
                images = await read_pictures(task, self.images, self.image_hosts)
                fresh["given"] = [image.ref.model_dump() for image in images]
                backend: Planner = await self.backends.pick("planner", settings)
                async with self.backends.slot("planner"):
                    started = time.monotonic()
                    fresh |= await self._plan(backend, task, images, state)
                self._begin(state, fresh)
            except (BackendError, BadInput) as error:
                fresh["failure"] = failed("planner", error)
        again = bool(state.get("feedback"))
        earlier = state.get("plan_exchanges", []) if again else []
        fresh["plan_exchanges"] = earlier + [
            exchange.model_dump(mode="json", exclude_none=True) for exchange in exchanges
        ]
        before = state.get("plan_seconds", 0.0) if again else 0.0
        return fresh | {"plan_seconds": round(time.monotonic() - started + before, 3)}

    async def review(self, state: RunState) -> Update:
        """Pause until a person has decided about the plan, or about a step whose attempts are spent."""
        if attempts_of(state, state["position"]):
            return self._review_step(state)
        question = PlanReview(request=state["request"], plan=plan_of(state))
        reply = ask(question)
        if reply.action == "reject":
            return {"feedback": reply.feedback}
        if reply.action == "approve":
            return {}
        update = keep(state, told_by(state), question.edited(reply))
        self._begin(state, update)
        return update

    async def generator(self, state: RunState) -> Update:
        """Draw the step at work once, or take the drawing that was made ahead."""
        position, step = state["position"], current_step(state)
        assert step is not None  # routing sends only existing steps here
        before = attempts_of(state)
        draft = draft_after(state, before[-1]) if before else None
        if draft and draft.step == position and before[-1].step < position:
            return _record(draft)
        number = len(attempts_of(state, position)) + 1
        prompt = state["prompt"] or step.prompt or ""
        attempt, unavailable = await self._draw(state, position, number, prompt, pictures_of(state))
        await tracing.tell_attempt(step, attempt, self.images)
        return _record(attempt) | ({"failure": failed("generator", attempt.error)} if unavailable else {})

    async def critic(self, state: RunState) -> Update:
        """Judge the picture that was just drawn."""
        attempt = attempts_of(state, state["position"])[-1]
        _, draft = await asyncio.gather(self._judge(state, attempt), self._draw_ahead(state, attempt))
        step = current_step(state)
        assert step is not None
        await tracing.tell_attempt(step, attempt, self.images)
        update = _record(attempt)
        if draft:
            if not (attempt.verdict and attempt.verdict.accepted):
                draft.discarded = f"drawn ahead on attempt {attempt.attempt} of the step before, which was not accepted"
            update["drafts"] = {key_of(attempt): _dump(draft)}
        return update

    async def refine(self, state: RunState) -> Update:
        """Take over the critic's better prompt."""
        last = attempts_of(state, state["position"])[-1]
        return {"prompt": (last.verdict.refined_prompt if last.verdict else "") or last.prompt}

    async def accept(self, state: RunState) -> Update:
        """Close the step at work and turn to the next."""
        position, step, plan = state["position"], current_step(state), plan_of(state)
        assert step is not None  # routing sends only existing steps here
        attempts = attempts_of(state, position)
        result = result_of(state, position) or close_step(step, attempts, settings_of(state))
        tracing.tell_outcome(step, result)
        emit(StepEnded(step=position, number=step.number, outcome=result.outcome, reason=result.reason))
        earlier = (blocks_of(plan, n, ended) for n in range(position) if (ended := result_of(state, n)))
        self._emit_blocks(blocks_of(plan, position, result), sum(map(len, earlier)))
        update: Update = {
            "results": {str(position): result.model_dump(mode="json")},
            "position": position + 1,
            "prompt": "",
            "granted": 0,
        }
        if not state.get("failure"):
            update["failure"] = early_end(state, step, result)
        return update

    async def compose(self, state: RunState) -> Update:
        """Lay the finished steps out as the document."""
        document = compose_document(state)
        emit(DocumentReady(status=document.status, reason=document.reason))
        tracing.tell_document(document)
        told = told_by(state) if document.steps else None
        note = _note(state, last_told(state.get("messages", [])))
        message = await answer(document, told, self.images, settings_of(state).chat_pictures, note)
        return {"document": document.model_dump(mode="json"), "status": document.status, "messages": [message]}

    async def _plan(self, backend: Planner, task: Task, images: list[Picture], state: RunState) -> Update:
        """The plan, and how much of the document before it stays."""
        wanted, told = _with_feedback(task.request, state.get("feedback", "")), task.told
        if told and isinstance(backend, Reviser):
            revised = await call(backend, lambda: backend.revise(wanted, images, told.plan), Plan)
            if revised.steps:
                request = f"{told.request}\n\nThen: {task.request}"
                return keep(state, told, revised.numbered(), await self._still_there(told)) | {
                    "request": request,
                    "heard": request,
                    "given": [image.model_dump() for image in told.given],
                    "inserted": [image.ref.model_dump() for image in images],
                }
        plan = await call(backend, lambda: backend.plan(wanted, images), Plan)
        return {"plan": plan.numbered().model_dump(mode="json")}

    async def _still_there(self, told: Told) -> int:
        """How many first steps of a document have their pictures in the store, if they have any."""
        for position in range(len(told.plan.steps)):
            result = told.results.get(position)
            if result and result.image and not await self.images.holds(result.image):
                return position
        return len(told.plan.steps)

    def _review_step(self, state: RunState) -> Update:
        """Ask about a step of which every attempt was rejected."""
        position, step = state["position"], current_step(state)
        assert step is not None
        attempts = [
            ReviewedAttempt(
                link=self.images.link(attempt.image) if attempt.image else None,
                **attempt.model_dump(include=set(ReviewedAttempt.model_fields)),
            )
            for attempt in attempts_of(state, position)
        ]
        reply = ask(StepReview(request=state["request"], step=step, attempts=attempts))
        if reply.action == "rewrite":
            return {"prompt": reply.prompt, "granted": len(attempts)}
        if reply.action == "stop":
            return {"failure": failed("review", f"stopped by the reviewer at step {step.number}")}
        if reply.action == "skip":
            result = StepResult(outcome=Outcome.FAILED, reason="left out by the reviewer")
        else:
            (image,) = (attempt.image for attempt in attempts if attempt.attempt == reply.attempt)
            reason = "the critic accepted no attempt, the reviewer this one"
            result = StepResult(outcome=Outcome.ACCEPTED, attempt=reply.attempt, image=image, reason=reason)
        return {"results": {str(position): result.model_dump(mode="json")}}

    def _begin(self, state: RunState, update: Update) -> None:
        """Tell the plan that was settled, and the blocks that stay as they were."""
        begun = cast(RunState, state | update)
        plan, kept = plan_of(begun), update["kept"]
        emit(PlanReady(plan=plan, kept=kept))
        results = [StepResult.model_validate(update["results"][str(position)]) for position in range(kept)]
        self._emit_blocks([block for n, result in enumerate(results) for block in blocks_of(plan, n, result)], 0)

    def _emit_blocks(self, blocks: list[Block], first: int) -> None:
        for index, block in enumerate(blocks, start=first):
            link = self.images.link(block.image) if isinstance(block, ImageBlock) else None
            emit(BlockReady(index=index, block=block, link=link))

    async def _draw(
        self, state: RunState, position: int, number: int, prompt: str, pictures: list[ImageRef]
    ) -> tuple[Attempt, bool]:
        """Draw a step once; the attempt, and whether the generator is out of reach."""
        settings = settings_of(state)
        seed = attempt_seed(settings.seed, position, number)
        attempt = Attempt(step=position, attempt=number, prompt=prompt, seed=seed)
        unavailable = False
        whose = _whose(state, attempt)
        emit(AttemptStarted(prompt=prompt, ahead=position > state["position"], **whose))
        started = time.monotonic()
        with recording() as attempt.exchanges:
            try:
                backend: ImageGenerator = await self.backends.pick("generator", settings)
                attempt.sources = _sources(pictures, state, position, backend.capabilities.max_sources)
                sources = [await self.images.get(ref) for ref in attempt.sources]
                size = (settings.width, settings.height)
                async with self.backends.slot("generator"):
                    started = time.monotonic()
                    picture = await call(backend, lambda: backend.generate(prompt, sources, seed, size), Picture)
                attempt.image = await self.images.put(picture)
            except (BackendError, BadInput) as error:
                attempt.error = str(error)
                unavailable = isinstance(error, BackendUnavailable)
        attempt.draw_seconds = round(time.monotonic() - started, 3)
        if attempt.image:
            emit(PictureReady(image=attempt.image, link=self.images.link(attempt.image), **whose))
        else:
            emit(AttemptFailed(error=attempt.error or "", **whose))
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
                async with self.backends.slot("critic"):
                    started = time.monotonic()
                    attempt.verdict = await call(
                        backend, lambda: backend.judge(step, before, after, attempt.prompt), Verdict
                    )
            except (BackendError, BadInput) as error:
                attempt.error = f"the critic gave no verdict: {error}"
        attempt.exchanges += exchanges
        attempt.judge_seconds = round(time.monotonic() - started, 3)
        whose = _whose(state, attempt)
        if attempt.verdict:
            emit(VerdictGiven(verdict=attempt.verdict, **whose))
        else:
            emit(AttemptFailed(error=attempt.error or "", **whose))

    async def _before(self, attempt: Attempt, after: Picture) -> Picture:
        """The picture an attempt started from; a white canvas when it was drawn anew."""
        if attempt.sources:
            return await self.images.get(attempt.sources[-1])
        canvas = await asyncio.to_thread(white_canvas, after.width, after.height)
        await self.images.put(canvas)  # the exchange with the critic refers to it
        return canvas


def _note(state: RunState, before: Told | None) -> str | None:
    """What to say when a planner was asked for a change and made none."""
    plan = plan_of(state)
    same = before is not None and before.plan.steps == plan.steps and state.get("kept") == len(plan.steps)
    return f"Nothing changed. {plan.reasoning}".strip() if same else None


def _whose(state: RunState, attempt: Attempt) -> dict[str, int]:
    """Which attempt an event is about."""
    number = plan_of(state).steps[attempt.step].number
    return {"step": attempt.step, "number": number, "attempt": attempt.attempt}


def _record(attempt: Attempt) -> Update:
    return {"attempts": {key_of(attempt): _dump(attempt)}}


def _dump(attempt: Attempt) -> dict[str, Any]:
    return attempt.model_dump(mode="json", exclude_none=True)


def _sources(pictures: list[ImageRef], state: RunState, position: int, limit: int) -> list[ImageRef]:
    """The pictures to edit, the one that a step starts from as the last."""
    wanted = pictures if settings_of(state).references == "all" else pictures[-1:]
    if position == state.get("kept", 0):
        wanted = [ImageRef.model_validate(image) for image in state.get("inserted", [])] + wanted
    return wanted[-limit:] if limit else []


def _with_feedback(request: str, feedback: str) -> str:
    if not feedback:
        return request
    said = feedback.replace(IMAGE_TAG, "[image]")  # the tags of the request are as many as its pictures
    return f"{request}\n\nAbout the last plan the reader said: {said}"
