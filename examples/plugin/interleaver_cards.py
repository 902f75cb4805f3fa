"""A generator that writes each prompt on a coloured card: placeholders to lay out a document before it is drawn."""

import asyncio
import random
import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from interleaver import Capabilities, Picture


class CardGenerator:
    """Writes prompts on cards.

    Args:
        font_size: of the prompt, in pixels.
    """

    capabilities = Capabilities(max_sources=1)

    def __init__(self, font_size: int = 24):
        self.font = ImageFont.load_default(font_size)
        self.font_size = font_size

    async def generate(self, prompt: str, sources: Sequence[Picture], seed: int, size: tuple[int, int]) -> Picture:
        """Write one card; the seed chooses its colour."""
        if sources:
            size = sources[-1].width, sources[-1].height
        return await asyncio.to_thread(self._card, prompt, seed, size)

    def _card(self, prompt: str, seed: int, size: tuple[int, int]) -> Picture:
        hue = random.Random(seed).randrange(360)
        card = Image.new("RGB", size, f"hsl({hue}, 60%, 85%)")
        columns = max(size[0] * 2 // self.font_size - 4, 8)
        ImageDraw.Draw(card).multiline_text(
            (size[0] / 2, size[1] / 2), textwrap.fill(prompt, columns), "black", self.font, anchor="mm", align="center"
        )
        return Picture.encode(card)
