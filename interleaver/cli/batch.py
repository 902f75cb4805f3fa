"""`interleaver batch`: many documents."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interleaver.cli.common import INTERRUPTED, UNFINISHED, clear_errors, json_option, out_option, profile_option
from interleaver.errors import BadInput

if TYPE_CHECKING:
    from interleaver.batch.items import BadRow, Item
    from interleaver.batch.work import Done

SHOWN = 10
"""How many problems are told at the end; `--json` has them all."""


@click.command()
@click.argument("prompts", type=click.Path(path_type=Path))
@profile_option
@out_option
@click.option("--workers", type=click.IntRange(1), default=8, show_default=True, help="How many runs at a time.")
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, help="Runs a prompt, by seed.")
@click.option("--retry", is_flag=True, help="Also carry on runs that ended partial or failed.")
@click.option("--documents", is_flag=True, help="Write a page to read for each run, beside its trace.")
@click.option("--ray", metavar="ADDRESS", is_flag=False, flag_value="local",
              help="Work on a Ray cluster; without an address, on one that is started here.")  # fmt: skip
@json_option
@clear_errors
def batch(
    prompts: Path,
    profile: str | None,
    out: str | None,
    workers: int,
    repeat: int,
    retry: bool,
    documents: bool,
    ray: str | None,
    as_json: bool,
) -> None:
    """Make a run of each row of PROMPTS.jsonl: {"request": ..., "images": [...], "tags": {...}, "seed": ...}.

    What was made is not made again, so the same command carries on after an interruption, and several may work on one
    output at a time.

    \b
    interleaver batch prompts.jsonl --out runs --workers 16
    interleaver batch prompts.jsonl --out s3://bucket/runs --profile models.toml --ray auto
    """
    from interleaver.batch.items import BadRow, read_items
    from interleaver.config import find_profile, load_profile

    loaded = load_profile(profile)
    if loaded.run.review or loaded.run.on_exhausted == "ask":
        raise BadInput("nobody is there to answer in a batch; set run.review = false and run.on_exhausted otherwise")
    rows = list(read_items(prompts, loaded.run.seed, repeat))
    items, bad = [row for row in rows if not isinstance(row, BadRow)], [row for row in rows if isinstance(row, BadRow)]
    telling = Telling(len({item.key() for item in items}), bad, silent=as_json)
    options = {"profile_path": find_profile(profile), "documents": documents, "retry": retry}

    async def work() -> None:
        async for done in _work(items, loaded, out, workers, ray, options):
            telling.add(done)

    try:
        with redirect_stdout(sys.stderr):  # Ray tells of its dead workers there, and --json must stay clean
            asyncio.run(work())
    except KeyboardInterrupt:
        telling.close()
        again = shlex.join(["interleaver", *sys.argv[1:]])
        click.echo(f"\nInterrupted. What is done is kept; carry on with: {again}", err=True)
        sys.exit(INTERRUPTED)
    telling.close()
    if as_json:
        click.echo(json.dumps(telling.summary(), indent=2))
    else:
        telling.say(out or loaded.store.out)
    sys.exit(0 if telling.all_complete() else UNFINISHED)


async def _work(
    items: list[Item], profile: Any, out: str | None, workers: int, ray: str | None, options: dict[str, Any]
) -> AsyncIterator[Done]:
    """Make the runs, here or on a cluster."""
    from interleaver.batch.work import Worker, make_all
    from interleaver.runner import Runner

    if ray is None:
        runner = Runner(profile, out, options["documents"])
        await asyncio.to_thread(runner.runs.prepare)
        worker = Worker(runner, options["profile_path"], options["retry"])
        async for done in make_all(items, worker.make, workers):
            yield done
        return
    from interleaver.batch.ray import RayWorkers

    cluster = RayWorkers(ray, workers, profile, out, **options)
    try:
        async for done in make_all(items, cluster.make, workers):
            yield done
    finally:
        cluster.close()


class Telling:
    """The progress of a batch, and what came of it."""

    def __init__(self, total: int, bad: list[BadRow], silent: bool):
        from tqdm import tqdm

        self.total = total
        self.bad = bad
        self.failed: list[Done] = []
        self.statuses: Counter[str] = Counter()
        self.sums: Counter[str] = Counter()
        self.cost = 0.0
        self.began = time.monotonic()
        self.bar: tqdm[Any] = tqdm(total=total, unit="run", disable=silent, dynamic_ncols=True, smoothing=0.1)

    def add(self, done: Done) -> None:
        """Take note of an item that is done."""
        self.statuses[done.status] += 1
        self.sums["made_now"] += done.made
        self.sums["made_before"] += done.run_id is not None and not done.made
        for what in ("drawings", "input_tokens", "output_tokens"):
            self.sums[what] += getattr(done, what)
        self.cost += done.cost
        if done.status != "complete":
            self.failed.append(done)
        self.bar.set_postfix_str(self._so_far(), refresh=False)
        self.bar.update()

    def close(self) -> None:
        """End the progress bar."""
        self.bar.close()

    def _so_far(self) -> str:
        minutes = max(time.monotonic() - self.began, 1e-6) / 60
        said = [f"{self.sums['drawings'] / minutes:.0f} pictures/min"]
        if self.failed:
            said.append(f"{len(self.failed)} not complete")
        tokens = self.sums["input_tokens"] + self.sums["output_tokens"]
        if tokens:
            said.append(f"{tokens / 1000:,.0f}k tokens")
        if self.cost:
            said.append(f"cost {self.cost:.2f}")
        return ", ".join(said)

    def all_complete(self) -> bool:
        """Whether every row has its complete run."""
        return not self.bad and self.statuses["complete"] == self.total

    def summary(self) -> dict[str, Any]:
        """What came of it, for a machine."""
        return {
            "runs": self.total,
            "statuses": dict(self.statuses),
            **{what: self.sums[what] for what in ("made_now", "drawings", "input_tokens", "output_tokens")},
            "cost": round(self.cost, 4),
            "seconds": round(time.monotonic() - self.began, 1),
            "problems": self._problems(),
        }

    def _problems(self) -> list[dict[str, Any]]:
        unusable = [{"line": row.line, "status": "refused", "problem": row.problem} for row in self.bad]
        return unusable + [done.model_dump(include={"line", "run_id", "status", "problem"}) for done in self.failed]

    def say(self, out: str) -> None:
        """What came of it, for a person."""
        from interleaver.terminal import plural

        told = self.summary()
        statuses = ", ".join(f"{count} {status}" for status, count in self.statuses.most_common())
        before = self.sums["made_before"]
        click.echo(f"{plural(self.total, 'run')}: {statuses or 'none'}{f' ({before} made before)' if before else ''}.")
        minutes = max(told["seconds"], 0.1) / 60
        if told["made_now"]:
            rates = f"{told['made_now'] / minutes:.1f} runs and {told['drawings'] / minutes:.1f} pictures a minute"
            click.echo(f"{plural(told['drawings'], 'drawing')} in {told['seconds']:.0f} s: {rates}.")
        if told["output_tokens"]:
            cost = f", cost {told['cost']:.2f}" if told["cost"] else ""
            click.echo(f"{told['input_tokens']:,} tokens in, {told['output_tokens']:,} out{cost}.")
        for problem in told["problems"][:SHOWN]:
            what = f"line {problem['line']}, {problem['status']}: {problem['problem']}"
            click.echo(click.style(what, fg="red"), err=True)
        if len(told["problems"]) > SHOWN:
            click.echo(f"... and {len(told['problems']) - SHOWN} more; --json lists them all", err=True)
        click.echo(f"Look at them with: interleaver traces stats {shlex.quote(out)}")
