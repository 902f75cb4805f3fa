"""Rows of training data: what a trace teaches, and why a part of it teaches nothing."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from pydantic import BaseModel, Field

from interleaver.agents.answers import parse_plan, parse_verdict
from interleaver.agents.prompts import PromptSet, load_prompts
from interleaver.agents.tagged import as_tagged, plan_answer, plan_question, verdict_answer, verdict_question
from interleaver.errors import UnreadableAnswer
from interleaver.pictures import white_canvas
from interleaver.traces.failure_kinds import failure_kind
from interleaver.traces.labels import Label, Labels
from interleaver.traces.trace import Trace
from interleaver.training.data.sequences import sequence_of
from interleaver.types import Attempt, Exchange, ImageRef, Judgement, Outcome, Step, Verdict

Kind = Literal["planner-sft", "critic-sft", "critic-rl", "sequences"]


class Truth(BaseModel):
    """What a judge found of the picture in a row."""

    success: bool
    semantics: float = Field(ge=0, le=10)
    quality: float = Field(ge=0, le=10)


class Row(BaseModel):
    """One row of a dataset, before it is written in any format.

    Attributes:
        run_id: the run it comes from.
        step: position in the plan, from 0; None when the row is about the whole run.
        attempt: likewise, from 1.
        request: the run's request; rows of one request are never split apart.
        tags: of the request.
        prompt: the user turn; an `<image>` tag stands where each picture belongs.
        images: the pictures, in the order of the tags.
        answer: the assistant turn; of a sequence, its text; "" where it is the trainee's to give.
        group: what it is balanced by: "accepted", "rejected: colour" and so on.
        priority: rows with a higher one are kept first when some must go.
        instruction: what the step should achieve.
        origin_prompt: the plan's prompt of the step.
        rewritten_prompt: the prompt of this attempt.
        truth: what a judge says.
    """

    run_id: str
    step: int | None = None
    attempt: int | None = None
    request: str
    tags: dict[str, str] = Field(default_factory=dict)
    prompt: str
    images: list[ImageRef]
    answer: str = ""
    group: str = ""
    priority: int = 0
    instruction: str = ""
    origin_prompt: str = ""
    rewritten_prompt: str = ""
    truth: Truth | None = None

    def signature(self) -> bytes:
        """The same for rows that differ in nothing but case, punctuation and spacing."""
        texts = [self.request if self.step is None else "", self.instruction, self.rewritten_prompt, self.answer]
        words = [re.findall(r"\w+", text.casefold()) for text in texts]
        told = json.dumps([words, [image.sha256 for image in self.images], self.group])
        return hashlib.blake2b(told.encode(), digest_size=16).digest()


@dataclass(frozen=True)
class Dropped:
    """A part of a trace that gives no row, and why."""

    what: str
    reason: str


@dataclass(frozen=True)
class Rules:
    """Which parts of traces become rows.

    Attributes:
        kind: of the dataset.
        runs: "complete" for runs in which every step succeeded, "ended" for all that came to an end.
        attempts: "proven" leaves a rejection out unless a later attempt at its step was accepted; "all" does not.
        mode: of sequences: "easy" has the accepted pictures only, "hard" every attempt and what the critic said.
        truth: the name of a judge's labels; rows whose verdict the judge does not share are left out, and `critic-rl`
            takes its ground truth from there.
        critic: the name of a critic's labels, whose verdicts then stand in place of the run's own.
        difficulty: the name of a critic's labels with several samples; steps that every sample, or none, gets right
            are left out.
        prompts: the set of prompts for rows from planners and critics that were not asked in words, see
            `load_prompts`.
    """

    kind: Kind
    runs: Literal["complete", "ended"] = "complete"
    attempts: Literal["proven", "all"] = "proven"
    mode: Literal["easy", "hard"] = "easy"
    truth: str | None = None
    critic: str | None = None
    difficulty: str | None = None
    prompts: str | None = None

    def labels(self) -> set[str]:
        """The names of the labels that are needed."""
        return {name for name in (self.truth, self.critic, self.difficulty) if name}


def rows_of(trace: Trace, rules: Rules, labels: dict[str, Labels | None]) -> Iterator[Row | Dropped]:
    """The rows that a trace gives.

    Args:
        trace: the trace.
        rules: which parts of it become rows.
        labels: the trace's labels by name; None where it has none.
    """
    if trace.status == "unfinished" or (rules.runs == "complete" and trace.status != "complete"):
        yield Dropped(trace.run_id, f"the run is {trace.status}")
    elif rules.kind == "planner-sft":
        yield _planner_row(trace, _prompts(rules.prompts))
    elif rules.kind == "sequences":
        yield _sequence_row(trace, rules.mode)
    else:
        for attempt in trace.attempts:
            yield _critic_row(trace, attempt, rules, labels)


@lru_cache(maxsize=8)
def _prompts(source: str | None) -> PromptSet:
    return load_prompts(source)


def _planner_row(trace: Trace, prompts: PromptSet) -> Row | Dropped:
    """From the last exchange that was understood; from request and plan where the planner is no chat model."""
    question, images, plan = plan_question(prompts, trace.request, trace.images), trace.images, trace.plan
    if trace.plan_exchanges:
        exchange = _understood(trace.plan_exchanges, "planner")
        if exchange is None:
            return Dropped(trace.run_id, "no answer could be used")
        told = exchange.messages[0].content
        asked = told if told == question else as_tagged(told, "plan")
        if asked is None:
            return Dropped(trace.run_id, "the question asks for another format")
        try:
            plan = parse_plan(exchange.answer)
        except UnreadableAnswer:
            return Dropped(trace.run_id, "no answer could be used")
        question, images = asked, exchange.images
        if not plan.reasoning:
            plan = plan.model_copy(update={"reasoning": exchange.reasoning})
    if not plan.steps:
        return Dropped(trace.run_id, "the plan has no steps")
    return Row(
        run_id=trace.run_id,
        request=trace.request,
        tags=trace.tags,
        prompt=question,
        images=images,
        answer=plan_answer(plan),
        group="with pictures" if images else "text only",
    )


def _critic_row(trace: Trace, attempt: Attempt, rules: Rules, labels: dict[str, Labels | None]) -> Row | Dropped:
    what = f"{trace.run_id}, step {attempt.step + 1}, attempt {attempt.attempt}"
    step = trace.step_of(attempt)
    if attempt.image is None or step is None:
        return Dropped(what, "there is no picture")
    label = _labels_of(labels, attempt)
    judged = label.get(rules.truth or "")
    truth = judged.judgement if judged else None
    verdict, exchanges = attempt.verdict, attempt.exchanges
    if rules.critic:
        other = label.get(rules.critic)
        verdict, exchanges = (other.verdicts[0], other.exchanges) if other and other.verdicts else (None, [])
    reason = _why_not(trace, attempt, rules, verdict, truth, label)
    if reason:
        return Dropped(what, reason)
    row = _question(trace, step, attempt, exchanges, _prompts(rules.prompts))
    if row is None:
        return Dropped(what, "the question asks for another format")
    if rules.kind == "critic-sft" and not _readable(exchanges):
        return Dropped(what, "no answer could be used")
    if truth:
        row.truth = Truth(success=truth.success, semantics=truth.semantics, quality=truth.quality)
    row.group = _group(verdict, truth, rules)
    if rules.kind == "critic-rl":
        row.priority = int(verdict is not None and truth is not None and verdict.accepted != truth.success)
    elif verdict:
        row.answer = verdict_answer(verdict, attempt.prompt)
    return row


def _why_not(
    trace: Trace,
    attempt: Attempt,
    rules: Rules,
    verdict: Verdict | None,
    truth: Judgement | None,
    label: dict[str, Label],
) -> str | None:
    """Why an attempt gives no row; None when it does."""
    if rules.truth and truth is None:
        return "no judge has scored it"
    if rules.difficulty and truth:
        reason = _too_easy_or_hard(label.get(rules.difficulty), truth)
        if reason:
            return reason
    if rules.kind == "critic-rl":
        return None
    if verdict is None:
        return "the critic gave no verdict"
    if truth and verdict.accepted != truth.success:
        return "the judge does not share the verdict"
    if rules.attempts == "proven" and not verdict.accepted and not _mended(trace, attempt):
        return "no later attempt was accepted"
    return None


def _too_easy_or_hard(label: Label | None, truth: Judgement) -> str | None:
    if label is None or len(label.verdicts) < 2:
        return "nobody has sampled how hard it is"
    right = sum(verdict.accepted == truth.success for verdict in label.verdicts)
    if right == len(label.verdicts):
        return "every sample gets it right"
    return "no sample gets it right" if right == 0 else None


def _mended(trace: Trace, attempt: Attempt) -> bool:
    """Whether a later attempt at the step was accepted."""
    later = [one for one in trace.attempts_at(attempt.step) if one.attempt > attempt.attempt]
    return any(one.verdict and one.verdict.accepted for one in later)


def _question(trace: Trace, step: Step, attempt: Attempt, exchanges: list[Exchange], prompts: PromptSet) -> Row | None:
    """A row with the critic's question: as it was asked, or as it would be where the critic is no chat model."""
    assert attempt.image is not None
    before = attempt.sources[-1] if attempt.sources else canvas(attempt.image.width, attempt.image.height)
    images = [before, attempt.image]
    made = verdict_question(prompts, step, attempt.prompt, *images)
    asked: str | None = made
    exchange = _understood(exchanges, "critic")
    if exchange and exchange.messages[0].content != made:
        asked, images = as_tagged(exchange.messages[0].content, "verdict"), exchange.images
    if asked is None:
        return None
    return Row(
        run_id=trace.run_id,
        step=attempt.step,
        attempt=attempt.attempt,
        request=trace.request,
        tags=trace.tags,
        prompt=asked,
        images=images,
        instruction=step.goal,
        origin_prompt=step.prompt or "",
        rewritten_prompt=attempt.prompt,
    )


def _readable(exchanges: list[Exchange]) -> bool:
    """Whether the critic's answer can be read again; so it is where the critic is no chat model."""
    exchange = _understood(exchanges, "critic")
    try:
        return exchange is None or bool(parse_verdict(exchange.answer))
    except UnreadableAnswer:
        return False


def _group(verdict: Verdict | None, truth: Judgement | None, rules: Rules) -> str:
    """What a critic's row is balanced by."""
    if rules.kind == "critic-rl" and truth:
        said, accepted = truth.reasoning, truth.success
    elif verdict:
        said, accepted = verdict.reasoning, verdict.accepted
    else:
        return "no verdict"
    return "accepted" if accepted else f"rejected: {failure_kind(said)}"


def _labels_of(labels: dict[str, Labels | None], attempt: Attempt) -> dict[str, Label]:
    assert attempt.image is not None
    found = {}
    for name, one in labels.items():
        label = one.of(attempt.step, attempt.attempt, attempt.image.sha256) if one else None
        if label:
            found[name] = label
    return found


def _understood(exchanges: list[Exchange], role: str) -> Exchange | None:
    """The last exchange whose answer was used."""
    usable = [one for one in exchanges if one.role == role and one.problem is None and one.messages]
    return usable[-1] if usable else None


def _sequence_row(trace: Trace, mode: Literal["easy", "hard"]) -> Row | Dropped:
    for result in trace.results:
        if result is None or result.outcome not in (Outcome.ACCEPTED, Outcome.TEXT):
            return Dropped(trace.run_id, "a step was not accepted")
    text, images = sequence_of(trace, hard=mode == "hard")
    return Row(
        run_id=trace.run_id,
        request=trace.request,
        tags=trace.tags,
        prompt=trace.request,
        images=images,
        answer=text,
        group=mode,
    )


@lru_cache(maxsize=256)
def canvas(width: int, height: int) -> ImageRef:
    """The white page that a critic sees before a step that starts from nothing."""
    return white_canvas(width, height).ref
