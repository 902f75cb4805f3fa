"""Routing: pure functions of the state that choose the next node."""

from __future__ import annotations

from typing import Literal

from interleaver.graph.budgets import spent_budget
from interleaver.graph.state import (
    RunState,
    attempts_of,
    current_step,
    may_take,
    result_of,
    settings_of,
)
from interleaver.types import Attempt


def route_begin(state: RunState) -> Literal["planner", "generator", "critic", "refine", "accept", "review", "compose"]:
    """Plan what is asked for; go on where a run was cut off; or begin the first step that a change leaves to draw."""
    if state.get("failure") or not may_take(state, 1):
        return "compose"
    if state.get("needs_plan"):
        return "planner"
    attempts = attempts_of(state, state["position"])
    if not attempts or attempts[-1].attempt <= state.get("extra_attempts", 0):
        return route_step(state)
    return route_verdict(state) if attempts[-1].reviewed else route_picture(state)


def route_step(state: RunState) -> Literal["generator", "accept", "compose"]:
    """Begin the current step, or compose the document after the last one."""
    step = current_step(state)
    if state.get("failure") or step is None or not may_take(state, 1):
        return "compose"
    return "generator" if step.draws else "accept"


def route_plan(state: RunState) -> Literal["review", "generator", "accept", "compose"]:
    """Send the plan to review if the settings ask for it, else begin the first step."""
    if not state.get("failure") and settings_of(state).review and may_take(state, 1):
        return "review"
    return route_step(state)


def route_review(state: RunState) -> Literal["planner", "generator", "accept", "compose"]:
    """Plan again if the reviewer rejected the plan, close a step that they decided about, else begin the step."""
    if not may_take(state, 1):
        return "compose"
    if state.get("feedback"):
        return "planner"
    if state.get("failure") or result_of(state, state["position"]):
        return "accept"
    return route_step(state)


def route_picture(state: RunState) -> Literal["critic", "generator", "accept", "review", "compose"]:
    """Send a picture to the critic; draw again, or close the step or ask a person, if there is none."""
    if not may_take(state, 1):
        return "compose"
    last = attempts_of(state, state["position"])[-1]
    if last.image:
        return "critic"
    if last.may_succeed and _has_attempts_left(state, last):
        return "generator"
    return "accept" if state.get("failure") else _after_last_attempt(state)


def route_verdict(state: RunState) -> Literal["accept", "refine", "review", "compose"]:
    """Draw again after a rejection while attempts and budgets last; then close the step, or ask a person."""
    last = attempts_of(state, state["position"])[-1]
    refines = last.verdict and not last.verdict.accepted and _has_attempts_left(state, last)
    if not may_take(state, 2 if refines else 1):  # a refined prompt is drawn in the next superstep
        return "compose"
    if refines:
        return "refine"
    return "accept" if last.verdict is None or last.verdict.accepted else _after_last_attempt(state)


def _has_attempts_left(state: RunState, last: Attempt) -> bool:
    max_attempts = settings_of(state).max_attempts + state.get("extra_attempts", 0)
    return last.attempt < max_attempts and not spent_budget(state)


def _after_last_attempt(state: RunState) -> Literal["accept", "review"]:
    """Return the next node for a step that has no attempts left."""
    return "review" if settings_of(state).on_exhausted == "ask" and not spent_budget(state) else "accept"
