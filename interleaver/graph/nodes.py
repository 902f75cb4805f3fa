"""The nodes of the state machine: each reads the state, does one thing and returns a state update."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from functools import wraps
from typing import Any

from langgraph.runtime import Runtime

from interleaver.graph.attempts import (
    AttemptMaker,
    ask_about_step,
    attempt_record,
    close_step,
    cut_off,
    early_end,
    failure_record,
    record_attempt,
)
from interleaver.graph.backends import Backends
from interleaver.graph.beginning import InputReader
from interleaver.graph.boundary import tracing
from interleaver.graph.boundary.chat import answer_message
from interleaver.graph.boundary.contexts import given_settings
from interleaver.graph.boundary.events import DocumentReady, StepEnded, emit, emit_blocks
from interleaver.graph.boundary.memory import document_memory
from interleaver.graph.boundary.review import PlanReview, ask
from interleaver.graph.context import Context, RunSettings
from interleaver.graph.document import compose_document, count_blocks, step_blocks
from interleaver.graph.planning import PlanMaker, announce_plan, answer_notes, replan_update
from interleaver.graph.state import (
    ENDING,
    RunState,
    attempt_key,
    attempts_of,
    check_state,
    current_step,
    draft_after,
    images_of,
    last_attempt,
    plan_of,
    result_of,
    settings_of,
)
from interleaver.store.images import ImageStore
from interleaver.types import Json

Node = Callable[[RunState], Coroutine[Any, Any, Json]]
ANSWER_WITH_IMAGE = "\n\nAnswer with an image."
"""What a generator is told that has just answered without one; it is no part of the step's prompt."""
FEW_STEPS = 3
"""Number of supersteps that the longest way from one router to the next takes, with one to spare."""


def in_present_format(node: Node) -> Node:
    """Wrap a node so that it refuses an unfinished run with another state format, or without its checkpoints."""

    @wraps(node)
    async def checked_node(state: RunState) -> Json:
        check_state(state)
        return await node(state) | count_steps(state)

    return checked_node


def count_steps(state: RunState) -> Json:
    """Return the state update that warns the routers of LangGraph's recursion limit; empty while it is far.

    Routers cannot look themselves: in `update_state` LangGraph tells them of a limit that is not the run's.
    """
    left = state["remaining_steps"] - 2  # LangGraph raises unless one is left after the last node
    return {"steps_left": left} if left < FEW_STEPS else {}


class Nodes:
    """The node functions, bound to the backends, the image store and the default run settings."""

    def __init__(self, backends: Backends, images: ImageStore, defaults: RunSettings, image_hosts: Collection[str]):
        self.images = images
        self.defaults = defaults
        self.inputs = InputReader(images, image_hosts)
        self.plans = PlanMaker(backends, images)
        self.attempts = AttemptMaker(backends, images)

    async def begin(self, state: RunState, runtime: Runtime[Context]) -> Json:
        """Fix the settings, and read the request, the chat message or the change that is asked for."""
        settings = Context.model_validate(self.defaults.model_dump() | given_settings(runtime.context))
        return await self.inputs.begin(state, settings) | count_steps(state)

    async def planner(self, state: RunState) -> Json:
        """Write the plan, or revise the plan of the document that is being changed."""
        return await self.plans.plan(state)

    async def review(self, state: RunState) -> Json:
        """Interrupt the run for a person's decision about the plan, or about a step without an accepted attempt."""
        if attempts_of(state, state["position"]):
            return ask_about_step(state, self.images)
        question = PlanReview(request=state["request"], plan=plan_of(state))
        answer = ask(question)
        if answer.action == "reject":
            return {"feedback": answer.feedback}
        if answer.action == "approve":
            return {}
        update = replan_update(state, document_memory(state), question.apply_edits(answer))
        announce_plan(state, update, self.images)
        return update

    async def generator(self, state: RunState) -> Json:
        """Draw the current step once, or use its draft."""
        position, step, last = state["position"], current_step(state), last_attempt(state)
        assert step is not None  # routing sends only existing steps here
        draft = draft_after(state, last) if last and last.step < position else None
        if draft and draft.step == position and draft.image and await self.images.holds(draft.image):
            return record_attempt(draft)
        numbers = [attempt.attempt for attempt in attempts_of(state, position)]
        number = max([*numbers, state.get("extra_attempts", 0)]) + 1
        prompt = state["prompt"] or step.prompt or ""
        hint = ANSWER_WITH_IMAGE if last and last.may_succeed else ""
        attempt, unavailable = await self.attempts.draw(state, position, number, prompt, images_of(state), hint)
        await tracing.trace_attempt(step, attempt, self.images)
        failure = {"failure": failure_record("generator", attempt.error)} if unavailable else {}
        return record_attempt(attempt) | failure

    async def critic(self, state: RunState) -> Json:
        """Have the critic review the latest picture; with lookahead, draft the next step meanwhile."""
        attempt, step = attempts_of(state, state["position"])[-1], current_step(state)
        assert step is not None  # routing sends only existing steps here
        _, draft = await asyncio.gather(self.attempts.review(state, attempt), self.attempts.draw_ahead(state, attempt))
        await tracing.trace_attempt(step, attempt, self.images)
        update = record_attempt(attempt)
        if draft:
            if not (attempt.verdict and attempt.verdict.accepted):
                draft.discarded = f"drafted from attempt {attempt.attempt} of the previous step, which was not accepted"
            update["drafts"] = {attempt_key(attempt): attempt_record(draft)}
        return update

    async def refine(self, state: RunState) -> Json:
        """Set the prompt of the next attempt: the critic's refined prompt, or else the last prompt again."""
        last = attempts_of(state, state["position"])[-1]
        return {"prompt": (last.verdict.refined_prompt if last.verdict else "") or last.prompt}

    async def accept(self, state: RunState) -> Json:
        """Close the current step and move on to the next."""
        position, step = state["position"], current_step(state)
        assert step is not None  # routing sends only existing steps here
        result = result_of(state, position) or close_step(step, attempts_of(state, position), settings_of(state))
        tracing.trace_outcome(step, result)
        emit(StepEnded(step=position, number=step.number, outcome=result.outcome, reason=result.reason))
        emit_blocks(step_blocks(step, position, result), count_blocks(state, position), self.images)
        results = {str(position): result.model_dump(mode="json")}
        failure = state.get("failure") or early_end(state, step, result)
        return {"results": results, "failure": failure, "position": position + 1, "prompt": "", "extra_attempts": 0}

    async def compose(self, state: RunState) -> Json:
        """Compose the document from the results of the steps."""
        failure = state.get("failure") or cut_off(state)
        document = compose_document(state | {"failure": failure})
        emit(DocumentReady(status=document.status, reason=document.reason))
        tracing.trace_document(document)
        memory = document_memory(state) if document.steps else None
        pictures, unchanged = settings_of(state).chat_pictures, state.get("unchanged_steps", 0)
        message = await answer_message(document, memory, self.images, pictures, unchanged, answer_notes(state))
        result = {"document": document.model_dump(mode="json"), "status": document.status, "failure": failure}
        return ENDING | result | {"messages": [message]}
