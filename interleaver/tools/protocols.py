"""The protocol of an image generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from interleaver.pictures import Picture

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class Capabilities:
    """What a generator can do, so that the graph never asks for more.

    Attributes:
        max_sources: maximum number of source pictures of an edit; 0 for a generator that cannot edit.
    """

    max_sources: int


class ImageGenerator(Protocol):
    """A generator, which draws a picture from a prompt or edits given pictures.

    A generator may have an attribute `timeout`, the timeout of one call in seconds: the graph retries a failed call
    only within that time.
    """

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the generator."""
        ...

    async def generate(self, prompt: str, sources: Sequence[Picture], seed: int, size: Size) -> Picture:
        """Draw one picture.

        Args:
            prompt: what to draw or change.
            sources: the pictures to edit, oldest first, at most `capabilities.max_sources`; empty for a new picture.
            seed: seed of the drawing, 0 to 2**31 - 1.
            size: width and height in pixels of a new picture; an edit keeps the size of its last source.

        Raises:
            BackendError: this prompt cannot be drawn.
            BackendUnavailable: the generator could not be reached.
        """
        ...
