"""The graph as a tool that an agent calls."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from langgraph.config import get_stream_writer
from langgraph.runtime import get_runtime
from pydantic import BaseModel, Field

from interleaver.adapters.nesting import asks_a_person, call_config, check_can_ask, nested_context
from interleaver.agents import Critic, Planner
from interleaver.errors import BadInput
from interleaver.graph.boundary.changes import ReviseChange
from interleaver.graph.boundary.chat import preview_blocks
from interleaver.graph.boundary.memory import DocumentMemory, memory_message
from interleaver.graph.builder import build_graph
from interleaver.graph.channels import NAME, is_answer
from interleaver.graph.compiled import RunGraph
from interleaver.graph.context import RunSettings
from interleaver.graph.state import RunInput
from interleaver.graph.sync import run_in_background
from interleaver.store.images import ImageStore
from interleaver.tools import ImageGenerator
from interleaver.types import Document, ImageBlock, ImageRef, Json

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

DESCRIPTION = (
    "Make an illustrated document: a tutorial, guide or story in several steps, each with text and a picture. "
    "Describe the whole document in one request; pictures to start from can be given as well."
)
EVENT = "interleaver"
"""Name of the progress events in `astream_events`, outside a LangGraph run."""


class Illustrate(BaseModel):
    """Arguments of the tool."""

    request: str = Field(description='What to make, for example "How to draw a cat, step by step".')
    images: list[str] = Field(
        default_factory=list,
        description="Pictures to start from: links from an earlier result, http(s) addresses, or data: URLs.",
    )
    document: str = Field(
        "",
        description="To change a document that you have made: its id, from the earlier result. The request then says "
        'what to change, for example "make the third picture a night scene".',
    )


def as_tool(
    *,
    planner: Planner | None = None,
    critic: Critic | None = None,
    generator: ImageGenerator | None = None,
    images: ImageStore | None = None,
    settings: RunSettings | None = None,
    image_hosts: Collection[str] = (),
    name: str = "illustrate",
    description: str = DESCRIPTION,
    previews: bool = False,
) -> BaseTool:
    """Return the graph as a LangChain tool.

    The tool's content is a short text for the model; its artifact is the whole `Document` as JSON, with a `memory` by
    which a later call can change it. That later call finds it in the agent's messages. Called within a LangGraph run,
    the tool shares that run's checkpointer if it may have to ask a person, so it can pause and resume; its progress
    events (see `interleaver.graph.boundary.events`) appear on the run's `custom` stream. Everywhere they are dispatched
    as custom events named `EVENT`, which `astream_events` shows.

    Args:
        planner: writes the plan; defaults as in `build_graph`, also for the next three.
        critic: reviews each picture.
        generator: draws and edits pictures.
        images: the image store.
        settings: settings of every run of the tool; they take precedence over those in the context of the agent.
        image_hosts: hosts with private addresses from which pictures may be fetched.
        name: name of the tool.
        description: description of the tool for the model.
        previews: whether to add small pictures to the content, for models that accept image blocks from a tool.
    """
    from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
    from langchain_core.tools import StructuredTool, ToolException
    from langgraph.prebuilt import ToolRuntime

    store = images or ImageStore()
    builder = build_graph(
        planner=planner, critic=critic, generator=generator, images=store, settings=settings, image_hosts=image_hosts
    )
    # An interrupt has to reach the caller's checkpointer; a run that asks nobody leaves no checkpoints there.
    asking_graph, quiet_graph = builder.compile(name=name), builder.compile(False, name=name)

    def prepare(arguments: Illustrate, runtime: Any) -> tuple[RunGraph, tuple[Any, ...], dict[str, Any]]:
        context = nested_context(runtime.context if runtime else _context(), settings)
        if asks_a_person(context):
            check_can_ask(name)
        graph = asking_graph if asks_a_person(context) else quiet_graph
        config = call_config(runtime.tool_call_id if runtime else None)
        try:
            inputs = _inputs(arguments, runtime)
        except BadInput as error:  # the model's mistake, which it can mend
            raise ToolException(str(error)) from None
        return graph, (inputs, config), {"context": context, "stream_mode": ["custom", "values"]}

    async def illustrate(request: str, images: list[str], document: str = "", runtime: Any = None) -> tuple[Any, Json]:
        graph, inputs, options = prepare(Illustrate(request=request, images=images, document=document), runtime)
        tell, result = _listener(), {}
        async for mode, chunk in graph.astream(*inputs, **options):
            if mode == "values":
                result = chunk
                continue
            if tell:
                tell(chunk)
            await adispatch_custom_event(EVENT, chunk)
        text, artifact = _answer(result, store, has_state=runtime is not None)
        if not previews:
            return text, artifact
        refs = _pictures(artifact)
        return [{"type": "text", "text": text}, *await preview_blocks(refs, store)], artifact

    def illustrate_synchronously(
        request: str, images: list[str], document: str = "", runtime: Any = None
    ) -> tuple[Any, Json]:
        graph, inputs, options = prepare(Illustrate(request=request, images=images, document=document), runtime)
        tell, result = _listener(), {}
        for mode, chunk in graph.stream(*inputs, **options):
            if mode == "values":
                result = chunk
                continue
            if tell:
                tell(chunk)
            dispatch_custom_event(EVENT, chunk)
        text, artifact = _answer(result, store, has_state=runtime is not None)
        if not previews:
            return text, artifact
        blocks = run_in_background(preview_blocks(_pictures(artifact), store))
        return [{"type": "text", "text": text}, *blocks], artifact

    for function in (illustrate, illustrate_synchronously):  # by this type LangGraph knows what to pass
        function.__annotations__["runtime"] = ToolRuntime
    return StructuredTool.from_function(
        func=illustrate_synchronously,
        coroutine=illustrate,
        name=name,
        description=description,
        args_schema=Illustrate,
        response_format="content_and_artifact",
        handle_tool_error=True,
    )


def _inputs(arguments: Illustrate, runtime: Any) -> RunInput:
    """Return the graph's input for a call.

    Raises:
        BadInput: the document to be changed is not among the results in the agent's messages.
    """
    if not arguments.document:
        return {"request": arguments.request, "images": arguments.images}
    state = runtime.state if runtime else {}
    messages = state.get("messages", []) if isinstance(state, Mapping) else getattr(state, "messages", [])
    artifacts = [message.artifact for message in messages if isinstance(getattr(message, "artifact", None), dict)]
    memories = {document_id(artifact["memory"]): artifact["memory"] for artifact in artifacts if artifact.get("memory")}
    memory = memories.get(arguments.document)
    if memory is None:
        document_ids = ", ".join(memories) or "none"
        raise BadInput(f"there is no document {arguments.document!r} in this conversation; it has {document_ids}")
    change = ReviseChange(request=arguments.request, images=arguments.images)
    message = memory_message(DocumentMemory.model_validate(memory))
    return {"messages": [message], "change": change.model_dump()}


def document_id(memory: Json) -> str:
    """Return the short id by which a model names a document that is to be changed."""
    return hashlib.sha256(json.dumps(memory, sort_keys=True).encode()).hexdigest()[:8]


def _answer(result: Any, store: ImageStore, has_state: bool) -> tuple[str, Json]:
    """Return the text for the model and the artifact."""
    document = Document.model_validate(result.get("document", {}))
    answers = [message for message in result.get("messages", []) if is_answer(message)]
    memory = answers[-1].response_metadata[NAME] if answers else {}
    text = summary(document, store)
    if memory and has_state:
        text += f"\nDocument id, for changing it later: {document_id(memory)}"
    return text, {**result.get("document", {}), "memory": memory}


def _pictures(artifact: Json) -> list[ImageRef]:
    return [block.image for block in Document.model_validate(artifact).blocks if isinstance(block, ImageBlock)]


def _context() -> object:
    """Return the context of the surrounding LangGraph run; None outside of one."""
    try:
        runtime: Any = get_runtime()
    except (KeyError, RuntimeError):
        return None
    return runtime.context if runtime else None  # in a plain LangChain run it is None


def summary(document: Document, images: ImageStore) -> str:
    """Return a short summary of a document for a model: its status, and a line per step with a link to its picture."""
    images_by_step = {block.step: block.image for block in document.blocks if isinstance(block, ImageBlock)}
    lines = [f"{document.status.capitalize()}: {len(document.steps)} steps, {len(images_by_step)} pictures."]
    if document.reason:
        lines.append(f"Reason: {document.reason}")
    for position, step in enumerate(document.steps):
        link = f" [picture]({images.link(images_by_step[position])})" if position in images_by_step else ""
        lines.append(f"{step.number}. {step.name}{link}")
    return "\n".join(lines)


def _listener() -> Callable[[Any], None] | None:
    """Return the stream writer of the surrounding LangGraph run; None outside of one."""
    try:
        return get_stream_writer()
    except (KeyError, RuntimeError):
        return None
