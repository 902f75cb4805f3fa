"""Vector drawings by any chat model: a text endpoint is enough for diagrams and how-tos."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Hashable, Sequence
from functools import cache
from importlib.resources import files

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as settings

from interleaver.agents.conversation import Ask, ChatModel, Conversation
from interleaver.agents.prompts import fill
from interleaver.pictures import Picture
from interleaver.tools.protocols import Capabilities, Size
from interleaver.tools.svg_rendering import embedded_drawing, read_drawing, render_drawing


@settings(config=ConfigDict(arbitrary_types_allowed=True, extra="forbid"))
class SvgGenerator(ChatModel):
    """A generator that has a chat model write SVG, and edits by having it rewrite the SVG of the previous picture.

    The SVG is embedded in the PNG. A picture without embedded SVG, such as a photograph in the request, becomes the
    background of a new drawing. The seed is ignored, since a chat model's answers are not reproducible.

    Its settings are those of `ChatModel`.
    """

    def __post_init__(self) -> None:
        self._conversation = Conversation(self, "generator")
        _ = _template("draw"), _template("edit")  # cached here, so that no event loop has to wait for the disk

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the generator: an edit has one source."""
        return Capabilities(max_sources=1)

    async def check(self) -> str:
        """Check that the model can be reached; see `Endpoint.check`."""
        return await self._conversation.check()

    @property
    def resource(self) -> Hashable:
        """What backends at the same endpoint have in common; see `interleaver.calling.call`."""
        return self._conversation.resource

    async def generate(self, prompt: str, sources: Sequence[Picture], seed: int, size: Size) -> Picture:
        """Draw or edit one picture; see `ImageGenerator.generate`."""
        photograph = None
        values = {"instruction": prompt, "width": str(size[0]), "height": str(size[1])}
        if sources:
            size = sources[-1].width, sources[-1].height
            values["source"], photograph = await asyncio.to_thread(_drawing_to_edit, sources[-1])
        question = fill(_template("edit" if sources else "draw"), **values)
        strictness = itertools.chain([True], itertools.repeat(False))  # the model is told once what cannot be drawn

        def read(answer: str) -> str:
            return read_drawing(answer, photograph=photograph is not None, strict=next(strictness))

        drawing, _ = await self._conversation.ask(Ask(question), read)
        return await render_drawing(drawing, photograph, *size)


@cache
def _template(name: str) -> str:
    return files("interleaver.tools").joinpath("prompts", f"svg.{name}.md").read_text(encoding="utf-8").strip()


def _drawing_to_edit(picture: Picture) -> tuple[str, Picture | None]:
    drawing, photograph = embedded_drawing(picture)
    if drawing is not None:
        return drawing, photograph
    width, height = picture.width, picture.height
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
        f'<image href="source" width="{width}" height="{height}"/></svg>'
    ), picture
