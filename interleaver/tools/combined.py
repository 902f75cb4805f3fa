"""Generators made of other generators."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings

from interleaver.errors import BackendUnavailable, BadInput
from interleaver.pictures import Picture
from interleaver.registry import create
from interleaver.tools.generators import Capabilities, ImageGenerator, Size

Json = dict[str, Any]


def make(member: Json, name: str) -> ImageGenerator:
    """The generator that a table within a profile describes.

    Raises:
        BadInput: it has no `backend`, or the backend cannot be made; the message begins with `name`.
    """
    if not isinstance(member, dict) or "backend" not in member:
        raise BadInput(f"{name} has no field 'backend'")
    rest = {key: value for key, value in member.items() if key != "backend"}
    try:
        made: ImageGenerator = create("generator", member["backend"], **rest)
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from None
    return made


def time_limit(generator: ImageGenerator) -> float:
    """Seconds that one call of a generator may take; a day where it sets no limit."""
    return float(getattr(generator, "timeout", None) or 86_400)


async def check_all(generators: Sequence[ImageGenerator]) -> str:
    """Have every generator checked that can be; returns what they say.

    Raises:
        BackendError: one of them cannot be reached.
    """
    checks = [one.check() for one in generators if hasattr(one, "check")]
    return "; ".join(await asyncio.gather(*checks)) or f"{len(generators)} generators"


@dataclass
class _Member:
    """A generator of the pool, how many calls it is at, when it got the last one, and until when it is set aside."""

    generator: ImageGenerator
    calls: int = 0
    called: float = 0.0
    failures: int = 0
    aside_until: float = 0.0


@settings(config=ConfigDict(extra="forbid"))
class GeneratorPool:
    """Gives each picture to the generator that has the least to do; one that fails is set aside and tried again later.

    A call that fails because its generator is unavailable goes to the next one, so that none is lost as long as one
    works.

    Attributes:
        members: the generators, each a table with its `backend` and that backend's settings; they should draw alike.
        set_aside: seconds that a generator rests after its first failure; twice as long after each further one, up to
            ten times as long.
        timeout: seconds that one call may take over all members it is tried on; None: as long as all of them together.
    """

    members: list[Json] = Field(min_length=1)
    set_aside: float = Field(default=15.0, gt=0)
    timeout: float | None = Field(default=None, gt=0)

    def __post_init__(self) -> None:
        made = [make(member, f"generator.members[{n}]") for n, member in enumerate(self.members)]
        self._members = [_Member(generator) for generator in made]
        self.timeout = self.timeout or sum(time_limit(generator) for generator in made)

    @property
    def capabilities(self) -> Capabilities:
        """What every member can do."""
        return Capabilities(max_sources=min(one.generator.capabilities.max_sources for one in self._members))

    async def check(self) -> str:
        """Say that every generator can be reached, or raise."""
        return await check_all([one.generator for one in self._members])

    async def generate(self, prompt: str, sources: Sequence[Picture], seed: int, size: Size) -> Picture:
        """Draw one picture; see `ImageGenerator.generate`."""
        tried: list[_Member] = []
        last: BackendUnavailable | None = None
        assert self.timeout is not None  # set when the pool was made
        deadline = time.monotonic() + self.timeout
        while (member := self._choose(tried)) and time.monotonic() < deadline:
            tried.append(member)
            member.calls, member.called = member.calls + 1, time.monotonic()
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    picture = await member.generator.generate(prompt, sources, seed, size)
            except TimeoutError:
                self._set_aside(member, None)
                last = BackendUnavailable(f"nothing was drawn within {self.timeout:g} s (generator.timeout)")
            except BackendUnavailable as error:
                self._set_aside(member, error.retry_after)
                last = error
            else:
                member.failures, member.aside_until = 0, 0.0
                return picture
            finally:
                member.calls -= 1
        assert last is not None  # the pool has at least one member, and each of them failed
        text = f"{len(tried)} of the pool's {len(self._members)} generators were tried in vain; the last one: {last}"
        raise BackendUnavailable(text, retry_after=last.retry_after)

    def _choose(self, tried: list[_Member]) -> _Member | None:
        """The one with the least to do, of several such the one that has waited longest; those set aside come last."""
        now = time.monotonic()
        left = [member for member in self._members if member not in tried]
        return min(left, key=lambda one: (max(one.aside_until - now, 0.0), one.calls, one.called), default=None)

    def _set_aside(self, member: _Member, asked: float | None) -> None:
        """Let a generator rest for as long as it asked for, or longer each time it fails."""
        rest = asked or self.set_aside * min(2**member.failures, 10)
        member.failures += 1
        member.aside_until = time.monotonic() + rest


@settings(config=ConfigDict(extra="forbid"))
class DrawAndEdit:
    """One generator for pictures drawn anew and another for edits, such as Qwen-Image and Qwen-Image-Edit.

    Attributes:
        draw: the generator that draws anew: a table with its `backend` and that backend's settings.
        edit: the one that edits.
    """

    draw: Json
    edit: Json

    def __post_init__(self) -> None:
        self._draw, self._edit = make(self.draw, "generator.draw"), make(self.edit, "generator.edit")
        self.timeout = max(time_limit(self._draw), time_limit(self._edit))

    @property
    def capabilities(self) -> Capabilities:
        """What the editing generator can do."""
        return self._edit.capabilities

    async def check(self) -> str:
        """Say that both generators can be reached, or raise."""
        return await check_all([self._draw, self._edit])

    async def generate(self, prompt: str, sources: Sequence[Picture], seed: int, size: Size) -> Picture:
        """Draw or edit one picture; see `ImageGenerator.generate`."""
        return await (self._edit if sources else self._draw).generate(prompt, sources, seed, size)
