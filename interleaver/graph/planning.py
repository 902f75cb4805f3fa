"""Plans: having the planner write and revise them, and deciding which pictures a revised plan keeps."""

from __future__ import annotations

from functools import partial
from typing import cast

from interleaver.agents import Planner, Reviser
from interleaver.agents.exchanges import record_exchanges
from interleaver.calling import Stopwatch
from interleaver.errors import BackendError, BadInput
from interleaver.graph.attempts import failure_record
from interleaver.graph.backends import Backends
from interleaver.graph.boundary.events import PlanReady, emit, emit_blocks
from interleaver.graph.boundary.memory import DocumentMemory, document_memory
from interleaver.graph.document import step_blocks
from interleaver.graph.state import (
    FORMAT,
    RunState,
    attempt_key,
    attempts_of,
    plan_of,
    request_images_of,
    settings_of,
)
from interleaver.pictures import READABLE
from interleaver.store.images import ImageStore
from interleaver.types import IMAGE_TAG, ImageRef, Json, Plan, Step, StepResult

MAX_STEPS = 1_000
"""Number of steps of a plan, with and without pictures."""


class PlanMaker:
    """Has the planner write plans, and revise the plans of existing documents."""

    def __init__(self, backends: Backends, images: ImageStore):
        self.backends = backends
        self.images = images

    async def plan(self, state: RunState) -> Json:
        """Return the state update with a new plan, or with the failure that ends the run.

        A document that was to be changed stays as it is after a failure.
        """
        update: Json = {}
        watch = Stopwatch()
        with record_exchanges() as exchanges:
            try:
                backend: Planner = await self.backends.pick("planner", settings_of(state))
                update = await self._ask_planner(backend, state, watch)
                announce_plan(state, update, self.images)
            except (BackendError, BadInput) as error:
                document = previous_document(state)
                update = document | failed_request(cast(RunState, state | document), error)
        records = [exchange.model_dump(mode="json", exclude_none=True) for exchange in exchanges]
        seconds = watch.seconds
        if state.get("feedback"):
            records, seconds = state.get("plan_exchanges", []) + records, seconds + state.get("plan_seconds", 0.0)
        return update | {"plan_exchanges": records, "plan_seconds": round(seconds, 3), "needs_plan": False}

    async def _ask_planner(self, backend: Planner, state: RunState, watch: Stopwatch) -> Json:
        """Return the state update with the planner's plan, and for a revised plan with the steps that are kept."""
        revision = state.get("revision", "")
        request = _with_feedback(_with_background(revision or state["request"], state), state.get("feedback", ""))
        refs = [ImageRef.model_validate(image) for image in state["added_images" if revision else "request_images"]]
        pictures = [await self.images.get(ref) for ref in refs]
        is_required = bool(state.get("handled_change"))  # a chat message may also ask for something new
        if is_required and revision and not isinstance(backend, Reviser):
            raise BadInput("this planner cannot revise documents; use another planner, or send a new request")
        if revision and isinstance(backend, Reviser):
            memory = DocumentMemory.model_validate(state["previous_document"])
            revise = partial(backend.revise, request, pictures, memory.plan)
            plan = await self.backends.call("planner", backend, lambda: watch.time(revise()), Plan)
            if plan.steps:
                _check_length(plan, state)
                whole_request = f"{memory.request}\n\nThen: {revision}"
                limit = await count_stored_steps(self.images, memory)
                return replan_update(state, memory, plan.numbered(), limit) | {
                    "request": whole_request,
                    "handled_request": whole_request,
                }
            if is_required:
                raise BadInput("the planner takes this for a new document and not for a change; say what to change")
        plan = await self.backends.call("planner", backend, lambda: watch.time(backend.plan(request, pictures)), Plan)
        _check_length(plan, state)
        if not revision:
            return {"plan": plan.numbered().model_dump(mode="json"), "kept_steps": 0}
        notes = {"unusable": state.get("unusable", []), "background": state.get("background", "")}
        update = new_document(revision, [ref.model_dump() for ref in refs]) | notes
        return update | {"plan": plan.numbered().model_dump(mode="json")}


def _check_length(plan: Plan, state: RunState) -> None:
    """Check that a plan has no more steps, and no more pictures, than are allowed.

    Raises:
        BadInput: it has more.
    """
    if len(plan.steps) > MAX_STEPS:
        raise BadInput(f"the plan has {len(plan.steps):,} steps; at most {MAX_STEPS:,} are allowed")
    drawn_steps, limit = sum(step.draws for step in plan.steps), settings_of(state).max_steps
    if drawn_steps > limit:
        raise BadInput(f"the plan has {drawn_steps} pictures; ask for at most {limit}, or raise max_steps")


async def count_stored_steps(images: ImageStore, memory: DocumentMemory) -> int:
    """Count the leading steps of a document whose pictures are still in the store."""
    for position in range(len(memory.plan.steps)):
        result = memory.results.get(position)
        if result and result.image and not await images.holds(result.image):
            return position
    return len(memory.plan.steps)


def answer_notes(state: RunState) -> list[str]:
    """Return what the answer in the chat says before the document."""
    unusable = state.get("unusable")
    notes = [f"Not used: {'; '.join(unusable)}. Send pictures as {READABLE}."] if unusable else []
    plan, memory = plan_of(state), state.get("previous_document")
    is_kept = state.get("kept_steps") == len(plan.steps) and not state.get("failure")
    if memory and is_kept and DocumentMemory.model_validate(memory).plan.steps == plan.steps:
        notes.append(f"Nothing changed. {plan.reasoning}".strip())
    return notes


def new_document(request: object, images: list[Json]) -> Json:
    """Return the state update that begins a new document.

    Args:
        request: what to make.
        images: `ImageRef`s of the pictures that it starts from, as JSON.
    """
    return {
        "request": request,
        "handled_request": request,
        "request_images": images,
        "plan": {"steps": []},
        "plan_exchanges": [],
        "attempts": None,
        "results": None,
        "previous_document": {},
        "revision": "",
        "handled_change": {},
        "needs_plan": True,
        **fresh_run(),
        **restart_at(0),
    }


def failed_request(state: RunState, error: Exception) -> Json:
    """Return the state update after a request that cannot be carried out; what has been made stays."""
    return restart_at(len(plan_of(state).steps)) | {"failure": failure_record("planner", error)}


def previous_document(state: RunState) -> Json:
    """Return the state update that brings the document back which a rejected plan was to change; empty if none was."""
    if not (state.get("feedback") and state.get("previous_document")):
        return {}
    memory = DocumentMemory.model_validate(state["previous_document"])
    results = {str(n): result.model_dump(mode="json") for n, result in memory.results.items()}
    return {
        "plan": memory.plan.model_dump(mode="json"),
        "results": dict.fromkeys(state.get("results", {})) | results,
        "request": memory.request,
        "handled_request": memory.request,
    }


def announce_plan(state: RunState, update: Json, images: ImageStore) -> None:
    """Emit the events of a new plan: the plan itself, and the blocks of the steps that are kept."""
    plan, kept_steps = plan_of(cast(RunState, state | update)), update["kept_steps"]
    emit(PlanReady(plan=plan, kept_steps=kept_steps))
    results = [StepResult.model_validate(update["results"][str(position)]) for position in range(kept_steps)]
    emit_blocks(
        [block for n, result in enumerate(results) for block in step_blocks(plan.steps[n], n, result)], 0, images
    )


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
    return {
        "plan": plan.model_dump(mode="json"),
        **results_update(state, memory, kept_steps),
        **restart_at(kept_steps),
    }


def results_update(
    state: RunState, memory: DocumentMemory, kept_steps: int, keep_attempts_at: int | None = None
) -> Json:
    """Return the state update that keeps the results of the leading steps, and removes all later ones.

    Args:
        state: state of the run.
        memory: the document before the change.
        kept_steps: number of leading steps whose results are kept.
        keep_attempts_at: position of a further step whose attempts are kept, though not its result.
    """
    ended_steps = [position for position in range(kept_steps) if position in memory.results]
    results = {str(position): memory.results[position].model_dump(mode="json") for position in ended_steps}
    current_results = state.get("results", {})
    results_are_ours = all(current_results.get(position) == result for position, result in results.items())
    last_kept = kept_steps - 1 if keep_attempts_at is None else keep_attempts_at
    removed_attempts = {attempt_key(attempt): None for attempt in attempts_of(state) if attempt.step > last_kept}
    removed_results = {position: None for position in current_results if int(position) >= kept_steps}
    # A chat that was begun in another thread brings its results, but not the attempts behind them.
    attempts = removed_attempts if results_are_ours else None
    return {"attempts": attempts, "results": removed_results | results}


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
    cleared = {"needs_plan": False, "previous_document": {}, "revision": "", "handled_change": {}}
    return update | fresh_run() | cleared | {"request_images": images}


def fresh_run() -> Json:
    """Return the state update that resets what belongs to one run, for a document that is begun or changed."""
    return {
        "format": FORMAT,
        "added_images": [],
        "background": "",
        "unusable": [],
        "failure": None,
        "document": {},
        "status": "running",
        "steps_left": None,
        "plan_seconds": 0.0,
    }


def restart_at(position: int) -> Json:
    """Return the state update with which a run continues at the step `position`."""
    return {
        "drafts": None,
        "kept_steps": position,
        "unchanged_steps": position,
        "kept_attempts": 0,
        "position": position,
        "prompt": "",
        "extra_attempts": 0,
    }


def _same_picture(old: Step, new: Step) -> bool:
    """Return whether two steps ask for the same picture; whitespace is ignored, since models do not copy it exactly."""
    texts = ((old.prompt, new.prompt), (old.instruction, new.instruction))
    return all((before or "").split() == (after or "").split() for before, after in texts)


def _with_background(request: str, state: RunState) -> str:
    background = state.get("background")
    return f"{request}\n\nWhat was said before:\n{background}" if background else request


def _with_feedback(request: str, feedback: str) -> str:
    if not feedback:
        return request
    feedback = feedback.replace(IMAGE_TAG, "[image]")  # the number of tags must match the number of pictures
    return f"{request}\n\nAbout the last plan the reader said: {feedback}"
