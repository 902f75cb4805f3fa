"""The sandbox bench: requests with known answers, exact scores, no models needed.

It guards this package against regressions, and tells what a pipeline adds to its generator: the same requests are
made with one call a step and no critic.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from importlib.metadata import EntryPoint
from multiprocessing import get_context
from tempfile import TemporaryDirectory
from typing import Any

from langchain_core.runnables import RunnableConfig

from interleaver.batch.work import in_parallel
from interleaver.config import BackendSettings, Profile
from interleaver.errors import BadInput
from interleaver.evals.scores import Score, weighted
from interleaver.graph.context import Context
from interleaver.graph.state import RunInput, RunState
from interleaver.pictures import Picture
from interleaver.runner import Graph
from interleaver.traces.images import ImageStore
from interleaver.traces.trace import Trace

SEED = 2026
FEW = 40
"""Cases for which processes are not worth starting."""
OWN = {"sandbox", "sandbox-exact", "one-step", "accept"}
"""Planners and critics that keep a core busy and wait for nobody."""
WORKERS = 48
"""Documents at a time: as many as a batch of local models takes."""
SIZES = {"full": 160, "miniature": 96}
"""Pixels of a picture, by world."""
CASES = EntryPoint("cases", "interleaver.sandbox.bench:cases", "interleaver.bench")
"""Named, not imported, as every part of the sandbox."""


@dataclass(frozen=True)
class Made:
    """What became of a case.

    Attributes:
        score: 0 to 1.
        drawings: generator calls.
        problem: why the document is not complete.
    """

    id: str
    level: str
    request: str
    score: float
    drawings: int
    problem: str | None = None


@dataclass(frozen=True)
class Bench:
    """What came of all cases.

    Attributes:
        made: by case.
        seconds: that it took.
    """

    made: Sequence[Made]
    seconds: float

    @property
    def score(self) -> Score:
        """The mean score."""
        return weighted([[one.score for one in self.made]], [1.0])

    @property
    def levels(self) -> dict[str, Score]:
        """The mean score by level."""
        names = dict.fromkeys(one.level for one in self.made)
        return {name: weighted([[one.score for one in self.made if one.level == name]], [1.0]) for name in names}

    @property
    def drawings(self) -> float:
        """Generator calls a document."""
        return sum(one.drawings for one in self.made) / len(self.made)


async def bench(
    profile: Profile,
    count: int,
    seed: int = SEED,
    *,
    world: str = "full",
    pool: ProcessPoolExecutor | None = None,
    progress: Callable[[Made], None] = lambda made: None,
) -> Bench:
    """Make the documents of all cases and score them.

    Args:
        profile: the pipeline; its generator must be the sandbox's, whose pictures tell what they show.
        count: how many cases.
        seed: of the cases.
        world: how much of the sandbox world they use: full or miniature.
        pool: `processes` that share the work; a few cases, and models, which each would load or ask, stay here.
        progress: is told of every document.

    Raises:
        BadInput: a backend of the profile cannot be made, the generator is not the sandbox's, or runs would wait for a
            person.
    """
    check(profile)
    began = time.monotonic()
    cases = await asyncio.to_thread(CASES.load(), count, seed, world)
    made: list[Made] = []
    here = pool is None or count < FEW or not {profile.planner.backend, profile.critic.backend} <= OWN
    with TemporaryDirectory() as folder:
        make = partial(_make, profile.model_dump_json(), folder, SIZES[world])

        async def elsewhere(case: Any) -> Made:
            return await asyncio.get_running_loop().run_in_executor(pool, _make_alone, make, case)

        async for one in in_parallel(cases, make if here else elsewhere, WORKERS):
            progress(one)
            made.append(one)
    order = {case.id: number for number, case in enumerate(cases)}
    return Bench(sorted(made, key=lambda one: order[one.id]), time.monotonic() - began)


def check(profile: Profile) -> None:
    """See that a pipeline can be scored.

    Raises:
        BadInput: the generator is not the sandbox's, or runs would wait for a person.
    """
    if profile.generator.backend != "sandbox" or profile.run.on_exhausted == "ask":
        raise BadInput(
            "the sandbox bench scores the sandbox's own pictures and has nobody to ask; give a --profile with "
            'generator.backend = "sandbox" and without run.on_exhausted = "ask"'
        )


def processes() -> ProcessPoolExecutor:
    """Processes to work in, one a core; the sandbox keeps it busy, so threads would only wait for each other."""
    return ProcessPoolExecutor(mp_context=get_context("spawn"))


@lru_cache(maxsize=1)
def _pipeline(profile: str, folder: str, size: int) -> tuple[Graph, ImageStore, Context]:
    images, made = ImageStore(folder), Profile.model_validate_json(profile)
    settings = made.run.model_copy(update={"width": size, "height": size, "review": False})
    return made.build(images).compile(), images, Context(**settings.model_dump())


def _make_alone(make: Callable[[Any], Coroutine[Any, Any, Made]], case: Any) -> Made:
    """Make a document in a process of its own."""
    return asyncio.run(make(case))


async def _make(profile: str, folder: str, size: int, case: Any) -> Made:
    graph, images, context = _pipeline(profile, folder, size)
    refs = [await images.put(picture) for picture in case.pictures]
    given = RunInput(request=case.request, images=[ref.model_dump() for ref in refs])
    config = RunnableConfig(recursion_limit=10_000)
    state = await graph.ainvoke(given, config, context=context, output_keys=list(RunState.__annotations__))
    trace = Trace.from_state(state, case.id, "run")
    drawn: list[Picture] = [await images.get(one.image) for one in trace.results if one and one.image]
    text = "\n".join(step.text for step in trace.plan.steps)
    score = await asyncio.to_thread(case.score, text, drawn)
    calls = sum(attempt.image is not None for attempt in trace.attempts)
    reasons = [one.reason for one in trace.results if one and one.reason]
    problem = trace.failure.reason if trace.failure else next(iter(reasons), None)
    return Made(case.id, case.level, case.request, score, calls, problem)


def without_critic(profile: Profile) -> Profile:
    """The same planner and generator, with one call a step and no critic."""
    run = profile.run.model_copy(update={"max_attempts": 1})
    return profile.model_copy(update={"critic": BackendSettings(backend="accept"), "run": run})


async def compare(profile: Profile, count: int, seed: int, progress: Callable[[Made], None]) -> dict[str, Any]:
    """The pipeline and its generator alone on the same cases, as `interleaver eval sandbox --json` prints it."""
    with processes() as pool:
        whole = await bench(profile, count, seed, pool=pool, progress=progress)
        alone = await bench(without_critic(profile), count, seed, pool=pool, progress=progress)
    return {
        "score": whole.score.value,
        "generator_alone": alone.score.value,
        "interval": [whole.score.low, whole.score.high],
        "generator_alone_interval": [alone.score.low, alone.score.high],
        "levels": {
            name: {"score": asdict(score), "generator_alone": asdict(alone.levels[name])}
            for name, score in whole.levels.items()
        },
        "drawings": whole.drawings,
        "generator_alone_drawings": alone.drawings,
        "cases": count,
        "seed": seed,
        "models": profile.models(),
        "seconds": round(whole.seconds + alone.seconds, 1),
        "worst": [asdict(one) for one in sorted(whole.made, key=lambda one: one.score)[:10]],
    }


def markdown(found: dict[str, Any]) -> str:
    """The comparison as a table in Markdown."""
    text = ["| | pipeline | one call a step, no critic |", "|---|---|---|"]
    for name, pair in found["levels"].items():
        text.append(f"| {name} | {_told(pair['score'])} | {_told(pair['generator_alone'])} |")
    whole = [
        _told({"value": found[name], "low": found[f"{part}interval"][0], "high": found[f"{part}interval"][1]})
        for name, part in (("score", ""), ("generator_alone", "generator_alone_"))
    ]
    text.append(f"| **score** | **{whole[0]}** | **{whole[1]}** |")
    text.append(f"| generator calls a document | {found['drawings']:.2f} | {found['generator_alone_drawings']:.2f} |")
    about = f"{found['cases']} requests (seed {found['seed']}), {found['seconds']:.0f} s; 95 % intervals over requests"
    return "\n".join([*text, "", about])


def _told(score: dict[str, Any]) -> str:
    return f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"
