"""Changing a document: what of it may stay when its plan changes."""

from __future__ import annotations

from typing import Any

from interleaver.graph.chat import Told
from interleaver.graph.state import RunState, attempts_of, key_of, plan_of, result_of
from interleaver.types import ImageRef, Plan, Step


def kept_steps(told: Told, plan: Plan) -> int:
    """How many first steps of a new plan ask for the same pictures as before, and have come to an end.

    Every picture builds on those before it, so from the first change on all are drawn again. A step that failed or was
    left out stays so until it changes.
    """
    for position, (old, new) in enumerate(zip(told.plan.steps, plan.steps, strict=False)):
        if position not in told.results or not _same_picture(old, new):
            return position
    return min(len(told.plan.steps), len(plan.steps))


def keep(state: RunState, told: Told, plan: Plan, most: int | None = None) -> dict[str, Any]:
    """The changes to the state that put a new plan in the place of the one before.

    Steps whose pictures stay are left as they were; all later ones are forgotten, to be drawn anew.

    Args:
        state: the run.
        told: the document before.
        plan: the new plan, numbered.
        most: how many steps can stay at most; None: as many as are the same.
    """
    kept = kept_steps(told, plan) if most is None else min(most, kept_steps(told, plan))
    results = {str(position): told.results[position].model_dump(mode="json") for position in range(kept)}
    here = state.get("results", {})
    ours = all(here.get(position) == result for position, result in results.items())
    forgotten = {key_of(attempt): None for attempt in attempts_of(state) if attempt.step >= kept}
    later = {position: None for position in here if int(position) >= kept}
    return {
        "plan": plan.model_dump(mode="json"),
        # A chat that was begun elsewhere brings the pictures but not the attempts behind them.
        "attempts": forgotten if ours else None,
        "results": results | later,
        "drafts": None,
        "kept": kept,
        "position": kept,
        "prompt": "",
        "granted": 0,
    }


def edit_plan(state: RunState, plan: Plan) -> dict[str, Any]:
    """The values that give a run, finished or not, another plan.

    For time travel: `graph.update_state(config, edit_plan(state, plan), as_node="review")`, then run on. What does
    not depend on the change keeps its picture.
    """
    fresh: dict[str, Any] = {"inserted": [], "failure": None, "document": {}, "status": "running"}
    return keep(state, told_by(state), plan.numbered()) | fresh


def told_by(state: RunState) -> Told:
    """What stands behind the document of a run, as far as it has come."""
    plan = plan_of(state)
    results = {n: result for n in range(len(plan.steps)) if (result := result_of(state, n))}
    given = [ImageRef.model_validate(image) for image in state["given"]]
    return Told(request=state["request"], given=given, plan=plan, results=results)


def _same_picture(old: Step, new: Step) -> bool:
    """Whether two steps ask for the same; a model that copies a plan is not exact about spaces."""
    return _words(old.prompt) == _words(new.prompt) and _words(old.instruction) == _words(new.instruction)


def _words(text: str | None) -> list[str]:
    return (text or "").split()
