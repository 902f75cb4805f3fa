"""Plans: having the planner write and revise them, and deciding which pictures a revised plan keeps."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import cast

from interleaver.agents import Planner, Reviser
from interleaver.agents.exchanges import record_exchanges
from interleaver.calling import call
from interleaver.errors import BackendError, BadInput
from interleaver.graph.attempts import failure_record
from interleaver.graph.backends import Backends
from interleaver.graph.boundary.chat import DocumentMemory
from interleaver.graph.boundary.events import PlanReady, emit, emit_blocks
from interleaver.graph.boundary.inputs import IMAGE_TAG, RunInputs, read_inputs, read_pictures
from interleaver.graph.context import Context
from interleaver.graph.document import step_blocks
from interleaver.graph.state import (
    FORMAT,
    RunState,
    attempt_key,
    attempts_of,
    plan_of,
    request_images_of,
    result_of,
)
from interleaver.pictures import Picture
from interleaver.store.images import ImageStore
from interleaver.types import Json, Plan, Step, StepResult


class PlanMaker:
    """Has the planner write plans, and revise the plans of existing documents."""

    def __init__(self, backends: Backends, images: ImageStore, image_hosts: Collection[str]):
        self.backends = backends
        self.images = images
        self.image_hosts = image_hosts

    async def plan(self, state: RunState, settings: Context) -> Json:
        """Return the state update that begins a document: its inputs, plan and settings."""
        update: Json = {
            "settings": settings.model_dump(),
            "request_images": [],
            "plan": {"steps": []},
            "attempts": None,
            "results": None,
            **_new_document(),
            **_restart_at(0),
        }
        start = time.monotonic()
        with record_exchanges() as exchanges:
            try:
                inputs = read_inputs(state)
                update |= {"request": inputs.request, "handled_request": inputs.request}
                pictures = await read_pictures(inputs, self.images, self.image_hosts)
                update["request_images"] = [picture.ref.model_dump() for picture in pictures]
                backend: Planner = await self.backends.pick("planner", settings)
                async with self.backends.slot("planner"):
                    start = time.monotonic()
                    update |= await self._ask_planner(backend, inputs, pictures, state)
                announce_plan(state, update, self.images)
            except (BackendError, BadInput) as error:
                update["failure"] = failure_record("planner", error)
        is_replanning = bool(state.get("feedback"))
        records = [exchange.model_dump(mode="json", exclude_none=True) for exchange in exchanges]
        seconds = time.monotonic() - start
        if is_replanning:
            records, seconds = state.get("plan_exchanges", []) + records, seconds + state.get("plan_seconds", 0.0)
        return update | {"plan_exchanges": records, "plan_seconds": round(seconds, 3)}

    async def _ask_planner(self, backend: Planner, inputs: RunInputs, pictures: list[Picture], state: RunState) -> Json:
        """Return the state update with the planner's plan, and for a revised plan with the steps that are kept."""
        request, memory = _with_feedback(inputs.request, state.get("feedback", "")), inputs.memory
        if memory and isinstance(backend, Reviser):
            plan = await call(backend, lambda: backend.revise(request, pictures, memory.plan), Plan)
            if plan.steps:
                whole_request = f"{memory.request}\n\nThen: {inputs.request}"
                limit = await self._count_stored_steps(memory)
                return replan_update(state, memory, plan.numbered(), limit) | {
                    "request": whole_request,
                    "handled_request": whole_request,
                    "request_images": [image.model_dump() for image in memory.images],
                    "added_images": [picture.ref.model_dump() for picture in pictures],
                }
        plan = await call(backend, lambda: backend.plan(request, pictures), Plan)
        return {"plan": plan.numbered().model_dump(mode="json")}

    async def _count_stored_steps(self, memory: DocumentMemory) -> int:
        """Count the leading steps of a document whose pictures are still in the store."""
        for position in range(len(memory.plan.steps)):
            result = memory.results.get(position)
            if result and result.image and not await self.images.holds(result.image):
                return position
        return len(memory.plan.steps)


def announce_plan(state: RunState, update: Json, images: ImageStore) -> None:
    """Emit the events of a new plan: the plan itself, and the blocks of the steps that are kept."""
    plan, kept_steps = plan_of(cast(RunState, state | update)), update["kept_steps"]
    emit(PlanReady(plan=plan, kept_steps=kept_steps))
    results = [StepResult.model_validate(update["results"][str(position)]) for position in range(kept_steps)]
    emit_blocks([block for n, result in enumerate(results) for block in step_blocks(plan, n, result)], 0, images)


def count_kept_steps(memory: DocumentMemory, plan: Plan) -> int:
    """Count the leading steps of a new plan that have ended and ask for the same pictures as before.

    Every picture builds on those before it, so all steps from the first change on are drawn again. Failed and skipped
    steps are kept as well, as long as nothing up to them changes.
    """
    for position, (old, new) in enumerate(zip(memory.plan.steps, plan.steps, strict=False)):
        if position not in memory.results or not _same_picture(old, new):
            return position
    return min(len(memory.plan.steps), len(plan.steps))


def replan_update(state: RunState, memory: DocumentMemory, plan: Plan, limit: int | None = None) -> Json:
    """Return the state update that replaces the plan.

    The leading steps that the new plan does not change keep their results; all later results are removed, so that
    these steps are drawn again.

    Args:
        state: state of the run.
        memory: the document before the change.
        plan: the new plan, numbered.
        limit: maximum number of steps to keep; None for no limit.
    """
    kept_steps = count_kept_steps(memory, plan)
    kept_steps = kept_steps if limit is None else min(limit, kept_steps)
    results = {str(position): memory.results[position].model_dump(mode="json") for position in range(kept_steps)}
    current_results = state.get("results", {})
    results_are_ours = all(current_results.get(position) == result for position, result in results.items())
    removed_attempts = {attempt_key(attempt): None for attempt in attempts_of(state) if attempt.step >= kept_steps}
    removed_results = {position: None for position in current_results if int(position) >= kept_steps}
    return {
        "plan": plan.model_dump(mode="json"),
        # A chat that was begun in another thread brings its results, but not the attempts behind them.
        "attempts": removed_attempts if results_are_ours else None,
        "results": results | removed_results,
        **_restart_at(kept_steps),
    }


def edit_plan(state: RunState, plan: Plan) -> Json:
    """Return the state update that gives another plan to a run, finished or not.

    For time travel: call `graph.update_state(config, edit_plan(state, plan), as_node="review")`, then resume the run.
    Steps before the first change keep their pictures.

    Args:
        state: state of the run.
        plan: the whole new plan; its steps are numbered here.
    """
    images = [image.model_dump() for image in request_images_of(state)]
    update = replan_update(state, document_memory(state), plan.numbered())
    return update | _new_document() | {"request_images": images}


def _new_document() -> Json:
    """Return the state update that resets the document, for a document that is begun or changed."""
    return {"format": FORMAT, "added_images": [], "failure": None, "document": {}, "status": "running"}


def _restart_at(position: int) -> Json:
    """Return the state update with which a run continues at the step `position`."""
    return {"drafts": None, "kept_steps": position, "position": position, "prompt": "", "extra_attempts": 0}


def document_memory(state: RunState) -> DocumentMemory:
    """Return what is needed to change the document of a run later."""
    plan = plan_of(state)
    results = {n: result for n in range(len(plan.steps)) if (result := result_of(state, n))}
    return DocumentMemory(request=state["request"], images=request_images_of(state), plan=plan, results=results)


def _same_picture(old: Step, new: Step) -> bool:
    """Return whether two steps ask for the same picture; whitespace is ignored, since models do not copy it exactly."""
    texts = ((old.prompt, new.prompt), (old.instruction, new.instruction))
    return all((before or "").split() == (after or "").split() for before, after in texts)


def _with_feedback(request: str, feedback: str) -> str:
    if not feedback:
        return request
    feedback = feedback.replace(IMAGE_TAG, "[image]")  # the number of tags must match the number of pictures
    return f"{request}\n\nAbout the last plan the reader said: {feedback}"
