"""Budgets: how many generator calls and seconds a run may take."""

from __future__ import annotations

from interleaver.graph.context import Context
from interleaver.graph.state import RunState, record_draws, settings_of, step_records


def spent_budget(state: RunState) -> str | None:
    """Return a line that says which budget of the run is spent; None if none is."""
    settings = settings_of(state)
    before_change = (state.get("kept_steps", 0), state.get("kept_attempts", 0))
    records = state.get("attempts", {}).values()
    attempts = [record for record in records if (record["step"], record["attempt"]) > before_change]
    unused_drafts = [draft for draft in state.get("drafts", {}).values() if draft.get("discarded")]
    calls = len(attempts) + len(unused_drafts)
    max_calls = settings.max_generator_calls or (_default_calls(state, settings) if calls else None)
    if max_calls is not None and calls >= max_calls:
        return f"the budget of {max_calls} generator calls is spent"
    seconds = state.get("plan_seconds", 0.0) + sum(
        (record.get("draw_seconds") or 0) + (record.get("review_seconds") or 0) for record in attempts
    )
    if settings.max_seconds is not None and seconds >= settings.max_seconds:
        return f"the budget of {settings.max_seconds:g} seconds is spent"
    return None


def _default_calls(state: RunState, settings: Context) -> int | None:
    """Return the calls that a run may make by default; None if a person may allow any number of attempts."""
    if settings.on_exhausted == "ask":
        return None
    return max(sum(map(record_draws, step_records(state))) * settings.max_attempts * 3 // 2, 1)
