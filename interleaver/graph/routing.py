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


def route_picture(state: RunState) -> Literal["critic", "accept"]:
    """Have a picture judged; a step without one is over."""
    return "critic" if attempts_of(state, state["position"])[-1].image else "accept"


def route_verdict(state: RunState) -> Literal["accept", "refine", "review"]:
    """Draw again after a rejection, as long as attempts and budgets last; then a person may be asked."""
    attempts = attempts_of(state, state["position"])
    verdict = attempts[-1].verdict
    if verdict is None or verdict.accepted:
        return "accept"
    settings = settings_of(state)
    if spent_budget(state):
        return "accept"
    if len(attempts) < settings.max_attempts + state.get("granted", 0):
        return "refine"
    return "review" if settings.on_exhausted == "ask" else "accept"
