"""Vector pictures by any chat model: one text endpoint is enough for diagrams and how-tos."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache, partial
from importlib.resources import files

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as settings

from interleaver.agents.conversation import Ask, ChatModel, Conversation
from interleaver.agents.prompts import fill
from interleaver.pictures import Picture
from interleaver.tools.drawing import draw, drawing_of, read_drawing
from interleaver.tools.generators import Capabilities, Size


@settings(config=ConfigDict(arbitrary_types_allowed=True, extra="forbid"))
class SvgGenerator(ChatModel):
    """Draws by having a chat model write SVG, and edits by having it rewrite the SVG of the picture before.

    The drawing is kept inside the PNG. A picture that was not drawn this way, such as a photograph of the request,
    becomes the background of a new drawing. The seed is not used: a chat model's answer does not repeat.

    Its settings are those of `ChatModel`.
    """

    def __post_init__(self) -> None:
        self._conversation = Conversation(self, "generator")
        _ = _template("draw"), _template("edit")  # read here, where no event loop waits for the disk

    @property
    def capabilities(self) -> Capabilities:
        """It edits one picture."""
        return Capabilities(max_sources=1)

    async def check(self) -> str:
        """Say that the model can be reached, or raise; see `Endpoint.check`."""
        return await self._conversation.check()

    async def generate(self, prompt: str, sources: Sequence[Picture], seed: int, size: Size) -> Picture:
        """Draw or edit one picture; see `ImageGenerator.generate`."""
        photograph = None
        values = {"instruction": prompt, "width": str(size[0]), "height": str(size[1])}
        if sources:
            size = sources[-1].width, sources[-1].height
            values["source"], photograph = await asyncio.to_thread(_drawing_to_edit, sources[-1])
        question = fill(_template("edit" if sources else "draw"), **values)
        read = partial(read_drawing, photograph=photograph is not None)
        written, _ = await self._conversation.ask(Ask(question), read)
        return await draw(written, photograph, *size)


@cache
def _template(name: str) -> str:
    return files("interleaver.tools").joinpath("prompts", f"svg.{name}.md").read_text(encoding="utf-8").strip()


def _drawing_to_edit(picture: Picture) -> tuple[str, Picture | None]:
    drawing, photograph = drawing_of(picture)
    if drawing is not None:
        return drawing, photograph
    width, height = picture.width, picture.height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
        f'<image href="source" width="{width}" height="{height}"/></svg>'
    ), picture
