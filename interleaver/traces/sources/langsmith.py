"""Traces from a LangSmith project."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, unquote

import httpx
from pydantic import ValidationError

from interleaver.errors import BackendUnavailable, BadInput, InterleaverError, did_you_mean, explain
from interleaver.pictures import Picture
from interleaver.traces.images import ImageStore
from interleaver.traces.trace import Skipped, Trace

BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)
PARAMETERS = {"filter", "since", "until"}
FIELDS: list[Any] = ["ID", "NAME", "TRACE_ID", "START_TIME", "END_TIME", "INPUTS", "OUTPUTS", "METADATA", "ATTACHMENTS"]


class LangSmithSource:
    """The runs of a LangSmith project: each node's span holds the state it was given and what it changed.

    The address after `langsmith:` is `PROJECT?filter=...&since=...&until=...`: a filter of LangSmith's query language
    for root runs, and dates (ISO 8601). Attached pictures are read into the image store.
    """

    def __init__(self, address: str, images: ImageStore):
        project, _, query = address.partition("?")
        self.project = unquote(project)
        self.images = images
        told = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
        for name in told:
            if name not in PARAMETERS:
                hint = did_you_mean(name, PARAMETERS)
                raise BadInput(f"langsmith: has no parameter {name!r}{hint}; there are filter, since and until")
        self.filter = told.get("filter")
        self.since, self.until = _date(told, "since") or BEGINNING, _date(told, "until")

    async def read(self) -> AsyncIterator[Trace | Skipped]:
        """See `Source.read`."""
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
                found = client.runs.query_v2(**query, trace_id=root.trace_id or "", selects=FIELDS)
                spans = [span async for span in found]
                yield await self._trace(root, spans)
        except (LangSmithError, LangsmithError) as error:  # of its older and its newer half
            said = str(error).partition("\n")[0].replace(client.api_key or "\n", "***")
            raise BackendUnavailable(f"the LangSmith project {self.project!r} cannot be read: {said}") from None

    async def _trace(self, root: Any, spans: list[Any]) -> Trace | Skipped:
        name = str(root.trace_id or root.id)
        nodes = sorted(
            (span for span in spans if (span.metadata or {}).get("langgraph_node") and _holds_plan(span)),
            key=lambda span: span.start_time,
        )
        if not nodes:
            said = "no span holds a plan; its inputs may be hidden, or it is another program's"
            return Skipped(what=name, reason="not a run of this graph", detail=said)
        last = nodes[-1]
        try:
            # What a node was given is the whole state; of what it changed only the last one's status matters.
            state = {**last.inputs, "status": (last.outputs or {}).get("status")}
            told = {"started_at": nodes[0].start_time, "ended_at": last.end_time}
            trace = Trace.from_state(state, name, "langsmith", **told)
        except ValidationError as error:
            return Skipped(what=name, reason="invalid trace", detail=explain(error))
        except ValueError as error:
            return Skipped(what=name, reason="not a run of this graph", detail=str(error))
        await self._fetch(trace, spans)
        return trace

    async def _fetch(self, trace: Trace, spans: list[Any]) -> None:
        """Bring the attached pictures that the store lacks; what LangSmith doesn't have is told when it is missed."""
        wanted = {ref.sha256 for ref in trace.pictures().values() if not await self.images.holds(ref)}
        async with httpx.AsyncClient(timeout=60) as http:
            for address in (address for span in spans for address in (span.attachments or {}).values()):
                if not wanted:
                    return
                try:
                    answer = (await http.get(address)).raise_for_status()
                    picture = Picture.decode(answer.content)
                except (httpx.HTTPError, InterleaverError):
                    continue
                if picture.ref.sha256 in wanted:
                    await self.images.put(picture)
                    wanted.remove(picture.ref.sha256)


def _holds_plan(span: Any) -> bool:
    return isinstance((span.inputs or {}).get("plan"), dict)


def _date(told: dict[str, str], name: str) -> datetime | None:
    if name not in told:
        return None
    try:
        found = datetime.fromisoformat(told[name])
    except ValueError:
        raise BadInput(f"{name} is {told[name]!r}; give a date such as 2026-01-31 or 2026-01-31T09:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
