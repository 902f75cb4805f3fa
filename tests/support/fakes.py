"""Scripted planner, critic and generator, and pictures of one colour."""

import io
import random
from collections.abc import Sequence

from PIL import Image

from interleaver.pictures import Picture
from interleaver.tools import Capabilities
from interleaver.types import Plan, Step, Verdict


class ScriptedPlanner:
    """Answers every request with the same plan, or raises."""

    def __init__(self, plan: Plan | Exception):
        self.answer = plan
        self.requests: list[str] = []

    async def plan(self, request: str, images: Sequence[Picture]) -> Plan:
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class PlainGenerator:
    """Fills a small picture with a colour made of the seed; raises what `failures` says for a call, counted from 0."""

    capabilities = Capabilities(max_sources=8)

    def __init__(self, failures: dict[int, Exception] | None = None):
        self.failures = failures or {}
        self.calls: list[tuple[str, int, list[str]]] = []

    async def generate(self, prompt, sources, seed, size) -> Picture:
        self.calls.append((prompt, seed, [source.ref.sha256 for source in sources]))
        failure = self.failures.get(len(self.calls) - 1)
        if failure:
            raise failure
        return plain_picture((seed % 256, seed // 256 % 256, len(self.calls) % 256))


class ScriptedCritic:
    """Gives the verdicts in turn, then accepts; an exception in the script is raised."""

    def __init__(self, *script: bool | Verdict | Exception):
        self.script = list(script)

    async def review(self, step, before, after, prompt, references=()) -> Verdict:
        said = self.script.pop(0) if self.script else True
        if isinstance(said, Exception):
            raise said
        if isinstance(said, Verdict):
            return said
        return Verdict(accepted=said, refined_prompt="" if said else f"{prompt}!", reasoning="as scripted")


def plain_picture(colour=(200, 30, 30), size=(64, 64)) -> Picture:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return Picture.decode(buffer.getvalue())


def drawn_plan(steps: int) -> Plan:
    return Plan(
        steps=[Step(number=n, name=f"S{n}", instruction=f"Do {n}", prompt=f"p{n}") for n in range(1, steps + 1)]
    )


def noise_picture(size) -> Picture:
    """Return a picture that cannot be compressed."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", size, random.Random(1).randbytes(size[0] * size[1] * 3)).save(buffer, "PNG")
    return Picture.decode(buffer.getvalue())
