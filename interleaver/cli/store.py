"""`interleaver traces import | export | gc | label`: what is kept of runs."""

from __future__ import annotations

import asyncio
import gzip
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

import click

from interleaver.cli.common import UNFINISHED, clear_errors, profile_option
from interleaver.cli.traces import (
    images_option,
    open_sources,
    read_all,
    say_skipped,
    source_argument,
    strict_option,
)
from interleaver.errors import BadInput

if TYPE_CHECKING:
    from interleaver.config import Profile
    from interleaver.traces.images import ImageStore
    from interleaver.traces.runs import RunStore
    from interleaver.traces.sources import Source
    from interleaver.traces.trace import Trace


@click.command("import")
@source_argument
@profile_option
@images_option
@click.option("--out", required=True, metavar="DIR|URL", help="The run store to write to.")
@strict_option
@clear_errors
def import_traces(sources: tuple[str, ...], profile: str | None, images: str | None, out: str, strict: bool) -> None:
    """Copy traces and their pictures into a run store; those that are there already stay as they are.

    \b
    interleaver traces import records/ --out runs
    interleaver traces import "langsmith:my project?since=2026-01-01" --out s3://bucket/runs
    """
    if not sources:
        raise BadInput("name the sources to import from")
    counted: Counter[str] = Counter()

    async def copy() -> None:
        from interleaver.config import load_profile
        from interleaver.traces.trace import Skipped

        target = load_profile(profile).store.open(out)
        await asyncio.to_thread(target.prepare)
        async for source, found in read_all(open_sources(sources, profile, images, target), strict):
            if isinstance(found, Skipped):
                say_skipped(found)
                counted["skipped"] += 1
                continue
            counted[await _import(found, source, target)] += 1
            counted["pictures missing"] += await _copy_pictures(found, source, target.images, strict)

    asyncio.run(copy())
    click.echo(", ".join(f"{count:,} {what}" for what, count in counted.items() if count) or "nothing to import")


async def _import(trace: Trace, source: Source, target: RunStore) -> str:
    """Keep a trace in a run store, unless it has a run of that name; what was done, in words."""
    from interleaver.traces.locks import Taken
    from interleaver.traces.trace import Trace

    try:
        async with target.lock(trace.run_id):
            there = await asyncio.to_thread(target.trace, trace.run_id)
            newer = isinstance(there, Trace) and there.status == "unfinished" != trace.status
            if not newer and target.find(trace.run_id):
                return "there already"
            await asyncio.to_thread(target.adopt, trace)
            return "imported"
    except Taken:
        return "being made here"


async def _copy_pictures(trace: Trace, source: Source, target: ImageStore, strict: bool) -> int:
    """Copy the pictures of a trace; how many are missing."""
    from interleaver.traces.sources.files import copy_pictures

    missing = await copy_pictures(trace, source.images, target)
    for one in missing:
        if strict:
            raise BadInput(f"{one.what}: {one.reason}: {one.detail}")
        say_skipped(one)
    return len(missing)


@click.command()
@source_argument
@profile_option
@images_option
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE",
              help="FILE.jsonl or FILE.jsonl.gz, one trace a line.")  # fmt: skip
@click.option("--pictures", metavar="DIR|URL", help="Copy the pictures to this image store.")
@strict_option
@clear_errors
def export(
    sources: tuple[str, ...], profile: str | None, images: str | None, out: Path, pictures: str | None, strict: bool
) -> None:
    """Write traces into one file, whole and word for word.

    \b
    interleaver traces export out --out traces.jsonl.gz --pictures pictures
    """
    if not out.name.endswith((".jsonl", ".jsonl.gz")):
        raise BadInput(f"--out is {str(out)!r}; it must end in .jsonl or .jsonl.gz")
    counted: Counter[str] = Counter()

    async def write(file: BinaryIO) -> None:
        from interleaver.traces.images import ImageStore
        from interleaver.traces.trace import Skipped

        target = ImageStore(pictures) if pictures else None
        async for source, found in read_all(open_sources(sources, profile, images), strict):
            if isinstance(found, Skipped):
                say_skipped(found)
                counted["skipped"] += 1
                continue
            file.write(found.model_dump_json(exclude_none=True).encode() + b"\n")
            counted["exported"] += 1
            if target:
                counted["pictures missing"] += await _copy_pictures(found, source, target, strict)

    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.part")
    try:
        with gzip.open(draft, "wb") if out.suffix == ".gz" else draft.open("wb") as file:
            asyncio.run(write(cast(BinaryIO, file)))
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    click.echo(", ".join(f"{count:,} {what}" for what, count in counted.items() if count) or "nothing to export")


@click.command()
@click.argument("runs", required=False)
@profile_option
@click.option(
    "--keep",
    "others",
    multiple=True,
    metavar="SOURCE",
    help="Another source whose traces use the same pictures, such as a server's.",
)
@click.option("--not-shared", is_flag=True, help="Nothing else uses the profile's image store.")
@click.option(
    "--older-than",
    type=click.FloatRange(0),
    default=24.0,
    show_default=True,
    metavar="HOURS",
    help="Leave younger files alone.",
)
@click.option("--delete", is_flag=True, help="Delete them; without it they are only counted.")
@clear_errors
def gc(
    runs: str | None,
    profile: str | None,
    others: tuple[str, ...],
    not_shared: bool,
    older_than: float,
    delete: bool,
) -> None:
    """Find pictures that no run needs and checkpoints of complete runs, and delete them.

    \b
    interleaver traces gc out
    interleaver traces gc out --keep http://localhost:2024 --delete
    """  # fmt: skip
    from interleaver.config import load_profile
    from interleaver.traces.garbage import find_garbage
    from interleaver.traces.sources.files import RunSource
    from interleaver.traces.trace import Trace

    loaded = load_profile(profile)
    store = RunSource(loaded.store.open(runs)).runs
    if loaded.store.images and not others and not not_shared:
        raise BadInput(
            f"the image store {store.images.url} may have other users; name them with --keep, or say --not-shared"
        )

    async def needed() -> set[str]:
        found = await _pictures_of_runs(loaded, store)
        for source in open_sources(others, profile, None) if others else []:
            if isinstance(source, RunSource):
                found |= await _pictures_of_runs(loaded, source.runs)
                continue
            async for _, other in read_all([source], strict=True):
                assert isinstance(other, Trace)
                found |= set(other.pictures())
        return found

    garbage = find_garbage(store, asyncio.run(needed()), older_than * 3600)
    what = (
        f"{garbage.pictures:,} pictures that no run needs, {garbage.checkpoints:,} checkpoint files of complete runs, "
        f"{garbage.leftovers:,} leftovers: {garbage.bytes / 2**20:,.1f} MiB"
    )
    if not delete:
        click.echo(f"{what}. --delete removes them")
        return
    garbage.remove()
    click.echo(f"Deleted {what}")


async def _pictures_of_runs(profile: Profile, store: RunStore) -> set[str]:
    """Every picture that the runs of a store need, those that have not ended included.

    Raises:
        BadInput: a run cannot be read, so nobody knows what it needs.
    """
    from interleaver.runner import Runner
    from interleaver.traces.trace import Skipped, Trace

    runner = Runner(profile, store.root.url)
    found: set[str] = set()
    for run_id in store.run_ids():
        record, trace = store.find(run_id), store.trace(run_id)
        if isinstance(trace, Skipped):
            raise BadInput(f"run {run_id} cannot be read ({trace.reason}: {trace.detail}), so nothing is deleted")
        if trace:
            found |= set(trace.pictures())
        if record and not (isinstance(trace, Trace) and trace.status == "complete"):
            found |= await runner.pictures(record)  # it may be carried on from its checkpoints
    return found


@click.command()
@click.argument("runs", required=False)
@profile_option
@click.option("--by", type=click.Choice(["judge", "critic"]), default="judge", show_default=True,
              help="Whether the profile's judge scores, or its critic gives verdicts.")  # fmt: skip
@click.option("--name", help="What to call the labels [default: judge or critic].")
@click.option("--samples", type=click.IntRange(1), default=1, show_default=True,
              help="Verdicts of a critic on each attempt, to see how hard it is.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1), default=8, show_default=True, help="Runs at a time.")
@clear_errors
def label(
    runs: str | None, profile: str | None, by: Literal["judge", "critic"], name: str | None, samples: int, workers: int
) -> None:
    """Have the stored attempts judged again; nothing is drawn, and what is there stays.

    \b
    interleaver traces label out --by judge --profile strong-judge.toml
    interleaver traces label out --by critic --samples 8 --name difficulty
    """
    if by == "judge" and samples != 1:
        raise BadInput("--samples goes with --by critic; a judge scores once")
    counted: Counter[str] = Counter()

    async def work() -> None:
        from tqdm import tqdm

        from interleaver.batch.label import Labeller
        from interleaver.config import load_profile
        from interleaver.traces.sources.files import RunSource
        from interleaver.traces.trace import Skipped

        loaded = load_profile(profile)
        store = RunSource(loaded.store.open(runs)).runs
        labeller = Labeller(loaded, store, by, name or by, samples)
        with tqdm(total=sum(1 for _ in store.run_ids()), unit="run", dynamic_ncols=True) as bar:
            async for found in labeller.label(workers):
                bar.update()
                if isinstance(found, Skipped):
                    say_skipped(found)
                    counted["runs skipped"] += 1
                    continue
                counted["runs"] += 1
                counted["attempts"] += len(found.labels)
                for one in found.labels:
                    counted["without an answer"] += bool(one.problems)
                    if one.problems:
                        tqdm.write(f"{found.run_id}, step {one.step + 1}: {one.problems[0]}", file=sys.stderr)

    asyncio.run(work())
    click.echo(", ".join(f"{count:,} {what}" for what, count in counted.items() if count))
    sys.exit(UNFINISHED if counted["without an answer"] else 0)
