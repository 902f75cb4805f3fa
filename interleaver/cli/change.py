"""`interleaver change`: change the document of a finished run."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interleaver.cli.common import json_option, one_line_errors, open_store, out_option, profile_option
from interleaver.cli.run import carry_out
from interleaver.errors import BadInput

if TYPE_CHECKING:
    from interleaver.graph.boundary.changes import Change
    from interleaver.runner import Runner


@click.command()
@click.argument("run_id")
@click.argument("request", required=False)
@click.option("--image", "images", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
              help="Picture that belongs to the request; can be repeated.")  # fmt: skip
@click.option("--redraw", type=int, metavar="STEP", help="Draw the picture of this step again.")
@click.option("--prompt", help="With --redraw: another prompt for the picture.")
@click.option("--choose", type=(int, int), metavar="STEP ATTEMPT", help="Keep the picture of another attempt.")
@click.option("--plan", type=click.Path(path_type=Path), metavar="FILE",
              help="Replace the plan by the one in this JSON file.")  # fmt: skip
@profile_option
@out_option
@json_option
@one_line_errors
def change(
    run_id: str,
    request: str | None,
    images: tuple[Path, ...],
    redraw: int | None,
    prompt: str | None,
    choose: tuple[int, int] | None,
    plan: Path | None,
    profile: str | None,
    out: str | None,
    as_json: bool,
) -> None:
    """Change the document of a finished run; what the change leaves as it is, is not drawn again.

    \b
    interleaver change RUN_ID "make the third picture a night scene"
    interleaver change RUN_ID --redraw 3
    interleaver change RUN_ID --redraw 3 --prompt "a small red boat at night"
    interleaver change RUN_ID --choose 3 1     # keep the first attempt at step 3
    """
    from interleaver.graph.boundary.changes import ChooseChange, RedrawChange
    from interleaver.profile import load_profile, load_recorded_profile
    from interleaver.runner import Runner

    if sum(option is not None for option in (request, redraw, choose, plan)) != 1:
        raise BadInput("say what to change: give either a request in words, --redraw, --choose or --plan")
    if images and request is None:
        raise BadInput("--image belongs to a request in words")
    if prompt is not None and redraw is None:
        raise BadInput("--prompt belongs to --redraw")
    record = open_store(profile, out).record(run_id)
    runner = Runner(load_profile(profile) if profile else load_recorded_profile(record.profile), out)
    document_change: Change
    if redraw is not None:
        document_change = RedrawChange(step=redraw, prompt=prompt)
    elif choose is not None:
        document_change = ChooseChange(step=choose[0], attempt=choose[1])
    elif plan is not None:
        document_change = _read_plan(plan)
    else:
        document_change = asyncio.run(_revision(runner, request or "", images))
    sys.exit(carry_out(runner, record, as_json, document_change))


async def _revision(runner: Runner, request: str, images: tuple[Path, ...]) -> Change:
    from interleaver.graph.boundary.changes import ReviseChange
    from interleaver.runner import read_picture

    refs = [await runner.runs.images.put(read_picture(path)) for path in images]
    return ReviseChange(request=request, images=[ref.model_dump() for ref in refs])


def _read_plan(path: Path) -> Change:
    from pydantic import ValidationError

    from interleaver.errors import explain
    from interleaver.graph.boundary.changes import ReplaceChange
    from interleaver.text_files import read_text_file
    from interleaver.types import Plan

    try:
        return ReplaceChange(plan=Plan.model_validate_json(read_text_file(path)))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the plan {str(path)!r} (--plan) cannot be read: {error}") from None
    except ValidationError as error:
        raise BadInput(f"the plan {str(path)!r} (--plan) is not valid: {explain(error, Plan)}") from None
