"""The beginning of a run: reading what is asked for, and loading and changing the document that is to be changed."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from langchain_core.messages import AnyMessage

from interleaver.errors import BackendError, BadInput
from interleaver.graph.boundary.changes import Change, ChooseChange, RedrawChange, ReplaceChange, ReviseChange
from interleaver.graph.boundary.chat import lighten
from interleaver.graph.boundary.inputs import RunInputs, read_inputs, read_pictures
from interleaver.graph.boundary.memory import DocumentMemory, confirm_memory, document_memory
from interleaver.graph.boundary.tracing import trace_request
from interleaver.graph.channels import merge_messages
from interleaver.graph.context import Context
from interleaver.graph.planning import (
    announce_plan,
    count_stored_steps,
    failed_request,
    fresh_run,
    new_document,
    replan_update,
    restart_at,
    results_update,
)
from interleaver.graph.state import RunState, attempts_of, plan_of
from interleaver.store.images import ImageStore
from interleaver.types import Json, Outcome, StepResult, plain_text


class InputReader:
    """Turns the input of a run into the state with which it begins."""

    def __init__(self, images: ImageStore, image_hosts: Collection[str]):
        self.images = images
        self.image_hosts = image_hosts

    async def begin(self, state: RunState, settings: Context) -> Json:
        """Return the state update that begins a run: its settings, and the request or the change that is asked for."""
        update: Json = {"settings": settings.model_dump()}
        changed_messages = await self._lighten(state)
        if changed_messages:
            update["messages"] = changed_messages
            state = state | {"messages": merge_messages(state["messages"], [changed_messages])}
        inputs = RunInputs()
        try:
            inputs = read_inputs(state)
            inputs.request, inputs.background = plain_text(inputs.request), plain_text(inputs.background)
            if inputs.continues:
                return {"failure": None, "status": "running", "steps_left": None}
            return update | await self._read(state, inputs)
        except (BackendError, BadInput) as error:
            return update | _refusal(state, inputs, error)

    async def _lighten(self, state: RunState) -> list[AnyMessage]:
        try:
            return await lighten(state.get("messages") or [], self.images)
        except BackendError:
            return []  # where a picture is read, the same error is told

    async def _read(self, state: RunState, inputs: RunInputs) -> Json:
        notes = {"background": inputs.background, "unusable": list(inputs.unusable)}
        if inputs.memory:
            own = document_memory(state)
            known = {*own.images, *(result.image for result in own.results.values() if result.image)}
            inputs.memory = await confirm_memory(inputs.memory, self.images, known)
        if inputs.change and not isinstance(inputs.change, ReviseChange):
            return await self._change(state, inputs.change, cast(DocumentMemory, inputs.memory))
        pictures = await read_pictures(inputs.request, inputs.images, self.images, self.image_hosts)
        await trace_request([picture.ref for picture in pictures], self.images)
        refs = [picture.ref.model_dump() for picture in pictures]
        if inputs.memory is None:
            return new_document(inputs.request, refs) | notes
        return {
            **_load(state, inputs.memory),
            **fresh_run(),
            **notes,
            "request": inputs.memory.request,
            "previous_document": inputs.memory.model_dump(mode="json", exclude_none=True),
            "revision": inputs.request,
            "added_images": refs,
            "needs_plan": True,
            "handled_change": state.get("change") or {},
        }

    async def _change(self, state: RunState, change: Change, memory: DocumentMemory) -> Json:
        """Return the state update that changes a document without asking the planner."""
        document = _load(state, memory) | fresh_run()
        document |= {"request": memory.request, "previous_document": {}, "revision": "", "needs_plan": False}
        document["handled_change"] = state.get("change") or {}
        state = cast(RunState, state | document | ({} if "attempts" not in document else {"attempts": {}}))
        if isinstance(change, ReplaceChange):
            limit = await count_stored_steps(self.images, memory)
            update = replan_update(state, memory, change.plan.numbered(), limit) | {"plan_exchanges": []}
        elif isinstance(change, RedrawChange):
            update = redraw_update(state, memory, change)
        else:
            update = choose_update(state, memory, cast(ChooseChange, change))
        announce_plan(state, update, self.images)
        return document | update


def redraw_update(state: RunState, memory: DocumentMemory, change: RedrawChange) -> Json:
    """Return the state update that draws a step again, with its former attempts kept.

    The steps after it are drawn again as well, since their pictures build on it.

    Raises:
        BadInput: there is no such step, or it has no picture.
    """
    position = _position(memory, change.step)
    step = memory.plan.steps[position]
    if not step.draws:
        raise BadInput(f"step {change.step} is text and has no picture to draw again")
    _check_reached(memory, position)
    result = memory.results.get(position)
    attempts = attempts_of(state, position)
    made = max([attempt.attempt for attempt in attempts] + [result.attempt or 0 if result else 0])
    return {
        "plan": memory.plan.model_dump(mode="json"),
        **results_update(state, memory, position, keep_attempts_at=position),
        **restart_at(position),
        "prompt": (change.prompt or "").strip(),
        "extra_attempts": made,
        "kept_attempts": made,
    }


def choose_update(state: RunState, memory: DocumentMemory, change: ChooseChange) -> Json:
    """Return the state update that keeps another attempt's picture of a step; the steps after it are drawn again.

    Raises:
        BadInput: there is no such step or attempt, or the attempt has no picture.
    """
    position = _position(memory, change.step)
    _check_reached(memory, position)
    pictures = {attempt.attempt: attempt.image for attempt in attempts_of(state, position) if attempt.image}
    if change.attempt not in pictures:
        numbers = ", ".join(map(str, pictures)) or "none, since they are in another thread"
        raise BadInput(f"step {change.step} has no attempt {change.attempt} with a picture; it has {numbers}")
    result = StepResult(
        outcome=Outcome.ACCEPTED,
        attempt=change.attempt,
        image=pictures[change.attempt],
        reason="a person chose this attempt",
    )
    update = results_update(state, memory, position + 1)
    update["results"][str(position)] = result.model_dump(mode="json")
    plan = memory.plan.model_dump(mode="json")
    return {"plan": plan, **update, **restart_at(position + 1), "unchanged_steps": position}


def _position(memory: DocumentMemory, number: int) -> int:
    positions = {step.number: position for position, step in enumerate(memory.plan.steps)}
    if number not in positions:
        raise BadInput(f"there is no step {number}; the document has {', '.join(map(str, positions))}")
    return positions[number]


def _check_reached(memory: DocumentMemory, position: int) -> None:
    """Check that all steps before one have ended.

    Raises:
        BadInput: one of them has not, so there is no picture to build on.
    """
    steps = memory.plan.steps
    missing = next((step.number for n, step in enumerate(steps[:position]) if n not in memory.results), None)
    if missing is not None:
        raise BadInput(f"step {steps[position].number} was not reached; draw step {missing} first")


def _refusal(state: RunState, inputs: RunInputs, error: Exception) -> Json:
    """Return the state update after a request that cannot be carried out; a document that it would change stays."""
    unusable = {"unusable": list(inputs.unusable)}
    if inputs.change is None and not state.get("change"):
        return new_document(inputs.request, []) | failed_request({}, error) | unusable
    document: Json = _load(state, inputs.memory) | {"request": inputs.memory.request} if inputs.memory else {}
    refusal = failed_request(cast(RunState, state | document), error)
    return document | fresh_run() | refusal | unusable | {"revision": inputs.request}


def _load(state: RunState, memory: DocumentMemory) -> Json:
    """Return the state update that loads a document into the state; empty if it is there already."""
    if plan_of(state).steps and document_memory(state) == memory:
        return {}
    return {
        "request": memory.request,
        "handled_request": memory.request,
        "request_images": [image.model_dump() for image in memory.images],
        "plan": memory.plan.model_dump(mode="json"),
        "results": {str(n): result.model_dump(mode="json") for n, result in memory.results.items()},
        "attempts": None,
    }
