"""`interleaver batch`: make the runs of a prompt list."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interleaver.cli.common import (
    EXIT_INTERRUPTED,
    EXIT_UNFINISHED,
    apply_retention,
    json_option,
    one_line_errors,
    open_store,
    out_option,
    profile_option,
)
from interleaver.errors import BadInput

if TYPE_CHECKING:
    from interleaver.batch.prompt_list import BatchItem, UnusableRow
    from interleaver.batch.workers import BatchResult

MAX_PROBLEMS_PRINTED = 10
"""Number of problems printed at the end; `--json` lists all of them."""


@click.command()
@click.argument("prompts", type=click.Path(path_type=Path))
@profile_option
@out_option
@click.option("--workers", type=click.IntRange(1), default=8, show_default=True, help="Number of concurrent runs.")
@click.option(
    "--repeat", type=click.IntRange(1), default=1, show_default=True, help="Runs per prompt, with consecutive seeds."
)
@click.option("--retry", is_flag=True, help="Also resume runs that ended as partial or failed.")
@click.option("--documents", is_flag=True, help="Also write each run's document, beside its trace.")
@click.option(
    "--outside-pictures", is_flag=True, help="Also read pictures that PROMPTS names outside of its own folder."
)
@click.option("--ray", metavar="ADDRESS", is_flag=False, flag_value="local",
              help="Run on the Ray cluster at ADDRESS; without ADDRESS, on one started on this machine.")  # fmt: skip
@json_option
@one_line_errors
def batch(
    prompts: Path,
    profile: str | None,
    out: str | None,
    workers: int,
    repeat: int,
    retry: bool,
    documents: bool,
    outside_pictures: bool,
    ray: str | None,
    as_json: bool,
) -> None:
    """Make a run for each row of PROMPTS.jsonl: {"request": ..., "images": [...], "tags": {...}, "seed": ...}.

    Runs that already exist are not made again, so the same command continues after an interruption, and several
    commands may work on one --out concurrently.

    \b
    interleaver batch prompts.jsonl --out runs --workers 16
    interleaver batch prompts.jsonl --out s3://bucket/runs --profile models.toml --ray auto
    """
    from interleaver.batch.prompt_list import UnusableRow, read_items
    from interleaver.profile import load_profile

    loaded_profile = load_profile(profile)
    if loaded_profile.run.review or loaded_profile.run.on_exhausted == "ask":
        raise BadInput(
            "a batch cannot ask for reviews; in the profile, set run.review = false and change run.on_exhausted from "
            '"ask" to another value'
        )
    rows = list(read_items(prompts, loaded_profile.run.seed, repeat, outside_pictures))
    items, unusable_rows = (
        [row for row in rows if not isinstance(row, UnusableRow)],
        [row for row in rows if isinstance(row, UnusableRow)],
    )
    progress = BatchProgress(len({item.key() for item in items}), unusable_rows, silent=as_json)
    options = {"documents": documents, "retry": retry}

    async def work() -> None:
        async with aclosing(_work(items, loaded_profile, out, workers, ray, options)) as results:
            async for result in results:
                progress.add(result)

    try:
        with redirect_stdout(sys.stderr):  # Ray prints dead workers to stdout, which must stay valid JSON with --json
            asyncio.run(work())
    except KeyboardInterrupt:
        progress.close()
        command = shlex.join(["interleaver", *sys.argv[1:]])
        click.echo(f"\nInterrupted. Finished work is kept; continue with: {command}", err=True)
        sys.exit(EXIT_INTERRUPTED)
    progress.close()
    apply_retention(loaded_profile, open_store(profile, out))
    if as_json:
        click.echo(json.dumps(progress.summary(), indent=2))
    else:
        progress.print(out or loaded_profile.store.out)
    sys.exit(0 if progress.all_complete() else EXIT_UNFINISHED)


async def _work(
    items: list[BatchItem], profile: Any, out: str | None, workers: int, ray: str | None, options: dict[str, Any]
) -> AsyncGenerator[BatchResult]:
    """Make the runs in this process or on a Ray cluster; yield each result as it is ready."""
    from interleaver.batch.workers import BatchWorker, make_all_runs
    from interleaver.runner import Runner

    if ray is None:
        runner = Runner(profile, out, options["documents"])
        await asyncio.to_thread(runner.runs.prepare)
        worker = BatchWorker(runner, options["retry"])
        async with aclosing(make_all_runs(items, worker.make, workers)) as results:
            async for result in results:
                yield result
        return
    from interleaver.batch.ray import RayWorkers

    cluster = RayWorkers(ray, workers, profile, out, **options)
    try:
        async with aclosing(make_all_runs(items, cluster.make, workers)) as results:
            async for result in results:
                yield result
    finally:
        cluster.close()


class BatchProgress:
    """Progress bar and final summary of a batch."""

    def __init__(self, total: int, unusable_rows: list[UnusableRow], silent: bool):
        from tqdm import tqdm

        self.total = total
        self.unusable_rows = unusable_rows
        self.incomplete: list[BatchResult] = []
        self.statuses: Counter[str] = Counter()
        self.sums: Counter[str] = Counter()
        self.cost = 0.0
        self.start = time.monotonic()
        self.bar: tqdm[Any] = tqdm(total=total, unit="run", disable=silent, dynamic_ncols=True, smoothing=0.1)

    def add(self, result: BatchResult) -> None:
        """Record the result of an item and advance the progress bar."""
        self.statuses[result.status] += 1
        self.sums["made_now"] += result.worked
        self.sums["made_before"] += result.run_id is not None and not result.worked
        for figure in ("drawings", "input_tokens", "output_tokens"):
            self.sums[figure] += getattr(result, figure)
        self.cost += result.cost
        if result.status != "complete":
            self.incomplete.append(result)
        self.bar.set_postfix_str(self._so_far(), refresh=False)
        self.bar.update()

    def close(self) -> None:
        """Close the progress bar."""
        self.bar.close()

    def _so_far(self) -> str:
        minutes = max(time.monotonic() - self.start, 1e-6) / 60
        figures = [f"{self.sums['drawings'] / minutes:.0f} pictures/min"]
        if self.incomplete:
            figures.append(f"{len(self.incomplete)} incomplete")
        tokens = self.sums["input_tokens"] + self.sums["output_tokens"]
        if tokens:
            figures.append(f"{tokens / 1000:,.0f}k tokens")
        if self.cost:
            figures.append(f"cost {self.cost:.2f}")
        return ", ".join(figures)

    def all_complete(self) -> bool:
        """Return whether every row could be used and its run is complete."""
        return not self.unusable_rows and self.statuses["complete"] == self.total

    def summary(self) -> dict[str, Any]:
        """Return the summary of the batch as JSON data."""
        return {
            "runs": self.total,
            "statuses": dict(self.statuses),
            **{figure: self.sums[figure] for figure in ("made_now", "drawings", "input_tokens", "output_tokens")},
            "cost": round(self.cost, 4),
            "seconds": round(time.monotonic() - self.start, 1),
            "problems": self._problems(),
        }

    def _problems(self) -> list[dict[str, Any]]:
        refused_rows = [{"line": row.line, "status": "refused", "problem": row.problem} for row in self.unusable_rows]
        return refused_rows + [
            result.model_dump(include={"line", "run_id", "status", "problem"}) for result in self.incomplete
        ]

    def print(self, out: str) -> None:
        """Print the summary of the batch."""
        from interleaver.cli.terminal import plural

        summary = self.summary()
        statuses = ", ".join(f"{count} {status}" for status, count in self.statuses.most_common())
        before = self.sums["made_before"]
        click.echo(f"{plural(self.total, 'run')}: {statuses or 'none'}{f' ({before} made earlier)' if before else ''}.")
        minutes = max(summary["seconds"], 0.1) / 60
        if summary["made_now"]:
            rates = (
                f"{summary['made_now'] / minutes:.1f} runs and {summary['drawings'] / minutes:.1f} pictures per minute"
            )
            click.echo(f"{plural(summary['drawings'], 'drawing')} in {summary['seconds']:.0f} s: {rates}.")
        if summary["output_tokens"]:
            cost = f", cost {summary['cost']:.2f}" if summary["cost"] else ""
            click.echo(f"{summary['input_tokens']:,} tokens in, {summary['output_tokens']:,} out{cost}.")
        for problem in summary["problems"][:MAX_PROBLEMS_PRINTED]:
            line = f"line {problem['line']}, {problem['status']}: {problem['problem']}"
            click.echo(click.style(line, fg="red"), err=True)
        if len(summary["problems"]) > MAX_PROBLEMS_PRINTED:
            click.echo(
                f"... and {len(summary['problems']) - MAX_PROBLEMS_PRINTED} more; --json lists them all", err=True
            )
        click.echo(f"Show statistics with: interleaver traces stats {shlex.quote(out)}")
