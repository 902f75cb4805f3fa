"""`interleaver eval`: run benchmarks and ablations."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from interleaver.choices import BENCHMARK_HELP, AblationPart, SandboxLevel, SystemName
from interleaver.cli.common import EXIT_UNFINISHED, json_option, one_line_errors, profile_option
from interleaver.cli.terminal import plural
from interleaver.errors import BackendError, BadInput

if TYPE_CHECKING:
    from interleaver.evals.ablations import Ablations
    from interleaver.evals.benchmarks.base import Benchmark
    from interleaver.evals.data import BenchmarkData, Subset
    from interleaver.evals.evaluation import Estimate, Evaluation
    from interleaver.evals.judge_client import JudgeAnswer
    from interleaver.evals.results import EvaluationResults
    from interleaver.evals.systems import ImportedOutputs, Outputs
    from interleaver.profile import Profile

ALL_SHARDS = "1/1"
MANY_CALLS = 2_000
"""Number of judge calls at unknown prices above which a confirmation is asked for."""
MAX_PROBLEMS_PRINTED = 10
"""Number of problems printed at the end; `results.json` or `missing.json` lists all of them."""


@click.group("eval")
def evaluate() -> None:
    """Run benchmarks, with scores comparable to the published tables.

    \b
    interleaver eval wise-verified --profile models.toml --limit 50
    interleaver eval ueval --outputs mine=outputs.json
    """


def _command(name: str, title: str) -> click.Command:
    @click.option(
        "--data", metavar="ID|PATH", help="Data: a hub dataset, a folder or a file [default: the published dataset]."
    )
    @profile_option
    @click.option(
        "--system",
        "systems",
        multiple=True,
        type=click.Choice(get_args(SystemName)),
        help="System to evaluate; can be repeated [default: both, or none with --outputs].",
    )
    @click.option(
        "--outputs",
        "other_systems",
        multiple=True,
        metavar="NAME=PATH",
        help="Name and path of existing outputs in the benchmark's own format; can be repeated.",
    )
    @click.option(
        "--judge",
        "judges",
        multiple=True,
        metavar="MODEL[@URL]|FILE",
        help="Judge: a model, or a profile with a [judge] section; can be repeated [default: the benchmark's own].",
    )
    @click.option(
        "--judge-prompts",
        type=click.Path(path_type=Path, exists=True),
        help="Judge prompts: the benchmark's own script, or a folder of prompts [default: this package's prompts].",
    )
    @click.option("--only", multiple=True, metavar="NAME", help="Category or task to evaluate; can be repeated.")
    @click.option("--limit", type=click.IntRange(1), help="Evaluate only this many items, from the start.")
    @click.option(
        "--shard",
        metavar="K/N",
        default=ALL_SHARDS,
        help="Evaluate only part K of N equal parts; after all parts, run again without --shard to get the table.",
    )
    @click.option(
        "--out",
        type=click.Path(path_type=Path),
        help=f"Folder for outputs, judge answers and reports [default: out/eval/{name}].",
    )
    @click.option(
        "--workers",
        type=click.IntRange(1),
        default=8,
        show_default=True,
        help="Number of outputs to make concurrently.",
    )
    @click.option("--allow-partial", is_flag=True, help="Make a table even if items have no score; it is marked.")
    @click.option(
        "--ask-above",
        type=click.FloatRange(0),
        default=5.0,
        show_default=True,
        help="Ask for confirmation if the estimated cost is higher than this.",
    )
    @click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
    @click.option("--export", is_flag=True, help="Also write the outputs in the benchmark's own format, to OUT/export.")
    @click.option("--langsmith", is_flag=True, help="Also upload items, outputs and scores to LangSmith.")
    @json_option
    @one_line_errors
    def command(**options: Any) -> None:
        if not asyncio.run(_evaluate(name, Options(**options))):
            sys.exit(EXIT_UNFINISHED)

    return click.command(name, help=f"{title}\n\n\b\ninterleaver eval {name} --profile models.toml --limit 50")(command)


@evaluate.command()
@profile_option
@click.option("--cases", type=click.IntRange(9), default=300, show_default=True, help="Number of requests.")
@click.option("--seed", type=int, default=2026, show_default=True, help="Seed of the requests.")
@json_option
@one_line_errors
def sandbox(profile: str | None, cases: int, seed: int, as_json: bool) -> None:
    """Evaluate the pipeline in the sandbox: known answers, exact scores, no models needed.

    The full pipeline is compared with one generator call per step and no critic, on the same requests.

    \b
    interleaver eval sandbox
    interleaver eval sandbox --json
    """
    from tqdm import tqdm

    from interleaver.evals.sandbox_bench import compare_with_generator, markdown
    from interleaver.profile import load_profile

    with tqdm(total=2 * cases, unit="document", disable=as_json, dynamic_ncols=True) as bar:
        comparison = asyncio.run(
            compare_with_generator(load_profile(profile), cases, seed, lambda result: bar.update())
        )
    click.echo(comparison.model_dump_json() if as_json else markdown(comparison))


@evaluate.command()
@profile_option
@click.option(
    "--critic",
    "critics",
    multiple=True,
    metavar="NAME=FILE",
    help="Also evaluate the critic of another profile, for example after SFT or after GRPO; can be repeated.",
)
@click.option(
    "--generator",
    "generators",
    multiple=True,
    metavar="NAME=FILE",
    help="Also evaluate the generator of another profile; can be repeated.",
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(get_args(AblationPart)),
    help="Part of the pipeline to vary; can be repeated [default: all parts].",
)
@click.option("--cases", type=click.IntRange(9), default=108, show_default=True, help="Number of requests.")
@click.option("--seed", type=int, default=2026, show_default=True, help="Seed of the requests.")
@click.option(
    "--world",
    type=click.Choice(get_args(SandboxLevel)),
    default="full",
    show_default=True,
    help="How much of the sandbox world the requests use.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("out/eval/ablations"),
    show_default=True,
    help="Folder for the table and the plot.",
)
@json_option
@one_line_errors
def ablations(**options: Any) -> None:
    """Measure what each part of a pipeline contributes, by varying one part at a time in the sandbox benchmark.

    \b
    interleaver eval ablations
    interleaver eval ablations --world miniature --profile sft.toml --critic grpo=grpo.toml
    """
    _measure_ablations(AblationOptions(**options))


@dataclass(frozen=True)
class AblationOptions:
    """The options of `eval ablations`."""

    profile: str | None
    critics: Sequence[str]
    generators: Sequence[str]
    only: Sequence[AblationPart]
    cases: int
    seed: int
    world: SandboxLevel
    out: Path
    as_json: bool


def _measure_ablations(options: AblationOptions) -> None:
    from tqdm import tqdm

    from interleaver.evals.ablations import markdown, measure, runs_needed, variants
    from interleaver.profile import load_profile

    critics = _parse_named_paths(options.critics, "--critic")
    generators = _parse_named_paths(options.generators, "--generator")
    base, *others = variants(load_profile(options.profile), critics, generators)
    chosen = [base, *(variant for variant in others if not options.only or variant.part in options.only)]
    total = runs_needed(chosen) * options.cases
    with tqdm(total=total, unit="document", disable=options.as_json, dynamic_ncols=True) as bar:
        steps = measure(chosen, options.cases, options.seed, options.world, lambda result: bar.update())
        results = asyncio.run(_ablate(steps, options.out))
    click.echo(results.model_dump_json() if options.as_json else markdown(results))
    click.echo(f"Open {options.out / 'ablations.html'}", err=True)


async def _ablate(results: AsyncGenerator[Ablations], out: Path) -> Ablations:
    """Write the results so far after each variant; return the final results."""
    from interleaver.evals.ablations import write

    async with aclosing(results) as stream:
        async for latest in stream:
            await asyncio.to_thread(write, latest, out)
    return latest


def _parse_named_paths(texts: Sequence[str], option: str) -> dict[str, str]:
    pairs = [_parse_named_path(text, option) for text in texts]
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"{option} is given twice with the name {name!r}; names must differ")
    return dict(pairs)


def _parse_named_path(text: str, option: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    if not name or not path:
        raise BadInput(f"{option} is {text!r}; give a name and a path, such as mine=path")
    return name, path


for _name, _title in BENCHMARK_HELP.items():
    evaluate.add_command(_command(_name, _title))


@dataclass(frozen=True)
class Options:
    """The options of a benchmark's command."""

    data: str | None
    profile: str | None
    systems: Sequence[SystemName]
    other_systems: Sequence[str]
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


async def _evaluate(name: str, options: Options) -> bool:
    """Run a benchmark, or one shard of it; return whether every item has a score."""
    from interleaver.evals.benchmarks import BENCHMARKS
    from interleaver.evals.data import load_data
    from interleaver.evals.evaluation import Evaluation
    from interleaver.evals.judge_client import AnswerCache, JudgeClient, make_judge
    from interleaver.evals.prompts import JudgePrompts
    from interleaver.evals.report import markdown
    from interleaver.profile import load_profile

    if options.shard != ALL_SHARDS and (options.export or options.langsmith):
        raise BadInput(
            "--shard evaluates only one part; give --export and --langsmith without it, after all parts are done"
        )
    profile = load_profile(options.profile)
    benchmark, folder = BENCHMARKS[name], options.out or Path("out") / "eval" / name
    data = await asyncio.to_thread(load_data, benchmark, options.data, _subset(options), options.allow_partial)
    click.echo(f"{data.source}: {plural(data.count, 'item')}, sha256 {data.sha256[:12]}", err=True)
    for reason in data.lost_rows:
        click.echo(f"left out: {reason}", err=True)
    prompts = JudgePrompts(options.judge_prompts)
    judges = [make_judge(benchmark, name) for name in options.judges or (None,)]
    systems = _systems(benchmark, data, profile, options, folder)
    with closing(AnswerCache(folder)) as answers:
        clients = [JudgeClient(judge, benchmark, prompts, answers) for judge in judges]
        evaluation = Evaluation(benchmark, data, systems, clients, profile.models())
        left = await asyncio.to_thread(evaluation.estimate, options.workers)
        _confirm_cost(evaluation, left, options)
        await _make_and_judge(evaluation, left, options)
    if options.shard != ALL_SHARDS:
        return _print_shard_state(evaluation)
    evaluation_results = await _report(evaluation, options, folder)
    click.echo(evaluation_results.model_dump_json() if options.as_json else markdown(evaluation_results))
    click.echo(f"Open {folder / 'report.html'}", err=True)
    return not any(system.partial for system in evaluation_results.systems)


def _print_shard_state(evaluation: Evaluation) -> bool:
    """Print the state of a shard; return whether all of its items have a score."""
    open_count = sum(
        len(evaluation.data.items) - len(answers.answers) for answers in evaluation.judged_outputs.values()
    )
    state = (
        "is done"
        if not open_count
        else f"has {plural(open_count, 'item')} without a score; run the same command again to continue"
    )
    click.echo(f"This part {state}. After all parts, run the command without --shard to get the table.", err=True)
    return not open_count


async def _report(evaluation: Evaluation, options: Options, folder: Path) -> EvaluationResults:
    """Build and write the results; export and upload them if the options say so."""
    from interleaver.evals.report import write_missing, write_report
    from interleaver.evals.results import build_results

    try:
        evaluation_results = build_results(
            evaluation, options.allow_partial, str(options.judge_prompts or "this package's own words")
        )
    except BadInput as error:
        write_missing(evaluation, folder)
        raise BackendError(f"{error}; see {folder / 'missing.json'} for the reasons") from None
    await write_report(evaluation, evaluation_results, folder)
    if options.export:
        await asyncio.to_thread(_export, evaluation, folder / "export")
    if options.langsmith:
        from interleaver.evals.langsmith import upload

        for experiment in await asyncio.to_thread(upload, evaluation, evaluation_results):
            click.echo(f"Uploaded the LangSmith experiment {experiment}", err=True)
    return evaluation_results


def _subset(options: Options) -> Subset:
    from interleaver.evals.data import Subset

    numbers = re.fullmatch(r"(\d+)/(\d+)", options.shard)
    if not numbers or not 1 <= int(numbers[1]) <= int(numbers[2]):
        raise BadInput(f"--shard is {options.shard!r}; give for example 2/8, the second of eight parts")
    return Subset(options.only, options.limit, int(numbers[1]), int(numbers[2]))


def _systems(
    benchmark: Benchmark, data: BenchmarkData, profile: Profile, options: Options, folder: Path
) -> list[Outputs | ImportedOutputs]:
    from interleaver.evals.systems import GeneratorSystem, GraphSystem, ImportedOutputs, Outputs, System

    systems: list[Outputs | ImportedOutputs] = []
    own_systems: Sequence[SystemName] = () if options.other_systems else ("graph", "generator")
    for system_name in options.systems or own_systems:
        system_folder = folder / "systems" / system_name
        if system_name == "graph":
            system: System = GraphSystem(profile, system_folder)
        else:
            system = GeneratorSystem(profile, system_folder)
        systems.append(Outputs(system, profile, data.sha256, benchmark.needs_picture))
    for text in options.other_systems:
        name, path = _parse_named_path(text, "--outputs")
        if name in ("graph", "generator"):
            raise BadInput(f"--outputs is {text!r}; {name} is the name of a built-in system, choose another name")
        systems.append(ImportedOutputs(name, Path(path).expanduser(), benchmark, data.items))
    return systems


def _confirm_cost(evaluation: Evaluation, left: Estimate, options: Options) -> None:
    """Print an estimate of the remaining work; ask for confirmation if it is expensive or its cost is unknown."""
    judges = ", ".join(evaluation.clients)
    cost = f"about {left.cost:.2f}" + (
        f", and unknown for {', '.join(left.unpriced_judges)}" if left.unpriced_judges else ""
    )
    click.echo(
        f"{plural(len(evaluation.data.items), 'item')} selected: {plural(left.outputs, 'output')} to make, "
        f"about {plural(left.calls, 'call')} of {judges}: about {left.seconds / 60:.0f} min, cost {cost}",
        err=True,
    )
    is_expensive = left.cost > options.ask_above or (left.unpriced_judges and left.calls > MANY_CALLS)
    if is_expensive and not options.yes:
        click.confirm("Continue?", abort=True, err=True)


async def _make_and_judge(evaluation: Evaluation, left: Estimate, options: Options) -> None:
    """Make and judge the outputs, showing progress bars; print the first problems at the end."""
    from tqdm import tqdm

    problems: list[str] = []
    with tqdm(
        total=left.outputs, unit="output", disable=options.as_json or not left.outputs, dynamic_ncols=True
    ) as bar:
        async with aclosing(evaluation.make(options.workers)) as outputs:
            async for system, output in outputs:
                bar.update()
                if output.problem:
                    problems.append(f"{system}, item {output.id}: {output.problem}")
                    bar.set_postfix_str(f"{len(problems)} failed")
    total = evaluation.questions()
    with tqdm(total=total, unit="judgement", disable=options.as_json, dynamic_ncols=True) as bar:

        def progress(system: str, item: str, answer: JudgeAnswer) -> None:
            bar.update()
            if answer.problem:
                problems.append(f"{system}, item {item}, judge: {answer.problem}")

        await evaluation.score_outputs(progress)
    for problem in problems[:MAX_PROBLEMS_PRINTED]:
        click.echo(click.style(problem, fg="red"), err=True)
    if len(problems) > MAX_PROBLEMS_PRINTED:
        click.echo(f"... and {len(problems) - MAX_PROBLEMS_PRINTED} more", err=True)


def _export(evaluation: Evaluation, folder: Path) -> None:
    """Write the outputs in the benchmark's own format, replacing an earlier export."""
    for name in evaluation.systems:
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
        outputs, items = evaluation.outputs(name), evaluation.data.items
        evaluation.benchmark.write_outputs(folder / name, items, outputs, evaluation.folder(name))
