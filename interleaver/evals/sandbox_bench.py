"""The sandbox bench: requests with known answers and exact scores; no models are needed.

It guards this package against regressions and measures what a pipeline adds to its generator, by comparing it with
the same planner and generator limited to one call per step and without a critic.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import EntryPoint
from multiprocessing import get_context
from tempfile import TemporaryDirectory
from typing import Any

from langchain_core.runnables import RunnableConfig
from pydantic import BaseModel

from interleaver.calling import run_concurrently
from interleaver.choices import SandboxLevel
from interleaver.errors import BadInput
from interleaver.evals.scores import Score, format_interval, weighted_mean
from interleaver.graph.compiled import RunGraph
from interleaver.graph.context import Context
from interleaver.graph.state import RunInput
from interleaver.pictures import Picture
from interleaver.profile import BackendSettings, Profile
from interleaver.runner import make_graph
from interleaver.store.images import ImageStore
from interleaver.traces.trace import Trace

SEED = 2026
MIN_CASES_FOR_PROCESSES = 40
"""Number of cases below which starting worker processes takes longer than it saves."""
CPU_BACKENDS = {"sandbox", "sandbox-exact", "one-step", "accept"}
"""Planner and critic backends that are CPU-bound and never wait for a server."""
WORKERS = 48
"""Number of documents made concurrently, chosen to fill a batch of local models."""
PICTURE_SIDES = {"full": 160, "miniature": 96}
"""Width and height of a picture in pixels, by world."""
CASES_ENTRY_POINT = EntryPoint("cases", "interleaver.sandbox.bench_cases:bench_cases", "interleaver.bench")
"""Maker of the cases; loaded by name rather than imported, like every part of the sandbox."""


@dataclass(frozen=True)
class CaseResult:
    """The result of a case.

    Attributes:
        id: id of the case.
        level: level of difficulty.
        request: request of the case.
        score: score from 0 to 1.
        drawings: number of generator calls.
        problem: reason why the document is not complete; None if it is.
    """

    id: str
    level: str
    request: str
    score: float
    drawings: int
    problem: str | None = None


@dataclass(frozen=True)
class BenchResult:
    """The results of all cases.

    Attributes:
        results: results in the order of the cases.
        seconds: duration of the bench.
    """

    results: Sequence[CaseResult]
    seconds: float

    @property
    def score(self) -> Score:
        """The mean score over all cases."""
        return weighted_mean([[result.score for result in self.results]], [1.0])

    @property
    def levels(self) -> dict[str, Score]:
        """The mean score by level of difficulty."""
        names = dict.fromkeys(result.level for result in self.results)
        return {
            name: weighted_mean([[result.score for result in self.results if result.level == name]], [1.0])
            for name in names
        }

    @property
    def drawings(self) -> float:
        """The mean number of generator calls per document."""
        return sum(result.drawings for result in self.results) / len(self.results)


async def run_bench(
    profile: Profile,
    count: int,
    seed: int = SEED,
    *,
    world: SandboxLevel = "full",
    pool: ProcessPoolExecutor | None = None,
    progress: Callable[[CaseResult], None] = lambda results: None,
) -> BenchResult:
    """Make the documents of all cases and score them.

    Args:
        profile: profile of the pipeline; its generator must be the sandbox's, whose pictures contain the scene that
            they show.
        count: number of cases.
        seed: seed of the cases.
        world: how much of the sandbox world the cases use: full or miniature.
        pool: worker processes from `start_processes`; they are not used for few cases, nor for models, which every
            process would have to load.
        progress: progress callback, called after every document.

    Raises:
        BadInput: a backend of the profile cannot be made, the generator is not the sandbox's, or the runs would wait
            for human input.
    """
    check_profile(profile)
    start = time.monotonic()
    cases = await asyncio.to_thread(CASES_ENTRY_POINT.load(), count, seed, world)
    results: list[CaseResult] = []
    run_here = (
        pool is None
        or count < MIN_CASES_FOR_PROCESSES
        or not {profile.planner.backend, profile.critic.backend} <= CPU_BACKENDS
    )
    with TemporaryDirectory() as folder:
        run_case = partial(_run_case, profile.model_dump_json(), folder, PICTURE_SIDES[world])

        async def run_in_pool(case: Any) -> CaseResult:
            return await asyncio.get_running_loop().run_in_executor(pool, _run_case_in_process, run_case, case)

        async with aclosing(run_concurrently(cases, run_case if run_here else run_in_pool, WORKERS)) as case_results:
            async for result in case_results:
                progress(result)
                results.append(result)
    order = {case.id: number for number, case in enumerate(cases)}
    return BenchResult(sorted(results, key=lambda result: order[result.id]), time.monotonic() - start)


def check_profile(profile: Profile) -> None:
    """Check that the sandbox bench can score a pipeline.

    Raises:
        BadInput: the generator is not the sandbox's, or the runs would wait for human input.
    """
    if profile.generator.backend != "sandbox" or profile.run.on_exhausted == "ask":
        raise BadInput(
            "the sandbox bench scores only pictures of the sandbox generator and runs unattended; give a --profile "
            'with generator.backend = "sandbox" and without run.on_exhausted = "ask"'
        )


def start_processes() -> ProcessPoolExecutor:
    """Start a pool of worker processes, one per core; the sandbox is CPU-bound, so threads would not help."""
    return ProcessPoolExecutor(mp_context=get_context("spawn"))


@lru_cache(maxsize=1)
def _pipeline(profile: str, folder: str, size: int) -> tuple[RunGraph, ImageStore, Context]:
    images, loaded_profile = ImageStore(folder), Profile.model_validate_json(profile)
    settings = loaded_profile.run.model_copy(update={"width": size, "height": size, "review": False})
    return make_graph(loaded_profile, images).compile(), images, Context(**settings.model_dump())


def _run_case_in_process(run_case: Callable[[Any], Coroutine[Any, Any, CaseResult]], case: Any) -> CaseResult:
    """Run a case in a worker process."""
    return asyncio.run(run_case(case))


async def _run_case(profile: str, folder: str, size: int, case: Any) -> CaseResult:
    graph, images, context = _pipeline(profile, folder, size)
    refs = [await images.put(picture) for picture in case.pictures]
    graph_input = RunInput(request=case.request, images=[ref.model_dump() for ref in refs])
    config = RunnableConfig(recursion_limit=10_000)
    state = await graph.ainvoke(graph_input, config, context=context, output_keys=list(graph.stream_channels_list))
    trace = Trace.from_state(state, case.id, "run")
    pictures: list[Picture] = [await images.get(result.image) for result in trace.results if result and result.image]
    text = "\n".join(step.text for step in trace.plan.steps)
    score = await asyncio.to_thread(case.score, text, pictures)
    drawings = sum(attempt.image is not None for attempt in trace.attempts)
    reasons = [result.reason for result in trace.results if result and result.reason]
    problem = trace.failure.reason if trace.failure else next(iter(reasons), None)
    return CaseResult(case.id, case.level, case.request, score, drawings, problem)


def without_critic(profile: Profile) -> Profile:
    """Return the profile with the same planner and generator, one generator call per step and no critic."""
    run = profile.run.model_copy(update={"max_attempts": 1})
    return profile.model_copy(update={"critic": BackendSettings(backend="accept"), "run": run})


class LevelComparison(BaseModel):
    """The scores of a pipeline and of its generator alone on one level of difficulty.

    Attributes:
        score: score of the pipeline.
        generator_alone: score with one generator call per step and no critic.
    """

    score: Score
    generator_alone: Score


class BenchComparison(BaseModel):
    """A pipeline compared with its generator alone on the same cases; the schema of `interleaver eval sandbox --json`.

    Attributes:
        score: mean score of the pipeline, 0 to 1.
        generator_alone: mean score with one generator call per step and no critic, 0 to 1.
        interval: 95 % bootstrap confidence interval of `score`.
        generator_alone_interval: 95 % bootstrap confidence interval of `generator_alone`.
        levels: scores by level of difficulty.
        drawings: mean number of generator calls per document of the pipeline.
        generator_alone_drawings: mean number of generator calls per document without the critic.
        cases: number of cases.
        seed: seed of the cases.
        models: names of the planner, critic and generator models.
        seconds: duration of both benches together.
        worst: the ten cases on which the pipeline scored lowest.
    """

    score: float
    generator_alone: float
    interval: tuple[float, float]
    generator_alone_interval: tuple[float, float]
    levels: dict[str, LevelComparison]
    drawings: float
    generator_alone_drawings: float
    cases: int
    seed: int
    models: dict[str, str]
    seconds: float
    worst: list[CaseResult]


async def compare_with_generator(
    profile: Profile, count: int, seed: int, progress: Callable[[CaseResult], None]
) -> BenchComparison:
    """Run the pipeline and its generator alone on the same cases."""
    with start_processes() as pool:
        pipeline_result = await run_bench(profile, count, seed, pool=pool, progress=progress)
        generator_result = await run_bench(without_critic(profile), count, seed, pool=pool, progress=progress)
    return BenchComparison(
        score=pipeline_result.score.value,
        generator_alone=generator_result.score.value,
        interval=(pipeline_result.score.low, pipeline_result.score.high),
        generator_alone_interval=(generator_result.score.low, generator_result.score.high),
        levels={
            name: LevelComparison(score=score, generator_alone=generator_result.levels[name])
            for name, score in pipeline_result.levels.items()
        },
        drawings=pipeline_result.drawings,
        generator_alone_drawings=generator_result.drawings,
        cases=count,
        seed=seed,
        models=profile.models(),
        seconds=round(pipeline_result.seconds + generator_result.seconds, 1),
        worst=sorted(pipeline_result.results, key=lambda result: result.score)[:10],
    )


def markdown(comparison: BenchComparison) -> str:
    """Format the comparison as a table in Markdown."""
    text_lines = ["| | pipeline | one call per step, no critic |", "|---|---|---|"]
    for name, level in comparison.levels.items():
        text_lines.append(f"| {name} | {format_interval(level.score)} | {format_interval(level.generator_alone)} |")
    pipeline = format_interval(Score(comparison.score, *comparison.interval))
    generator = format_interval(Score(comparison.generator_alone, *comparison.generator_alone_interval))
    return "\n".join(
        [
            *text_lines,
            f"| **score** | **{pipeline}** | **{generator}** |",
            f"| generator calls per document | {comparison.drawings:.2f} | {comparison.generator_alone_drawings:.2f} |",
            "",
            f"{comparison.cases} requests (seed {comparison.seed}), {comparison.seconds:.0f} s; 95 % confidence "
            "intervals over requests",
        ]
    )
