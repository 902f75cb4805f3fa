"""The channels of the state that grow: how their writes are merged, and when they are stored whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import PendingWrite
from langgraph.graph.message import add_messages

from interleaver.types import Json

NAME = "interleaver"
"""Name of the graph's own messages, and key of their data in `response_metadata`."""


def keep_newest(_: Any, writes: Sequence[Any]) -> Any:
    """Reduce a channel to its last write."""
    return writes[-1]


def merge_messages(messages: list[AnyMessage], writes: Sequence[Any]) -> list[AnyMessage]:
    """Reduce a channel of messages: a message replaces the one with the same id, or is appended."""
    for write in writes:
        if write is None:  # a parent's optional key
            continue
        messages = cast(list[AnyMessage], add_messages(cast(Any, messages), write))
    return messages


def merge_records(records: dict[str, Json], writes: Sequence[dict[str, Json | None] | None]) -> dict[str, Json]:
    """Reduce a channel of records by key.

    A write merges fields into the records that it names, and removes the records that it maps to None. Writing None
    removes all records.
    """
    result = dict(records)
    for write in writes:
        if write is None:
            result = {}
            continue
        for key, fields in write.items():
            if fields is None:
                result.pop(key, None)
            else:
                result[key] = {**result.get(key, {}), **fields}
    return result


def is_answer(message: AnyMessage) -> bool:
    """Return whether a message is an answer of this graph."""
    return isinstance(message, AIMessage) and NAME in message.response_metadata


END: Json = {"run": "ended"}
"""Written to a channel by the last node: nothing changes, but the channel is stored whole."""


class RunChannel(DeltaChannel[Any]):
    """A delta channel that is stored whole when the run ends.

    LangGraph rebuilds a delta channel from all checkpoints since it was stored whole. So the newest checkpoint of a
    finished run is enough, and those before it may be deleted.
    """

    def __init__(self, *arguments: Any, **options: Any):
        self._has_ended = False
        self._usual_frequency = 0
        super().__init__(*arguments, **options)

    def update(self, values: Sequence[Any]) -> bool:
        """Apply the writes of a superstep, see `DeltaChannel.update`."""
        self._has_ended = END in values
        return super().update([value for value in values if value != END]) or self._has_ended

    def replay_writes(self, writes: Sequence[PendingWrite]) -> None:
        """Apply the writes of earlier supersteps, see `DeltaChannel.replay_writes`."""
        super().replay_writes([write for write in writes if write[2] != END])

    def is_final(self) -> bool:
        """Return whether the channel has the value with which a run ends."""
        return self._has_ended

    @property
    def snapshot_frequency(self) -> int:
        """Number of updates after which the channel is stored whole."""
        return 1 if self.is_final() else self._usual_frequency

    @snapshot_frequency.setter
    def snapshot_frequency(self, frequency: int) -> None:
        self._usual_frequency = frequency


class ChatChannel(RunChannel):
    """A channel of messages; a run ends with an answer."""

    def is_final(self) -> bool:
        """Return whether the last message is an answer."""
        return self.is_available() and bool(self.value) and is_answer(self.value[-1])


class DocumentChannel(RunChannel):
    """The channel of the document, which is empty until the run ends."""

    def is_final(self) -> bool:
        """Return whether there is a document."""
        return self.is_available() and bool(self.value)
