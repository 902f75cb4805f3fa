"""Composing the document for the reader from the results of the steps."""

from __future__ import annotations

from collections.abc import Sequence

from interleaver.graph.state import RunState, failure_of, plan_of, result_of, settings_of, step_records
from interleaver.types import (
    Block,
    Document,
    Failure,
    ImageBlock,
    Outcome,
    Plan,
    Status,
    Step,
    StepResult,
    StepSummary,
    TextBlock,
)


def compose_document(state: RunState) -> Document:
    """Return the document of a run; for a run that is still working, the document so far."""
    plan = plan_of(state)
    results = [result_of(state, position) for position in range(len(plan.steps))]
    failure = failure_of(state)
    request = state.get("request")
    if failure and failure.where == "planner":
        request = state.get("revision") or request
    return compose(str(request or ""), settings_of(state).seed, plan, results, failure)


def compose(
    request: str, seed: int, plan: Plan, results: Sequence[StepResult | None], failure: Failure | None
) -> Document:
    """Return the document of a plan and the results of its steps.

    Args:
        request: the user's request.
        seed: seed of the run.
        plan: the plan.
        results: the result of each step of the plan; None for a step that was not reached.
        failure: why the run ended early, if it did.
    """
    status, reason = _status(plan, results)
    if failure:
        reason = failure.reason
        status = "failed" if failure.where == "planner" else status
    return Document(
        request=request,
        status=status,
        seed=seed,
        blocks=[block for n, result in enumerate(results) if result for block in step_blocks(plan.steps[n], n, result)],
        steps=[
            StepSummary(
                number=step.number,
                name=step.name,
                outcome=result.outcome if result else None,
                reason=result.reason if result else None,
            )
            for step, result in zip(plan.steps, results, strict=True)
        ],
        reason=reason,
    )


def count_blocks(state: RunState, end: int) -> int:
    """Count the document blocks of the steps before the position `end` that have ended."""
    steps, results = step_records(state), state.get("results", {})
    ended = [(step, result) for n, step in enumerate(steps[:end]) if (result := results.get(str(n)))]
    texts = sum(bool((step.get("auxiliary_text") or step.get("instruction") or "").strip()) for step, _ in ended)
    return texts + sum(result.get("image") is not None for _, result in ended)


def step_blocks(step: Step, position: int, result: StepResult) -> list[Block]:
    """Return the document blocks of a step that has ended."""
    blocks: list[Block] = []
    if step.text:
        blocks.append(TextBlock(text=step.text, step=position))
    if result.image:
        alt = step.instruction or step.name or f"Step {step.number}"
        blocks.append(ImageBlock(image=result.image, alt=alt, step=position))
    return blocks


def _status(plan: Plan, results: Sequence[StepResult | None]) -> tuple[Status, str | None]:
    """Return the status of a document, and the reason if it is not complete.

    A document is complete if every step was accepted or is text-only.
    """
    if not plan.steps:
        return "failed", "the plan has no steps"
    open_steps = [
        (step, result)
        for step, result in zip(plan.steps, results, strict=True)
        if result is None or not result.outcome.finished
    ]
    if not open_steps:
        return "complete", None
    open_text = ", ".join(
        f"step {step.number} {result.outcome if result else 'not reached'}" for step, result in open_steps
    )
    has_result = any(result and result.outcome is not Outcome.FAILED for result in results)
    return ("partial" if has_result else "failed"), open_text
