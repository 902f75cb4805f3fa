"""The graph as an MCP server: tools to make documents and to look them up, with pictures as resources."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from mcp.server.fastmcp import Context, FastMCP
from mcp.server.fastmcp.exceptions import ToolError
from mcp.server.session import ServerSession
from mcp.types import (
    CallToolResult,
    ClientCapabilities,
    ContentBlock,
    ElicitationCapability,
    ImageContent,
    ResourceLink,
    TextContent,
)
from pydantic import AnyUrl, BaseModel, Field

from interleaver.adapters.tool import DESCRIPTION
from interleaver.errors import BadInput, InterleaverError
from interleaver.graph.boundary.chat import PREVIEW_SIDE
from interleaver.graph.boundary.events import (
    AttemptFailed,
    AttemptStarted,
    DocumentReady,
    Event,
    PictureReady,
    PlanReady,
    StepEnded,
    VerdictGiven,
)
from interleaver.graph.boundary.inputs import read_image
from interleaver.graph.context import RunSettings
from interleaver.pictures import MAX_BYTES, convert_picture, shrink_picture
from interleaver.runner import ReviewHandler, Runner
from interleaver.traces.document_file import DocumentFile, ImageEntry
from interleaver.traces.runs import RunRecord, RunSummary

MAX_LISTED = 100
Client = Context[ServerSession, Any]


class DocumentPart(BaseModel):
    """A text or picture of a document."""

    type: Literal["text", "image"]
    text: str = Field(description="The text; for a picture, a description of it.")
    uri: str | None = Field(None, description="URI of the picture's resource; None for a text.")


class Illustration(BaseModel):
    """The result of a run."""

    run_id: str
    request: str
    status: Literal["complete", "partial", "failed"]
    reason: str | None = None
    parts: list[DocumentPart]


def _choice(description: str, *choices: str) -> Any:
    # MCP elicitation only has plain strings: the choices are listed in the schema, and the graph validates the answer.
    return Field(description=description, json_schema_extra={"enum": list(choices)})


class PlanDecision(BaseModel):
    """A person's decision about a plan."""

    action: str = _choice("Approve the plan, or reject it to get a new one.", "approve", "reject")
    feedback: str = Field("", description="For reject: what to change in the new plan.")


class StepDecision(BaseModel):
    """A person's decision about a step without an accepted attempt."""

    action: str = _choice(
        "Pick an attempt to keep, rewrite the prompt to draw again, skip the picture, or stop the run.",
        "pick",
        "rewrite",
        "skip",
        "stop",
    )
    attempt: int = Field(0, description="For pick: number of the attempt to keep.")
    prompt: str = Field("", description="For rewrite: the new prompt.")


def create_server(runner: Runner, host: str = "127.0.0.1", port: int = 8000) -> FastMCP[Any]:
    """Return the MCP server.

    Args:
        runner: runs the documents; they are stored in its run store, like those of the command line.
        host: host on which the streamable HTTP transport listens.
        port: port on which the streamable HTTP transport listens.
    """
    # The size limit leaves room for pictures in the request, as base64.
    server: FastMCP[Any] = FastMCP(
        "interleaver", host=host, port=port, max_request_body_size=8 * MAX_BYTES, log_level="WARNING"
    )

    @server.tool(description=DESCRIPTION)
    async def illustrate(
        request: Annotated[str, Field(description='What to make, for example "How to draw a cat, step by step".')],
        client: Client,
        images: Annotated[
            list[str], Field(description="Pictures to start from: sha256: links, http(s) addresses, or data: URLs.")
        ] = [],  # noqa: B006 (it becomes the schema's default)
        settings: Annotated[
            RunSettings | None, Field(description="Settings of the run that differ from the server's defaults.")
        ] = None,
    ) -> Annotated[CallToolResult, Illustration]:
        hosts, store = runner.profile.store.image_hosts, runner.runs.images
        try:
            pictures = [
                await read_image(_as_link(image), f"picture {number} of the request", store, hosts)
                for number, image in enumerate(images, start=1)
            ]
            chosen_settings = settings.model_dump(exclude_unset=True) if settings else {}
            record = await runner.begin(request, pictures, chosen_settings)
            return await _work(runner, record, client)
        except InterleaverError as error:
            raise ToolError(str(error)) from None

    @server.tool(description="Resume a run that was interrupted, is waiting for a person, or could not be finished.")
    async def resume_run(run_id: str, client: Client) -> Annotated[CallToolResult, Illustration]:
        try:
            record = await asyncio.to_thread(runner.runs.record, run_id)
            return await _work(runner, record, client)
        except InterleaverError as error:
            raise ToolError(str(error)) from None

    @server.tool(description="Get a document that was made earlier, by the run_id from illustrate or list_runs.")
    async def get_document(run_id: str) -> Annotated[CallToolResult, Illustration]:
        try:
            return await _result(runner, run_id)
        except InterleaverError as error:
            raise ToolError(str(error)) from None

    @server.tool(description="List the runs, newest first.")
    async def list_runs(limit: Annotated[int, Field(ge=1, le=MAX_LISTED)] = 20) -> list[RunSummary]:
        return (await asyncio.to_thread(runner.runs.summaries))[:limit]

    @server.resource("picture://{sha256}", mime_type="image/png", description="A picture of a document, at full size.")
    async def picture(sha256: str) -> bytes:
        return (await asyncio.to_thread(convert_picture, await runner.runs.images.find(sha256), "PNG")).data

    @server.resource("document://{run_id}", mime_type="text/markdown", description="A document as Markdown.")
    async def document(run_id: str) -> str:
        record, run_document = await _run_and_document(runner, run_id)
        parts = [
            f"![{block.alt}]({_uri(block)})" if isinstance(block, ImageEntry) else block.text
            for block in run_document.blocks
        ]
        return "\n\n".join([f"# {record.request}", *parts])

    return server


async def _work(runner: Runner, record: RunRecord, client: Client) -> CallToolResult:
    """Start or resume a run and return its result, reporting progress to the client."""
    progress = RunProgress()
    async for event in runner.work(record, _reviewer(client, record)):
        steps_done, total, message = progress.after(event)
        if message:
            await client.report_progress(steps_done, total, message)
    return await _result(runner, record.run_id)


class RunProgress:
    """Turns events into a progress value that only grows: the ended steps, plus a fraction for the current one."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.ended_count = 0
        self.since = 0

    def after(self, event: Event) -> tuple[float, float | None, str | None]:
        """Return the progress after an event.

        Returns:
            The number of steps done, as a fraction; the total number of steps, None before planning; and a message
            about the event.
        """
        self.since += 1
        message = None
        match event:
            case PlanReady(plan=plan, kept_steps=kept_steps):
                self.total, self.ended_count, self.since = len(plan.steps), kept_steps, 0
                message = f"A plan of {len(plan.steps)} steps"
            case AttemptStarted(number=number, attempt=attempt):
                message = f"Step {number}: drawing, attempt {attempt}"
            case PictureReady(number=number):
                message = f"Step {number}: reviewing the picture"
            case VerdictGiven(number=number, verdict=verdict):
                message = f"Step {number}: {verdict.label}. {verdict.reasoning}"
            case AttemptFailed(number=number, error=error):
                message = f"Step {number}: {error}"
            case StepEnded(number=number, outcome=outcome):
                self.ended_count, self.since = self.ended_count + 1, 0
                message = f"Step {number}: {outcome}"
            case DocumentReady(status=status):
                message = f"The document is {status}"
        return (
            self.ended_count + (1 - 1 / (1 + self.since) if self.ended_count < (self.total or 1) else 0),
            self.total,
            message,
        )


def _as_link(image: str) -> str:
    return image.replace("picture://", "sha256:", 1) if image.startswith("picture://") else image


def _reviewer(client: Client, record: RunRecord) -> ReviewHandler | None:
    """Return a handler that asks the client's user; None if the client does not support elicitation."""
    if not client.session.check_client_capability(ClientCapabilities(elicitation=ElicitationCapability())):
        return None

    async def ask(question: dict[str, Any]) -> Any:
        (card,) = question["action_requests"]
        schema = PlanDecision if question["kind"] == "plan_review" else StepDecision
        reply = await client.elicit(card["description"], schema)
        if reply.action != "accept":
            raise BadInput(f"run {record.run_id} is waiting for an answer; call resume_run to be asked again")
        return reply.data.model_dump(exclude_defaults=True)

    return ask


async def _result(runner: Runner, run_id: str) -> CallToolResult:
    """Return the document of a run, as structured data and as content blocks.

    The content has texts, previews and links to the full-size pictures in reading order.
    """
    record, document = await _run_and_document(runner, run_id)
    status_text = f"{document.status}: {document.reason}" if document.reason else document.status
    content: list[ContentBlock] = [TextContent(type="text", text=f"Run {run_id}, {status_text}")]
    parts = []
    for block in document.blocks:
        if isinstance(block, ImageEntry):
            content += await _picture_blocks(runner, block)
            parts.append(DocumentPart(type="image", text=block.alt, uri=_uri(block)))
        else:
            content.append(TextContent(type="text", text=block.text))
            parts.append(DocumentPart(type="text", text=block.text))
    illustration = Illustration(
        run_id=run_id, request=record.request, status=document.status, reason=document.reason, parts=parts
    )
    failed = document.status == "failed"
    return CallToolResult(content=content, structuredContent=illustration.model_dump(mode="json"), isError=failed)


async def _run_and_document(runner: Runner, run_id: str) -> tuple[RunRecord, DocumentFile]:
    """Return a run and its document.

    Raises:
        BadInput: there is no such run, or it has no document yet.
    """
    record = await asyncio.to_thread(runner.runs.record, run_id)
    document = await asyncio.to_thread(runner.runs.document, run_id)
    if document is None:
        raise BadInput(runner.runs.why_no_document(run_id, "with the tool resume_run, or "))
    return record, document


def _uri(block: ImageEntry) -> str:
    return f"picture://{block.sha256}"


async def _picture_blocks(runner: Runner, block: ImageEntry) -> Sequence[ContentBlock]:
    """Return a small preview of a picture, and a link to the resource with the full-size one."""
    picture = await runner.runs.images.find(block.sha256)
    preview = await asyncio.to_thread(shrink_picture, picture, PREVIEW_SIDE, "WEBP")
    return [
        ImageContent(type="image", data=base64.b64encode(preview.data).decode(), mimeType=preview.media_type),
        ResourceLink(
            type="resource_link",
            uri=AnyUrl(_uri(block)),
            name=block.sha256[:12],
            description=block.alt,
            mimeType="image/png",
        ),
    ]
