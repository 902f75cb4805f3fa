"""`interleaver prompts ...`: lists of requests to make runs of."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, TextIO

import click

from interleaver.cli.common import UNFINISHED, clear_errors, profile_option

if TYPE_CHECKING:
    from interleaver.batch.items import Row
    from interleaver.batch.prompts import Sampler


@click.group()
def prompts() -> None:
    """Make lists of requests for `interleaver batch`."""


@prompts.command()
@click.option("--count", type=click.IntRange(1), default=1000, show_default=True, help="How many requests.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Where to write [default: standard output]."
)
@click.option(
    "--taxonomy",
    default="general",
    show_default=True,
    metavar="NAME|FILE",
    help='What to draw from: "general", "sandbox" (what it can draw), "miniature" (shapes on a grid), or a file.',
)
@click.option("--language", "languages", multiple=True, metavar="CODE", help="Give it once for each [default: en].")
@click.option("--category", "categories", multiple=True, metavar="NAME", help="Only these; give it once for each.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed draws the same requests.")
@click.option(
    "--similarity",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="From which on two requests count as the same.",
)
@click.option("--seeds", is_flag=True, help="Give every request a run seed of its own, so that no pictures coincide.")
@click.option("--model", is_flag=True, help="Have the profile's planner, a chat model, write them; else by templates.")
@profile_option
@clear_errors
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
    """Draw a diverse list of requests from a taxonomy, each with its category as a tag.

    \b
    interleaver prompts sample --count 2000 --language en --language de --out prompts.jsonl
    interleaver prompts sample --taxonomy sandbox --count 200 --out prompts.jsonl
    interleaver prompts sample --model --profile openai --out prompts.jsonl
    """  # fmt: skip
    from interleaver.batch.prompts import Sampler, load_taxonomy

    sampler = Sampler(load_taxonomy(taxonomy), languages or ("en",), categories, seed, similarity)
    drawn: Counter[tuple[str, str]] = Counter()
    with _written(out, drawn) as file:
        asyncio.run(_draw(sampler, count, profile, model, file, drawn, Random(seed) if seeds else None))
    told = f"{drawn.total():,} requests of {len({name for name, _ in drawn})} categories, {len(drawn)} sub-categories"
    click.echo(told + (f", in {out}" if out else ""), err=True)
    if drawn.total() < count:
        click.echo("There are no more that differ enough; add topics, or raise --similarity.", err=True)
        sys.exit(UNFINISHED)


@contextmanager
def _written(out: Path | None, drawn: Counter[tuple[str, str]]) -> Iterator[TextIO]:
    """The file to write to; it takes the place of an older one when there is anything in it."""
    if out is None:
        yield sys.stdout
        return
    draft = out.with_name(f".{out.name}.part")
    try:
        with draft.open("w", encoding="utf-8") as file:
            yield file
    finally:
        if drawn:
            draft.replace(out)
        draft.unlink(missing_ok=True)


async def _draw(
    sampler: Sampler,
    count: int,
    profile: str | None,
    model: bool,
    file: TextIO,
    drawn: Counter[tuple[str, str]],
    seeds: Random | None,
) -> None:
    """Write requests as they are drawn, so that none is lost when a model fails."""
    from tqdm import tqdm

    from interleaver.config import load_profile

    async def rows() -> AsyncIterator[Row]:
        if model:
            async for row in sampler.by_model(count, load_profile(profile).planner):
                yield row
        else:
            for row in sampler.by_templates(count):
                yield row

    with tqdm(total=count, unit="request", dynamic_ncols=True, leave=False) as bar:
        async for row in rows():
            if seeds:
                row = row.model_copy(update={"seed": seeds.randrange(2**31)})
            file.write(row.model_dump_json(exclude_defaults=True) + "\n")
            drawn[row.tags["category"], row.tags["subcategory"]] += 1
            bar.update()


@prompts.command()
@click.argument("name", default="general")
@clear_errors
def taxonomy(name: str) -> None:
    """Print a taxonomy that comes with this package, to be changed.

    \b
    interleaver prompts taxonomy general > mine.toml
    """
    from interleaver.batch.prompts import load_taxonomy, ready_taxonomies

    load_taxonomy(name)
    click.echo(ready_taxonomies().get(name, Path(name)).read_text(encoding="utf-8"), nl=False)
