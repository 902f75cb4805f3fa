"""What a reviewer of the plan is shown, and what they may answer."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from interleaver.errors import BadInput
from interleaver.types import Plan


class PlanReview(BaseModel):
    """The payload of the interrupt after planning."""

    kind: Literal["plan_review"] = "plan_review"
    request: str
    plan: Plan
    error: str | None = None
    """Why the last answer could not be used; None when the question is asked for the first time."""


class ReviewAnswer(BaseModel):
    """The value to resume with: approve the plan, edit it (with `plan`), or reject it (with `feedback`)."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["approve", "edit", "reject"]
    plan: Plan | None = None
    feedback: str = ""


def read_answer(answer: Any) -> ReviewAnswer:
    """Check a resume value.

    Raises:
        BadInput: it is not a `ReviewAnswer`, or lacks what its action needs.
    """
    try:
        reply = ReviewAnswer.model_validate(answer)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the answer"
        raise BadInput(
            f"the review cannot be used: {place}: {first['msg']}; "
            'answer {"action": "approve" | "edit" | "reject", "plan": ..., "feedback": ...}'
        ) from None
    if (reply.action == "edit") != (reply.plan is not None):
        raise BadInput("the review cannot be used: a plan belongs to the action edit, and to no other")
    if reply.plan is not None and not reply.plan.steps:
        raise BadInput("the review cannot be used: the edited plan has no steps")
    if reply.action == "reject" and not reply.feedback.strip():
        raise BadInput("the review cannot be used: the action reject needs feedback that says what to change")
    return reply
