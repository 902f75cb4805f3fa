"""Extracting rows of training data from traces, with a reason for each part that gives no row."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from pydantic import BaseModel, Field

from interleaver.agents.answers import parse_plan, parse_verdict
from interleaver.agents.prompts import PromptSet, load_prompts
from interleaver.agents.tagged import (
    AnswerKind,
    plan_answer,
    plan_question,
    to_tagged,
    verdict_answer,
    verdict_question,
)
from interleaver.choices import AttemptFilter, DatasetKind, RunFilter, SequenceMode
from interleaver.errors import UnreadableAnswer
from interleaver.pictures import white_canvas
from interleaver.traces.failure_kinds import failure_kind
from interleaver.traces.labels import Label, Labels
from interleaver.traces.trace import Trace
from interleaver.training.data.sequences import sequence_of
from interleaver.types import LOCAL_PICTURES, Attempt, Exchange, ImageRef, PicturePolicy, Scores, Step, Verdict

SPECIAL_TOKEN = re.compile(
    r"<(?:\|([\w .:/-]{1,40})\|"
    r"|(/?(?:video|audio|vision|s|bos|eos|pad|unk|mask|start_of_turn|end_of_turn|start_of_image|end_of_image)))>"
)
"""What tokenizers (`<|im_end|>`, `</s>`) and trainers (`<video>`) take for a token; `<image>` stands for a picture."""
OTHER_FORMAT = "the question asks for another format"


class GroundTruth(BaseModel):
    """A judge's verdict and scores (0 to 10) of the drawn picture in a row."""

    success: bool
    semantics: float = Field(ge=0, le=10)
    quality: float = Field(ge=0, le=10)


class TrainingRow(BaseModel):
    """One row of a dataset, before it is written in any format.

    Attributes:
        run_id: ID of the run that the row comes from.
        step: position of the step in the plan, from 0; None if the row is about the whole run.
        attempt: number of the attempt at the step, from 1; None if the row is about the whole run.
        request: request of the run; all rows of a request go to the same split.
        tags: tags of the request.
        prompt: user turn, with an `<image>` tag in the place of each picture.
        images: references to the pictures; in the order of the `<image>` tags, or in sequences by number.
        pictures: how the model was sent the pictures; None as they are.
        answer: assistant turn, or the text of a sequence; "" for `critic-rl`, where the model in training answers.
        group: group for balancing and statistics, such as "accepted" or "rejected: colour".
        priority: rank in the selection; rows with a higher one are kept first.
        instruction: what the step should achieve.
        origin_prompt: prompt of the step in the plan.
        rewritten_prompt: prompt of this attempt.
        truth: the judge's verdict and scores; None if not labelled.
    """

    run_id: str
    step: int | None = None
    attempt: int | None = None
    request: str
    tags: dict[str, str] = Field(default_factory=dict)
    prompt: str
    images: list[ImageRef]
    pictures: PicturePolicy | None = None
    answer: str = ""
    group: str = ""
    priority: int = 0
    instruction: str = ""
    origin_prompt: str = ""
    rewritten_prompt: str = ""
    truth: GroundTruth | None = None

    def without_special_tokens(self) -> TrainingRow:
        """Return the row with texts that no tokenizer or trainer takes for tokens of its own; itself if it has none.

        A model can write anything into a plan, and `<|image_pad|>` or `<video>` in a text would count as one of the
        row's pictures.
        """
        changes = {}
        for name in ("prompt", "answer", "instruction", "origin_prompt", "rewritten_prompt"):
            text = getattr(self, name)
            safe_text = SPECIAL_TOKEN.sub(lambda match: f"[{match[1] or match[2]}]", text)
            if safe_text != text:
                changes[name] = safe_text
        return self.model_copy(update=changes) if changes else self

    def signature(self) -> bytes:
        """Return a hash that is equal for rows that differ only in case, punctuation and spacing."""
        texts = [self.request if self.step is None else "", self.instruction, self.rewritten_prompt, self.answer]
        words = [re.findall(r"\w+", text.casefold()) for text in texts]
        content = json.dumps([words, [image.sha256 for image in self.images], self.group])
        return hashlib.blake2b(content.encode(), digest_size=16).digest()


@dataclass(frozen=True)
class DroppedPart:
    """A part of a trace that gives no row.

    Attributes:
        name: run ID, with the step and the attempt if the part is an attempt.
        reason: why it gives no row.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class RowRules:
    """Which parts of traces become rows.

    Attributes:
        kind: kind of dataset.
        runs: "complete" uses only runs in which every step succeeded, "ended" all runs that have ended.
        attempts: "proven" uses a rejected attempt only if a later attempt at its step was accepted, "all" uses every
            attempt.
        mode: content of sequences: "easy" has the accepted pictures only, "hard" every attempt and its criticism.
        truth: name of a judge's labels. `critic-sft` leaves out verdicts that the judge disagrees with; `critic-rl`
            takes its ground truth from them.
        critic: name of a critic's labels, whose verdicts replace those of the run.
        difficulty: name of a critic's labels with several samples per attempt; attempts that all samples, or none,
            judge correctly are left out.
        prompts: prompt set for rows from planners and critics that are not chat models and so have no recorded
            prompts, see `load_prompts`.
    """

    kind: DatasetKind
    runs: RunFilter = "complete"
    attempts: AttemptFilter = "proven"
    mode: SequenceMode = "easy"
    truth: str | None = None
    critic: str | None = None
    difficulty: str | None = None
    prompts: str | None = None

    def labels(self) -> set[str]:
        """Return the names of the labels that the rules need."""
        return {name for name in (self.truth, self.critic, self.difficulty) if name}


def rows_of(trace: Trace, rules: RowRules, labels: dict[str, Labels | None]) -> Iterator[TrainingRow | DroppedPart]:
    """Yield the rows of a trace, and the parts that give no row.

    Args:
        trace: trace to read.
        rules: which parts of the trace become rows.
        labels: labels of the trace by name; None for a name without labels.
    """
    if trace.status == "unfinished" or (rules.runs == "complete" and trace.status != "complete"):
        yield DroppedPart(trace.run_id, f"the run is {trace.status}")
    elif rules.kind == "planner-sft":
        yield _planner_row(trace, rules)
    elif rules.kind == "sequences":
        yield _sequence_row(trace, rules.mode)
    else:
        for attempt in trace.attempts:
            yield _critic_row(trace, attempt, rules, labels)


@lru_cache(maxsize=8)
def _load_prompts(source: str | None) -> PromptSet:
    return load_prompts(source)


def _planner_row(trace: Trace, rules: RowRules) -> TrainingRow | DroppedPart:
    """Build the row of a planner.

    It is built from the last exchange with a usable answer, or, if the planner is not a chat model, from the request
    and the plan.
    """
    prompts, images, plan = _load_prompts(rules.prompts), trace.images, trace.plan
    question, policy = plan_question(prompts, trace.request, images), _default_policy(rules, images)
    if trace.plan_exchanges:
        exchange = _usable_exchange(trace.plan_exchanges, "planner")
        if exchange is None:
            return DroppedPart(trace.run_id, "no answer could be used")
        content = exchange.messages[0].content
        tagged_question = content if content == question else _tagged_question(exchange, "plan")
        if tagged_question is None:
            return DroppedPart(trace.run_id, OTHER_FORMAT)
        try:
            plan = parse_plan(exchange.answer)
        except UnreadableAnswer:
            return DroppedPart(trace.run_id, "no answer could be used")
        question, images, policy = tagged_question, exchange.images, exchange.pictures or policy
        if not plan.reasoning:
            plan = plan.model_copy(update={"reasoning": exchange.reasoning})
    if not plan.steps:
        return DroppedPart(trace.run_id, "the plan has no steps")
    return TrainingRow(
        run_id=trace.run_id,
        request=trace.request,
        tags=trace.tags,
        prompt=question,
        images=images,
        pictures=policy,
        answer=plan_answer(plan),
        group="with pictures" if images else "text only",
    )


def _critic_row(
    trace: Trace, attempt: Attempt, rules: RowRules, labels: dict[str, Labels | None]
) -> TrainingRow | DroppedPart:
    name = f"{trace.run_id}, step {attempt.step + 1}, attempt {attempt.attempt}"
    step = trace.step_of(attempt)
    if attempt.image is None or step is None:
        return DroppedPart(name, "there is no picture")
    label = _attempt_labels(labels, attempt)
    judge_label = label.get(rules.truth or "")
    truth = judge_label.scores if judge_label else None
    verdict, exchanges = attempt.verdict, attempt.exchanges
    if rules.critic:
        other = label.get(rules.critic)
        verdict, exchanges = (other.verdicts[0], other.exchanges) if other and other.verdicts else (None, [])
    reason = _drop_reason(trace, attempt, rules, verdict, truth, label)
    if reason:
        return DroppedPart(name, reason)
    row = _critic_question(trace, step, attempt, exchanges, rules)
    if row is None:
        return DroppedPart(name, OTHER_FORMAT)
    if rules.kind == "critic-sft" and not _readable(exchanges):
        return DroppedPart(name, "no answer could be used")
    if truth:
        row.truth = GroundTruth(success=truth.success, semantics=truth.semantics, quality=truth.quality)
    row.group = _balance_group(verdict, truth, rules)
    if rules.kind == "critic-rl":
        row.priority = int(verdict is not None and truth is not None and verdict.accepted != truth.success)
    elif verdict:
        row.answer = verdict_answer(verdict, attempt.prompt)
    return row


def _drop_reason(
    trace: Trace,
    attempt: Attempt,
    rules: RowRules,
    verdict: Verdict | None,
    truth: Scores | None,
    label: dict[str, Label],
) -> str | None:
    """Return why an attempt gives no row; None if it gives one."""
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
    if rules.attempts == "proven" and not verdict.accepted and not _was_mended(trace, attempt):
        return "no later attempt was accepted"
    return None


def _too_easy_or_hard(label: Label | None, truth: Scores) -> str | None:
    if label is None or len(label.verdicts) < 2:
        return "fewer than two samples of its difficulty"
    right = sum(verdict.accepted == truth.success for verdict in label.verdicts)
    if right == len(label.verdicts):
        return "every sample gets it right"
    return "no sample gets it right" if right == 0 else None


def _was_mended(trace: Trace, attempt: Attempt) -> bool:
    """Return whether a later attempt at the step was accepted."""
    later_attempts = [
        attempt_after for attempt_after in trace.attempts_at(attempt.step) if attempt_after.attempt > attempt.attempt
    ]
    return any(attempt_after.verdict and attempt_after.verdict.accepted for attempt_after in later_attempts)


def _critic_question(
    trace: Trace, step: Step, attempt: Attempt, exchanges: list[Exchange], rules: RowRules
) -> TrainingRow | None:
    """Return a row with the critic's prompt in the tagged format; None if the recorded prompt cannot be converted.

    If the critic is not a chat model, the prompt is the one that a chat model would be given.
    """
    assert attempt.image is not None
    before = attempt.sources[-1] if attempt.sources else canvas_ref(attempt.image.width, attempt.image.height)
    images = [before, attempt.image]
    policy = _default_policy(rules, images)
    expected_question = verdict_question(_load_prompts(rules.prompts), step, attempt.prompt, *images)
    question: str | None = expected_question
    exchange = _usable_exchange(exchanges, "critic")
    if exchange:
        policy = exchange.pictures or policy
    if exchange and exchange.messages[0].content != expected_question:
        question, images = _tagged_question(exchange, "verdict"), exchange.images
    if question is None:
        return None
    return TrainingRow(
        run_id=trace.run_id,
        step=attempt.step,
        attempt=attempt.attempt,
        request=trace.request,
        tags=trace.tags,
        prompt=question,
        images=images,
        pictures=policy,
        instruction=step.goal,
        origin_prompt=step.prompt or "",
        rewritten_prompt=attempt.prompt,
    )


def _tagged_question(exchange: Exchange, kind: AnswerKind) -> str | None:
    """Return the question of an exchange in the tagged format; None if it asks for another one.

    A question with instructions of its own, such as the official ones, is taken as it is if the answer is tagged.
    """
    content = exchange.messages[0].content
    is_tagged = "</think>" in exchange.answer and "<answer>" in exchange.answer
    return to_tagged(content, kind) or (content if is_tagged else None)


def _default_policy(rules: RowRules, images: list[ImageRef]) -> PicturePolicy | None:
    """Return how a chat model would be sent pictures; the official scripts send them as they are."""
    is_official = (rules.prompts or "").endswith(".py")
    return None if is_official else LOCAL_PICTURES.among(len(images))


def _readable(exchanges: list[Exchange]) -> bool:
    """Return whether the critic's answer can be parsed; True if the critic is not a chat model."""
    exchange = _usable_exchange(exchanges, "critic")
    try:
        return exchange is None or bool(parse_verdict(exchange.answer))
    except UnreadableAnswer:
        return False


def _balance_group(verdict: Verdict | None, truth: Scores | None, rules: RowRules) -> str:
    """Return the balancing group of a critic's row: accepted, rejected by kind of failure, or no verdict."""
    if rules.kind == "critic-rl" and truth:
        reasoning, accepted = truth.reasoning, truth.success
    elif verdict:
        reasoning, accepted = verdict.reasoning, verdict.accepted
    else:
        return "no verdict"
    return "accepted" if accepted else f"rejected: {failure_kind(reasoning)}"


def _attempt_labels(labels: dict[str, Labels | None], attempt: Attempt) -> dict[str, Label]:
    assert attempt.image is not None
    labels_by_name = {}
    for name, named_labels in labels.items():
        label = named_labels.of(attempt.step, attempt.attempt, attempt.image.sha256) if named_labels else None
        if label:
            labels_by_name[name] = label
    return labels_by_name


def _usable_exchange(exchanges: list[Exchange], role: str) -> Exchange | None:
    """Return the last exchange of a role whose answer could be used; None if there is none."""
    usable = [
        exchange for exchange in exchanges if exchange.role == role and exchange.problem is None and exchange.messages
    ]
    return usable[-1] if usable else None


def _sequence_row(trace: Trace, mode: SequenceMode) -> TrainingRow | DroppedPart:
    for result in trace.results:
        if result is None or not result.outcome.finished:
            return DroppedPart(trace.run_id, "a step was not accepted")
    text, images = sequence_of(trace, hard=mode == "hard")
    return TrainingRow(
        run_id=trace.run_id,
        request=trace.request,
        tags=trace.tags,
        prompt=trace.request,
        images=images,
        answer=text,
        group=mode,
    )


@lru_cache(maxsize=256)
def canvas_ref(width: int, height: int) -> ImageRef:
    """Return the blank canvas that a critic is shown as the picture before a step without a source picture."""
    return white_canvas(width, height).ref
