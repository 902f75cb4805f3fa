"""Writers for the dataset formats that trainers read."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Protocol

from interleaver.choices import DatasetFormat, DatasetKind
from interleaver.errors import BadInput
from interleaver.extras import require_extra
from interleaver.pictures import EXTENSIONS, Picture
from interleaver.training.data.row_store import Split
from interleaver.training.data.rows import TrainingRow, canvas_ref
from interleaver.types import ImageRef, Json

FORMATS: dict[DatasetKind, tuple[DatasetFormat, ...]] = {
    "planner-sft": ("hf", "llamafactory"),
    "critic-sft": ("hf", "llamafactory"),
    "critic-rl": ("hf", "verl"),
    "sequences": ("hf", "jsonl"),
}
BLANK_PATH = "data/interleave/white.png"
"""Part of a path by which the released reward function knows a blank picture."""
ReadPicture = Callable[[ImageRef], Picture]
SHARD_BYTES = 400 * 2**20
GROUP_BYTES = 24 * 2**20
"""Approximate size in bytes of a Parquet shard and of a row group; the writer buffers one row group in memory."""


class DatasetWriter(Protocol):
    """Writes the rows of a dataset, one split after another."""

    def write(self, row: TrainingRow, split: Split, read: ReadPicture) -> None:
        """Write a row, reading its pictures with `read`."""
        ...

    def close(self) -> None:
        """Write what is buffered and close the files."""
        ...


def check_format(dataset_format: DatasetFormat, kind: DatasetKind) -> None:
    """Check that a format supports a kind of dataset.

    Raises:
        BadInput: the format does not support it.
    """
    if dataset_format not in FORMATS[kind]:
        raise BadInput(f"--format {dataset_format} cannot hold {kind}; choose one of: {', '.join(FORMATS[kind])}")


def open_writer(dataset_format: DatasetFormat, kind: DatasetKind, folder: Path) -> DatasetWriter:
    """Return a writer for a format.

    Args:
        dataset_format: format to write.
        kind: kind of dataset.
        folder: folder of the dataset.

    Raises:
        BadInput: a package that the format needs is not installed.
    """
    if dataset_format == "hf":
        return ParquetWriter(kind, folder)
    if dataset_format == "llamafactory":
        return LlamaFactoryWriter(kind, folder)
    return VerlWriter(folder) if dataset_format == "verl" else LinesWriter(folder, _sequence_line)


class ParquetWriter:
    """Writes Parquet shards for Hugging Face `datasets`, with the pictures embedded.

    SFT rows have a `prompt` and a `completion` in TRL's conversational format: the content of a message is a list of
    parts, with `{"type": "image"}` in the place of each picture. `critic-rl` rows have a `prompt` and the ground truth.
    """

    def __init__(self, kind: DatasetKind, folder: Path):
        require_extra("datasets", "data")
        from datasets import Features

        self._kind = kind
        self._folder = folder / "data"
        self._folder.mkdir(parents=True)
        self._schema = Features(_features(kind)).arrow_schema
        self._rows: list[Json] = []
        self._buffered_bytes = self._written_bytes = 0
        self._file: Any = None
        self._split: Split | None = None
        self._shards = 0

    def write(self, row: TrainingRow, split: Split, read: ReadPicture) -> None:
        """See `DatasetWriter.write`."""
        if split != self._split:
            self._end_shard()
            self._split, self._shards = split, 0
        pictures = [read(ref).data for ref in row.images]
        images = [{"bytes": picture, "path": None} for picture in pictures]
        self._rows.append(_hf_row(row, self._kind) | {"images": images})
        self._buffered_bytes += sum(map(len, pictures)) + 2 * len(row.prompt) + len(row.answer)
        if self._buffered_bytes >= GROUP_BYTES or len(self._rows) >= 1000:
            self._flush()

    def close(self) -> None:
        """See `DatasetWriter.close`."""
        self._end_shard()

    def _flush(self) -> None:
        import pyarrow
        import pyarrow.parquet

        if not self._rows:
            return
        if self._file is None:
            path = self._folder / f"{self._split}-{self._shards:05}.parquet"
            self._file = pyarrow.parquet.ParquetWriter(path, self._schema)
            self._shards += 1
        self._file.write_table(pyarrow.Table.from_pylist(self._rows, schema=self._schema))
        self._written_bytes += self._buffered_bytes
        self._rows, self._buffered_bytes = [], 0
        if self._written_bytes >= SHARD_BYTES:
            self._end_shard()

    def _end_shard(self) -> None:
        self._flush()
        if self._file is not None:
            self._file.close()
        self._file, self._written_bytes = None, 0


def _features(kind: DatasetKind) -> Json:
    from datasets import Image, List, Value

    text = Value("string")
    message = {"role": text, "content": List({"type": text, "text": text})}
    common: Json = {
        "images": List(Image()),
        "run_id": text,
        "step": Value("int32"),
        "attempt": Value("int32"),
        "request": text,
        "tags": text,
        "group": text,
    }
    if kind == "sequences":
        return {"prompt": text, "text": text} | common
    if kind != "critic-rl":
        return {"prompt": List(message), "completion": List(message)} | common
    truth = {"success": Value("bool"), "semantics": Value("float64"), "quality": Value("float64")}
    prompt_columns = {"instruction": text, "origin_prompt": text, "rewritten_prompt": text}
    return {"prompt": List(message)} | truth | prompt_columns | common


def _hf_row(row: TrainingRow, kind: DatasetKind) -> Json:
    common = row.model_dump(include={"run_id", "step", "attempt", "request", "group"})
    common["tags"] = json.dumps(row.tags, ensure_ascii=False)
    if kind == "sequences":
        return {"prompt": row.prompt, "text": row.answer} | common
    prompt = [{"role": "user", "content": _parts(row.prompt)}]
    if kind == "critic-rl":
        assert row.truth is not None
        return {"prompt": prompt, **row.truth.model_dump(), **_prompt_fields(row)} | common
    return {"prompt": prompt, "completion": [{"role": "assistant", "content": _parts(row.answer)}]} | common


def _prompt_fields(row: TrainingRow) -> Json:
    return row.model_dump(include={"instruction", "origin_prompt", "rewritten_prompt"})


def _parts(text: str) -> list[Json]:
    """Split a text at its `<image>` tags into the parts of a message."""
    parts: list[Json] = []
    for number, piece in enumerate(text.split("<image>")):
        parts += [{"type": "image", "text": None}] if number else []
        parts += [{"type": "text", "text": piece}] if piece else []
    return parts


class LinesWriter:
    """Writes JSON Lines, one file per split, with the pictures as files in `images/`."""

    def __init__(
        self, folder: Path, make_line: Callable[[TrainingRow, list[str], Json], Json], names: str = "{split}.jsonl"
    ):
        """Create a writer.

        Args:
            folder: folder of the dataset.
            make_line: returns the JSON object of a row, given the row, the paths of its pictures, and a dictionary with
                its `split` and `index`.
            names: pattern of the file names, with the placeholder `{split}`.
        """
        self.folder = folder
        self._make_line = make_line
        self._names = names
        self._files: dict[Split, TextIOWrapper] = {}
        self._count = 0

    def write(self, row: TrainingRow, split: Split, read: ReadPicture) -> None:
        """See `DatasetWriter.write`."""
        if split not in self._files:
            self._files[split] = (self.folder / self._names.format(split=split)).open("w", encoding="utf-8")
        paths = [self._picture(ref, read) for ref in row.images]
        line = self._make_line(row, paths, {"split": split, "index": self._count})
        self._files[split].write(json.dumps(line, ensure_ascii=False) + "\n")
        self._count += 1

    def close(self) -> None:
        """See `DatasetWriter.close`."""
        for file in self._files.values():
            file.close()

    def _picture(self, ref: ImageRef, read: ReadPicture) -> str:
        picture = read(ref)
        name = self._picture_name(picture)
        path = self.folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture.data)
        return name

    def _picture_name(self, picture: Picture) -> str:
        sha256 = picture.ref.sha256
        return f"images/{sha256[:2]}/{sha256}{EXTENSIONS[picture.media_type]}"


class VerlWriter(LinesWriter):
    """Writes rows for verl and EasyR1.

    The released reward function draws a step anew, instead of as an edit of blank paper, if the path of the picture
    before it contains `BLANK_PATH`.
    """

    def __init__(self, folder: Path):
        super().__init__(folder, _verl_row)

    def _picture_name(self, picture: Picture) -> str:
        width, height = picture.width, picture.height
        if picture.ref == canvas_ref(width, height):
            return f"images/{width}x{height}/{BLANK_PATH}"
        return super()._picture_name(picture)


class LlamaFactoryWriter(LinesWriter):
    """Writes rows in LLaMA-Factory's *sharegpt* format, and the `dataset_info.json` that describes them."""

    def __init__(self, kind: DatasetKind, folder: Path):
        self._name = kind.replace("-", "_")
        super().__init__(folder, _sharegpt_row, self._name + "_{split}.jsonl")

    def close(self) -> None:
        """See `DatasetWriter.close`."""
        super().close()
        # Without a system tag, LLaMA-Factory silently drops rows with a system turn.
        tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
        entries = {
            self._name if split == "train" else f"{self._name}_{split}": {
                "file_name": self._names.format(split=split),
                "formatting": "sharegpt",
                "columns": {"messages": "messages", "images": "images"},
                "tags": {**tags, "system_tag": "system"},
            }
            for split in self._files
        }
        (self.folder / "dataset_info.json").write_text(json.dumps(entries, indent=2))


def _sharegpt_row(row: TrainingRow, paths: list[str], place: Json) -> Json:
    messages = [{"role": "user", "content": row.prompt}, {"role": "assistant", "content": row.answer}]
    return {"messages": messages, "images": paths, "run_id": row.run_id, "step": row.step, "attempt": row.attempt}


def _sequence_line(row: TrainingRow, paths: list[str], place: Json) -> Json:
    return {"prompt": row.prompt, "text": row.answer, "images": paths, "run_id": row.run_id, "tags": row.tags}


def _verl_row(row: TrainingRow, paths: list[str], place: Json) -> Json:
    """Return a row for both verl and EasyR1.

    verl reads `prompt`, `reward_model` and `extra_info`; EasyR1 reads `problem` and `answer`.
    """
    assert row.truth is not None
    before, after = paths
    answer = "true" if row.truth.success else "false"
    return {
        "origin_prompt": row.origin_prompt,
        "rewritten_prompt": row.rewritten_prompt,
        "origin_image_path": before,
        "edited_image_path": after,
        "evaluation": row.truth.model_dump(),
        "instruction": row.instruction,
        "data_source": "interleaver/critic",
        "ability": "critic",
        "prompt": [{"role": "user", "content": row.prompt}],
        "problem": row.prompt,
        "answer": answer,
        "images": paths,
        "reward_model": {"style": "rule", "ground_truth": answer},
        "extra_info": {**place, "run_id": row.run_id, "step": row.step, "attempt": row.attempt, "group": row.group},
    }
