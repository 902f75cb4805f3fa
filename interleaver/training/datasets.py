"""Loading the datasets that `interleaver data` wrote, and checking that a task can be trained on them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interleaver.choices import DatasetKind, TrainingTask
from interleaver.errors import BadInput
from interleaver.extras import require_extra
from interleaver.migrations import migrate_dataset

DATASET_KINDS: dict[TrainingTask, DatasetKind] = {
    "sft-planner": "planner-sft",
    "sft-critic": "critic-sft",
    "grpo-critic": "critic-rl",
    "grpo-planner": "planner-sft",
}
"""The kind of dataset that each task trains on."""


@dataclass(frozen=True)
class TrainingData:
    """A dataset for one training task.

    Attributes:
        train: rows of the training split, as a `datasets.Dataset`.
        validation: rows of the validation split, as a `datasets.Dataset`; None if there is no such split.
        fingerprint: SHA-256 over all rows, taken from `dataset.json`.
        card: content of `dataset.json`, migrated to the current format.
    """

    train: Any
    validation: Any
    fingerprint: str
    card: dict[str, Any]

    @property
    def has_mixed_rows(self) -> bool:
        """Whether some rows have pictures and others have none."""
        counts = set(picture_counts(self.train))
        return 0 in counts and len(counts) > 1


def load_data(folder: str, task: TrainingTask) -> TrainingData:
    """Load the dataset for a task.

    Args:
        folder: dataset folder that `interleaver data` wrote in the format `hf`.
        task: task to train.

    Raises:
        BadInput: the folder has no dataset, the dataset is of another kind or format or has no training rows, a row
            has more or fewer pictures than image parts, or all rows for a critic have the same verdict.
    """
    require_extra("datasets", "train")
    from datasets import load_dataset

    path = Path(folder)
    if not (path / "dataset.json").exists():
        raise BadInput(
            f"--data {folder!r} is not a dataset (it has no dataset.json); "
            f"create one with: interleaver data {DATASET_KINDS[task]} RUNS --out {folder}"
        )
    card = migrate_dataset(json.loads((path / "dataset.json").read_text(encoding="utf-8")))
    if card["kind"] != DATASET_KINDS[task]:
        raise BadInput(f"--data {folder!r} is a {card['kind']} dataset; {task} trains on {DATASET_KINDS[task]}")
    if card["dataset_format"] != "hf":
        raise BadInput(
            f"--data {folder!r} has the format {card['dataset_format']}; {task} needs a dataset made with --format hf"
        )
    files = {split: str(path / "data" / f"{split}-*.parquet") for split in card["splits"]}
    if "train" not in files:
        raise BadInput(f"--data {folder!r} has no training rows; its README.md lists which rows were left out and why")
    splits = load_dataset("parquet", data_files=files)
    for split, rows in splits.items():
        _check_pictures(rows, f"{folder}, {split}")
    _check_verdicts(splits["train"], card, task, folder)
    return TrainingData(splits["train"], splits.get("validation"), card["fingerprint"], card)


def _check_pictures(rows: Any, name: str) -> None:
    """Check that each row has one picture per image part of its prompt; otherwise training would fail midway."""
    for number, (turns, pictures) in enumerate(zip(rows.select_columns("prompt"), picture_counts(rows), strict=True)):
        places = sum(part["type"] == "image" for turn in turns["prompt"] for part in turn["content"])
        if places != pictures:
            raise BadInput(
                f"{name}: row {number} has {pictures} pictures but {places} image parts in its prompt; "
                "create the dataset again with `interleaver data`"
            )


def picture_counts(rows: Any) -> list[int]:
    """Return the number of pictures in each row, without reading the pictures."""
    import pyarrow.compute

    return pyarrow.compute.list_value_length(rows.data.column("images")).to_pylist()  # type: ignore[no-any-return]


def _check_verdicts(rows: Any, card: dict[str, Any], task: TrainingTask, folder: str) -> None:
    """Check that the rows for a critic have both verdicts; from one alone it would learn to always give that one."""
    if task == "sft-critic":
        accepted = card["groups"]["train"].get("accepted", 0)
    elif task == "grpo-critic":
        accepted = sum(rows["success"])
    else:
        return
    for count, verdict in ((accepted, "accepted"), (len(rows) - accepted, "rejected")):
        if count == 0:
            raise BadInput(
                f"--data {folder!r} has no {verdict} pictures, so the critic would learn to always give the same "
                "verdict; create the dataset from more runs, or with --attempts all"
            )
