"""From the finished steps to the document a reader sees."""

from __future__ import annotations

from collections.abc import Sequence

from interleaver.graph.state import RunState, failure_of, plan_of, result_of, settings_of
from interleaver.types import (
    Block,
    Document,
    Failure,
    ImageBlock,
    Outcome,
    Plan,
    Status,
    StepResult,
    StepSummary,
    TextBlock,
)

FINISHED = (Outcome.ACCEPTED, Outcome.TEXT)


def compose_document(state: RunState) -> Document:
    """The document of a run, whether it was finished or ended early; a run at work gives what there is so far."""
    plan = plan_of(state)
    results = [result_of(state, position) for position in range(len(plan.steps))]
    return compose(str(state.get("request") or ""), settings_of(state).seed, plan, results, failure_of(state))


def compose(
    request: str, seed: int, plan: Plan, results: Sequence[StepResult | None], failure: Failure | None
) -> Document:
    """The document of a plan and what became of its steps; None for a step that was not reached."""
    status, reason = _status(plan, results)
    if failure:
        reason = failure.reason
    return Document(
        request=request,
        status=status,
        seed=seed,
        blocks=[block for n, result in enumerate(results) if result for block in blocks_of(plan, n, result)],
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


def blocks_of(plan: Plan, position: int, result: StepResult) -> list[Block]:
    """What a step that has ended adds to the document."""
    step = plan.steps[position]
    blocks: list[Block] = []
    if step.text:
        blocks.append(TextBlock(text=step.text, step=position))
    if result.image:
        alt = step.instruction or step.name or f"Step {step.number}"
        blocks.append(ImageBlock(image=result.image, alt=alt, step=position))
    return blocks


def _status(plan: Plan, results: Sequence[StepResult | None]) -> tuple[Status, str | None]:
    """A document is complete when nothing in it is missing or unproven."""
    if not plan.steps:
        return "failed", "the plan has no steps"
    open_steps = [
        (step, result)
        for step, result in zip(plan.steps, results, strict=True)
        if result is None or result.outcome not in FINISHED
    ]
    if not open_steps:
        return "complete", None
    told = ", ".join(f"step {step.number} {result.outcome if result else 'not reached'}" for step, result in open_steps)
    kept = any(result and result.outcome is not Outcome.FAILED for result in results)
    return ("partial" if kept else "failed"), told
