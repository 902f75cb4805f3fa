"""Traces from a LangSmith project."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, unquote

import httpx
from pydantic import ValidationError

from interleaver.errors import BackendUnavailable, BadInput, InterleaverError, did_you_mean, explain
from interleaver.net.clients import UnexpectedResponse, bounded_client
from interleaver.pictures import Picture
from interleaver.store.images import ImageStore
from interleaver.traces.trace import SkippedRecord, Trace

BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)
PARAMETERS = {"filter", "since", "until"}
FIELDS: list[Any] = ["ID", "NAME", "TRACE_ID", "START_TIME", "END_TIME", "INPUTS", "OUTPUTS", "METADATA", "ATTACHMENTS"]


class LangSmithSource:
    """The runs of a LangSmith project, in which the span of each node has the node's input state and its changes.

    The address after `langsmith:` is `PROJECT?filter=...&since=...&until=...`, with a filter for root runs in
    LangSmith's query language, and dates in ISO 8601. Attached pictures are copied into the image store.
    """

    def __init__(self, address: str, images: ImageStore):
        project, _, query = address.partition("?")
        self.project = unquote(project)
        self.images = images
        parameters = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
        for name in parameters:
            if name not in PARAMETERS:
                hint = did_you_mean(name, PARAMETERS)
                raise BadInput(f"langsmith: has no parameter {name!r}{hint}; valid parameters: filter, since, until")
        self.filter = parameters.get("filter")
        self.since, self.until = _date(parameters, "since") or BEGINNING, _date(parameters, "until")

    async def read(self) -> AsyncGenerator[Trace | SkippedRecord]:
        """See `TraceSource.read`."""
        from langsmith import Client, LangsmithError
        from langsmith.utils import LangSmithError

        client = Client()
        try:
            project = str((await asyncio.to_thread(client.read_project, project_name=self.project)).id)
            query: dict[str, Any] = {"project_ids": [project], "min_start_time": self.since}
            if self.until:
                query["max_start_time"] = self.until
            roots = {**query, "filter": self.filter} if self.filter else query
            async for root in client.runs.query_v2(**roots, is_root=True, selects=["ID", "NAME", "TRACE_ID"]):
                span_query = client.runs.query_v2(**query, trace_id=root.trace_id or "", selects=FIELDS)
                spans = [span async for span in span_query]
                yield await self._trace(root, spans)
        except (LangSmithError, LangsmithError) as error:  # of the SDK's old and new API
            reason = str(error).partition("\n")[0].replace(client.api_key or "\n", "***")
            raise BackendUnavailable(f"the LangSmith project {self.project!r} cannot be read: {reason}") from None

    async def _trace(self, root: Any, spans: list[Any]) -> Trace | SkippedRecord:
        name = str(root.trace_id or root.id)
        nodes = sorted(
            (span for span in spans if (span.metadata or {}).get("langgraph_node") and _holds_plan(span)),
            key=lambda span: span.start_time,
        )
        if not nodes:
            detail = "no span has a plan; the inputs may be hidden, or the run may be that of another program"
            return SkippedRecord(name=name, reason="not a run of this graph", detail=detail)
        last = nodes[-1]
        try:
            # The input of a node is the complete state; of the outputs, only the last node's status is needed.
            state = {**last.inputs, "status": (last.outputs or {}).get("status")}
            times = {"started_at": nodes[0].start_time, "ended_at": last.end_time}
            trace = Trace.from_state(state, name, "langsmith", **times)
        except ValidationError as error:
            return SkippedRecord(name=name, reason="invalid trace", detail=explain(error))
        except ValueError as error:
            return SkippedRecord(name=name, reason="not a run of this graph", detail=str(error))
        await self._fetch(trace, spans)
        return trace

    async def _fetch(self, trace: Trace, spans: list[Any]) -> None:
        """Fetch the attached pictures that the store lacks; missing ones are reported where they are used."""
        missing_hashes = {ref.sha256 for ref in trace.images_by_hash().values() if not await self.images.holds(ref)}
        async with bounded_client(httpx, 60, ()) as http:
            for address in (address for span in spans for address in (span.attachments or {}).values()):
                if not missing_hashes:
                    return
                try:
                    answer = (await http.get(address)).raise_for_status()
                    picture = await asyncio.to_thread(Picture.stored, answer.content)
                except (httpx.HTTPError, UnexpectedResponse, InterleaverError):
                    continue
                if picture.ref.sha256 in missing_hashes:
                    await self.images.put(picture)
                    missing_hashes.remove(picture.ref.sha256)


def _holds_plan(span: Any) -> bool:
    return isinstance((span.inputs or {}).get("plan"), dict)


def _date(parameters: dict[str, str], name: str) -> datetime | None:
    if name not in parameters:
        return None
    try:
        date = datetime.fromisoformat(parameters[name])
    except ValueError:
        raise BadInput(f"{name} is {parameters[name]!r}; give a date such as 2026-01-31 or 2026-01-31T09:00Z") from None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
