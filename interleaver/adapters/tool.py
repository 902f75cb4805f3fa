"""The graph as a tool that an agent calls."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from pydantic import BaseModel, Field

from interleaver.agents import Critic, Planner
from interleaver.errors import BadInput
from interleaver.graph.boundary.chat import preview_blocks
from interleaver.graph.builder import build_graph
from interleaver.graph.context import RunSettings
from interleaver.graph.state import RunInput, RunOutput
from interleaver.store.images import ImageStore
from interleaver.tools import ImageGenerator
from interleaver.types import Document, ImageBlock

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

DESCRIPTION = (
    "Make an illustrated document: a tutorial, guide or story in several steps, each with text and a picture. "
    "Describe the whole document in one request; pictures to start from can be given as well."
)
EVENT = "interleaver"
"""Name of the progress events in `astream_events`, outside a LangGraph run."""

NO_LIMIT: RunnableConfig = {"recursion_limit": 100_000}
"""Runs have budgets of their own; LangChain's default limit of 25 supersteps would end a run after eight steps."""


class Illustrate(BaseModel):
    """Arguments of the tool."""

    request: str = Field(description='What to make, for example "How to draw a cat, step by step".')
    images: list[str] = Field(
        default_factory=list,
        description="Pictures to start from: links from an earlier result, http(s) addresses, or data: URLs.",
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

    The tool's content is a short text for the model; its artifact is the whole `Document` as JSON. Called within a
    LangGraph run, the tool shares that run's checkpointer, so it can pause for a review and resume; its progress events
    (see `interleaver.graph.boundary.events`) appear on the run's `custom` stream. Called elsewhere, it dispatches them
    as custom events named `EVENT`.

    Args:
        planner: writes the plan; defaults as in `build_graph`, also for the next three.
        critic: reviews each picture.
        generator: draws and edits pictures.
        images: the image store.
        settings: settings of every run of the tool.
        image_hosts: hosts with private addresses from which pictures may be fetched.
        name: name of the tool.
        description: description of the tool for the model.
        previews: whether to add small pictures to the content, for models that accept image blocks from a tool.
    """
    from langchain_core.callbacks import adispatch_custom_event
    from langchain_core.tools import StructuredTool

    store = images or ImageStore()
    # Compiled without a checkpointer, so that an interrupt in here reaches the caller's checkpointer.
    graph = build_graph(
        planner=planner, critic=critic, generator=generator, images=store, settings=settings, image_hosts=image_hosts
    ).compile(name=name)

    async def illustrate(request: str, images: list[str]) -> tuple[Any, dict[str, Any]]:
        tell = _listener()
        if tell is None and settings and (settings.review or settings.on_exhausted == "ask"):
            raise BadInput(
                f"the tool {name!r} asks a person, and only a LangGraph run with a checkpointer can wait for the "
                'answer; set review=False and on_exhausted to another value than "ask", or call the tool in such a run'
            )
        inputs: RunInput = {"request": request, "images": images}
        document: dict[str, Any] = {}
        async for mode, chunk in graph.astream(inputs, NO_LIMIT, stream_mode=["custom", "values"]):
            if mode == "values":
                document = cast(RunOutput, chunk).get("document", {})
            elif tell:
                tell(chunk)
            else:
                await adispatch_custom_event(EVENT, chunk)
        result = Document.model_validate(document)
        text = summary(result, store)
        if not previews:
            return text, document
        pictures = [block.image for block in result.blocks if isinstance(block, ImageBlock)]
        return [{"type": "text", "text": text}, *await preview_blocks(pictures, store)], document

    def illustrate_in_a_thread(request: str, images: list[str]) -> tuple[Any, dict[str, Any]]:
        # The nodes are async, and a synchronous caller may already have a running event loop in its own thread.
        context = contextvars.copy_context()
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(context.run, asyncio.run, illustrate(request, images)).result()

    return StructuredTool.from_function(
        func=illustrate_in_a_thread,
        coroutine=illustrate,
        name=name,
        description=description,
        args_schema=Illustrate,
        response_format="content_and_artifact",
    )


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
