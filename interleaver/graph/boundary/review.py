"""The questions that a run asks a person, and the answers that it accepts.

A question is JSON in two schemas at once. Its own fields (`kind`, `plan`, `attempts` ...) are for programs and Studio;
`action_requests` and `review_configs` repeat it in the schema of LangChain's human-in-the-loop middleware, which Agent
Inbox, Agent Chat UI and others show as a card. Answers are accepted in both schemas.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar, overload

from langgraph.types import interrupt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interleaver.errors import BadInput, explain
from interleaver.types import ImageRef, Json, Plan, ShortText, Step, Verdict

A = TypeVar("A", bound=BaseModel)


class StepEdit(BaseModel):
    """A change to one step of the plan: the fields that are given replace those of the step ("" empties a field).

    An instruction without a prompt becomes the prompt as well, since the old prompt would draw something else.
    """

    model_config = ConfigDict(extra="forbid", defer_build=True)

    number: int = Field(description="Number of the step, as shown to readers.")
    name: ShortText | None = None
    instruction: ShortText | None = None
    prompt: ShortText | None = None
    auxiliary_text: ShortText | None = None


class PlanAnswer(BaseModel):
    """The answer to a `PlanReview`."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    action: Literal["approve", "edit", "reject"]
    steps: list[StepEdit] | None = Field(None, description="For edit: changes to single steps.")
    plan: Plan | None = Field(None, description="For edit, instead of `steps`: the whole new plan.")
    feedback: ShortText = Field("", description="For reject: what the planner should change in its next plan.")


class StepAnswer(BaseModel):
    """The answer to a `StepReview`."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    action: Literal["pick", "rewrite", "skip", "stop"]
    attempt: int | None = Field(None, description="For pick: number of the attempt whose picture to keep.")
    prompt: ShortText | None = Field(None, description="For rewrite: the prompt for the next attempts.")


class PlanReview(BaseModel):
    """The question about a new plan: approve, edit or reject it."""

    model_config = ConfigDict(defer_build=True)

    kind: Literal["plan_review"] = "plan_review"
    request: str
    plan: Plan
    error: str | None = Field(None, description="Why the last answer could not be used; None the first time.")

    def card(self) -> Json:
        """Return the question in the schema of front ends, with one editable text per step."""
        steps = [f"{step.number}. {step.name}\n   {step.goal or step.text}" for step in self.plan.steps]
        text = "\n".join(["The plan:", *steps, *([f"\n{self.error}"] if self.error else [])])
        args = {f"step {step.number}": step.goal or step.text for step in self.plan.steps}
        return _card("review_plan", args, text, ["approve", "edit", "reject"])

    def read(self, answer: Any) -> PlanAnswer:
        """Validate an answer, in either schema.

        Raises:
            BadInput: it does not fit the schema, lacks a field that its action needs, or names an unknown step.
        """
        reply = _validate(PlanAnswer, answer, self._read_decision)
        if reply.action == "edit" and (reply.plan is None) == (reply.steps is None):
            raise BadInput("the answer cannot be used: the action edit needs either steps or a whole plan")
        if reply.action != "edit" and (reply.plan or reply.steps):
            raise BadInput(f"the answer cannot be used: steps and plan belong to the action edit, not {reply.action}")
        if reply.action == "reject" and not reply.feedback.strip():
            raise BadInput("the answer cannot be used: the action reject needs feedback that says what to change")
        edited_plan = self.apply_edits(reply)
        if not edited_plan.steps:
            raise BadInput("the answer cannot be used: the edited plan has no steps")
        return reply

    def apply_edits(self, answer: PlanAnswer) -> Plan:
        """Return the plan with the edits of an answer applied.

        Raises:
            BadInput: an edit names an unknown step.
        """
        if answer.plan:
            return answer.plan.numbered()
        steps = {step.number: step for step in self.plan.steps}
        for edit in answer.steps or []:
            if edit.number not in steps:
                step_numbers = ", ".join(map(str, steps))
                raise BadInput(
                    f"the answer cannot be used: there is no step {edit.number}; the plan has {step_numbers}"
                )
            fields = edit.model_dump(exclude_none=True, exclude={"number"})
            if edit.instruction and steps[edit.number].draws:
                fields = {"prompt": edit.instruction} | fields
            steps[edit.number] = steps[edit.number].model_copy(update=fields)
        return self.plan.model_copy(update={"steps": list(steps.values())})

    def _read_decision(self, kind: str, decision: Json) -> Json:
        """Convert a front end's decision to an answer."""
        if kind == "edit":
            steps = {f"step {step.number}": step for step in self.plan.steps}
            arguments = decision["edited_action"]["args"]
            unknown_names = [name for name in arguments if name not in steps]
            if unknown_names:
                raise BadInput(
                    f"the answer cannot be used: there is no {unknown_names[0]!r}; the plan has: {', '.join(steps)}"
                )
            edits = [
                {"number": step.number, "instruction" if step.draws else "auxiliary_text": arguments[name]}
                for name, step in steps.items()
                if name in arguments and arguments[name] != (step.goal or step.text)
            ]
            return {"action": "edit", "steps": edits}
        if kind == "reject":
            return {"action": "reject", "feedback": decision.get("message") or ""}
        return {"action": kind}


class ReviewedAttempt(BaseModel):
    """An attempt as shown to a reviewer."""

    model_config = ConfigDict(defer_build=True)

    attempt: int
    prompt: str
    image: ImageRef | None = None
    link: str | None = Field(None, description="Link to the picture, see `ImageStore.link`.")
    verdict: Verdict | None = None
    error: str | None = None


class StepReview(BaseModel):
    """The question about a step that has no attempts left, or cannot be drawn, if `on_exhausted` is ask."""

    model_config = ConfigDict(defer_build=True)

    kind: Literal["step_review"] = "step_review"
    request: str
    step: Step
    attempts: list[ReviewedAttempt]
    error: str | None = Field(None, description="Why the last answer could not be used; None the first time.")

    def card(self) -> Json:
        """Return the question in the schema of front ends, with the attempt to keep and the prompt as fields."""
        lines = [f"Step {self.step.number}, {self.step.goal!r}, was not accepted:"]
        for attempt in self.attempts:
            reason = attempt.error or (attempt.verdict.reasoning if attempt.verdict else "")
            picture_text = f"[picture]({attempt.link})" if attempt.link else "no picture"
            lines.append(f"- attempt {attempt.attempt}: {picture_text}. {reason}")
        args: Json = {"prompt": self.attempts[-1].prompt}
        if self._drawn_attempts():
            args["attempt"] = self._drawn_attempts()[-1]
            lines.append("Approve to keep the attempt named below, or edit its number to keep another one.")
        lines.append("Edit the prompt to draw again, or reject to leave the picture out.")
        decisions = ["approve", "edit", "reject"] if self._drawn_attempts() else ["edit", "reject"]
        return _card("review_step", args, "\n".join([*lines, self.error or ""]), decisions)

    def read(self, answer: Any) -> StepAnswer:
        """Validate an answer, in either schema.

        Raises:
            BadInput: it does not fit the schema, lacks a prompt, or picks an attempt that has no picture.
        """
        reply = _validate(StepAnswer, answer, self._read_decision)
        if reply.action == "pick" and reply.attempt not in self._drawn_attempts():
            choices = ", ".join(map(str, self._drawn_attempts())) or "none"
            raise BadInput(f"the answer cannot be used: attempt {reply.attempt} has no picture; pick one of {choices}")
        if reply.action == "rewrite" and not (reply.prompt or "").strip():
            raise BadInput("the answer cannot be used: the action rewrite needs a prompt")
        return reply

    def _drawn_attempts(self) -> list[int]:
        return [attempt.attempt for attempt in self.attempts if attempt.image]

    def _read_decision(self, kind: str, decision: Json) -> Json:
        """Convert a front end's decision to an answer."""
        if kind == "reject":
            return {"action": "skip"}
        if kind not in ("approve", "edit"):
            return {"action": kind}
        last_drawn, last_prompt = next(reversed(self._drawn_attempts()), None), self.attempts[-1].prompt
        if kind == "approve":
            return {"action": "pick", "attempt": last_drawn}
        args = decision["edited_action"]["args"]
        if args.get("prompt", last_prompt) != last_prompt:
            return {"action": "rewrite", "prompt": args["prompt"]}
        if args.get("attempt", last_drawn) != last_drawn:
            return {"action": "pick", "attempt": args["attempt"]}
        raise BadInput("the answer cannot be used: the edit changes neither attempt nor prompt; approve to keep them")


@overload
def ask(question: PlanReview) -> PlanAnswer: ...
@overload
def ask(question: StepReview) -> StepAnswer: ...
def ask(question: PlanReview | StepReview) -> PlanAnswer | StepAnswer:
    """Interrupt the run until a person has answered; after an answer that cannot be used, ask again and say why."""
    schema = (PlanAnswer if isinstance(question, PlanReview) else StepAnswer).model_json_schema()
    while True:
        answer = interrupt(question.model_dump(mode="json") | question.card(), response_schema=schema)
        try:
            return question.read(answer)
        except BadInput as error:
            question = question.model_copy(update={"error": str(error)})


def _card(name: str, args: Json, description: str, decisions: list[str]) -> Json:
    return {
        "action_requests": [{"name": name, "args": args, "description": description.strip()}],
        "review_configs": [{"action_name": name, "allowed_decisions": decisions}],
    }


def _validate(model: type[A], answer: Any, read_decision: Callable[[str, Json], Json]) -> A:
    """Return an answer, or a front end's single decision, as a validated model."""
    try:
        if isinstance(answer, dict) and "decisions" in answer:
            (decision,) = answer["decisions"]
            answer = read_decision(decision["type"], decision)
        return model.model_validate(answer)
    except BadInput:
        raise
    except ValidationError as error:
        problem = explain(error) if isinstance(answer, dict) else "it is not an object"
    except (ValueError, TypeError, KeyError, AttributeError):
        problem = "decisions must hold exactly one decision of type approve, edit (with edited_action) or reject"
    actions = model.model_fields["action"].annotation.__args__  # type: ignore[union-attr]
    raise BadInput(f"the answer cannot be used: {problem}; give an action, one of {', '.join(actions)}")
