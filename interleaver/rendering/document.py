"""The files of a finished run: `document.html`, `document.md`, `document.json` and the pictures.

The files depend only on the run, not on when or how often it was interrupted: writing them again gives the same bytes.
"""

from __future__ import annotations

import asyncio
import base64
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from interleaver.pictures import EXTENSIONS, Picture, shrink_picture
from interleaver.rendering.templates import render_template
from interleaver.rendering.texts import (
    direction_of,
    escape_markdown,
    language_of,
    text_to_html,
    text_to_markdown,
)
from interleaver.store.folders import Folder
from interleaver.store.images import ImageStore, LostPicture
from interleaver.traces.document_file import (
    DOCUMENT_FILE,
    PICTURE_FOLDERS,
    AttemptEntry,
    DocumentFile,
    ImageEntry,
    StepEntry,
    TextEntry,
)
from interleaver.types import Attempt, Block, Document, ImageBlock, ImageRef, Outcome, StepSummary, TextBlock

INLINE_BYTES = 400_000
THUMBNAIL = 200
NOTES = {
    Outcome.EXHAUSTED: "The critic accepted none of the attempts; this is the one that was kept.",
    Outcome.UNVERIFIED: "The critic gave no verdict on this picture.",
    Outcome.FAILED: "No picture could be drawn for this step.",
    None: "The run ended before this step.",
}
LOST = "The picture of this step has been lost; resume the run, or redraw the step, to have it drawn again."


@dataclass(frozen=True)
class StepView:
    """A step as shown on the page: its summary, texts, picture, note and attempts, with pictures as data URIs."""

    summary: StepSummary
    texts: list[Markup]
    picture: str | None
    alt: str
    note: str | None
    attempts: list[dict[str, Any]]


async def write_document(
    folder: Folder, run_id: str, document: Document, attempts: list[Attempt], images: ImageStore
) -> None:
    """Write the document files of a run. Pictures that the image store has lost are left out, and the files say so.

    Args:
        folder: folder to write to; created if it does not exist.
        run_id: name of the run.
        document: document of the run.
        attempts: all attempts of the run, in order.
        images: the image store that has the pictures.
    """
    document_images = [block.image for block in document.blocks if isinstance(block, ImageBlock)]
    refs = {ref.sha256: ref for ref in [*document_images, *(attempt.image for attempt in attempts if attempt.image)]}
    pictures = {}
    for sha256, ref in refs.items():
        with suppress(LostPicture):
            pictures[sha256] = await images.get(ref)
    await asyncio.to_thread(_write_files, folder, run_id, document, attempts, pictures)


def _write_files(
    folder: Folder, run_id: str, document: Document, attempts: list[Attempt], pictures: dict[str, Picture]
) -> None:
    paths = _plan_picture_paths(document, attempts)
    _remove_stale(folder, set(paths.values()))
    paths = {key: path for key, path in paths.items() if key[1] in pictures}
    for (_, sha256), path in paths.items():
        folder.write(path, pictures[sha256].data)
    folder.write("document.html", render_html(document, attempts, pictures).encode())
    folder.write("document.md", render_markdown(document, paths).encode())
    # Last, since its presence marks the document as written.
    content = document_file(run_id, document, attempts, paths)
    folder.write(DOCUMENT_FILE, content.model_dump_json(indent=2).encode())


def _remove_stale(folder: Folder, current: set[str]) -> None:
    """Remove the pictures of attempts that a resumed run has replaced; their bytes stay in the image store."""
    for file in folder.files():
        if file.path.startswith(PICTURE_FOLDERS) and file.path not in current:
            folder.remove(file.path)


PicturePaths = dict[tuple[int, str], str]
"""File path of each picture, by the position of its step and its SHA-256."""


def _plan_picture_paths(document: Document, attempts: list[Attempt]) -> PicturePaths:
    """Return the file paths of all pictures.

    Kept pictures are named after the position of their step, never after a text by a model; other pictures also have
    the number of the attempt.
    """
    paths: PicturePaths = {}
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


def document_file(run_id: str, document: Document, attempts: list[Attempt], paths: PicturePaths) -> DocumentFile:
    """Return the content of `document.json`."""
    steps = []
    for position, summary in enumerate(document.steps):
        entries = [_attempt_entry(attempt, paths) for attempt in attempts if attempt.step == position]
        steps.append(StepEntry(**summary.model_dump(), attempts=entries))
    return DocumentFile(
        run_id=run_id,
        request=document.request,
        status=document.status,
        reason=document.reason,
        seed=document.seed,
        blocks=[_block_entry(block, paths) for block in document.blocks],
        steps=steps,
    )


def _block_entry(block: Block, paths: PicturePaths) -> TextEntry | ImageEntry:
    if isinstance(block, TextBlock):
        return TextEntry(text=block.text, step=block.step)
    sha256 = block.image.sha256
    return ImageEntry(path=paths.get((block.step, sha256)), sha256=sha256, alt=block.alt, step=block.step)


def _attempt_entry(attempt: Attempt, paths: PicturePaths) -> AttemptEntry:
    verdict, image = attempt.verdict, attempt.image
    return AttemptEntry(
        attempt=attempt.attempt,
        prompt=attempt.prompt,
        seed=attempt.seed,
        sha256=image.sha256 if image else None,
        path=paths.get((attempt.step, image.sha256)) if image else None,
        accepted=verdict.accepted if verdict else None,
        reasoning=verdict.reasoning if verdict else None,
        refined_prompt=verdict.refined_prompt if verdict else None,
        error=attempt.error,
    )


def render_markdown(document: Document, paths: PicturePaths) -> str:
    """Return the content of `document.md`."""
    lines = [f"# {escape_markdown(_heading(document))}", ""]
    if document.reason:
        lines += [f"> **{document.status}:** {escape_markdown(document.reason)}", ""]
    for position, summary in enumerate(document.steps):
        lines += [f"## {summary.number}. {escape_markdown(summary.name)}".rstrip(), ""]
        for block in document.blocks:
            if block.step != position:
                continue
            if isinstance(block, TextBlock):
                lines += [text_to_markdown(block.text), ""]
            elif path := paths.get((block.step, block.image.sha256)):
                lines += [f"![{escape_markdown(block.alt)}]({path})", ""]
            else:
                lines += [f"*{LOST}*", ""]
        note = _note(summary)
        if note:
            lines += [f"*{escape_markdown(note)}*", ""]
    return "\n".join(lines)


def render_html(document: Document, attempts: list[Attempt], pictures: dict[str, Picture]) -> str:
    """Return the content of `document.html`, a self-contained page."""
    texts = [*(block.text for block in document.blocks if isinstance(block, TextBlock)), document.request]
    language = language_of(texts)
    views = [_step_view(position, document, attempts, pictures) for position in range(len(document.steps))]
    return render_template(
        "interleaver.rendering",
        "document.html",
        document=document,
        heading=_heading(document),
        language=language,
        direction=direction_of(texts, language),
        steps=views,
        total=len(attempts),
    )


def _step_view(position: int, document: Document, attempts: list[Attempt], pictures: dict[str, Picture]) -> StepView:
    texts: list[Markup] = []
    picture, alt, note = None, "", _note(document.steps[position])
    for block in document.blocks:
        if block.step == position and isinstance(block, TextBlock):
            texts.append(text_to_html(block.text))
        elif block.step == position and isinstance(block, ImageBlock):
            picture, alt = _data_uri(pictures.get(block.image.sha256)), block.alt
            note = note or (None if picture else LOST)
    summary = document.steps[position]
    step_attempts = [attempt for attempt in attempts if attempt.step == position]
    return StepView(summary, texts, picture, alt, note, [_attempt_view(attempt, pictures) for attempt in step_attempts])


def _attempt_view(attempt: Attempt, pictures: dict[str, Picture]) -> dict[str, Any]:
    picture = pictures.get(attempt.image.sha256) if attempt.image else None
    return {
        "number": attempt.attempt,
        "prompt": attempt.prompt,
        "picture": _data_uri(shrink_picture(picture, THUMBNAIL, "PNG") if picture else None),
        "verdict": attempt.verdict_label,
        "reasoning": attempt.reason,
    }


def _note(summary: StepSummary) -> str | None:
    """Return a note for the reader about a step that was not finished; None for a finished step."""
    if summary.outcome and summary.outcome.finished:
        return None
    note = NOTES[summary.outcome]
    return f"{note} ({summary.reason})" if summary.reason else note


def _heading(document: Document) -> str:
    first = " ".join(document.request.replace("<image>", " ").split())
    return first if len(first) <= 120 else f"{first[:117]}..."


def _data_uri(picture: Picture | None) -> str | None:
    if picture is None:
        return None
    if len(picture.data) > INLINE_BYTES:
        # Keeps the page small, so that one with a dozen photographs still opens quickly.
        picture = shrink_picture(picture, max(picture.width, picture.height), "JPEG")
    return f"data:{picture.media_type};base64,{base64.b64encode(picture.data).decode()}"
