"""`interleaver prompts ...`: make prompt lists for `interleaver batch`."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, TextIO

import click

from interleaver.cli.common import EXIT_UNFINISHED, one_line_errors, profile_option

if TYPE_CHECKING:
    from interleaver.batch.prompt_list import PromptRow
    from interleaver.batch.prompts import Sampler


@click.group()
def prompts() -> None:
    """Make lists of requests for `interleaver batch`."""


@prompts.command()
@click.option("--count", type=click.IntRange(1), default=1000, show_default=True, help="Number of requests.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Output file [default: standard output].")
@click.option(
    "--taxonomy",
    default="general",
    show_default=True,
    metavar="NAME|FILE",
    help='Taxonomy to sample from: "general", "sandbox" (only what the sandbox can draw), "miniature" (shapes on a '
    "grid), or a file.",
)
@click.option(
    "--language",
    "languages",
    multiple=True,
    metavar="CODE",
    help="Language of the requests; can be repeated [default: en].",
)
@click.option(
    "--category",
    "categories",
    multiple=True,
    metavar="NAME",
    help="Category to sample from; can be repeated [default: all].",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the sampling.")
@click.option(
    "--similarity",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="Similarity from which on two requests count as duplicates.",
)
@click.option("--seeds", is_flag=True, help="Give each request its own run seed, so that no two runs share pictures.")
@click.option("--model", is_flag=True, help="Let the profile's chat planner write the requests instead of templates.")
@profile_option
@one_line_errors
def sample(
    count: int,
    out: Path | None,
    taxonomy: str,
    languages: tuple[str, ...],
    categories: tuple[str, ...],
    seed: int,
    similarity: float,
    seeds: bool,
    model: bool,
    profile: str | None,
) -> None:
    """Sample a diverse list of requests from a taxonomy, each tagged with its category.

    \b
    interleaver prompts sample --count 2000 --language en --language de --out prompts.jsonl
    interleaver prompts sample --taxonomy sandbox --count 200 --out prompts.jsonl
    interleaver prompts sample --model --profile openai --out prompts.jsonl
    """  # fmt: skip
    from interleaver.batch.prompts import Sampler, load_taxonomy

    sampler = Sampler(load_taxonomy(taxonomy), languages or ("en",), categories, seed, similarity)
    counts: Counter[tuple[str, str]] = Counter()
    with _open_output(out, counts) as file:
        asyncio.run(_write_requests(sampler, count, profile, model, file, counts, Random(seed) if seeds else None))
    summary = (
        f"{counts.total():,} requests in {len({name for name, _ in counts})} categories, {len(counts)} sub-categories"
    )
    click.echo(summary + (f", written to {out}" if out else ""), err=True)
    if counts.total() < count:
        click.echo("No more requests that differ enough; add topics to the taxonomy or raise --similarity.", err=True)
        sys.exit(EXIT_UNFINISHED)


@contextmanager
def _open_output(out: Path | None, counts: Counter[tuple[str, str]]) -> Iterator[TextIO]:
    """Open the output; a file is written as a partial, and published only if it contains any request."""
    if out is None:
        yield sys.stdout
        return
    partial = out.with_name(f".{out.name}.part")
    try:
        with partial.open("w", encoding="utf-8") as file:
            yield file
    finally:
        if counts:
            partial.replace(out)
        partial.unlink(missing_ok=True)


async def _write_requests(
    sampler: Sampler,
    count: int,
    profile: str | None,
    model: bool,
    file: TextIO,
    counts: Counter[tuple[str, str]],
    seeds: Random | None,
) -> None:
    """Write each request as soon as it is sampled, so that none is lost if a model call fails."""
    from tqdm import tqdm

    from interleaver.profile import load_profile

    async def rows() -> AsyncGenerator[PromptRow]:
        if model:
            async with aclosing(sampler.by_model(count, load_profile(profile).planner)) as rows:
                async for row in rows:
                    yield row
        else:
            for row in sampler.by_templates(count):
                yield row

    with tqdm(total=count, unit="request", dynamic_ncols=True, leave=False) as bar:
        async with aclosing(rows()) as all_rows:
            async for row in all_rows:
                if seeds:
                    row = row.model_copy(update={"seed": seeds.randrange(2**31)})
                file.write(row.model_dump_json(exclude_defaults=True) + "\n")
                counts[row.tags["category"], row.tags["subcategory"]] += 1
                bar.update()


@prompts.command()
@click.argument("name", default="general")
@one_line_errors
def taxonomy(name: str) -> None:
    """Print a built-in taxonomy, as a starting point for your own.

    \b
    interleaver prompts taxonomy general > mine.toml
    """
    from interleaver.batch.prompts import load_taxonomy, shipped_taxonomies

    load_taxonomy(name)
    click.echo(shipped_taxonomies().get(name, Path(name)).read_text(encoding="utf-8"), nl=False)
