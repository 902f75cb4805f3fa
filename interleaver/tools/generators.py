"""What the graph asks of an image generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from interleaver.pictures import Picture


@dataclass(frozen=True)
class Capabilities:
    """What a generator can do, so that the graph never asks for more.

    Attributes:
        max_sources: how many pictures one edit may look at; 0 for a generator that only draws anew.
    """

    max_sources: int


class ImageGenerator(Protocol):
    """Draws a picture from a prompt, or edits given pictures."""

    capabilities: Capabilities

    async def generate(self, prompt: str, sources: Sequence[Picture], seed: int, size: tuple[int, int]) -> Picture:
        """Draw one picture.

        Args:
            prompt: what to draw or change.
            sources: the pictures to edit, oldest first, at most `capabilities.max_sources`; empty draws anew.
            seed: 0 to 2**31 - 1.
            size: width and height in pixels of a picture drawn anew; an edit keeps the size of its last source.

        Raises:
            BackendError: this prompt cannot be drawn.
            BackendUnavailable: the generator could not be reached.
        """
        ...
