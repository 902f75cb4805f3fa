"""Damage in a run store: finding it, and mending what can be mended."""

from __future__ import annotations

import asyncio
import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass, field

from interleaver.errors import BadInput, InterleaverError
from interleaver.pictures import MAX_PIXELS, Picture, white_canvas
from interleaver.profile import Profile, load_recorded_profile
from interleaver.runner import Runner
from interleaver.store.images import ImageStore
from interleaver.traces.runs import RunStore
from interleaver.types import ImageRef
from interleaver.upkeep.garbage import LEFTOVER
from interleaver.upkeep.references import pictures_of_run


@dataclass
class Inspection:
    """The state of a run store.

    Attributes:
        runs: number of runs.
        pictures: number of files in the image store.
        damaged_files: paths of the pictures whose bytes are not those that were stored.
        leftovers: number of partial files of crashed writers.
        lost_pictures: the pictures that the image store does not have, by run.
        unreadable_runs: why runs cannot be read, by run.
    """

    runs: int = 0
    pictures: int = 0
    damaged_files: list[str] = field(default_factory=list)
    leftovers: int = 0
    lost_pictures: dict[str, list[ImageRef]] = field(default_factory=dict)
    unreadable_runs: dict[str, str] = field(default_factory=dict)


async def inspect_store(runs: RunStore) -> Inspection:
    """Read every picture and every run of a store, and return what is damaged or missing."""
    inspection = Inspection()
    intact_hashes = await asyncio.to_thread(_inspect_pictures, runs.images, inspection)
    for run_id in await asyncio.to_thread(lambda: list(runs.run_ids())):
        if not await asyncio.to_thread(runs.has_run, run_id):
            continue
        inspection.runs += 1
        try:
            pictures = await pictures_of_run(runs, run_id)
        except BadInput as error:
            inspection.unreadable_runs[run_id] = str(error)
            continue
        if lost_hashes := pictures.keys() - intact_hashes:
            inspection.lost_pictures[run_id] = [pictures[sha256] for sha256 in sorted(lost_hashes)]
    return inspection


def _inspect_pictures(images: ImageStore, inspection: Inspection) -> set[str]:
    """Read every picture; return the SHA-256 of those that are intact."""
    intact_hashes = set()
    for file in images.files():
        if re.fullmatch(LEFTOVER, file.path):
            inspection.leftovers += 1
            continue
        sha256 = file.path.rpartition("/")[2].partition(".")[0]
        try:
            data = images.folder.read(file.path)
        except FileNotFoundError:
            continue  # deleted meanwhile
        inspection.pictures += 1
        if hashlib.sha256(data).hexdigest() == sha256:
            intact_hashes.add(sha256)
        else:
            inspection.damaged_files.append(file.path)
    return intact_hashes


async def mend_run(runs: RunStore, run_id: str, pictures: list[ImageRef], profile: Profile | None) -> str:
    """Put lost pictures of a run back, or have them drawn again by resuming the run.

    Args:
        runs: run store that has the run.
        run_id: the run.
        pictures: the lost pictures.
        profile: the models to draw with; None for those that the run was begun with.

    Returns:
        What was done, and which pictures are still lost.
    """
    for ref in pictures:
        canvas = await asyncio.to_thread(_canvas_of, ref)
        if canvas:
            await runs.images.put(canvas)
    lost_hashes = await asyncio.to_thread(runs.lost_pictures, run_id, pictures)
    returned_count = len(pictures) - len(lost_hashes)
    if not lost_hashes:
        return f"{returned_count} put back"
    problem = "they cannot be drawn again"
    try:
        record = runs.record(run_id)
        runner = Runner(profile or load_recorded_profile(record.profile), runs.root.url)
        async for _ in runner.work(record):
            pass
    except InterleaverError as error:
        problem = str(error)
    still_lost = [ref for ref in await _pictures_now(runs, run_id) if not await runs.images.holds(ref)]
    if not still_lost:
        return f"{returned_count} put back, {len(lost_hashes)} drawn again"
    return f"{returned_count} put back, {len(still_lost)} still lost: {problem}"


async def _pictures_now(runs: RunStore, run_id: str) -> list[ImageRef]:
    with suppress(BadInput):
        return list((await pictures_of_run(runs, run_id)).values())
    return []


def _canvas_of(ref: ImageRef) -> Picture | None:
    """Return the white canvas that a reference names, from which a step started; None if it names another picture."""
    if ref.width * ref.height > MAX_PIXELS:
        return None
    canvas = white_canvas(ref.width, ref.height)
    return canvas if canvas.ref == ref else None
