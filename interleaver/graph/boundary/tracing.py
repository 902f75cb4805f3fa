"""LangSmith tracing in addition to LangGraph's own: span names, metadata, pictures and feedback.

LangGraph traces every node. This module renames a node's span after its step and attempt, adds metadata, and attaches
the pictures; verdicts and the status of the document are sent as feedback. Feedback is sent in a separate thread, so a
slow or unreachable LangSmith does not delay the run. If LangSmith is not configured, nothing happens.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

from interleaver.errors import BackendUnavailable
from interleaver.store.images import ImageStore
from interleaver.types import Attempt, Document, ImageRef, Step, StepResult

if TYPE_CHECKING:
    from langsmith import Client
    from langsmith.run_trees import RunTree

log = logging.getLogger(__name__)


async def trace_request(refs: Sequence[ImageRef], images: ImageStore) -> None:
    """Attach the pictures of a request to the current span, in which they were read."""
    span = _current_span()
    if span and not _content_hidden():
        await _attach(span, {f"picture_{number}": ref for number, ref in enumerate(refs, start=1)}, images)


async def trace_attempt(step: Step, attempt: Attempt, images: ImageStore) -> None:
    """Annotate the current span, in which the generator or critic has worked on an attempt.

    The picture is attached to the generator's span alone, so that it is sent once; all spans name the pictures.
    """
    span = _current_span()
    if span is None:
        return
    _describe(span, f"step {step.number}, attempt {attempt.attempt}", step=step.number, attempt=attempt.attempt)
    span.add_metadata({"seed": attempt.seed})
    if not _content_hidden():
        links = {"before": attempt.sources[-1:], "picture": [attempt.image] if attempt.image else []}
        span.add_metadata({"prompt": attempt.prompt} | {k: images.link(refs[0]) for k, refs in links.items() if refs})
        if attempt.image and not attempt.reviewed:
            await _attach(span, {"picture": attempt.image}, images)
    if attempt.verdict:
        comment = None if _content_hidden() else attempt.verdict.reasoning
        _send(span, "accepted", float(attempt.verdict.accepted), comment)
        if attempt.verdict.score is not None:
            _send(span, "critic_score", attempt.verdict.score, comment)


async def _attach(span: RunTree, pictures: dict[str, ImageRef], images: ImageStore) -> None:
    from langsmith.schemas import Attachment

    attachments: dict[str, Any] = span.attachments  # the declared type only covers attachments that were read back
    for name, ref in pictures.items():
        try:
            picture = await images.get(ref)
        except BackendUnavailable:
            continue  # the run itself reports the error where it matters
        attachments[name] = Attachment(mime_type=ref.media_type, data=picture.data)


def _content_hidden() -> bool:
    """Return whether inputs or outputs are to be hidden from LangSmith; then pictures and prompts are not sent."""
    from langsmith.utils import get_env_var

    return "true" in (get_env_var("HIDE_INPUTS"), get_env_var("HIDE_OUTPUTS"))


def trace_outcome(step: Step, result: StepResult) -> None:
    """Annotate the current span, in which a step has ended."""
    span = _current_span()
    if span:
        _describe(span, f"step {step.number}, {result.outcome}", step=step.number, outcome=str(result.outcome))


def trace_document(document: Document) -> None:
    """Send feedback on the whole run: whether its document is complete, and the share of steps that are done."""
    span = _current_span()
    if span is None or not document.steps:
        return
    done_count = sum(step.outcome is not None and step.outcome.finished for step in document.steps)
    reason = None if _content_hidden() else document.reason
    _send(span, "complete", float(document.status == "complete"), reason, run_id=span.trace_id)
    _send(span, "steps_done", done_count / len(document.steps), None, run_id=span.trace_id)


def _current_span() -> RunTree | None:
    """Return the span of the current node; None if the run is not traced."""
    from langsmith.run_helpers import get_current_run_tree

    span = get_current_run_tree()
    # If this graph is not traced, the current span may be one of the caller's.
    return span if span and "langgraph_node" in span.metadata else None


def _describe(span: RunTree, subject: str, **metadata: Any) -> None:
    span.name = f"{span.name}: {subject}"
    span.add_metadata(metadata)
    span.add_tags([f"{name}:{value}" for name, value in metadata.items()])


def _send(span: RunTree, key: str, score: float, comment: str | None, run_id: UUID | None = None) -> None:
    of_run, of_trace, project = run_id or span.id, span.trace_id, span.session_name or "default"
    _feedback_thread().submit(_feedback, span.client, project, of_run, of_trace, key, score, comment)


@cache
def _feedback_thread() -> ThreadPoolExecutor:
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
    except Exception as error:  # a problem with LangSmith must not stop the run
        log.warning("feedback could not be sent to LangSmith: %s", _first_line(error))


@cache
def _project_id(client: Client, name: str) -> UUID | None:
    """Return the id of a project, which feedback requires; None if LangSmith cannot be reached.

    The project is created if no trace has reached it yet. The result is cached, so a failure is not retried.
    """
    try:
        return client.create_project(name, upsert=True).id
    except Exception as error:
        log.warning("no feedback will be sent to LangSmith, since its project cannot be opened: %s", _first_line(error))
        return None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]  # further lines of LangSmith's errors contain parts of the API key
