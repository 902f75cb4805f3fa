"""Measure the sandbox critic against the sandbox judge on random steps.

    python benchmarks/critic.py --steps 1000 --seed 1000000

The seed selects the steps. The critic was developed on steps of other seeds, never on those of the default seed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from random import Random

from interleaver.graph.attempts import attempt_seed
from interleaver.pictures import Picture, white_canvas
from interleaver.sandbox.critic import SandboxCritic
from interleaver.sandbox.generator import SandboxGenerator
from interleaver.sandbox.judge import ExactScores, score_step
from interleaver.sandbox.tasks import StepTask, random_task
from interleaver.sandbox.world import paint, scene_behind
from interleaver.types import Step

SIZE = 512


async def draw(generator: SandboxGenerator, task: StepTask, prompt: str, seed: int) -> tuple[Picture, ExactScores]:
    """Draw a task with a prompt; return the picture and the judge's scores."""
    sources = [paint(task.before, SIZE, SIZE)] if task.before else []
    picture = await generator.generate(prompt, sources, seed, (SIZE, SIZE))
    scene = scene_behind(picture)
    assert scene is not None
    return picture, score_step(task.instruction, task.before, scene)


async def measure(steps: int, seed: int, show: int = 0) -> dict[str, float | int]:
    generator, critic = SandboxGenerator(), SandboxCritic()
    counts = {"right": 0, "false_accepts": 0, "false_rejects": 0, "successes": 0, "failures": 0}
    second_attempts = {"refined": 0, "repeated": 0, "count": 0}
    judging = 0.0
    for number in range(steps):
        task = random_task(Random(f"{seed}/{number}"))
        before = paint(task.before, SIZE, SIZE) if task.before else white_canvas(SIZE, SIZE)
        step = Step(number=1, instruction=task.instruction, prompt=task.prompt)

        picture, truth = await draw(generator, task, task.prompt, attempt_seed(seed, number, 1))
        started = time.perf_counter()
        verdict = await critic.review(step, before, picture, task.prompt)
        judging += time.perf_counter() - started
        counts["successes" if truth.success else "failures"] += 1
        if verdict.accepted == truth.success:
            counts["right"] += 1
        else:
            counts["false_accepts" if verdict.accepted else "false_rejects"] += 1
            if show > 0:
                show -= 1
                print(
                    f"#{number} {task.instruction}\n  prompt : {task.prompt}\n  truth  : {truth.findings}"
                    f"\n  verdict: {verdict.reasoning}"
                )
        if not truth.success and not verdict.accepted:
            second_attempts["count"] += 1
            retry = attempt_seed(seed, number, 2)
            second_attempts["refined"] += (await draw(generator, task, verdict.refined_prompt, retry))[1].success
            second_attempts["repeated"] += (await draw(generator, task, task.prompt, retry))[1].success
    return {
        "steps": steps,
        "seed": seed,
        "accuracy": counts["right"] / steps,
        "false_accepts": counts["false_accepts"],
        "of_failures": counts["failures"],
        "false_rejects": counts["false_rejects"],
        "of_successes": counts["successes"],
        "regenerated": second_attempts["count"],
        "success_with_refined_prompt": second_attempts["refined"] / max(second_attempts["count"], 1),
        "success_with_repeated_prompt": second_attempts["repeated"] / max(second_attempts["count"], 1),
        "seconds_a_verdict": judging / steps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1_000_000)
    parser.add_argument("--show", type=int, default=0, help="number of wrong verdicts to print")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = asyncio.run(measure(arguments.steps, arguments.seed, arguments.show))
    if arguments.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:30} {value:.3f}" if isinstance(value, float) else f"{name:30} {value}")


if __name__ == "__main__":
    main()
