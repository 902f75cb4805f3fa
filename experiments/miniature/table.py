"""Evaluate the planner and the critics on held-out requests and steps.

python table.py measure --runs held-out --pool exact --critics sft grpo rules exact --out results.json
python table.py print seed-0/results.json seed-1/results.json seed-2/results.json --out table.md
"""

import argparse
import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from interleaver.pictures import white_canvas
from interleaver.profile import load_profile
from interleaver.runner import make_backend, open_run_store
from interleaver.sandbox.judge import score_step
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
"""Seeds for drawing the critics' refined prompts; GRPO draws with other seeds."""
SAMPLES = 4000
"""Number of bootstrap samples per confidence interval."""
Json = dict[str, Any]


async def goal_of(request: str) -> tuple[str, int]:
    """Return what the last picture should show, in the drawing language, and the number of steps."""
    plan = await SandboxPlanner(level="miniature").plan(request, [])
    operations = [op for step in plan.steps for op in parse(step.instruction or "").operations]
    return describe(Instructions(tuple(operations))), len(plan.steps)


async def documents(profile: str, out: str) -> list[Json]:
    """Return the results of a variant, one per run, scored against the request."""
    runs = open_run_store(load_profile(profile), out)
    rows = []
    for run_id in runs.run_ids():
        trace = runs.trace(run_id)
        if not isinstance(trace, Trace):  # the run failed, for example because its plan could not be parsed
            rows.append({"run": run_id, "success": False, "semantics": 0.0, "quality": 0.0, "calls": 0})
            continue
        goal, steps = await goal_of(trace.request)
        images = [result.image for result in trace.results if result and result.image]
        scores = score_step(goal, None, scene_behind(await runs.images.get(images[-1]))) if images else None
        rows.append(
            {
                "run": run_id,
                "success": bool(scores and scores.success and len(trace.plan.steps) == steps),
                "semantics": scores.semantics if scores else 0.0,
                "quality": scores.quality if scores else 0.0,
                "calls": sum(attempt.image is not None for attempt in trace.attempts),
            }
        )
    return rows


async def steps(critic: str, profile: str, out: str) -> list[Json]:
    """Return the results of a critic, one per attempt in the pool: its verdict, and the scores of drawings from it.

    Args:
        critic: name of the labels that hold the critic's verdicts.
        profile: profile that the pool was drawn with.
        out: run store of the pool.
    """
    loaded_profile = load_profile(profile)
    runs = open_run_store(loaded_profile, out)
    scorer = Scorer(make_backend(loaded_profile, "generator"), make_backend(loaded_profile, "judge"))

    async def measure_attempt(trace: Trace, attempt: Any, label: Any) -> Json:
        step = trace.step_of(attempt)
        after = await runs.images.get(attempt.image)
        before = (
            await runs.images.get(attempt.sources[-1]) if attempt.sources else white_canvas(after.width, after.height)
        )
        truth = score_step(step.goal, scene_behind(before), scene_behind(after))
        verdict = label.verdicts[0] if label and label.verdicts else None
        row = {"run": trace.run_id, "truth": truth.success, "accepted": verdict.accepted if verdict else None}
        if not truth.success:
            work = Redraw(
                before=before,
                blank=not attempt.sources,
                instruction=step.goal,
                origin_prompt=step.prompt,
                prompt=(verdict.refined_prompt if verdict else "") or attempt.prompt,
                size=(after.width, after.height),
            )
            redrawn_scores = [await scorer.redraw(replace(work, seed=seed)) for seed in SEEDS]
            row["redrawn"] = float(np.mean([bool(scores and scores.success) for scores in redrawn_scores]))
            row["S"] = float(
                np.mean([improvement(truth.semantics, scores and scores.semantics) for scores in redrawn_scores])
            )
            row["Q"] = float(
                np.mean([improvement(truth.quality, scores and scores.quality) for scores in redrawn_scores])
            )
        return row

    calls = []
    for run_id in runs.run_ids():
        trace, labels = runs.trace(run_id), read_labels(runs, run_id, critic)
        if not isinstance(trace, Trace):
            continue
        for attempt in trace.attempts:
            if attempt.image is not None:
                label = labels.of(attempt.step, attempt.attempt, attempt.image.sha256) if labels else None
                calls.append(measure_attempt(trace, attempt, label))
    return list(await asyncio.gather(*calls))


async def measure(options: argparse.Namespace) -> None:
    results: Json = {"documents": {}, "steps": {}}
    for name in VARIANTS:
        if (Path(options.runs) / name).exists():
            results["documents"][name] = await documents(f"profiles/{name}.toml", f"{options.runs}/{name}")
    for critic in options.critics:
        results["steps"][critic] = await steps(
            critic, f"profiles/{options.pool}.toml", f"{options.runs}/{options.pool}"
        )
    options.out.write_text(json.dumps(results))


def mean(documents: np.ndarray) -> np.ndarray:
    """Return the mean of each column from (sum, count) pairs per document: (documents, columns, 2) to (columns,)."""
    totals = documents.sum(axis=0)
    return totals[:, 0] / totals[:, 1]


def interval(seeds: list[np.ndarray], scale: float, digits: int, signed: str = "") -> str:
    """Return the mean with its 95 % bootstrap confidence interval, as text.

    Seeds are resampled with replacement, then the documents of each seed, each document with all of its values. If
    there are two columns, the statistic is the mean of the second minus that of the first, on the same documents.

    Args:
        seeds: (sum, count) pairs of each seed, of shape (documents, columns, 2).
        scale: factor for the output, such as 100 for percentages.
        digits: decimal places of the output.
        signed: "+" to show the sign of positive numbers.
    """
    seeds = [counted for documents in seeds if len(counted := documents[(documents[..., 1] > 0).all(axis=1)])]
    if not seeds:
        return "-"
    rng = np.random.default_rng(0)

    def statistic(sample: list[np.ndarray]) -> float:
        means = np.mean([mean(documents) for documents in sample], axis=0)
        return float(means[-1] - means[0] if len(means) == 2 else means[0])

    statistics = []
    for _ in range(SAMPLES):
        drawn_seeds = [seeds[number] for number in rng.integers(len(seeds), size=len(seeds))]
        statistics.append(
            statistic([documents[rng.integers(len(documents), size=len(documents))] for documents in drawn_seeds])
        )
    low, high = np.percentile(statistics, [2.5, 97.5])
    number_format = f"{signed}.{digits}f"
    return (
        f"{statistic(seeds) * scale:{number_format}} ({low * scale:{number_format}} to {high * scale:{number_format}})"
    )


def columns_of(results: list[Json], part: str, names: list[str], read: Any) -> list[np.ndarray]:
    """Return the (sum, count) of a value for each document and variant, as one array per seed; None is not counted."""
    seeds = []
    for seed_results in results:
        sums = {row["run"]: np.zeros((len(names), 2)) for row in seed_results[part][names[0]]}
        for number, name in enumerate(names):
            for row in seed_results[part][name]:
                value = read(row)
                if value is not None:
                    sums[row["run"]][number] += (float(value), 1)
        seeds.append(np.array(list(sums.values())).reshape(-1, len(names), 2))
    return seeds


DOCUMENTS = (
    ("documents right, %", lambda row: row["success"], 100, 1),
    ("semantics, 0-10", lambda row: row["semantics"], 1, 2),
    ("quality, 0-10", lambda row: row["quality"], 1, 2),
    ("drawings a document", lambda row: row["calls"], 1, 2),
)
STEPS = (
    ("verdicts right, %", lambda row: row["accepted"] == row["truth"], 100, 1),
    ("false accepts, % of failed", lambda row: None if row["truth"] else row["accepted"] is True, 100, 1),
    ("false rejects, % of right", lambda row: row["accepted"] is not True if row["truth"] else None, 100, 1),
    ("right after its prompt, %", lambda row: row.get("redrawn"), 100, 1),
    ("step score 0.75 S + 0.25 Q", lambda row: None if row["truth"] else 0.75 * row["S"] + 0.25 * row["Q"], 1, 3),
)


def table(results: list[Json]) -> str:
    """Return both tables in Markdown."""
    lines = [f"{len(results)} seed(s); mean (95 % interval, bootstrap over seeds and documents)", ""]
    for part, columns in (("documents", DOCUMENTS), ("steps", STEPS)):
        names = [name for name in VARIANTS if name in results[0][part]]
        counts = sorted({len(seed_results[part][names[0]]) for seed_results in results})
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("--runs", required=True)
    measuring.add_argument("--pool", required=True)
    measuring.add_argument("--critics", nargs="+", required=True)
    measuring.add_argument("--out", type=Path, required=True)
    printing = commands.add_parser("print")
    printing.add_argument("results", nargs="+", type=Path)
    printing.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.command == "measure":
        asyncio.run(measure(options))
        return
    text = table([json.loads(path.read_text()) for path in options.results])
    options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
