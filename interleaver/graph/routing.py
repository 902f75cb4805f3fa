"""Routing: pure functions of the state that choose the next node."""

from __future__ import annotations

from typing import Literal

from interleaver.graph.state import RunState, attempts_of, current_step, result_of, settings_of, spent_budget


def route_step(state: RunState) -> Literal["generator", "accept", "compose"]:
    """Begin the current step, or compose the document after the last one."""
    step = current_step(state)
    if state.get("failure") or step is None:
        return "compose"
    return "generator" if step.draws else "accept"


def route_plan(state: RunState) -> Literal["review", "generator", "accept", "compose"]:
    """Send the plan to review if the settings ask for it, else begin the first step."""
    if not state.get("failure") and settings_of(state).review:
        return "review"
    return route_step(state)


def route_review(state: RunState) -> Literal["planner", "generator", "accept", "compose"]:
    """Plan again if the reviewer rejected the plan, close a step that they decided about, else begin the step."""
    if state.get("feedback"):
        return "planner"
    if state.get("failure") or result_of(state, state["position"]):
        return "accept"
    return route_step(state)


def route_picture(state: RunState) -> Literal["critic", "accept", "review"]:
    """Send a picture to the critic; close a step that could not be drawn, unless a person is to be asked."""
    if attempts_of(state, state["position"])[-1].image:
        return "critic"
    return "accept" if state.get("failure") else _after_last_attempt(state)


def route_verdict(state: RunState) -> Literal["accept", "refine", "review"]:
    """Draw again after a rejection while attempts and budgets last; then close the step, or ask a person."""
    attempts = attempts_of(state, state["position"])
    verdict = attempts[-1].verdict
    if verdict is None or verdict.accepted:
        return "accept"
    max_attempts = settings_of(state).max_attempts + state.get("extra_attempts", 0)
    return "refine" if len(attempts) < max_attempts and not spent_budget(state) else _after_last_attempt(state)


def _after_last_attempt(state: RunState) -> Literal["accept", "review"]:
    """Return the next node for a step that has no attempts left."""
    return "review" if settings_of(state).on_exhausted == "ask" and not spent_budget(state) else "accept"
