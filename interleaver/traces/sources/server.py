"""Traces from a LangGraph server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx
from pydantic import ValidationError

from interleaver.errors import BackendUnavailable, InterleaverError, explain, redact_password
from interleaver.net.clients import UnexpectedResponse, bounded_client
from interleaver.pictures import EXTENSIONS, Picture
from interleaver.store.images import ImageStore
from interleaver.traces.trace import SkippedRecord, Trace

PAGE_SIZE = 50


class ServerSource:
    """The threads of a LangGraph server. Pictures that the image store lacks are fetched from its `/pictures` route.

    If the server requires an API key, `langgraph-sdk` reads it from LANGGRAPH_API_KEY or LANGSMITH_API_KEY.
    """

    def __init__(self, address: str, images: ImageStore):
        self.address = address.rstrip("/")
        self.images = images

    async def read(self) -> AsyncGenerator[Trace | SkippedRecord]:
        """See `TraceSource.read`."""
        from langgraph_sdk import get_client

        client = get_client(url=self.address)
        try:
            offset = 0
            while threads := await client.threads.search(limit=PAGE_SIZE, offset=offset, sort_by="created_at"):
                offset += len(threads)
                for thread in threads:
                    async with aclosing(self._thread(client, thread["thread_id"])) as traces:
                        async for trace in traces:
                            yield trace
        except httpx.HTTPError as error:
            raise BackendUnavailable(
                f"the LangGraph server {redact_password(self.address)} cannot be read: {error}"
            ) from None
        finally:
            await client.aclose()

    async def _thread(self, client: Any, thread_id: str) -> AsyncGenerator[Trace | SkippedRecord]:
        turns = await client.threads.get_history(thread_id, limit=1000, metadata={"source": "input"})
        earlier = [turn["parent_checkpoint"] for turn in reversed(turns) if turn.get("parent_checkpoint")]
        states = [await client.threads.get_state(thread_id, checkpoint=checkpoint) for checkpoint in earlier]
        states.append(await client.threads.get_state(thread_id))
        for number, state in enumerate(states, start=1):
            name = f"{thread_id}-{number}" if len(states) > 1 else thread_id
            try:
                trace = Trace.from_state(state["values"] or {}, name, "server", ended_at=state["created_at"])
            except ValidationError as error:
                yield SkippedRecord(name=name, reason="invalid trace", detail=explain(error))
            except ValueError as error:
                if number == len(states):  # the state before a thread's first turn is empty
                    yield SkippedRecord(name=name, reason="not a run of this graph", detail=str(error))
            else:
                await self._fetch(
                    trace, {name: key for name, key in client.http.client.headers.items() if name == "x-api-key"}
                )
                yield trace

    async def _fetch(self, trace: Trace, headers: dict[str, str]) -> None:
        """Fetch the pictures that the store lacks; missing ones are reported where they are used."""
        async with bounded_client(httpx, 60, ()) as http:
            for ref in trace.images_by_hash().values():
                if await self.images.holds(ref):
                    continue
                name = f"{ref.sha256}{EXTENSIONS.get(ref.media_type, '')}"
                try:
                    answer = (await http.get(f"{self.address}/pictures/{name}", headers=headers)).raise_for_status()
                    picture = await asyncio.to_thread(Picture.stored, answer.content)
                except (httpx.HTTPError, UnexpectedResponse, InterleaverError):
                    continue
                if picture.ref.sha256 == ref.sha256:
                    await self.images.put(picture)
