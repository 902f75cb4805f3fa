"""The channels of the state that grow: how their writes are merged, and when they are stored whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.channels import DeltaChannel
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


class ChatChannel(DeltaChannel[list[AnyMessage]]):
    """A delta channel of messages that is stored whole once this graph has answered.

    So the newest checkpoint of a finished run holds the chat by itself. (The other delta channels are overwritten by
    the last node, which has the same effect; a message that is written so would not appear in the `messages` stream.)
    """

    def __init__(self, *arguments: Any, **options: Any):
        self._usual_frequency = 0
        super().__init__(*arguments, **options)

    @property
    def snapshot_frequency(self) -> int:
        """Number of updates after which the channel is stored whole."""
        is_answered = self.is_available() and bool(self.value) and is_answer(self.value[-1])
        return 1 if is_answered else self._usual_frequency

    @snapshot_frequency.setter
    def snapshot_frequency(self, frequency: int) -> None:
        self._usual_frequency = frequency
