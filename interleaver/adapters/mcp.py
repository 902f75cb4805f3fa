"""The graph as an MCP server: tools to illustrate and to look things up, and the pictures as resources."""

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
from interleaver.graph.chat import PREVIEW
from interleaver.graph.context import RunSettings
from interleaver.graph.events import (
    AttemptFailed,
    AttemptStarted,
    DocumentReady,
    Event,
    PictureReady,
    PlanReady,
    StepEnded,
    VerdictGiven,
)
from interleaver.graph.inputs import read_image
from interleaver.pictures import MAX_BYTES, encoded_as, shrunk
from interleaver.runner import Reviewer, Runner
from interleaver.traces.runs import RunRecord, RunSummary

MAX_LISTED = 100
Client = Context[ServerSession, Any]


class Part(BaseModel):
    """A paragraph or picture of a document."""

    type: Literal["text", "image"]
    text: str = Field(description="The paragraph; for a picture, what it shows.")
    uri: str | None = Field(None, description="The resource that holds the picture.")


class Illustration(BaseModel):
    """What became of a run."""

    run_id: str
    request: str
    status: Literal["complete", "partial", "failed"]
    reason: str | None = None
    parts: list[Part]


def _choice(description: str, *choices: str) -> Any:
    # MCP's forms have plain strings; which ones are offered stands in the schema, and the graph checks what comes back.
    return Field(description=description, json_schema_extra={"enum": list(choices)})


class PlanDecision(BaseModel):
    """What a person may say of a plan."""

    action: str = _choice("Approve the plan, or have it written anew.", "approve", "reject")
    feedback: str = Field("", description="For reject: what should be different.")


class StepDecision(BaseModel):
    """What a person may say of a step that was never accepted."""

    action: str = _choice("Keep an attempt, draw anew, or leave it.", "pick", "rewrite", "skip", "stop")
    attempt: int = Field(0, description="For pick: which attempt is right after all.")
    prompt: str = Field("", description="For rewrite: the prompt to draw with.")


def create_server(runner: Runner, profile: str | None, host: str = "127.0.0.1", port: int = 8000) -> FastMCP[Any]:
    """The MCP server.

    Args:
        runner: carries out the runs; they lie in its folder, like those of the command line.
        profile: absolute path of the runner's profile, for resuming a run later.
        host: where the streamable HTTP transport listens.
        port: likewise.
    """
    # A picture may come in the request itself, as base64.
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
            RunSettings | None, Field(description="How to go about it, where the default won't do.")
        ] = None,
    ) -> Annotated[CallToolResult, Illustration]:
        hosts, store = runner.profile.store.image_hosts, runner.runs.images
        try:
            pictures = [
                await read_image(_as_link(image), f"picture {number} of the request", store, hosts)
                for number, image in enumerate(images, start=1)
            ]
            given = settings.model_dump(exclude_unset=True) if settings else {}
            record = await runner.begin(request, pictures, given, profile)
            return await _work(runner, record, client)
        except InterleaverError as error:
            raise ToolError(str(error)) from None

    @server.tool(description="Carry on a run that was interrupted, waits for a person, or could not be finished.")
    async def resume_run(run_id: str, client: Client) -> Annotated[CallToolResult, Illustration]:
        try:
            record = await asyncio.to_thread(runner.runs.record, run_id)
            return await _work(runner, record, client)
        except InterleaverError as error:
            raise ToolError(str(error)) from None

    @server.tool(description="Fetch a document that was made earlier, by the run_id that illustrate or list_runs gave.")
    async def get_document(run_id: str) -> Annotated[CallToolResult, Illustration]:
        try:
            return await _result(runner, run_id)
        except InterleaverError as error:
            raise ToolError(str(error)) from None

    @server.tool(description="List the runs, the newest first.")
    async def list_runs(limit: Annotated[int, Field(ge=1, le=MAX_LISTED)] = 20) -> list[RunSummary]:
        return (await asyncio.to_thread(runner.runs.summaries))[:limit]

    @server.resource("picture://{sha256}", mime_type="image/png", description="A picture of a document, in full size.")
    async def picture(sha256: str) -> bytes:
        return (await asyncio.to_thread(encoded_as, await runner.runs.images.find(sha256), "PNG")).data

    @server.resource("document://{run_id}", mime_type="text/markdown", description="A document as Markdown.")
    async def document(run_id: str) -> str:
        record, made = await _made(runner, run_id)
        parts = [
            f"![{block['alt']}]({_uri(block)})" if "sha256" in block else block["text"] for block in made["blocks"]
        ]
        return "\n\n".join([f"# {record.request}", *parts])

    return server


async def _work(runner: Runner, record: RunRecord, client: Client) -> CallToolResult:
    """Carry a run out, telling the client how it goes."""
    progress = Progress()
    async for event in runner.work(record, _reviewer(client, record)):
        done, total, message = progress.after(event)
        if message:
            await client.report_progress(done, total, message)
    return await _result(runner, record.run_id)


class Progress:
    """From events to a figure that only grows: the steps that have ended, and a part of the one at work."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.ended = 0
        self.since = 0

    def after(self, event: Event) -> tuple[float, float | None, str | None]:
        """How far the run has come: steps done, steps in all, and what has just happened."""
        self.since += 1
        message = None
        match event:
            case PlanReady(plan=plan, kept=kept):
                self.total, self.ended, self.since = len(plan.steps), kept, 0
                message = f"A plan of {len(plan.steps)} steps"
            case AttemptStarted(number=number, attempt=attempt):
                message = f"Step {number}: drawing, attempt {attempt}"
            case PictureReady(number=number):
                message = f"Step {number}: looking at the picture"
            case VerdictGiven(number=number, verdict=verdict):
                message = f"Step {number}: {'accepted' if verdict.accepted else 'rejected'}. {verdict.reasoning}"
            case AttemptFailed(number=number, error=error):
                message = f"Step {number}: {error}"
            case StepEnded(number=number, outcome=outcome):
                self.ended, self.since = self.ended + 1, 0
                message = f"Step {number}: {outcome}"
            case DocumentReady(status=status):
                message = f"The document is {status}"
        return self.ended + (1 - 1 / (1 + self.since) if self.ended < (self.total or 1) else 0), self.total, message


def _as_link(image: str) -> str:
    return image.replace("picture://", "sha256:", 1) if image.startswith("picture://") else image


def _reviewer(client: Client, record: RunRecord) -> Reviewer | None:
    """Whoever sits at the client, if it can ask them."""
    if not client.session.check_client_capability(ClientCapabilities(elicitation=ElicitationCapability())):
        return None

    async def ask(question: dict[str, Any]) -> Any:
        (card,) = question["action_requests"]
        form = PlanDecision if question["kind"] == "plan_review" else StepDecision
        reply = await client.elicit(card["description"], form)
        if reply.action != "accept":
            raise BadInput(f"run {record.run_id} waits for an answer; resume_run asks again")
        return reply.data.model_dump(exclude_defaults=True)

    return ask


async def _result(runner: Runner, run_id: str) -> CallToolResult:
    """A run as structured data, and as content in reading order: text, previews, and links to the whole pictures."""
    record, made = await _made(runner, run_id)
    said = f"{made['status']}: {made['reason']}" if made["reason"] else made["status"]
    content: list[ContentBlock] = [TextContent(type="text", text=f"Run {run_id}, {said}")]
    parts = []
    for block in made["blocks"]:
        if block["type"] == "text":
            content.append(TextContent(type="text", text=block["text"]))
            parts.append(Part(type="text", text=block["text"]))
        else:
            uri = _uri(block)
            content += await _shown(runner, block["sha256"], block["alt"], uri)
            parts.append(Part(type="image", text=block["alt"], uri=uri))
    told = Illustration(
        run_id=run_id, request=record.request, status=made["status"], reason=made["reason"], parts=parts
    )
    failed = made["status"] == "failed"
    return CallToolResult(content=content, structuredContent=told.model_dump(mode="json"), isError=failed)


async def _made(runner: Runner, run_id: str) -> tuple[RunRecord, dict[str, Any]]:
    """A run and its document.

    Raises:
        BadInput: there is no such run, or it has made none yet.
    """
    record = await asyncio.to_thread(runner.runs.record, run_id)
    made = await asyncio.to_thread(runner.runs.document, run_id)
    if made is None:
        raise BadInput(runner.runs.why_no_document(run_id, "with the tool resume_run, or "))
    return record, made


def _uri(block: dict[str, Any]) -> str:
    return f"picture://{block['sha256']}"


async def _shown(runner: Runner, sha256: str, alt: str, uri: str) -> Sequence[ContentBlock]:
    small = await asyncio.to_thread(shrunk, await runner.runs.images.find(sha256), PREVIEW, "WEBP")
    return [
        ImageContent(type="image", data=base64.b64encode(small.data).decode(), mimeType=small.media_type),
        ResourceLink(type="resource_link", uri=AnyUrl(uri), name=sha256[:12], description=alt, mimeType="image/png"),
    ]
