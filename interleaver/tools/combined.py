"""Generators that combine other generators."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings

from interleaver.errors import BackendUnavailable, BadInput, Refusal
from interleaver.pictures import Picture
from interleaver.registry import create_backend
from interleaver.tools.protocols import Capabilities, ImageGenerator, Size
from interleaver.types import Json


def make_member(member: Json, name: str) -> ImageGenerator:
    """Create the generator that a table in a profile describes.

    Args:
        member: table with a `backend` and the settings of that backend.
        name: path of the table in the profile, with which error messages begin.

    Raises:
        BadInput: the table has no `backend`, or the backend cannot be created.
    """
    if not isinstance(member, dict) or "backend" not in member:
        raise BadInput(f"{name} has no field 'backend'")
    member_settings = {key: value for key, value in member.items() if key != "backend"}
    try:
        generator: ImageGenerator = create_backend("generator", member["backend"], **member_settings)
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from None
    return generator


def time_limit(generator: ImageGenerator) -> float:
    """Return the timeout of a generator's calls in seconds; one day if it has none."""
    return float(getattr(generator, "timeout", None) or 86_400)


async def check_all(generators: Sequence[ImageGenerator]) -> str:
    """Check every generator that has a `check` method, and return their messages.

    Raises:
        BackendError: a generator cannot be reached.
    """
    checks = [generator.check() for generator in generators if hasattr(generator, "check")]
    return "; ".join(await asyncio.gather(*checks)) or f"{len(generators)} generators"


@dataclass
class _Member:
    """A generator of the pool and its load.

    Attributes:
        calls: number of calls in progress.
        last_called: monotonic time of the latest call in seconds.
        failures: number of consecutive failures.
        resting_until: monotonic time in seconds until which the generator is set aside.
    """

    generator: ImageGenerator
    calls: int = 0
    last_called: float = 0.0
    failures: int = 0
    resting_until: float = 0.0


@settings(config=ConfigDict(extra="forbid"))
class GeneratorPool:
    """A generator that sends each call to the least busy member; one that fails is set aside and tried again later.

    A call whose member is unavailable goes to the next one, so it succeeds as long as one member works.

    Attributes:
        members: the generators, each a table with a `backend` and the settings of that backend; they should be
            interchangeable, such as replicas of one model.
        set_aside: seconds that a generator is set aside after its first failure; doubled with each consecutive
            failure, up to ten times as long.
        timeout: timeout of one call in seconds, across all members that it is tried on; None for the sum of the
            members' timeouts.
    """

    members: list[Json] = Field(min_length=1)
    set_aside: float = Field(default=15.0, gt=0)
    timeout: float | None = Field(default=None, gt=0)

    def __post_init__(self) -> None:
        generators = [make_member(member, f"generator.members[{n}]") for n, member in enumerate(self.members)]
        self._members = [_Member(generator) for generator in generators]
        self.timeout = self.timeout or sum(time_limit(generator) for generator in generators)

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities that all members share."""
        return Capabilities(max_sources=min(member.generator.capabilities.max_sources for member in self._members))

    async def check(self) -> str:
        """Check that every generator can be reached; see `check_all`."""
        return await check_all([member.generator for member in self._members])

    async def generate(self, prompt: str, sources: Sequence[Picture], seed: int, size: Size) -> Picture:
        """Draw one picture; see `ImageGenerator.generate`."""
        tried_members: list[_Member] = []
        last_error: BackendUnavailable | None = None
        assert self.timeout is not None  # set in `__post_init__`
        deadline = time.monotonic() + self.timeout
        while (member := self._choose(tried_members)) and time.monotonic() < deadline:
            tried_members.append(member)
            member.calls, member.last_called = member.calls + 1, time.monotonic()
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    picture = await member.generator.generate(prompt, sources, seed, size)
            except TimeoutError:
                self._set_aside(member, None)
                last_error = BackendUnavailable(f"no picture was drawn within {self.timeout:g} s (generator.timeout)")
            except BackendUnavailable as error:
                self._set_aside(member, error.retry_after)
                last_error = error
            else:
                member.failures, member.resting_until = 0, 0.0
                return picture
            finally:
                member.calls -= 1
        assert last_error is not None  # the pool has at least one member, and every tried member failed
        text = (
            f"every generator that was tried failed ({len(tried_members)} of the pool's {len(self._members)}); "
            f"last error: {last_error}"
        )
        raise BackendUnavailable(text, retry_after=last_error.retry_after)

    def _choose(self, tried_members: list[_Member]) -> _Member | None:
        """Return the least busy untried member, of several the one called longest ago; those set aside come last."""
        current_time = time.monotonic()
        candidates = [member for member in self._members if member not in tried_members]
        return min(
            candidates,
            key=lambda member: (max(member.resting_until - current_time, 0.0), member.calls, member.last_called),
            default=None,
        )

    def _set_aside(self, member: _Member, requested_seconds: float | None) -> None:
        """Set a member aside for the seconds it requested, or else for longer after each consecutive failure."""
        rest_seconds = requested_seconds or self.set_aside * min(2**member.failures, 10)
        member.failures += 1
        member.resting_until = time.monotonic() + rest_seconds


@settings(config=ConfigDict(extra="forbid"))
class DrawAndEdit:
    """A generator for new pictures combined with another for edits, such as Qwen-Image and Qwen-Image-Edit.

    Attributes:
        draw: the generator of new pictures: a table with a `backend` and the settings of that backend.
        edit: the generator of edits: a table as for `draw`.
    """

    draw: Json
    edit: Json

    def __post_init__(self) -> None:
        self._draw, self._edit = make_member(self.draw, "generator.draw"), make_member(self.edit, "generator.edit")
        self.timeout = max(time_limit(self._draw), time_limit(self._edit))

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the generator of edits."""
        return self._edit.capabilities

    async def check(self) -> str:
        """Check that both generators can be reached; see `check_all`."""
        return await check_all([self._draw, self._edit])

    async def generate(self, prompt: str, sources: Sequence[Picture], seed: int, size: Size) -> Picture:
        """Draw or edit one picture; see `ImageGenerator.generate`."""
        return await (self._edit if sources else self._draw).generate(prompt, sources, seed, size)


@settings(config=ConfigDict(extra="forbid"))
class GeneratorWithFallback:
    """A generator with another that draws what the first one refuses for reasons of safety.

    Attributes:
        main: the generator that is asked first: a table with a `backend` and the settings of that backend.
        fallback: the generator that is asked after a refusal: a table as for `main`.
    """

    main: Json
    fallback: Json

    def __post_init__(self) -> None:
        self._main = make_member(self.main, "generator.main")
        self._fallback = make_member(self.fallback, "generator.fallback")
        self.timeout = time_limit(self._main) + time_limit(self._fallback)

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities that both generators share."""
        return Capabilities(max_sources=min(one.capabilities.max_sources for one in (self._main, self._fallback)))

    async def check(self) -> str:
        """Check that both generators can be reached; see `check_all`."""
        return await check_all([self._main, self._fallback])

    async def generate(self, prompt: str, sources: Sequence[Picture], seed: int, size: Size) -> Picture:
        """Draw one picture; see `ImageGenerator.generate`."""
        try:
            return await self._main.generate(prompt, sources, seed, size)
        except Refusal:
            return await self._fallback.generate(prompt, sources, seed, size)
