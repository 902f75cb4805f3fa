"""The systems under test: the graph, the generator alone, and outputs that were made elsewhere."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock

from interleaver.agents.exchanges import recording
from interleaver.batch.items import Item as Request
from interleaver.batch.work import Worker, in_parallel
from interleaver.config import Profile
from interleaver.errors import BackendError, BadInput
from interleaver.evals.benchmarks.base import Benchmark, Block, Item, Output
from interleaver.graph.backends import call
from interleaver.graph.compose import compose
from interleaver.pictures import EXTENSIONS, Picture
from interleaver.runner import Runner
from interleaver.traces.trace import Trace, name_from
from interleaver.types import Exchange, Outcome, TextBlock, Usage

MADE_WITH = "made-with.json"
NO_PICTURE = "there is no picture"
DRAWINGS, SECONDS_A_DRAWING = 6, 10.0
TOKENS = Usage(input_tokens=2_500, output_tokens=500)
"""What estimates reckon with before a pipeline has made anything: drawings, and tokens of a call of its models."""


class System(Protocol):
    """Whatever makes outputs.

    Attributes:
        name: what it is called in tables.
        folder: of the pictures of its outputs.
    """

    name: str
    folder: Path

    async def make(self, item: Item) -> Output:
        """Make the output of an item; what goes wrong is said in it."""
        ...


ADDRESSES = {"concurrency", "timeout", "base_url", "api_key_env", "api_key"}
"""Settings of a backend that say where and how fast it works, and nothing of what it makes."""


def _made_with(system: str, profile: Profile, data: str) -> str:
    """What the outputs of a system depend on, as JSON."""
    kinds = ("planner", "critic", "generator") if system == "graph" else ("generator",)
    run = profile.run.model_dump(mode="json")
    told = {
        "data": data,
        **{kind: _without_addresses(getattr(profile, kind).model_dump(mode="json")) for kind in kinds},
        "run": run if system == "graph" else {name: run[name] for name in ("seed", "width", "height")},
    }
    return json.dumps(told, indent=1, sort_keys=True)


def _without_addresses(settings: Any) -> Any:
    if isinstance(settings, dict):
        return {name: _without_addresses(value) for name, value in settings.items() if name not in ADDRESSES}
    return [_without_addresses(one) for one in settings] if isinstance(settings, list) else settings


class Outputs:
    """The outputs of a system: made once, and kept as they are made."""

    def __init__(self, system: System, profile: Profile, data: str, needs_picture: bool):
        """Take up the outputs that are there.

        Args:
            system: makes the others.
            profile: its models and settings.
            data: checksum of the data.
            needs_picture: whether an output without one is none.

        Raises:
            BadInput: those that are there were made with other models or settings, or of other data.
        """
        self.system = system
        self._prices = profile.prices
        self._needs_picture = needs_picture
        self._made_with = _made_with(system.name, profile, data)
        self._check()
        self._file = system.folder / "outputs.jsonl"
        self.made: dict[str, Output] = {}
        if self._file.exists():
            for line in self._file.read_text(encoding="utf-8").split("\n"):
                try:
                    output = Output.model_validate_json(line)
                except ValueError:
                    continue  # the line that was being written when the process died
                self.made[output.id] = output

    async def make(self, items: Sequence[Item], workers: int) -> AsyncIterator[Output]:
        """Make what is missing; an output with a problem is tried again.

        Args:
            items: what is asked for.
            workers: how many are made at a time.
        """
        todo = [item for item in items if item.id not in self.made or self.made[item.id].problem]
        await asyncio.to_thread(self._claim)
        async for output in in_parallel(todo, self.system.make, workers):
            if self._needs_picture and not any(block.picture for block in output.blocks):
                output.problem = output.problem or NO_PICTURE
            self.made[output.id] = output
            await asyncio.to_thread(self._keep, output)
            yield output

    def expected(self) -> Output:
        """What an output that is not made yet is likely to take: what those that are there took, or a guess."""
        made = [output for output in self.made.values() if not output.problem]
        if not made:
            whole = self.system.name == "graph"
            drawings = DRAWINGS if whole else 1
            roles = ["planner", *["critic", "generator"] * drawings] if whole else ["generator"]
            calls = [Exchange(role=role, model="", messages=[], usage=TOKENS) for role in roles]
            return Output(id="", cost=self._prices.of(calls, drawings), seconds=SECONDS_A_DRAWING * drawings)
        cost, seconds = (sum(getattr(one, name) for one in made) / len(made) for name in ("cost", "seconds"))
        return Output(id="", cost=cost, seconds=seconds)

    def _check(self) -> None:
        file = self.system.folder / MADE_WITH
        if file.exists() and file.read_text(encoding="utf-8") != self._made_with:
            raise BadInput(
                f"the outputs in {str(file.parent)!r} were made with other models or settings, or of other data (see "
                f"{file.name} there); give another --out, or remove them"
            )

    def _claim(self) -> None:
        """Say what the outputs of this folder are made with, unless another process has just said otherwise."""
        file = self.system.folder / MADE_WITH
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):
            if not file.exists():
                torn = file.with_suffix(".tmp")
                torn.write_text(self._made_with, encoding="utf-8")
                torn.replace(file)  # whole or not at all
        self._check()

    def _keep(self, output: Output) -> None:
        # The line break stands in front too, since the last line may have been torn when a process died.
        with self._file.open("a", encoding="utf-8") as file:
            file.write(f"\n{output.model_dump_json()}\n")


class _Named(Request):
    """A request whose run is called like its item, since two items may ask the same."""

    def run_id(self, pictures: list[str]) -> str:
        """The name of the run."""
        return name_from(self.tags["item"])


class GraphSystem:
    """The whole pipeline of a profile."""

    name = "graph"

    def __init__(self, profile: Profile, path: str | None, folder: Path):
        """Set up the pipeline.

        Args:
            profile: the models and settings.
            path: where the profile was read from, for resuming runs.
            folder: where its runs and outputs are kept.

        Raises:
            BadInput: a backend of the profile cannot be made, or a run would wait for a person.
        """
        if profile.run.review or profile.run.on_exhausted == "ask":
            raise BadInput("nobody is there to answer; set run.review = false and run.on_exhausted otherwise")
        self.folder = folder
        self.runner = Runner(profile, folder / "runs", documents=False)
        self._worker = Worker(self.runner, path, retry=True)
        self._seed = profile.run.seed

    async def make(self, item: Item) -> Output:
        """Make a run of an item; one that was begun is carried on."""
        pictures = [str(picture) for picture in item.pictures]
        request = _Named(line=0, request=item.request, images=pictures, tags={"item": item.id}, seed=self._seed)
        done = await self._worker.make(request)
        output = Output(id=item.id, run_id=done.run_id)
        trace = await asyncio.to_thread(self.runner.runs.trace, done.run_id) if done.run_id else None
        if isinstance(trace, Trace):
            output.blocks = await self._blocks(item, trace)
            output.problem = _problem(trace)
            output.drawings, output.seconds = _drawings(trace), _seconds(trace)
            output.cost = self.runner.profile.prices.of(trace.exchanges(), output.drawings)
        else:
            output.problem = done.problem
        return output

    async def _blocks(self, item: Item, trace: Trace) -> list[Block]:
        document = compose(trace.request, trace.seed, trace.plan, trace.results, trace.failure)
        blocks: list[Block] = []

        def number(step: int | None) -> int:
            return (step or 0) + 1

        for block in document.blocks:
            if isinstance(block, TextBlock):
                blocks.append(Block(step=number(block.step), text=block.text))
                continue
            picture = await self.runner.runs.images.get(block.image)
            name = f"pictures/{name_from(item.id)}-{len(blocks) + 1}"
            blocks.append(
                Block(
                    step=number(block.step), picture=await asyncio.to_thread(write_picture, self.folder, name, picture)
                )
            )
        return blocks


def _drawings(trace: Trace) -> int:
    return sum(attempt.image is not None for attempt in (*trace.attempts, *trace.drafts))


def _seconds(trace: Trace) -> float:
    """How long the models worked."""
    made = (*trace.attempts, *trace.drafts)
    times = [trace.plan_seconds, *(attempt.draw_seconds for attempt in made), *(one.judge_seconds for one in made)]
    return sum(seconds or 0.0 for seconds in times)


def _problem(trace: Trace) -> str | None:
    """Why a run is no output; one whose critic was never content is an output like any other."""
    failed = [result.reason for result in trace.results if result and result.outcome is Outcome.FAILED]
    return trace.failure.reason if trace.failure else next((reason or "no picture" for reason in failed), None)


class GeneratorSystem:
    """The generator of a profile alone: one prompt, one call."""

    name = "generator"

    def __init__(self, profile: Profile, folder: Path):
        """Set up the generator.

        Args:
            profile: names it.
            folder: where its outputs are kept.

        Raises:
            BadInput: it cannot be made.
        """
        self.folder = folder
        self._generator = profile.create("generator")
        self._size = (profile.run.width, profile.run.height)
        self._slots = asyncio.Semaphore(profile.generator.concurrency or 1_000_000)
        self._prices = profile.prices
        self._seed = profile.run.seed

    async def make(self, item: Item) -> Output:
        """Draw an item's request."""
        began = time.monotonic()
        output = Output(id=item.id)
        with recording() as exchanges:
            try:
                picture = await self._draw(item, output)
                name = f"pictures/{name_from(item.id)}"
                output.blocks = [Block(picture=await asyncio.to_thread(write_picture, self.folder, name, picture))]
            except (BackendError, BadInput, OSError) as error:
                output.problem = str(error)
        output.seconds, output.cost = time.monotonic() - began, self._prices.of(exchanges, output.drawings)
        return output

    async def _draw(self, item: Item, output: Output) -> Picture:
        prompt = " ".join(item.request.replace("<image>", " ").split())
        sources = [Picture.decode(await asyncio.to_thread(path.read_bytes), str(path)) for path in item.pictures]
        many = self._generator.capabilities.max_sources
        if sources and not many:
            raise BadInput("this generator takes no pictures to edit")
        shown = sources[-many:] if many else []
        async with self._slots:
            output.drawings = 1
            work = partial(self._generator.generate, prompt, shown, self._seed, self._size)
            return await call(self._generator, work, Picture)


class FileSystem:
    """Outputs that were made elsewhere, in the benchmark's own format."""

    def __init__(self, name: str, path: Path, benchmark: Benchmark, items: Sequence[Item]):
        """Read the outputs.

        Args:
            name: what the system is called.
            path: their file or folder.
            benchmark: says in which format they are.
            items: those that are asked for.

        Raises:
            BadInput: they cannot be read, or name pictures that cannot.
        """
        if not path.exists():
            raise BadInput(f"--outputs {str(path)!r} is not there")
        self.name = name
        self.folder = path if path.is_dir() else path.parent
        self.made: Mapping[str, Output] = {output.id: output for output in benchmark.read_outputs(path, items)}
        for output in self.made.values():
            self._check(output)

    def _check(self, output: Output) -> None:
        for picture in output.pictures(self.folder):
            try:
                data = picture.read_bytes()
            except OSError as error:
                raise BadInput(
                    f"the picture {str(picture)!r} of item {output.id} cannot be read: {error.strerror}"
                ) from None
            Picture.decode(data, f"the picture {str(picture)!r} of item {output.id}")


def write_picture(folder: Path, name: str, picture: Picture) -> str:
    """Write a picture's file; its name with the ending."""
    path = f"{name}{EXTENSIONS[picture.media_type]}"
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(picture.data)
    return path
