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
from interleaver.graph.builder import build_graph
from interleaver.graph.chat import preview_blocks
from interleaver.graph.context import RunSettings
from interleaver.graph.state import RunInput, RunOutput
from interleaver.tools import ImageGenerator
from interleaver.traces.images import ImageStore
from interleaver.types import Document, ImageBlock

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

DESCRIPTION = (
    "Make an illustrated document: a tutorial, guide or story in several steps, each with text and a picture. "
    "Give the whole wish in one request; pictures to continue from can be given too."
)
EVENT = "interleaver"
"""The name of the progress events outside LangGraph, in `astream_events`."""

NO_LIMIT: RunnableConfig = {"recursion_limit": 100_000}
"""A run ends by its own budgets; LangChain's default of 25 supersteps would cut it off after eight steps."""


class Illustrate(BaseModel):
    """The arguments of the tool."""

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
    """The graph as a LangChain tool.

    Its content is a short text for the model; its artifact is the whole `Document`, as JSON. Called within a LangGraph
    run it shares that run's checkpointer, so it can pause for a review and resume, and its progress events (see
    `interleaver.graph.events`) appear on the run's `custom` stream; elsewhere they are custom events named `EVENT`.

    Args:
        planner: see `build_graph`, likewise the next five.
        critic: judges each picture.
        generator: draws and edits.
        images: where the pictures are kept.
        settings: how every run of the tool goes about its work.
        image_hosts: private hosts from which pictures may be fetched.
        name: what the model calls the tool.
        description: when the model should call it.
        previews: add small pictures to the content, for models that accept image blocks from a tool.
    """
    from langchain_core.callbacks import adispatch_custom_event
    from langchain_core.tools import StructuredTool

    store = images or ImageStore()
    # Compiled without a checkpointer of its own: an interrupt in here must reach the checkpointer of the caller.
    graph = build_graph(
        planner=planner, critic=critic, generator=generator, images=store, settings=settings, image_hosts=image_hosts
    ).compile(name=name)

    async def illustrate(request: str, images: list[str]) -> tuple[Any, dict[str, Any]]:
        tell = _listener()
        if tell is None and settings and (settings.review or settings.on_exhausted == "ask"):
            raise BadInput(
                f"the tool {name!r} asks a person, and only a LangGraph run with a checkpointer can wait for the "
                "answer; leave out review and on_exhausted ask, or call the tool from such a run"
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
        made = Document.model_validate(document)
        text = summary(made, store)
        if not previews:
            return text, document
        pictures = [block.image for block in made.blocks if isinstance(block, ImageBlock)]
        return [{"type": "text", "text": text}, *await preview_blocks(pictures, store)], document

    def illustrate_in_a_thread(request: str, images: list[str]) -> tuple[Any, dict[str, Any]]:
        # The nodes are async; whoever calls synchronously may have a running loop of their own.
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
    """A document in a few lines, for a model: what became of it, and a line with a link for each picture."""
    shown = {block.step: block.image for block in document.blocks if isinstance(block, ImageBlock)}
    lines = [f"{document.status.capitalize()}: {len(document.steps)} steps, {len(shown)} pictures."]
    if document.reason:
        lines.append(f"Reason: {document.reason}")
    for position, step in enumerate(document.steps):
        link = f" [picture]({images.link(shown[position])})" if position in shown else ""
        lines.append(f"{step.number}. {step.name}{link}")
    return "\n".join(lines)


def _listener() -> Callable[[Any], None] | None:
    """Who is told of progress within a LangGraph run; None outside of one."""
    try:
        return get_stream_writer()
    except (KeyError, RuntimeError):
        return None
