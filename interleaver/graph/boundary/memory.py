"""What is needed to change a document later, and where it is found: in the run's own state, or in the chat."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage
from pydantic import BaseModel, ValidationError

from interleaver import migrations
from interleaver.errors import BackendUnavailable, BadInput
from interleaver.graph.channels import NAME, is_answer
from interleaver.graph.state import RunState, plan_of, request_images_of, result_of
from interleaver.store.images import ImageStore
from interleaver.types import ImageRef, Json, Plan, StepResult, Text


class DocumentMemory(BaseModel):
    """What is needed to change a document in a later chat message.

    It is kept in the answer's `response_metadata`, so a chat can be continued wherever its messages are stored.
    """

    request: Text
    images: list[ImageRef]
    plan: Plan
    results: dict[int, StepResult]


def document_memory(state: RunState) -> DocumentMemory:
    """Return what is needed to change the document of a run later."""
    plan = plan_of(state)
    results = {n: result for n in range(len(plan.steps)) if (result := result_of(state, n))}
    # The input `request` may be anything by now; what was planned is what the document is about.
    request = state.get("handled_request") or state.get("heard") or state.get("request") or ""
    return DocumentMemory(request=request, images=request_images_of(state), plan=plan, results=results)


def memory_message(memory: DocumentMemory) -> AIMessage:
    """Return a message that brings a document into another thread."""
    return AIMessage("", name=NAME, response_metadata={NAME: memory.model_dump(mode="json", exclude_none=True)})


def latest_memory(messages: Sequence[AnyMessage]) -> DocumentMemory | None:
    """Return the memory of the newest document in the chat; None if there is none."""
    record = next((record for record in reversed(_records(messages)) if record), None)
    if record is None:
        return None
    try:
        memory = DocumentMemory.model_validate(migrations.migrate_memory(record))
    except ValidationError:
        return None  # clients may send anything; without a valid memory the chat starts a new document
    return memory if memory.request.strip() and memory.plan.steps else None


async def confirm_memory(memory: DocumentMemory, images: ImageStore, known: Collection[ImageRef]) -> DocumentMemory:
    """Return the memory that a chat brought, with references that tell the truth about the stored pictures.

    A chat comes from outside, and only the hash of a reference counts. References to pictures that the store does not
    have stay: their steps are drawn again.

    Args:
        memory: the memory, as the chat has it.
        images: the image store.
        known: references from this run's own state, which are true.
    """

    async def confirm(ref: ImageRef) -> ImageRef:
        if ref in known:
            return ref
        try:
            return (await images.get(ref)).ref
        except (BackendUnavailable, BadInput):
            return ref

    results = {
        position: result.model_copy(update={"image": await confirm(result.image)}) if result.image else result
        for position, result in memory.results.items()
    }
    refs = [await confirm(ref) for ref in memory.images]
    return memory.model_copy(update={"images": refs, "results": results})


def answered_requests(messages: Sequence[AnyMessage]) -> list[object]:
    """Return the requests that this graph has answered in the chat."""
    return [record.get("request") for record in _records(messages) if isinstance(record, dict)]


def forget(record: Any) -> Json:
    """Return the memory of a document that is no longer the newest: only its request."""
    return {"request": record["request"]} if isinstance(record, dict) and "request" in record else {}


def _records(messages: Sequence[AnyMessage]) -> list[Any]:
    return [message.response_metadata[NAME] for message in messages if is_answer(message)]


def own_memory(state: RunState) -> DocumentMemory | None:
    """Return the memory of the document that this thread has made; None if there is none.

    Raises:
        BadInput: the thread has made one, but its checkpoints do not hold it any more.
    """
    if plan_of(state).steps:
        return document_memory(state)
    if state.get("status") in ("complete", "partial"):
        raise BadInput(
            "this thread has made a document, but the checkpoints that hold it were deleted; send the whole request "
            "in a new thread (docs/embedding.md, Retention)"
        )
    return None
