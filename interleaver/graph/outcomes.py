"""How a step ends, and whether the run ends with it."""

from __future__ import annotations

from typing import Literal

from interleaver.graph.context import Context
from interleaver.graph.state import RunState, plan_of, settings_of, spent_budget
from interleaver.types import Attempt, Failure, Outcome, Step, StepResult


def close_step(step: Step, attempts: list[Attempt], settings: Context) -> StepResult:
    """The result of a step, from its attempts."""
    if not step.draws:
        return StepResult(outcome=Outcome.TEXT)
    last, drawn = attempts[-1], [attempt for attempt in attempts if attempt.image]
    if not drawn:
        return StepResult(outcome=Outcome.FAILED, reason=last.error)
    kept = last if last.image else drawn[-1]
    if last.image and last.verdict is None:
        return StepResult(outcome=Outcome.UNVERIFIED, attempt=kept.attempt, image=kept.image, reason=last.error)
    if last.verdict and last.verdict.accepted:
        return StepResult(outcome=Outcome.ACCEPTED, attempt=kept.attempt, image=kept.image)
    if settings.on_exhausted == "keep_best":
        kept = max(drawn, key=_score)
    said = last.error or (last.verdict.reasoning if last.verdict else "")
    reason = f"none of {len(attempts)} attempt(s) was accepted: {said}"
    return StepResult(outcome=Outcome.EXHAUSTED, attempt=kept.attempt, image=kept.image, reason=reason)


def _score(attempt: Attempt) -> tuple[float, int]:
    score = attempt.verdict.score if attempt.verdict and attempt.verdict.score is not None else 0.0
    return (score, attempt.attempt)


def early_end(state: RunState, step: Step, result: StepResult) -> dict[str, str] | None:
    """The failure that ends the run after this step, if there is one."""
    if result.outcome is Outcome.EXHAUSTED and settings_of(state).on_exhausted == "stop":
        return failed("critic", f"step {step.number} was not accepted and on_exhausted is stop")
    spent = spent_budget(state)
    later = plan_of(state).steps[state["position"] + 1 :]
    if spent and any(step.draws for step in later):
        return failed("budget", spent)
    return None


def failed(where: Literal["planner", "generator", "critic", "budget", "review"], reason: object) -> dict[str, str]:
    """Why a run ends early, as the state records it."""
    return Failure(where=where, reason=str(reason)).model_dump()
