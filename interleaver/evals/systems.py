"""The systems under test: the whole graph, the generator alone, and imported outputs of other systems."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock

from interleaver.agents.exchanges import record_exchanges
from interleaver.batch.prompt_list import BatchItem
from interleaver.batch.workers import BatchWorker
from interleaver.calling import call, run_concurrently
from interleaver.errors import BackendError, BadInput
from interleaver.evals.benchmarks.base import Benchmark, BenchmarkItem, Output, OutputBlock
from interleaver.graph.document import compose
from interleaver.pictures import EXTENSIONS, Picture
from interleaver.profile import Profile
from interleaver.runner import Runner, make_backend
from interleaver.traces.trace import Trace, run_name_from
from interleaver.types import Exchange, Outcome, TextBlock, Usage

MADE_WITH = "made-with.json"
NO_PICTURE = "there is no picture"
EXPECTED_DRAWINGS, EXPECTED_SECONDS = 6, 10.0
EXPECTED_TOKENS = Usage(input_tokens=2_500, output_tokens=500)
"""Assumptions of the estimates until a system has made outputs: drawings per document, seconds per drawing, and tokens
per model call."""


class System(Protocol):
    """A system that makes outputs.

    Attributes:
        name: name in tables and folders.
        folder: folder of its outputs, which their picture paths are relative to.
    """

    name: str
    folder: Path

    async def make(self, item: BenchmarkItem) -> Output:
        """Make the output of an item; failures are reported in `Output.problem`."""
        ...


ADDRESSES = {"concurrency", "timeout", "base_url", "api_key_env", "api_key"}
"""Backend settings that affect where and how fast it runs, but not its results."""


def _made_with(system: str, profile: Profile, data: str) -> str:
    """Return all settings that the outputs of a system depend on, as JSON."""
    kinds = ("planner", "critic", "generator") if system == "graph" else ("generator",)
    run = profile.run.model_dump(mode="json")
    dependencies = {
        "data": data,
        **{kind: _without_addresses(getattr(profile, kind).model_dump(mode="json")) for kind in kinds},
        "run": run if system == "graph" else {name: run[name] for name in ("seed", "width", "height")},
    }
    return json.dumps(dependencies, indent=1, sort_keys=True)


def _without_addresses(settings: Any) -> Any:
    if isinstance(settings, dict):
        return {name: _without_addresses(value) for name, value in settings.items() if name not in ADDRESSES}
    return [_without_addresses(value) for value in settings] if isinstance(settings, list) else settings


class Outputs:
    """The outputs of a system; each is made once and stored as soon as it is finished."""

    def __init__(self, system: System, profile: Profile, data: str, needs_picture: bool):
        """Load the stored outputs.

        Args:
            system: system that makes the missing outputs.
            profile: models and settings of the system.
            data: checksum of the data.
            needs_picture: whether an output without a picture counts as failed.

        Raises:
            BadInput: the stored outputs were made with different models, settings or data.
        """
        self.system = system
        self._prices = profile.prices
        self._needs_picture = needs_picture
        self._made_with = _made_with(system.name, profile, data)
        self._check()
        self._file = system.folder / "outputs.jsonl"
        self.outputs: dict[str, Output] = {}
        if self._file.exists():
            for line in self._file.read_text(encoding="utf-8").split("\n"):
                try:
                    output = Output.model_validate_json(line)
                except ValueError:
                    continue  # a blank line, or one that was cut off when the process died
                self.outputs[output.id] = output

    async def make(self, items: Sequence[BenchmarkItem], workers: int) -> AsyncGenerator[Output]:
        """Make the missing outputs and retry those with a problem; yield each as soon as it is stored.

        Args:
            items: selected items.
            workers: maximum number of outputs made concurrently.
        """
        todo = [item for item in items if item.id not in self.outputs or self.outputs[item.id].problem]
        await asyncio.to_thread(self._claim)
        async with aclosing(run_concurrently(todo, self.system.make, workers)) as outputs:
            async for output in outputs:
                if self._needs_picture and not any(block.picture for block in output.blocks):
                    output.problem = output.problem or NO_PICTURE
                self.outputs[output.id] = output
                await asyncio.to_thread(self._keep, output)
                yield output

    def expected(self) -> Output:
        """Return an output with the expected cost and seconds: the mean of the stored outputs, or else a guess."""
        outputs = [output for output in self.outputs.values() if not output.problem]
        if not outputs:
            is_graph = self.system.name == "graph"
            drawings = EXPECTED_DRAWINGS if is_graph else 1
            roles = ["planner", *["critic", "generator"] * drawings] if is_graph else ["generator"]
            calls = [Exchange(role=role, model="", messages=[], usage=EXPECTED_TOKENS) for role in roles]
            return Output(id="", cost=self._prices.of(calls, drawings), seconds=EXPECTED_SECONDS * drawings)
        cost, seconds = (
            sum(getattr(output, name) for output in outputs) / len(outputs) for name in ("cost", "seconds")
        )
        return Output(id="", cost=cost, seconds=seconds)

    def _check(self) -> None:
        file = self.system.folder / MADE_WITH
        if file.exists() and file.read_text(encoding="utf-8") != self._made_with:
            raise BadInput(
                f"the outputs in {str(file.parent)!r} were made with different models, settings or data (see "
                f"{file.name} there); give another --out, or delete them"
            )

    def _claim(self) -> None:
        """Record what the outputs in this folder are made with, or check the record that another process has made."""
        file = self.system.folder / MADE_WITH
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):
            if not file.exists():
                partial = file.with_suffix(".tmp")
                partial.write_text(self._made_with, encoding="utf-8")
                partial.replace(file)  # atomic
        self._check()

    def _keep(self, output: Output) -> None:
        # Start with a line break, too: the last line may be incomplete if a process died while writing it.
        with self._file.open("a", encoding="utf-8") as file:
            file.write(f"\n{output.model_dump_json()}\n")


class _ItemRun(BatchItem):
    """A request whose run is named after the item, since two items may have the same request."""

    def run_id(self, pictures: list[str]) -> str:
        """Return the id of the run, made from the item id."""
        return run_name_from(self.tags["item"])


class GraphSystem:
    """The whole pipeline of a profile: planner, generator and critic."""

    name = "graph"

    def __init__(self, profile: Profile, folder: Path):
        """Set up the pipeline.

        Args:
            profile: models and settings of the pipeline.
            folder: folder for the runs and outputs.

        Raises:
            BadInput: a backend of the profile cannot be made, or the runs would wait for human input.
        """
        if profile.run.review or profile.run.on_exhausted == "ask":
            raise BadInput(
                "benchmarks run unattended; set run.review = false and run.on_exhausted to a value other than 'ask'"
            )
        self.folder = folder
        self.runner = Runner(profile, folder / "runs", documents=False)
        self._worker = BatchWorker(self.runner, retry=True)
        self._seed = profile.run.seed

    async def make(self, item: BenchmarkItem) -> Output:
        """Make the output of an item in a run; an unfinished or failed run of the item is resumed."""
        pictures = [str(picture) for picture in item.pictures]
        request = _ItemRun(line=0, request=item.request, images=pictures, tags={"item": item.id}, seed=self._seed)
        result = await self._worker.make(request)
        output = Output(id=item.id, run_id=result.run_id)
        trace = await asyncio.to_thread(self.runner.runs.trace, result.run_id) if result.run_id else None
        if isinstance(trace, Trace):
            output.blocks = await self._blocks(item, trace)
            output.problem = _problem(trace)
            output.drawings, output.seconds = _drawings(trace), _seconds(trace)
            output.cost = self.runner.profile.prices.of(trace.exchanges(), output.drawings)
        else:
            output.problem = result.problem
        return output

    async def _blocks(self, item: BenchmarkItem, trace: Trace) -> list[OutputBlock]:
        document = compose(trace.request, trace.seed, trace.plan, trace.results, trace.failure)
        blocks: list[OutputBlock] = []

        def number(step: int | None) -> int:
            return (step or 0) + 1

        for block in document.blocks:
            if isinstance(block, TextBlock):
                blocks.append(OutputBlock(step=number(block.step), text=block.text))
                continue
            picture = await self.runner.runs.images.get(block.image)
            name = f"pictures/{run_name_from(item.id)}-{len(blocks) + 1}"
            blocks.append(
                OutputBlock(
                    step=number(block.step), picture=await asyncio.to_thread(write_picture, self.folder, name, picture)
                )
            )
        return blocks


def _drawings(trace: Trace) -> int:
    return sum(attempt.image is not None for attempt in (*trace.attempts, *trace.drafts))


def _seconds(trace: Trace) -> float:
    """Return the total working time of the models, in seconds."""
    attempts = (*trace.attempts, *trace.drafts)
    times = [
        trace.plan_seconds,
        *(attempt.draw_seconds for attempt in attempts),
        *(attempt.review_seconds for attempt in attempts),
    ]
    return sum(seconds or 0.0 for seconds in times)


def _problem(trace: Trace) -> str | None:
    """Return why a run counts as failed, or None; a step whose attempts were all rejected does not count as failed."""
    failed = [result.reason for result in trace.results if result and result.outcome is Outcome.FAILED]
    return trace.failure.reason if trace.failure else next((reason or "no picture" for reason in failed), None)


class GeneratorSystem:
    """The generator of a profile alone: one prompt, one call."""

    name = "generator"

    def __init__(self, profile: Profile, folder: Path):
        """Set up the generator.

        Args:
            profile: profile of the generator.
            folder: folder for the outputs.

        Raises:
            BadInput: the generator cannot be made.
        """
        self.folder = folder
        self._generator = make_backend(profile, "generator")
        self._size = (profile.run.width, profile.run.height)
        self._concurrency = profile.generator.concurrency
        self._prices = profile.prices
        self._seed = profile.run.seed

    async def make(self, item: BenchmarkItem) -> Output:
        """Draw one picture for the request of an item."""
        began = time.monotonic()
        output = Output(id=item.id)
        with record_exchanges() as exchanges:
            try:
                picture = await self._draw(item, output)
                name = f"pictures/{run_name_from(item.id)}"
                output.blocks = [
                    OutputBlock(picture=await asyncio.to_thread(write_picture, self.folder, name, picture))
                ]
            except (BackendError, BadInput, OSError) as error:
                output.problem = str(error)
        output.seconds, output.cost = time.monotonic() - began, self._prices.of(exchanges, output.drawings)
        return output

    async def _draw(self, item: BenchmarkItem, output: Output) -> Picture:
        prompt = " ".join(item.request.replace("<image>", " ").split())
        sources = [Picture.decode(await asyncio.to_thread(path.read_bytes), str(path)) for path in item.pictures]
        max_sources = self._generator.capabilities.max_sources
        if sources and not max_sources:
            raise BadInput("this generator cannot edit pictures, but the item comes with some")
        edit_sources = sources[-max_sources:] if max_sources else []
        output.drawings = 1
        work = partial(self._generator.generate, prompt, edit_sources, self._seed, self._size)
        return await call(self._generator, work, Picture, self._concurrency)


class ImportedOutputs:
    """Outputs of another system, in the benchmark's own format."""

    def __init__(self, name: str, path: Path, benchmark: Benchmark, items: Sequence[BenchmarkItem]):
        """Read the outputs.

        Args:
            name: name of the system in tables.
            path: file or folder with the outputs.
            benchmark: benchmark whose format the outputs have.
            items: selected items.

        Raises:
            BadInput: the outputs, or pictures in them, cannot be read.
        """
        if not path.exists():
            raise BadInput(f"--outputs {str(path)!r} does not exist")
        self.name = name
        self.folder = path if path.is_dir() else path.parent
        self.outputs: Mapping[str, Output] = {output.id: output for output in benchmark.read_outputs(path, items)}
        for output in self.outputs.values():
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
    """Write a picture to a file.

    Args:
        folder: folder that the name is relative to.
        name: path of the file without its suffix.
        picture: picture to write.

    Returns:
        The path relative to the folder, with the suffix of the picture's media type.
    """
    path = f"{name}{EXTENSIONS[picture.media_type]}"
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(picture.data)
    return path
