"""Measure how the checkpoint database grows with the length of a run.

    python benchmarks/checkpoints.py

Every step of the run is rejected once and then accepted; the texts are as long as those of a language model.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import aiosqlite
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from interleaver import ImageStore, build_graph
from interleaver.pictures import Picture, white_canvas
from interleaver.tools import Capabilities
from interleaver.types import Plan, Step, Verdict

WORDS = "a careful sentence that says what the picture should show and how it should look, in some detail "


class LongPlanner:
    def __init__(self, steps: int):
        self.steps = steps

    async def plan(self, request: str, images: Sequence[Picture]) -> Plan:
        text = (WORDS * 4).strip()
        steps = range(1, self.steps + 1)
        return Plan(steps=[Step(number=n, name=f"Step {n}", instruction=text, prompt=text) for n in steps])


class SecondTimeCritic:
    async def review(
        self, step: Step, before: Picture, after: Picture, prompt: str, references: Sequence[Picture] = ()
    ) -> Verdict:
        if prompt.endswith("again"):
            return Verdict(accepted=True, refined_prompt=prompt, reasoning=WORDS * 3)
        return Verdict(accepted=False, refined_prompt=f"{prompt} again", reasoning=WORDS * 3)


class BlankGenerator:
    capabilities = Capabilities(max_sources=1)

    async def generate(self, prompt: str, sources: Sequence[Picture], seed: int, size: tuple[int, int]) -> Picture:
        return white_canvas(8, 8)


async def measure(steps: int) -> tuple[int, int]:
    """Return the size of the database in bytes and the number of supersteps of a run with `steps` steps."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoints.sqlite"
        async with aiosqlite.connect(path) as connection:
            graph = build_graph(
                planner=LongPlanner(steps),
                critic=SecondTimeCritic(),
                generator=BlankGenerator(),
                images=ImageStore(f"{folder}/images"),
            ).compile(checkpointer=AsyncSqliteSaver(connection))
            supersteps = 0
            config = {"configurable": {"thread_id": "bench"}, "recursion_limit": 10_000}
            async for _ in graph.astream({"request": "x"}, config, stream_mode="updates", durability="sync"):
                supersteps += 1
        return sum(file.stat().st_size for file in Path(folder).glob("checkpoints.sqlite*")), supersteps


async def main() -> None:
    print("steps  supersteps  database KB  KB per superstep (target: under 9)")
    for steps in (5, 10, 20, 40):
        size, supersteps = await measure(steps)
        print(f"{steps:5}  {supersteps:10}  {size / 1024:11.1f}  {size / 1024 / supersteps:.2f}")


if __name__ == "__main__":
    asyncio.run(main())
