"""Where a run goes next: pure functions of its state."""

from __future__ import annotations

from typing import Literal

from interleaver.graph.state import RunState, attempts_of, current_step, result_of, settings_of, spent_budget


def route_step(state: RunState) -> Literal["generator", "accept", "compose"]:
    """Begin the step at work, or close the document after the last one."""
    step = current_step(state)
    if state.get("failure") or step is None:
        return "compose"
    return "generator" if step.draws else "accept"


def route_plan(state: RunState) -> Literal["review", "generator", "accept", "compose"]:
    """Show the plan to a reviewer where one is wanted, else begin."""
    if not state.get("failure") and settings_of(state).review:
        return "review"
    return route_step(state)


def route_review(state: RunState) -> Literal["planner", "generator", "accept", "compose"]:
    """Plan again when the reviewer asked for changes, close a step they decided about, else draw."""
    if state.get("feedback"):
        return "planner"
    if state.get("failure") or result_of(state, state["position"]):
        return "accept"
    return route_step(state)


def route_picture(state: RunState) -> Literal["critic", "accept", "review"]:
    """Have a picture judged; a step that could not be drawn is over, unless a person is to be asked."""
    if attempts_of(state, state["position"])[-1].image:
        return "critic"
    return "accept" if state.get("failure") else _spent(state)


def route_verdict(state: RunState) -> Literal["accept", "refine", "review"]:
    """Draw again after a rejection, as long as attempts and budgets last; then a person may be asked."""
    attempts = attempts_of(state, state["position"])
    verdict = attempts[-1].verdict
    if verdict is None or verdict.accepted:
        return "accept"
    allowed = settings_of(state).max_attempts + state.get("granted", 0)
    return "refine" if len(attempts) < allowed and not spent_budget(state) else _spent(state)


def _spent(state: RunState) -> Literal["accept", "review"]:
    """Where a step goes that will not be drawn again by itself."""
    return "review" if settings_of(state).on_exhausted == "ask" and not spent_budget(state) else "accept"
