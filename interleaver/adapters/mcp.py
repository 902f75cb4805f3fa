"""The graph as an MCP server: tools to make, change and look up documents, with pictures as resources."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from functools import wraps
from typing import Annotated, Any, Literal, cast

import anyio
from mcp.types import (
    CallToolResult,
    ClientCapabilities,
    ContentBlock,
    ElicitationCapability,
    ImageContent,
    TextContent,
)
from pydantic import BaseModel, Field

from interleaver.adapters.jobs import QuestionPending, RunJob, RunJobs, RunProgress, Work
from interleaver.adapters.mcp_sdk import (
    Context,
    ResourceError,
    Server,
    ToolError,
    answer_of,
    asks_in_results,
    new_server,
    question_result,
)
from interleaver.adapters.tool import DESCRIPTION
from interleaver.errors import BadInput, InterleaverError
from interleaver.graph.boundary.changes import Change, ChooseChange, RedrawChange, ReviseChange
from interleaver.graph.boundary.chat import PREVIEW_SIDE
from interleaver.graph.boundary.inputs import read_image
from interleaver.graph.context import RunSettings
from interleaver.pictures import Picture, convert_picture, shrink_picture
from interleaver.runner import Runner
from interleaver.traces.document_file import DocumentFile, ImageEntry
from interleaver.traces.runs import RunRecord, RunSummary
from interleaver.types import Json

MAX_LISTED = 100
HEARTBEAT_SECONDS = 2.0
"""Longest silence of the server while it works on a call, in seconds."""
INSTRUCTIONS = (
    "Makes illustrated documents. A run may take minutes: progress is reported all the time. If a call times out, the "
    "run goes on or can be continued: list_runs shows it, resume_run waits for it, cancel_run stops it."
)
Client = Context[Any, Any]


class DocumentPart(BaseModel):
    """A text or picture of a document."""

    type: Literal["text", "image"]
    text: str = Field(description="The text; for a picture, a description of it.")
    uri: str | None = Field(None, description="URI of the picture's resource; None for a text.")
    url: str | None = Field(None, description="Address of the picture on the web, if it is served there.")


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


class Reporter:
    """Reports the progress of a call, with values that grow each time, as the protocol demands."""

    def __init__(self, client: Client):
        self.client = client
        self.highest = 0.0

    async def report(self, progress: RunProgress) -> None:
        """Send a progress notification, unless the client has left."""
        if progress.is_complete and self.highest == progress.value:
            return  # the end has been told
        self.highest = max(progress.value, self.highest + 1e-4)
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self.client.report_progress(self.highest, progress.total, progress.message)


class DocumentTools:
    """The tools, as methods; see `create_server`."""

    def __init__(self, runner: Runner, heartbeat_seconds: float):
        self.runner = runner
        self.jobs = RunJobs(heartbeat_seconds)

    async def illustrate(
        self,
        request: Annotated[str, Field(description='What to make, for example "How to draw a cat, step by step".')],
        client: Client,
        images: Annotated[
            list[str], Field(description="Pictures to start from: sha256: links, http(s) addresses, or data: URLs.")
        ] = [],  # noqa: B006 (it becomes the schema's default)
        settings: Annotated[
            RunSettings | None, Field(description="Settings of the run that differ from the server's defaults.")
        ] = None,
    ) -> Annotated[CallToolResult, Illustration]:
        """Make a document."""
        if answer_of(client):
            return await self._continue_with_answer(client)
        hosts, store = self.runner.profile.store.image_hosts, self.runner.runs.images
        pictures = [
            await read_image(_as_link(image), f"picture {number} of the request", store, hosts)
            for number, image in enumerate(images, start=1)
        ]
        chosen_settings = settings.model_dump(exclude_unset=True) if settings else {}
        record = await self.runner.begin(request, pictures, chosen_settings)
        return await self._carry_on(record, client)

    async def revise(
        self,
        run_id: Annotated[str, Field(description="The run_id of the document, from illustrate or list_runs.")],
        client: Client,
        request: Annotated[
            str, Field(description='What to change, in words, for example "make the third picture a night scene".')
        ] = "",
        images: Annotated[list[str], Field(description="Pictures that belong to the request.")] = [],  # noqa: B006
        step: Annotated[
            int | None, Field(description="Instead of a request: number of the step whose picture to draw again.")
        ] = None,
        prompt: Annotated[str, Field(description="With step: another prompt for the picture.")] = "",
        attempt: Annotated[
            int | None, Field(description="With step: number of the attempt whose picture to keep instead.")
        ] = None,
    ) -> Annotated[CallToolResult, Illustration]:
        """Change a document that was made earlier."""
        if answer_of(client):
            return await self._continue_with_answer(client)
        change = _read_change(request, [_as_link(image) for image in images], step, prompt, attempt)
        record = await asyncio.to_thread(self.runner.runs.record, run_id)
        return await self._carry_on(record, client, change)

    async def resume_run(self, run_id: str, client: Client) -> Annotated[CallToolResult, Illustration]:
        """Wait for a run that is at work; resume one that was interrupted, waits for a person, or is unfinished."""
        if answer_of(client):
            return await self._continue_with_answer(client)
        record = await asyncio.to_thread(self.runner.runs.record, run_id)
        return await self._carry_on(record, client)

    async def cancel_run(self, run_id: str) -> str:
        """Stop a run that is at work; resume_run continues it later."""
        await self.jobs.cancel(run_id)
        return f"Run {run_id} was stopped. What is finished is kept; resume_run continues it."

    async def get_document(self, run_id: str) -> Annotated[CallToolResult, Illustration]:
        """Get a document that was made earlier, by the run_id from illustrate or list_runs."""
        return await self._result(run_id)

    async def get_picture(
        self,
        uri: Annotated[str, Field(description="URI of the picture, as in the parts of a document.")],
        side: Annotated[int, Field(ge=64, le=2048, description="Maximum width and height in pixels.")] = 1024,
    ) -> CallToolResult:
        """Look at a picture of a document; for clients that show only the structured part of other results."""
        picture = await self.runner.runs.images.find(_as_link(uri).removeprefix("sha256:"))
        return CallToolResult(content=[await _image_content(picture, side)])

    async def list_runs(self, limit: Annotated[int, Field(ge=1, le=MAX_LISTED)] = 20) -> list[RunSummary]:
        """List the runs, newest first; those that this server is working on have the status running."""
        summaries = (await asyncio.to_thread(self.runner.runs.summaries))[:limit]
        return [
            summary.model_copy(update={"status": "running"}) if self.jobs.find(summary.run_id) else summary
            for summary in summaries
        ]

    async def picture(self, sha256: str) -> bytes:
        """Return a picture of a document at full size, as PNG."""
        return (await asyncio.to_thread(convert_picture, await self.runner.runs.images.find(sha256), "PNG")).data

    async def document(self, run_id: str) -> str:
        """Return a document as Markdown."""
        record, run_document = await self._run_and_document(run_id)
        parts = [
            f"![{block.alt}]({_uri(block)})" if isinstance(block, ImageEntry) else block.text
            for block in run_document.blocks
        ]
        return "\n\n".join([f"# {record.request}", *parts])

    async def _continue_with_answer(self, client: Client) -> CallToolResult:
        """Continue a run with the answer that the client's user has given to the last result."""
        run_id, answer = cast(tuple[str, Json | None], answer_of(client))
        record = await asyncio.to_thread(self.runner.runs.record, run_id)
        if answer is None:
            raise self._waiting_error(run_id)
        return await self._carry_on(record, client, answer={name: value for name, value in answer.items() if value})

    async def _carry_on(
        self, record: RunRecord, client: Client, change: Change | None = None, answer: Json | None = None
    ) -> CallToolResult:
        """Start, join, change or resume a run; return its document, or the question that it waits for."""
        run_id = record.run_id
        job = await self.jobs.find_to_join(run_id)
        joins = job is not None
        if joins and change:
            raise BadInput(f"run {run_id} is running; wait for it with resume_run, or stop it with cancel_run")
        reporter = Reporter(client)
        while True:
            job = job or self.jobs.start(run_id, self._work(record, change), answer)
            try:
                await self._report(job, reporter)
                return await self._result(run_id)
            except QuestionPending as pending:
                if joins or not _can_ask(client):
                    raise self._waiting_error(run_id) from None
                message, schema = _question(pending.question)
                if asks_in_results(client):
                    return cast(CallToolResult, question_result(message, schema, run_id))
                reply = await client.elicit(message, schema)
            if reply.action != "accept":
                raise self._waiting_error(run_id)
            job, change, answer = None, None, reply.data.model_dump(exclude_defaults=True)

    def _work(self, record: RunRecord, change: Change | None) -> Work:
        if change is None:
            return lambda reviewer: self.runner.work(record, reviewer)
        return lambda reviewer: self.runner.change(record, change, reviewer)

    def _waiting_error(self, run_id: str) -> BadInput:
        return BadInput(
            f"run {run_id} is waiting for an answer; call resume_run to be asked again if your client supports "
            f"elicitation, or answer with: {self.runner.runs.resume_command(run_id)}"
        )

    async def _report(self, job: RunJob, reporter: Reporter) -> None:
        """Report a run's progress to the client until the run ends or waits for a person."""
        async with aclosing(cast(Any, self.jobs.follow(job))) as updates:
            async for progress in cast(AsyncGenerator[RunProgress], updates):
                await reporter.report(progress)

    async def _result(self, run_id: str) -> CallToolResult:
        """Return the document of a run, as structured data and as content blocks.

        The content has texts, previews and the URIs of the full-size pictures in reading order. (URIs stand in texts:
        clients hand resource links for pictures on to model providers, which cannot read them.)
        """
        record, document = await self._run_and_document(run_id)
        status_text = f"{document.status}: {document.reason}" if document.reason else document.status
        content: list[ContentBlock] = [TextContent(type="text", text=f"Run {run_id}, {status_text}")]
        parts = []
        for block in document.blocks:
            if isinstance(block, ImageEntry):
                picture = await self.runner.runs.images.find(block.sha256)
                content += [
                    await _image_content(picture, PREVIEW_SIDE),
                    _text(f"{block.alt}\nFull size: {_uri(block)}"),
                ]
                url = self.runner.runs.images.link(picture.ref) if self.runner.runs.images.public_url else None
                parts.append(DocumentPart(type="image", text=block.alt, uri=_uri(block), url=url))
            else:
                content.append(_text(block.text))
                parts.append(DocumentPart(type="text", text=block.text))
        illustration = Illustration(
            run_id=run_id, request=record.request, status=document.status, reason=document.reason, parts=parts
        )
        is_failed = document.status == "failed"
        return CallToolResult(
            content=content, structuredContent=illustration.model_dump(mode="json"), isError=is_failed
        )

    async def _run_and_document(self, run_id: str) -> tuple[RunRecord, DocumentFile]:
        """Return a run and its document.

        Raises:
            BadInput: there is no such run, it is at work, or it has no document yet.
        """
        runs, job = self.runner.runs, self.jobs.find(run_id)
        if job:
            raise BadInput(
                f"run {run_id} is running ({job.progress.message}); resume_run waits for it, cancel_run stops it"
            )
        record = await asyncio.to_thread(runs.record, run_id)
        document = await asyncio.to_thread(runs.document, run_id)
        if document is None:
            raise BadInput(runs.why_no_document(run_id, "with the tool resume_run, or "))
        return record, document


def create_server(runner: Runner, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> Server[Any]:
    """Return the MCP server.

    Args:
        runner: runs the documents; they are stored in its run store, like those of the command line.
        heartbeat_seconds: longest time between two progress notifications of a call.
    """
    server, tools = new_server("interleaver", INSTRUCTIONS), DocumentTools(runner, heartbeat_seconds)
    server.add_tool(_in_words(tools.illustrate, ToolError), description=DESCRIPTION)
    for tool in (
        tools.revise,
        tools.resume_run,
        tools.cancel_run,
        tools.get_document,
        tools.get_picture,
        tools.list_runs,
    ):
        server.add_tool(_in_words(tool, ToolError), description=tool.__doc__)
    server.resource("picture://{sha256}", mime_type="image/png")(_in_words(tools.picture, ResourceError))
    server.resource("document://{run_id}", mime_type="text/markdown")(_in_words(tools.document, ResourceError))
    return server


def _in_words(function: Callable[..., Awaitable[Any]], error_type: type[Exception]) -> Callable[..., Awaitable[Any]]:
    """Wrap a tool or resource so that the client is told our own errors as they are."""

    @wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return await function(*args, **kwargs)
        except InterleaverError as error:
            raise error_type(str(error)) from None

    return call


def _read_change(request: str, images: list[str], step: int | None, prompt: str, attempt: int | None) -> Change:
    """Return the change that the arguments of `revise` describe.

    Raises:
        BadInput: they describe none, or two.
    """
    if bool(request.strip()) == (step is not None):
        raise BadInput("give either a request that says what to change, or the number of a step to draw again")
    if step is None:
        return ReviseChange(request=request, images=images)
    if attempt is not None:
        return ChooseChange(step=step, attempt=attempt)
    return RedrawChange(step=step, prompt=prompt or None)


def _as_link(image: str) -> str:
    return image.replace("picture://", "sha256:", 1) if image.startswith("picture://") else image


def _can_ask(client: Client) -> bool:
    """Return whether the client's user can be asked."""
    return bool(client.session.check_client_capability(ClientCapabilities(elicitation=ElicitationCapability())))


def _question(question: Json) -> tuple[str, type[PlanDecision] | type[StepDecision]]:
    (card,) = question["action_requests"]
    return card["description"], PlanDecision if question["kind"] == "plan_review" else StepDecision


def _uri(block: ImageEntry) -> str:
    return f"picture://{block.sha256}"


def _text(text: str) -> TextContent:
    return TextContent(type="text", text=text)


async def _image_content(picture: Picture, side: int) -> ImageContent:
    """Return a picture of at most `side` pixels as content."""
    preview = await asyncio.to_thread(shrink_picture, picture, side, "WEBP")
    return ImageContent(type="image", data=base64.b64encode(preview.data).decode(), mimeType=preview.media_type)
