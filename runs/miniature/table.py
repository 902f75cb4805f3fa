"""What the critics and the planner are worth, on requests and steps that no model was trained on.

python table.py measure --runs heldout --pool exact --critics sft grpo rules exact --out results.json
python table.py print seed-0/results.json seed-1/results.json seed-2/results.json --out table.md
"""

import argparse
import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from interleaver.config import load_profile
from interleaver.pictures import white_canvas
from interleaver.sandbox.judge import judge
from interleaver.sandbox.language import Instructions, describe
from interleaver.sandbox.planner import SandboxPlanner
from interleaver.sandbox.reading import parse
from interleaver.sandbox.world import scene_behind
from interleaver.traces.labels import read_labels
from interleaver.traces.trace import Trace
from interleaver.training.rewards import improvement
from interleaver.training.scoring import Redraw, Scorer

VARIANTS = {
    "alone": "generator alone (prompts of a plan by rules, one attempt)",
    "planner": "+ planner (learned, one attempt)",
    "sft": "+ critic after SFT",
    "grpo": "+ critic after GRPO",
    "rules": "rule-based critic",
    "exact": "exact judge as critic",
}
SEEDS = (101, 102, 103)
"""Of the drawings with critics' prompts; GRPO draws with others."""
SAMPLES = 4000
"""Bootstrap samples behind an interval."""
Json = dict[str, Any]


async def wanted(request: str) -> tuple[str, int]:
    """What the last picture should show, in the drawing language, and in how many steps."""
    plan = await SandboxPlanner(level="miniature").plan(request, [])
    operations = [op for step in plan.steps for op in parse(step.instruction or "").operations]
    return describe(Instructions(tuple(operations))), len(plan.steps)


async def documents(profile: str, out: str) -> list[Json]:
    """The runs of a variant, measured against their requests."""
    runs = load_profile(profile).store.open(out)
    found = []
    for run_id in runs.run_ids():
        trace = runs.trace(run_id)
        if not isinstance(trace, Trace):  # it failed, such as for a plan that cannot be read
            found.append({"run": run_id, "success": False, "semantics": 0.0, "quality": 0.0, "calls": 0})
            continue
        goal, steps = await wanted(trace.request)
        shown = [result.image for result in trace.results if result and result.image]
        scored = judge(goal, None, scene_behind(await runs.images.get(shown[-1]))) if shown else None
        found.append(
            {
                "run": run_id,
                "success": bool(scored and scored.success and len(trace.plan.steps) == steps),
                "semantics": scored.semantics if scored else 0.0,
                "quality": scored.quality if scored else 0.0,
                "calls": sum(attempt.image is not None for attempt in trace.attempts),
            }
        )
    return found


async def steps(critic: str, profile: str, out: str) -> list[Json]:
    """What a critic says of the steps in the pool, and what comes of its prompts."""
    chosen = load_profile(profile)
    runs = chosen.store.open(out)
    scorer = Scorer(chosen.create("generator"), chosen.create("judge"))

    async def one(trace: Trace, attempt: Any, label: Any) -> Json:
        step = trace.step_of(attempt)
        after = await runs.images.get(attempt.image)
        before = (
            await runs.images.get(attempt.sources[-1]) if attempt.sources else white_canvas(after.width, after.height)
        )
        truth = judge(step.goal, scene_behind(before), scene_behind(after))
        verdict = label.verdicts[0] if label and label.verdicts else None
        said = {"run": trace.run_id, "truth": truth.success, "accepted": verdict.accepted if verdict else None}
        if not truth.success:
            work = Redraw(
                before=before,
                blank=not attempt.sources,
                instruction=step.goal,
                origin_prompt=step.prompt,
                prompt=(verdict.refined_prompt if verdict else "") or attempt.prompt,
                size=(after.width, after.height),
            )
            again = [await scorer.redraw(replace(work, seed=seed)) for seed in SEEDS]
            said["redrawn"] = float(np.mean([bool(scored and scored.success) for scored in again]))
            said["S"] = float(np.mean([improvement(truth.semantics, found and found.semantics) for found in again]))
            said["Q"] = float(np.mean([improvement(truth.quality, found and found.quality) for found in again]))
        return said

    found = []
    for run_id in runs.run_ids():
        trace, labels = runs.trace(run_id), read_labels(runs, run_id, critic)
        if not isinstance(trace, Trace):
            continue
        for attempt in trace.attempts:
            if attempt.image is not None:
                label = labels.of(attempt.step, attempt.attempt, attempt.image.sha256) if labels else None
                found.append(one(trace, attempt, label))
    return list(await asyncio.gather(*found))


async def measure(told: argparse.Namespace) -> None:
    results: Json = {"documents": {}, "steps": {}}
    for name in VARIANTS:
        if (Path(told.runs) / name).exists():
            results["documents"][name] = await documents(f"profiles/{name}.toml", f"{told.runs}/{name}")
    for critic in told.critics:
        results["steps"][critic] = await steps(critic, f"profiles/{told.pool}.toml", f"{told.runs}/{told.pool}")
    told.out.write_text(json.dumps(results))


def mean(documents: np.ndarray) -> np.ndarray:
    """The means of columns of (sum, count), by document; shape (documents, columns, 2) to (columns,)."""
    totals = documents.sum(axis=0)
    return totals[:, 0] / totals[:, 1]


def interval(seeds: list[np.ndarray], scale: float, digits: int, signed: str = "") -> str:
    """Mean and 95 % interval: seeds are drawn with replacement, then their documents, each with all that is in it.

    Of two columns it is the second's difference to the first, on the same documents.
    """
    seeds = [counted for documents in seeds if len(counted := documents[(documents[..., 1] > 0).all(axis=1)])]
    if not seeds:
        return "-"
    rng = np.random.default_rng(0)

    def told(picked: list[np.ndarray]) -> float:
        means = np.mean([mean(documents) for documents in picked], axis=0)
        return float(means[-1] - means[0] if len(means) == 2 else means[0])

    found = []
    for _ in range(SAMPLES):
        drawn = [seeds[number] for number in rng.integers(len(seeds), size=len(seeds))]
        found.append(told([documents[rng.integers(len(documents), size=len(documents))] for documents in drawn]))
    low, high = np.percentile(found, [2.5, 97.5])
    form = f"{signed}.{digits}f"
    return f"{told(seeds) * scale:{form}} ({low * scale:{form}} to {high * scale:{form}})"


def columns_of(results: list[Json], part: str, names: list[str], read: Any) -> list[np.ndarray]:
    """A number of variants by seed: (sum, count) of each document and variant; where it is None it does not count."""
    seeds = []
    for one in results:
        sums = {found["run"]: np.zeros((len(names), 2)) for found in one[part][names[0]]}
        for number, name in enumerate(names):
            for found in one[part][name]:
                value = read(found)
                if value is not None:
                    sums[found["run"]][number] += (float(value), 1)
        seeds.append(np.array(list(sums.values())).reshape(-1, len(names), 2))
    return seeds


DOCUMENTS = (
    ("documents right, %", lambda one: one["success"], 100, 1),
    ("semantics, 0-10", lambda one: one["semantics"], 1, 2),
    ("quality, 0-10", lambda one: one["quality"], 1, 2),
    ("drawings a document", lambda one: one["calls"], 1, 2),
)
STEPS = (
    ("verdicts right, %", lambda one: one["accepted"] == one["truth"], 100, 1),
    ("false accepts, % of failed", lambda one: None if one["truth"] else one["accepted"] is True, 100, 1),
    ("false rejects, % of right", lambda one: one["accepted"] is not True if one["truth"] else None, 100, 1),
    ("right after its prompt, %", lambda one: one.get("redrawn"), 100, 1),
    ("step score 0.75 S + 0.25 Q", lambda one: None if one["truth"] else 0.75 * one["S"] + 0.25 * one["Q"], 1, 3),
)


def table(results: list[Json]) -> str:
    """Both tables in Markdown."""
    lines = [f"{len(results)} seed(s); mean (95 % interval, bootstrap over seeds and documents)", ""]
    for part, columns in (("documents", DOCUMENTS), ("steps", STEPS)):
        names = [name for name in VARIANTS if name in results[0][part]]
        counts = sorted({len(one[part][names[0]]) for one in results})
        count = " to ".join(dict.fromkeys([str(counts[0]), str(counts[-1])]))
        lines += [f"| {count} held-out {part} a seed | " + " | ".join(column[0] for column in columns) + " |"]
        lines += ["|---" * (len(columns) + 1) + "|"]
        for name in names:
            cells = [
                interval(columns_of(results, part, [name], read), scale, digits) for _, read, scale, digits in columns
            ]
            lines += [f"| {VARIANTS[name]} | " + " | ".join(cells) + " |"]
        gains = [
            interval(columns_of(results, part, ["sft", "grpo"], read), scale, digits, "+")
            for _, read, scale, digits in columns
        ]
        lines += ["| GRPO against SFT, on the same " + part + " | " + " | ".join(gains) + " |", ""]
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = options.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("--runs", required=True)
    measuring.add_argument("--pool", required=True)
    measuring.add_argument("--critics", nargs="+", required=True)
    measuring.add_argument("--out", type=Path, required=True)
    printing = commands.add_parser("print")
    printing.add_argument("results", nargs="+", type=Path)
    printing.add_argument("--out", type=Path, required=True)
    told = options.parse_args()
    if told.command == "measure":
        asyncio.run(measure(told))
        return
    text = table([json.loads(path.read_text()) for path in told.results])
    told.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
