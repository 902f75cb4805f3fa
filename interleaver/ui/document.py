"""A finished run as files: `document.html`, `document.md`, `document.json` and the pictures.

The files depend on the run alone, not on when or how often it was interrupted: writing them again gives the same bytes.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from interleaver.pictures import EXTENSIONS, Picture, shrunk
from interleaver.traces.folders import Folder
from interleaver.traces.images import ImageStore
from interleaver.traces.runs import DOCUMENT_FILE
from interleaver.types import Attempt, Document, ImageBlock, ImageRef, Outcome, StepSummary, TextBlock

INLINE_BYTES = 400_000
THUMBNAIL = 200
NOTES = {
    Outcome.EXHAUSTED: "The critic accepted none of the attempts; this is the one that was kept.",
    Outcome.UNVERIFIED: "The critic gave no verdict on this picture.",
    Outcome.FAILED: "No picture could be drawn for this step.",
    None: "The run ended before this step.",
}


@dataclass(frozen=True)
class StepView:
    """A step as the page shows it: its summary, texts, picture and attempts (as data URIs)."""

    summary: StepSummary
    texts: list[str]
    picture: str | None
    alt: str
    note: str | None
    attempts: list[dict[str, Any]]


async def write_document(
    folder: Folder, run_id: str, document: Document, attempts: list[Attempt], images: ImageStore
) -> None:
    """Write the files of a run.

    Args:
        folder: where to write; made when it is missing.
        run_id: the run.
        document: what it made.
        attempts: every attempt, in order.
        images: the store of its pictures.
    """
    refs = {attempt.image.sha256: attempt.image for attempt in attempts if attempt.image}
    pictures = {sha256: await images.get(ref) for sha256, ref in refs.items()}
    await asyncio.to_thread(_write_files, folder, run_id, document, attempts, pictures)


def _write_files(
    folder: Folder, run_id: str, document: Document, attempts: list[Attempt], pictures: dict[str, Picture]
) -> None:
    paths = _picture_paths(document, attempts)
    for (_, sha256), path in paths.items():
        folder.write(path, pictures[sha256].data)
    folder.write("document.html", render_html(document, attempts, pictures).encode())
    folder.write("document.md", render_markdown(document, paths).encode())
    _remove_stale(folder, set(paths.values()))
    # Last, since its presence says that the document is there.
    content = as_json(run_id, document, attempts, paths)
    folder.write(DOCUMENT_FILE, json.dumps(content, indent=2, ensure_ascii=False).encode())


def _remove_stale(folder: Folder, current: set[str]) -> None:
    """Remove the pictures of attempts that a resumed run has replaced; their bytes stay in the image store."""
    for file in folder.files():
        if file.path.startswith(("pictures/", "attempts/")) and file.path not in current:
            folder.remove(file.path)


Paths = dict[tuple[int, str], str]
"""Where a picture of a step is written, by the step's position and the picture's SHA-256."""


def _picture_paths(document: Document, attempts: list[Attempt]) -> Paths:
    """Kept pictures are named by their place in the plan, never by what a model wrote; the others by attempt too."""
    paths: Paths = {}
    for block in document.blocks:
        if isinstance(block, ImageBlock):
            paths[block.step, block.image.sha256] = f"pictures/step-{block.step + 1:02}{_extension(block.image)}"
    for attempt in attempts:
        if attempt.image and (attempt.step, attempt.image.sha256) not in paths:
            name = f"attempts/step-{attempt.step + 1:02}-attempt-{attempt.attempt}{_extension(attempt.image)}"
            paths[attempt.step, attempt.image.sha256] = name
    return paths


def _extension(ref: ImageRef) -> str:
    return EXTENSIONS.get(ref.media_type, "")


def as_json(run_id: str, document: Document, attempts: list[Attempt], paths: Paths) -> dict[str, Any]:
    """The content of `document.json`."""
    blocks: list[dict[str, Any]] = []
    for block in document.blocks:
        if isinstance(block, TextBlock):
            blocks.append({"type": "text", "text": block.text, "step": block.step})
        else:
            sha256 = block.image.sha256
            path = paths[block.step, sha256]
            blocks.append({"type": "image", "path": path, "sha256": sha256, "alt": block.alt, "step": block.step})
    steps = [
        {
            **summary.model_dump(mode="json"),
            "attempts": [_attempt_json(attempt, paths) for attempt in attempts if attempt.step == position],
        }
        for position, summary in enumerate(document.steps)
    ]
    return {
        "run_id": run_id,
        "request": document.request,
        "status": document.status,
        "reason": document.reason,
        "seed": document.seed,
        "blocks": blocks,
        "steps": steps,
    }


def _attempt_json(attempt: Attempt, paths: Paths) -> dict[str, Any]:
    verdict, image = attempt.verdict, attempt.image
    return {
        "attempt": attempt.attempt,
        "prompt": attempt.prompt,
        "seed": attempt.seed,
        "sha256": image.sha256 if image else None,
        "path": paths[attempt.step, image.sha256] if image else None,
        "accepted": verdict.accepted if verdict else None,
        "reasoning": verdict.reasoning if verdict else None,
        "refined_prompt": verdict.refined_prompt if verdict else None,
        "error": attempt.error,
    }


def render_markdown(document: Document, paths: Paths) -> str:
    """The content of `document.md`."""
    lines = [f"# {_heading(document)}", ""]
    if document.reason:
        lines += [f"> **{document.status}:** {document.reason}", ""]
    for position, summary in enumerate(document.steps):
        lines += [f"## {summary.number}. {summary.name}".rstrip(), ""]
        for block in document.blocks:
            if block.step != position:
                continue
            if isinstance(block, TextBlock):
                lines += [block.text, ""]
            else:
                alt = re.sub(r"[\[\]\n]", " ", block.alt)
                lines += [f"![{alt}]({paths[block.step, block.image.sha256]})", ""]
        note = _note(summary)
        if note:
            lines += [f"*{note}*", ""]
    return "\n".join(lines)


def render_html(document: Document, attempts: list[Attempt], pictures: dict[str, Picture]) -> str:
    """The content of `document.html`: one file that needs no other."""
    environment = Environment(
        loader=PackageLoader("interleaver.ui"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    views = [_step_view(position, document, attempts, pictures) for position in range(len(document.steps))]
    template = environment.get_template("document.html")
    return template.render(document=document, heading=_heading(document), steps=views, total=len(attempts))


def _step_view(position: int, document: Document, attempts: list[Attempt], pictures: dict[str, Picture]) -> StepView:
    texts, picture, alt = [], None, ""
    for block in document.blocks:
        if block.step == position and isinstance(block, TextBlock):
            texts.append(block.text)
        elif block.step == position and isinstance(block, ImageBlock):
            picture, alt = _data_uri(pictures[block.image.sha256]), block.alt
    summary = document.steps[position]
    own = [attempt for attempt in attempts if attempt.step == position]
    return StepView(summary, texts, picture, alt, _note(summary), [_attempt_view(attempt, pictures) for attempt in own])


def _attempt_view(attempt: Attempt, pictures: dict[str, Picture]) -> dict[str, Any]:
    verdict = attempt.verdict
    return {
        "number": attempt.attempt,
        "prompt": attempt.prompt,
        "picture": _data_uri(shrunk(pictures[attempt.image.sha256], THUMBNAIL, "PNG")) if attempt.image else None,
        "verdict": "no verdict" if verdict is None else "accepted" if verdict.accepted else "rejected",
        "said": attempt.error or (verdict.reasoning if verdict else ""),
    }


def _note(summary: StepSummary) -> str | None:
    """What the reader must know about a step that did not go as it should."""
    if summary.outcome in (Outcome.ACCEPTED, Outcome.TEXT):
        return None
    note = NOTES[summary.outcome]
    return f"{note} ({summary.reason})" if summary.reason else note


def _heading(document: Document) -> str:
    first = " ".join(document.request.replace("<image>", " ").split())
    return first if len(first) <= 120 else f"{first[:117]}..."


def _data_uri(picture: Picture) -> str:
    if len(picture.data) > INLINE_BYTES:
        # A page with a dozen photographs should still open at once.
        picture = shrunk(picture, max(picture.width, picture.height), "JPEG")
    return f"data:{picture.media_type};base64,{base64.b64encode(picture.data).decode()}"
