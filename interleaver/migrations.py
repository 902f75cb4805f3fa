"""Reading files that earlier versions wrote.

Every file that this package writes has a `format` number. It is raised when the new version would misread older files;
the change is listed below, and implemented here as a function that converts the previous format to the present one.

| what | format 1 | format 2 |
|---|---|---|
| trace | `version: 1`; `judge_seconds` | `format`; `review_seconds` of attempts |
| state of a thread | channels `given`, `heard`; no `format` | `request_images`, `handled_request`, `format` |
| a chat's memory | `given` | `images` |
| labels | `judgement` | `format`; `scores` |
| dataset.json | `format: "hf"` | `dataset_format: "hf"`, `format: 2` |
| document.json, run.json | no `format` | `format: 2` |
| profile | `checkpoint` of the backend `local` | `weights` |
| prompt sets | `judging.md`, `revising.md` | `review.md`, `revision.md` |
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interleaver.types import Json

FORMAT = 2
"""Format number of every file that this version writes."""
FORMER_TEMPLATES = {"review": "judging", "revision": "revising"}
"""File names of prompt templates in format 1, by the current name of the template."""


def format_of(data: Json) -> object:
    """Return the format number in a file's JSON; 1 if it has none."""
    return data.get("format", data.get("version", 1))


def migrate_trace(data: Json) -> Json:
    """Convert the JSON of a trace to the current format."""
    if data.get("version") != 1:
        return data
    data = {name: value for name, value in data.items() if name != "version"} | {"format": FORMAT}
    for name in ("attempts", "drafts"):
        data[name] = [_migrate_attempt(attempt) for attempt in data.get(name) or []]
    return data


def _migrate_attempt(attempt: Any) -> Any:
    return _renamed(attempt, {"judge_seconds": "review_seconds"}) if isinstance(attempt, dict) else attempt


def migrate_state(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Convert the state channels of a thread to the current format; the thread itself is not changed."""
    if "format" in values:
        return values
    state = _renamed(dict(values), {"given": "request_images", "heard": "handled_request"})
    for name in ("attempts", "drafts"):
        state[name] = {key: _migrate_attempt(attempt) for key, attempt in (state.get(name) or {}).items()}
    return state


def migrate_memory(data: Any) -> Any:
    """Convert the document memory in a chat's answer to the current format."""
    return _renamed(data, {"given": "images"}) if isinstance(data, dict) else data


def migrate_labels(data: Json) -> Json:
    """Convert the JSON of labels to the current format."""
    if format_of(data) != 1:
        return data
    labels = [_renamed(label, {"judgement": "scores"}) for label in data.get("labels", [])]
    return data | {"labels": labels, "format": FORMAT}


def migrate_dataset(data: Json) -> Json:
    """Convert the JSON of `dataset.json` to the current format."""
    if isinstance(data.get("format"), int):
        return data
    return _renamed(data, {"format": "dataset_format"}) | {"format": FORMAT}


def migrate_profile(data: Json) -> Json:
    """Convert the data of a profile to the current format."""
    for name, section in data.items():
        if isinstance(section, dict) and section.get("backend") == "local":
            data = data | {name: _renamed(section, {"checkpoint": "weights"})}
    return data


def find_template(folder: Path, name: str) -> Path | None:
    """Return the file of a template in a prompt folder, under its current or former name; None if there is none."""
    names = [name, *([FORMER_TEMPLATES[name]] if name in FORMER_TEMPLATES else [])]
    return next((path for path in (folder / f"{stem}.md" for stem in names) if path.exists()), None)


def _renamed(data: Json, names: Mapping[str, str]) -> Json:
    """Return a JSON object with some fields renamed; a field that already has the new name takes precedence."""
    return {
        names.get(name, name): value
        for name, value in data.items()
        if names.get(name, name) == name or names[name] not in data
    }
