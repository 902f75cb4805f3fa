"""What a person is asked during a run, and what they may answer.

A question is JSON in two forms at once. Its own fields (`kind`, `plan`, `attempts` ...) are for programs and Studio;
`action_requests` and `review_configs` say the same in the form of LangChain's human-in-the-loop middleware, which Agent
Inbox, Agent Chat UI and others show as a card. Answers are understood in both forms too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar, overload

from langgraph.types import interrupt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interleaver.errors import BadInput, explain
from interleaver.types import ImageRef, Plan, Step, Verdict

Json = dict[str, Any]
A = TypeVar("A", bound=BaseModel)


class StepEdit(BaseModel):
    """A change to one step of the plan: the fields that are given replace the step's ("" empties one).

    An instruction without a prompt becomes the prompt too, since the old one would draw something else.
    """

    model_config = ConfigDict(extra="forbid", defer_build=True)

    number: int = Field(description="Which step, by the number a reader sees.")
    name: str | None = None
    instruction: str | None = None
    prompt: str | None = None
    auxiliary_text: str | None = None


class PlanAnswer(BaseModel):
    """The answer to a `PlanReview`."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    action: Literal["approve", "edit", "reject"]
    steps: list[StepEdit] | None = Field(None, description="For edit: the steps that change.")
    plan: Plan | None = Field(None, description="For edit, instead of `steps`: the whole new plan.")
    feedback: str = Field("", description="For reject: what to change; the planner plans again.")


class StepAnswer(BaseModel):
    """The answer to a `StepReview`."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    action: Literal["pick", "rewrite", "skip", "stop"]
    attempt: int | None = Field(None, description="For pick: the attempt whose picture is right after all.")
    prompt: str | None = Field(None, description="For rewrite: the prompt to draw the step with.")


class PlanReview(BaseModel):
    """The question after planning."""

    model_config = ConfigDict(defer_build=True)

    kind: Literal["plan_review"] = "plan_review"
    request: str
    plan: Plan
    error: str | None = Field(None, description="Why the last answer could not be used; None the first time.")

    def card(self) -> Json:
        """The question for a front end: one text a step, which may be edited in place."""
        steps = [f"{step.number}. {step.name}\n   {step.goal or step.text}" for step in self.plan.steps]
        told = "\n".join(["The plan:", *steps, *([f"\n{self.error}"] if self.error else [])])
        args = {f"step {step.number}": step.goal or step.text for step in self.plan.steps}
        return _card("review_plan", args, told, ["approve", "edit", "reject"])

    def read(self, answer: Any) -> PlanAnswer:
        """Check an answer.

        Raises:
            BadInput: it has the wrong shape, lacks what its action needs, or names a step that is not there.
        """
        reply = _validate(PlanAnswer, answer, self._decided)
        if reply.action == "edit" and (reply.plan is None) == (reply.steps is None):
            raise BadInput("the answer cannot be used: the action edit needs either steps or a whole plan")
        if reply.action != "edit" and (reply.plan or reply.steps):
            raise BadInput(f"the answer cannot be used: steps and plan belong to the action edit, not {reply.action}")
        if reply.action == "reject" and not reply.feedback.strip():
            raise BadInput("the answer cannot be used: the action reject needs feedback that says what to change")
        edited = self.edited(reply)
        if not edited.steps:
            raise BadInput("the answer cannot be used: the edited plan has no steps")
        return reply

    def edited(self, answer: PlanAnswer) -> Plan:
        """The plan as the answer wants it.

        Raises:
            BadInput: a step that is to be edited is not there.
        """
        if answer.plan:
            return answer.plan.numbered()
        steps = {step.number: step for step in self.plan.steps}
        for edit in answer.steps or []:
            if edit.number not in steps:
                known = ", ".join(map(str, steps))
                raise BadInput(f"the answer cannot be used: there is no step {edit.number}; the plan has {known}")
            fields = edit.model_dump(exclude_none=True, exclude={"number"})
            if edit.instruction and steps[edit.number].draws:
                fields = {"prompt": edit.instruction} | fields
            steps[edit.number] = steps[edit.number].model_copy(update=fields)
        return self.plan.model_copy(update={"steps": list(steps.values())})

    def _decided(self, kind: str, decision: Json) -> Json:
        """A front end's decision as an answer."""
        if kind == "edit":
            steps = {f"step {step.number}": step for step in self.plan.steps}
            given = decision["edited_action"]["args"]
            strange = [name for name in given if name not in steps]
            if strange:
                raise BadInput(f"the answer cannot be used: there is no {strange[0]!r}; there is: {', '.join(steps)}")
            changed = [
                {"number": step.number, "instruction" if step.draws else "auxiliary_text": given[name]}
                for name, step in steps.items()
                if name in given and given[name] != (step.goal or step.text)
            ]
            return {"action": "edit", "steps": changed}
        if kind == "reject":
            return {"action": "reject", "feedback": decision.get("message") or ""}
        return {"action": kind}


class ReviewedAttempt(BaseModel):
    """An attempt as a reviewer sees it."""

    model_config = ConfigDict(defer_build=True)

    attempt: int
    prompt: str
    image: ImageRef | None = None
    link: str | None = Field(None, description="Where the picture can be fetched, see `ImageStore.link`.")
    verdict: Verdict | None = None
    error: str | None = None


class StepReview(BaseModel):
    """The question when a step's attempts are spent, or it cannot be drawn, and `on_exhausted` is ask."""

    model_config = ConfigDict(defer_build=True)

    kind: Literal["step_review"] = "step_review"
    request: str
    step: Step
    attempts: list[ReviewedAttempt]
    error: str | None = Field(None, description="Why the last answer could not be used; None the first time.")

    def card(self) -> Json:
        """The question for a front end: the attempt to keep and the prompt to draw with, which may be edited."""
        told = [f"Step {self.step.number}, {self.step.goal!r}, was not accepted:"]
        for attempt in self.attempts:
            said = attempt.error or (attempt.verdict.reasoning if attempt.verdict else "")
            shown = f"[picture]({attempt.link})" if attempt.link else "no picture"
            told.append(f"- attempt {attempt.attempt}: {shown}. {said}")
        args: Json = {"prompt": self.attempts[-1].prompt}
        if self._drawn():
            args["attempt"] = self._drawn()[-1]
            told.append("Approve to keep the attempt named below, or edit which one it is.")
        told.append("Edit the prompt to draw again, or reject to leave the picture out.")
        decisions = ["approve", "edit", "reject"] if self._drawn() else ["edit", "reject"]
        return _card("review_step", args, "\n".join([*told, self.error or ""]), decisions)

    def read(self, answer: Any) -> StepAnswer:
        """Check an answer.

        Raises:
            BadInput: it has the wrong shape, or names an attempt that has no picture.
        """
        reply = _validate(StepAnswer, answer, self._decided)
        if reply.action == "pick" and reply.attempt not in self._drawn():
            choices = ", ".join(map(str, self._drawn())) or "none"
            raise BadInput(f"the answer cannot be used: attempt {reply.attempt} has no picture; pick one of {choices}")
        if reply.action == "rewrite" and not (reply.prompt or "").strip():
            raise BadInput("the answer cannot be used: the action rewrite needs a prompt")
        return reply

    def _drawn(self) -> list[int]:
        return [attempt.attempt for attempt in self.attempts if attempt.image]

    def _decided(self, kind: str, decision: Json) -> Json:
        """A front end's decision as an answer."""
        if kind == "reject":
            return {"action": "skip"}
        if kind not in ("approve", "edit"):
            return {"action": kind}
        last_drawn, last_prompt = next(reversed(self._drawn()), None), self.attempts[-1].prompt
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
    """Pause the run until somebody has answered; an answer that cannot be used is asked for again, saying why."""
    form = (PlanAnswer if isinstance(question, PlanReview) else StepAnswer).model_json_schema()
    while True:
        answer = interrupt(question.model_dump(mode="json") | question.card(), response_schema=form)
        try:
            return question.read(answer)
        except BadInput as error:
            question = question.model_copy(update={"error": str(error)})


def _card(name: str, args: Json, description: str, decisions: list[str]) -> Json:
    return {
        "action_requests": [{"name": name, "args": args, "description": description.strip()}],
        "review_configs": [{"action_name": name, "allowed_decisions": decisions}],
    }


def _validate(model: type[A], answer: Any, decided: Callable[[str, Json], Json]) -> A:
    """An answer, or the one decision of a front end, as a model."""
    try:
        if isinstance(answer, dict) and "decisions" in answer:
            (decision,) = answer["decisions"]
            answer = decided(decision["type"], decision)
        return model.model_validate(answer)
    except BadInput:
        raise
    except ValidationError as error:
        problem = explain(error) if isinstance(answer, dict) else "it is not an object"
    except (ValueError, TypeError, KeyError, AttributeError):
        problem = "its decisions are not one decision of type approve, edit (with edited_action) or reject"
    actions = model.model_fields["action"].annotation.__args__  # type: ignore[union-attr]
    raise BadInput(f"the answer cannot be used: {problem}; give an action, one of {', '.join(actions)}")
