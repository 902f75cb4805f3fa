"""`interleaver eval`: benchmarks."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interleaver.cli.common import UNFINISHED, clear_errors, json_option, profile_option
from interleaver.errors import BackendError, BadInput
from interleaver.terminal import plural

if TYPE_CHECKING:
    from interleaver.config import Profile
    from interleaver.evals.benchmarks.base import Benchmark
    from interleaver.evals.data import Data, Part
    from interleaver.evals.evaluation import Estimate, Evaluation
    from interleaver.evals.judging import Said
    from interleaver.evals.systems import FileSystem, Outputs

WHOLE = "1/1"
MANY = 2_000
"""Calls at unknown prices that are asked for."""
SHOWN = 10
"""How many problems are told at the end; `results.json`, or `missing.json`, has them all."""

NAMES = {
    "wise-verified": "WISE in its current protocol: one bit a picture.",
    "wise-legacy": "WISE in its first protocol: three marks a picture.",
    "ueval": "UEval: answers of text and pictures, judged by rubrics.",
    "risebench": "RISEBench: edits that take reasoning.",
    "comm-task1": "CoMM: texts to a sequence of pictures.",
    "comm-task2": "CoMM: pictures to a sequence of texts.",
    "comm-task3": "CoMM: the rest of a document of text and pictures.",
    "comm-task4": "CoMM: a document of text and pictures from its title.",
}
"""The benchmarks that `interleaver.evals.benchmarks` has, and what their help says."""


@click.group("eval")
def evaluate() -> None:
    """Benchmarks, comparable to their published tables.

    \b
    interleaver eval wise-verified --profile models.toml --limit 50
    interleaver eval ueval --outputs mine=outputs.json
    """


def _command(name: str, title: str) -> click.Command:
    @click.option(
        "--data", metavar="ID|PATH", help="A dataset on the hub, a folder or a file [default: the published one]."
    )
    @profile_option
    @click.option(
        "--system",
        "systems",
        multiple=True,
        type=click.Choice(["graph", "generator"]),
        help="What is measured; several [default: both, unless --outputs].",
    )
    @click.option(
        "--outputs",
        "others",
        multiple=True,
        metavar="NAME=PATH",
        help="Outputs made elsewhere, in the benchmark's own format; several.",
    )
    @click.option(
        "--judge",
        "judges",
        multiple=True,
        metavar="MODEL[@URL]|FILE",
        help="A model, or the [judge] of a profile; several [default: the benchmark's own].",
    )
    @click.option(
        "--judge-prompts",
        type=click.Path(path_type=Path, exists=True),
        help="The benchmark's own script, or a folder of prompts [default: this package's words].",
    )
    @click.option("--only", multiple=True, metavar="NAME", help="A category or task; several.")
    @click.option("--limit", type=click.IntRange(1), help="The first items only.")
    @click.option(
        "--shard", metavar="K/N", default=WHOLE, help="One of N equal parts; then once more without, for the table."
    )
    @click.option(
        "--out", type=click.Path(path_type=Path), help=f"Where everything is kept [default: out/eval/{name}]."
    )
    @click.option("--workers", type=click.IntRange(1), default=8, show_default=True, help="Outputs made at a time.")
    @click.option("--allow-partial", is_flag=True, help="Make a table, marked, even when items have no score.")
    @click.option(
        "--ask-above",
        type=click.FloatRange(0),
        default=5.0,
        show_default=True,
        help="Ask before judging is likely to cost more than this.",
    )
    @click.option("--yes", is_flag=True, help="Do not ask.")
    @click.option("--export", is_flag=True, help="Also write the outputs in the benchmark's own format, to OUT/export.")
    @click.option("--langsmith", is_flag=True, help="Also send items, outputs and scores to LangSmith.")
    @json_option
    @clear_errors
    def command(**options: Any) -> None:
        if not asyncio.run(_evaluate(name, Options(**options))):
            sys.exit(UNFINISHED)

    return click.command(name, help=f"{title}\n\n\b\ninterleaver eval {name} --profile models.toml --limit 50")(command)


@evaluate.command()
@profile_option
@click.option("--cases", type=click.IntRange(9), default=300, show_default=True, help="How many requests.")
@click.option("--seed", type=int, default=2026, show_default=True, help="Of the requests.")
@json_option
@clear_errors
def sandbox(profile: str | None, cases: int, seed: int, as_json: bool) -> None:
    """Requests with known answers and exact scores; needs no models.

    The pipeline, and the same requests with one call a step and no critic.

    \b
    interleaver eval sandbox
    interleaver eval sandbox --json
    """
    from tqdm import tqdm

    from interleaver.config import load_profile
    from interleaver.evals.bench import compare, markdown

    with tqdm(total=2 * cases, unit="document", disable=as_json, dynamic_ncols=True) as bar:
        found = asyncio.run(compare(load_profile(profile), cases, seed, lambda made: bar.update()))
    click.echo(json.dumps(found, ensure_ascii=False) if as_json else markdown(found))


@evaluate.command()
@profile_option
@click.option(
    "--critic",
    "critics",
    multiple=True,
    metavar="NAME=FILE",
    help="Also the critic of another profile, for instance after SFT and after GRPO; several.",
)
@click.option(
    "--generator",
    "generators",
    multiple=True,
    metavar="NAME=FILE",
    help="Also the generator of another profile; several.",
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(["planner", "critic", "generator", "attempts", "references", "on_exhausted"]),
    help="What is changed; several [default: all of it].",
)
@click.option("--cases", type=click.IntRange(9), default=108, show_default=True, help="How many requests.")
@click.option("--seed", type=int, default=2026, show_default=True, help="Of the requests.")
@click.option(
    "--world",
    type=click.Choice(["full", "miniature"]),
    default="full",
    show_default=True,
    help="How much of the sandbox world the requests use.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("out/eval/ablations"),
    show_default=True,
    help="Where the table and the plot are written.",
)
@json_option
@clear_errors
def ablations(
    profile: str | None,
    critics: Sequence[str],
    generators: Sequence[str],
    only: Sequence[str],
    cases: int,
    seed: int,
    world: str,
    out: Path,
    as_json: bool,
) -> None:
    """What each part of a pipeline is worth: the sandbox bench with one thing changed at a time.

    \b
    interleaver eval ablations
    interleaver eval ablations --world miniature --profile sft.toml --critic grpo=grpo.toml
    """
    from tqdm import tqdm

    from interleaver.config import load_profile
    from interleaver.evals.ablations import markdown, measure, runs_needed, variants

    named = [_all_named(texts, option) for option, texts in (("--critic", critics), ("--generator", generators))]
    whole, *changed = variants(load_profile(profile), *named)
    chosen = [whole, *(one for one in changed if not only or one.part in only)]
    total = runs_needed(chosen) * cases
    with tqdm(total=total, unit="document", disable=as_json, dynamic_ncols=True) as bar:
        found = asyncio.run(_ablate(measure(chosen, cases, seed, world, lambda made: bar.update()), out))
    click.echo(json.dumps(found) if as_json else markdown(found))
    click.echo(f"Look at {out / 'ablations.html'}", err=True)


async def _ablate(measured: AsyncIterator[dict[str, Any]], out: Path) -> dict[str, Any]:
    """Write what is known after each variant, and give all of it in the end."""
    from interleaver.evals.ablations import write

    found: dict[str, Any] = {}
    async for found in measured:
        await asyncio.to_thread(write, found, out)
    return found


def _all_named(texts: Sequence[str], option: str) -> dict[str, str]:
    pairs = [_named(text, option) for text in texts]
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"{option} has the name {name!r} twice; names must differ")
    return dict(pairs)


def _named(text: str, option: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    if not name or not path:
        raise BadInput(f"{option} is {text!r}; give a name and a path, such as mine=path")
    return name, path


for _name, _title in NAMES.items():
    evaluate.add_command(_command(_name, _title))


@dataclass(frozen=True)
class Options:
    """The options of a benchmark's command."""

    data: str | None
    profile: str | None
    systems: Sequence[str]
    others: Sequence[str]
    judges: Sequence[str]
    judge_prompts: Path | None
    only: Sequence[str]
    limit: int | None
    shard: str
    out: Path | None
    workers: int
    allow_partial: bool
    ask_above: float
    yes: bool
    export: bool
    langsmith: bool
    as_json: bool


async def _evaluate(name: str, told: Options) -> bool:
    """Run a benchmark; whether its table is whole."""
    from interleaver.config import load_profile
    from interleaver.evals.benchmarks import BENCHMARKS
    from interleaver.evals.data import load
    from interleaver.evals.evaluation import Evaluation
    from interleaver.evals.judging import Asking, Judgements, judge_of
    from interleaver.evals.prompts import Prompts
    from interleaver.evals.report import markdown

    if told.shard != WHOLE and (told.export or told.langsmith):
        raise BadInput("--shard makes a part only; give --export and --langsmith without it, once all parts are done")
    profile = load_profile(told.profile)
    benchmark, folder = BENCHMARKS[name], told.out or Path("out") / "eval" / name
    data = await asyncio.to_thread(load, benchmark, told.data, _part(told), told.allow_partial)
    click.echo(f"{data.source}: {plural(data.count, 'item')}, sha256 {data.sha256[:12]}", err=True)
    for lost in data.lost:
        click.echo(f"left out: {lost}", err=True)
    prompts = Prompts(told.judge_prompts)
    judges = [judge_of(benchmark, one) for one in told.judges or (None,)]
    systems = _systems(benchmark, data, profile, told, folder)
    with closing(Judgements(folder)) as kept:
        asking = [Asking(one, benchmark, prompts, kept) for one in judges]
        evaluation = Evaluation(benchmark, data, systems, asking, profile.models())
        left = await asyncio.to_thread(evaluation.estimate, told.workers)
        _ask(evaluation, left, told)
        await _work(evaluation, left, told)
    if told.shard != WHOLE:
        return _part_done(evaluation)
    found = await _report(evaluation, told, folder)
    click.echo(json.dumps(found, ensure_ascii=False) if told.as_json else markdown(found))
    click.echo(f"Look at {folder / 'report.html'}", err=True)
    return not any(one["partial"] for one in found["systems"])


def _part_done(evaluation: Evaluation) -> bool:
    """Tell whether every item of a part has been judged."""
    open_ = sum(len(evaluation.data.items) - len(judged.said) for judged in evaluation.judged.values())
    said = (
        "is done" if not open_ else f"has {plural(open_, 'item')} without a score; the same command goes on with them"
    )
    click.echo(f"This part {said}. Without --shard, the same command makes the table.", err=True)
    return not open_


async def _report(evaluation: Evaluation, told: Options, folder: Path) -> dict[str, Any]:
    """Write the table and all else that was asked for."""
    from interleaver.evals.report import refused, results, write

    try:
        found = results(evaluation, told.allow_partial, str(told.judge_prompts or "this package's own words"))
    except BadInput as error:
        refused(evaluation, folder)
        raise BackendError(f"{error}; {folder / 'missing.json'} says why") from None
    await write(evaluation, found, folder)
    if told.export:
        await asyncio.to_thread(_export, evaluation, folder / "export")
    if told.langsmith:
        from interleaver.evals.langsmith import upload

        for experiment in await asyncio.to_thread(upload, evaluation, found):
            click.echo(f"LangSmith has the experiment {experiment}", err=True)
    return found


def _part(told: Options) -> Part:
    from interleaver.evals.data import Part

    numbers = re.fullmatch(r"(\d+)/(\d+)", told.shard)
    if not numbers or not 1 <= int(numbers[1]) <= int(numbers[2]):
        raise BadInput(f"--shard is {told.shard!r}; give for example 2/8, the second of eight parts")
    return Part(told.only, told.limit, int(numbers[1]), int(numbers[2]))


def _systems(
    benchmark: Benchmark, data: Data, profile: Profile, told: Options, folder: Path
) -> list[Outputs | FileSystem]:
    from interleaver.config import find_profile
    from interleaver.evals.systems import FileSystem, GeneratorSystem, GraphSystem, Outputs, System

    found: list[Outputs | FileSystem] = []
    for name in told.systems or (() if told.others else ("graph", "generator")):
        where = folder / "systems" / name
        if name == "graph":
            system: System = GraphSystem(profile, find_profile(told.profile), where)
        else:
            system = GeneratorSystem(profile, where)
        found.append(Outputs(system, profile, data.sha256, benchmark.needs_picture))
    for text in told.others:
        name, path = _named(text, "--outputs")
        if name in ("graph", "generator"):
            raise BadInput(f"--outputs is {text!r}; {name} is the name of our own system, choose another")
        found.append(FileSystem(name, Path(path).expanduser(), benchmark, data.items))
    return found


def _ask(evaluation: Evaluation, left: Estimate, told: Options) -> None:
    """Tell what is left to do, and ask if it is likely to be dear."""
    judges = ", ".join(evaluation.asking)
    cost = f"about {left.cost:.2f}" + (f", and unknown for {', '.join(left.unpriced)}" if left.unpriced else "")
    click.echo(
        f"{plural(len(evaluation.data.items), 'item')} asked for: {plural(left.outputs, 'output')} to make, "
        f"about {plural(left.calls, 'call')} of {judges}: about {left.seconds / 60:.0f} min, cost {cost}",
        err=True,
    )
    dear = left.cost > told.ask_above or (left.unpriced and left.calls > MANY)
    if dear and not told.yes:
        click.confirm("Go on?", abort=True, err=True)


async def _work(evaluation: Evaluation, left: Estimate, told: Options) -> None:
    """Make and judge, with progress."""
    from tqdm import tqdm

    problems: list[str] = []
    with tqdm(total=left.outputs, unit="output", disable=told.as_json or not left.outputs, dynamic_ncols=True) as bar:
        async for system, output in evaluation.make(told.workers):
            bar.update()
            if output.problem:
                problems.append(f"{system}, item {output.id}: {output.problem}")
                bar.set_postfix_str(f"{len(problems)} failed")
    total = evaluation.questions()
    with tqdm(total=total, unit="judgement", disable=told.as_json, dynamic_ncols=True) as bar:

        def progress(system: str, item: str, said: Said) -> None:
            bar.update()
            if said.problem:
                problems.append(f"{system}, item {item}, judge: {said.problem}")

        await evaluation.judge(progress)
    for problem in problems[:SHOWN]:
        click.echo(click.style(problem, fg="red"), err=True)
    if len(problems) > SHOWN:
        click.echo(f"... and {len(problems) - SHOWN} more", err=True)


def _export(evaluation: Evaluation, folder: Path) -> None:
    """Write the outputs anew, in the benchmark's own format."""
    for name in evaluation.systems:
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
        outputs, items = evaluation.outputs(name), evaluation.data.items
        evaluation.benchmark.write_outputs(folder / name, items, outputs, evaluation.folder(name))
