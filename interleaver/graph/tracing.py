"""What LangSmith is told beyond what LangGraph tells it: names, pictures, verdicts. Nothing where it is not configured.

LangGraph traces every node by itself. Here the node's span gets a name that says which step and attempt it was about,
the numbers as metadata, the pictures as attachments; verdicts and outcomes become feedback. Feedback is sent by a
thread of its own, so a slow or absent LangSmith holds nothing up.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

from interleaver.errors import BackendUnavailable
from interleaver.traces.images import ImageStore
from interleaver.types import Attempt, Document, ImageRef, Outcome, Step, StepResult

if TYPE_CHECKING:
    from langsmith import Client
    from langsmith.run_trees import RunTree

log = logging.getLogger(__name__)


async def tell_attempt(step: Step, attempt: Attempt, images: ImageStore) -> None:
    """Describe the generator's or critic's work on an attempt, which is the span at work."""
    span = _span()
    if span is None:
        return
    _describe(span, f"step {step.number}, attempt {attempt.attempt}", step=step.number, attempt=attempt.attempt)
    span.add_metadata({"seed": attempt.seed})
    if not _hidden():
        span.add_metadata({"prompt": attempt.prompt})
        await _attach(
            span, {"before": attempt.sources[-1] if attempt.sources else None, "picture": attempt.image}, images
        )
    if attempt.verdict:
        said = None if _hidden() else attempt.verdict.reasoning
        _send(span, "accepted", float(attempt.verdict.accepted), said)
        if attempt.verdict.score is not None:
            _send(span, "critic_score", attempt.verdict.score, said)


async def _attach(span: RunTree, pictures: dict[str, ImageRef | None], images: ImageStore) -> None:
    from langsmith.schemas import Attachment

    attachments: dict[str, Any] = span.attachments  # its type knows only attachments that were read back
    for name, ref in pictures.items():
        if ref is None:
            continue
        try:
            picture = await images.get(ref)
        except BackendUnavailable:
            continue  # the run itself says so where it matters
        attachments[name] = Attachment(mime_type=ref.media_type, data=picture.data)


def _hidden() -> bool:
    """Whether LangSmith is to see what goes in and out; pictures and prompts are just that."""
    from langsmith.utils import get_env_var

    return "true" in (get_env_var("HIDE_INPUTS"), get_env_var("HIDE_OUTPUTS"))


def tell_outcome(step: Step, result: StepResult) -> None:
    """Describe the end of a step."""
    span = _span()
    if span:
        _describe(span, f"step {step.number}, {result.outcome}", step=step.number, outcome=str(result.outcome))


def tell_document(document: Document) -> None:
    """Rate the whole run: whether its document is complete, and the share of its steps that are."""
    span = _span()
    if span is None or not document.steps:
        return
    done = sum(step.outcome in (Outcome.ACCEPTED, Outcome.TEXT) for step in document.steps)
    reason = None if _hidden() else document.reason
    _send(span, "complete", float(document.status == "complete"), reason, run_id=span.trace_id)
    _send(span, "steps_done", done / len(document.steps), None, run_id=span.trace_id)


def _span() -> RunTree | None:
    """The span of the node at work; None when the run is not traced."""
    from langsmith.run_helpers import get_current_run_tree

    span = get_current_run_tree()
    # Around an untraced graph stands whatever span its caller is in, which is none of ours.
    return span if span and "langgraph_node" in span.metadata else None


def _describe(span: RunTree, what: str, **metadata: Any) -> None:
    span.name = f"{span.name}: {what}"
    span.add_metadata(metadata)
    span.add_tags([f"{name}:{value}" for name, value in metadata.items()])


def _send(span: RunTree, key: str, score: float, comment: str | None, run_id: UUID | None = None) -> None:
    of_run, of_trace, project = run_id or span.id, span.trace_id, span.session_name or "default"
    _sender().submit(_feedback, span.client, project, of_run, of_trace, key, score, comment)


@cache
def _sender() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="langsmith-feedback")


def _feedback(
    client: Client, project: str, run_id: UUID, trace_id: UUID, key: str, score: float, comment: str | None
) -> None:
    session = _project_id(client, project)
    if session is None:
        return
    try:
        client.create_feedback(
            run_id, key, score=score, comment=comment, trace_id=trace_id, session_id=session,
            feedback_source_type="model", stop_after_attempt=2,
        )  # fmt: skip
    except Exception as error:  # whatever is wrong with LangSmith, the run goes on without it
        log.warning("LangSmith took no feedback: %s", _first_line(error))


@cache
def _project_id(client: Client, name: str) -> UUID | None:
    """The project's id, which feedback must name; None when LangSmith cannot be reached, and is not to be asked again.

    The project is made when no trace has reached it yet.
    """
    try:
        return client.create_project(name, upsert=True).id
    except Exception as error:
        log.warning("LangSmith takes no feedback: %s", _first_line(error))
        return None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]  # further lines of LangSmith's errors show parts of the key
