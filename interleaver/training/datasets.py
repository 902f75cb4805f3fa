"""Datasets of `interleaver data` as trainers take them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interleaver.errors import BadInput
from interleaver.extras import need
from interleaver.training.config import Task

KIND: dict[Task, str] = {
    "sft-planner": "planner-sft",
    "sft-critic": "critic-sft",
    "grpo-critic": "critic-rl",
    "grpo-planner": "planner-sft",
}
"""The kind of dataset that each task trains on."""


@dataclass(frozen=True)
class Data:
    """A dataset.

    Attributes:
        train: the rows, as a `datasets.Dataset`.
        validation: likewise; None where there are none.
        fingerprint: SHA-256 over the rows, as `interleaver data` wrote it.
        card: all that it wrote about the dataset.
    """

    train: Any
    validation: Any
    fingerprint: str
    card: dict[str, Any]

    @property
    def mixed(self) -> bool:
        """Whether some rows have pictures and others have none."""
        counts = set(picture_counts(self.train))
        return 0 in counts and len(counts) > 1


def load_data(folder: str, task: Task) -> Data:
    """Load the dataset of a task.

    Args:
        folder: that `interleaver data` wrote in the format `hf`.
        task: what is going to be trained.

    Raises:
        BadInput: there is none, it is of another kind, it has no row to train on, or pictures and their places in a
            row do not match.
    """
    need("datasets", "train")
    from datasets import load_dataset

    path = Path(folder)
    if not (path / "dataset.json").exists():
        raise BadInput(
            f"--data {folder!r} is no dataset; make one with: interleaver data {KIND[task]} RUNS --out {folder}"
        )
    card = json.loads((path / "dataset.json").read_text(encoding="utf-8"))
    if card["kind"] != KIND[task]:
        raise BadInput(f"--data {folder!r} is a {card['kind']} dataset; {task} trains on {KIND[task]}")
    if card["format"] != "hf":
        raise BadInput(f"--data {folder!r} has the format {card['format']}; {task} reads --format hf")
    files = {split: str(path / "data" / f"{split}-*.parquet") for split in card["splits"]}
    if "train" not in files:
        raise BadInput(f"--data {folder!r} has no rows to train on; its README.md says what was left out and why")
    splits = load_dataset("parquet", data_files=files)
    for split, rows in splits.items():
        _check_pictures(rows, f"{folder}, {split}")
    _check_verdicts(splits["train"], card, task, folder)
    return Data(splits["train"], splits.get("validation"), card["fingerprint"], card)


def _check_pictures(rows: Any, name: str) -> None:
    """See to it that every row has as many pictures as places for them; a trainer would fail in the middle."""
    for number, (turns, pictures) in enumerate(zip(rows.select_columns("prompt"), picture_counts(rows), strict=True)):
        places = sum(part["type"] == "image" for turn in turns["prompt"] for part in turn["content"])
        if places != pictures:
            raise BadInput(f"{name}: row {number} has {pictures} pictures in {places} places")


def picture_counts(rows: Any) -> list[int]:
    """How many pictures each row has; none of them is read."""
    import pyarrow.compute

    return pyarrow.compute.list_value_length(rows.data.column("images")).to_pylist()  # type: ignore[no-any-return]


def _check_verdicts(rows: Any, card: dict[str, Any], task: Task, folder: str) -> None:
    """A critic that only ever sees one verdict learns nothing but to give it."""
    if task == "sft-critic":
        accepted = card["groups"]["train"].get("accepted", 0)
    elif task == "grpo-critic":
        accepted = sum(rows["success"])
    else:
        return
    for count, what in ((accepted, "accepted"), (len(rows) - accepted, "rejected")):
        if count == 0:
            raise BadInput(
                f"--data {folder!r} has no row with an {what} picture, so a critic would learn to give one verdict "
                "only; make it from more runs, or with --attempts all"
            )
