"""The formats that trainers read."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Literal, Protocol

from interleaver.errors import BadInput
from interleaver.extras import need
from interleaver.pictures import EXTENSIONS
from interleaver.training.data.rows import Kind, Row
from interleaver.training.data.spool import Split
from interleaver.types import ImageRef

Format = Literal["hf", "llamafactory", "verl", "jsonl"]
FORMATS: dict[Kind, tuple[Format, ...]] = {
    "planner-sft": ("hf", "llamafactory"),
    "critic-sft": ("hf", "llamafactory"),
    "critic-rl": ("hf", "verl"),
    "sequences": ("hf", "jsonl"),
}
Json = dict[str, Any]
Read = Callable[[ImageRef], bytes]
SHARD_BYTES = 400 * 2**20
GROUP_BYTES = 24 * 2**20
"""Bytes of a Parquet shard and of a row group in it; a group is what a writer holds in memory."""


class Writer(Protocol):
    """Writes the rows of a dataset, one split after the other."""

    def write(self, row: Row, split: Split, read: Read) -> None:
        """Write a row; `read` gives the bytes of its pictures."""
        ...

    def close(self) -> None:
        """Finish the files."""
        ...


def check_format(form: Format, kind: Kind) -> None:
    """See to it that a format can hold a kind of rows.

    Raises:
        BadInput: it cannot.
    """
    if form not in FORMATS[kind]:
        raise BadInput(f"--format {form} cannot hold {kind}; choose one of: {', '.join(FORMATS[kind])}")


def open_writer(form: Format, kind: Kind, folder: Path) -> Writer:
    """A writer of a format.

    Args:
        form: the format.
        kind: of the dataset.
        folder: where the dataset is going to be.

    Raises:
        BadInput: a package for it is missing.
    """
    if form == "hf":
        return ParquetWriter(kind, folder)
    if form == "llamafactory":
        return LlamaFactoryWriter(kind, folder)
    return LinesWriter(folder, _verl_row if form == "verl" else _sequence_line)


class ParquetWriter:
    """Parquet shards for Hugging Face `datasets`, the pictures within.

    SFT rows have `prompt` and `completion` as TRL reads them: conversations whose content is a list of parts, an
    `{"type": "image"}` for each picture in its place. `critic-rl` rows have a `prompt` and the ground truth.
    """

    def __init__(self, kind: Kind, folder: Path):
        need("datasets", "data")
        from datasets import Features

        self._kind = kind
        self._folder = folder / "data"
        self._folder.mkdir(parents=True)
        self._schema = Features(_features(kind)).arrow_schema
        self._rows: list[Json] = []
        self._held = self._written = 0
        self._file: Any = None
        self._split: Split | None = None
        self._shards = 0

    def write(self, row: Row, split: Split, read: Read) -> None:
        """See `Writer.write`."""
        if split != self._split:
            self._end_shard()
            self._split, self._shards = split, 0
        pictures = [read(ref) for ref in row.images]
        images = [{"bytes": picture, "path": None} for picture in pictures]
        self._rows.append(_hf_row(row, self._kind) | {"images": images})
        self._held += sum(map(len, pictures)) + 2 * len(row.prompt) + len(row.answer)
        if self._held >= GROUP_BYTES or len(self._rows) >= 1000:
            self._flush()

    def close(self) -> None:
        """See `Writer.close`."""
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
        self._written += self._held
        self._rows, self._held = [], 0
        if self._written >= SHARD_BYTES:
            self._end_shard()

    def _end_shard(self) -> None:
        self._flush()
        if self._file is not None:
            self._file.close()
        self._file, self._written = None, 0


def _features(kind: Kind) -> Json:
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
    said = {"instruction": text, "origin_prompt": text, "rewritten_prompt": text}
    return {"prompt": List(message)} | truth | said | common


def _hf_row(row: Row, kind: Kind) -> Json:
    common = row.model_dump(include={"run_id", "step", "attempt", "request", "group"})
    common["tags"] = json.dumps(row.tags, ensure_ascii=False)
    if kind == "sequences":
        return {"prompt": row.prompt, "text": row.answer} | common
    prompt = [{"role": "user", "content": _parts(row.prompt)}]
    if kind == "critic-rl":
        assert row.truth is not None
        return {"prompt": prompt, **row.truth.model_dump(), **_said(row)} | common
    return {"prompt": prompt, "completion": [{"role": "assistant", "content": _parts(row.answer)}]} | common


def _said(row: Row) -> Json:
    return row.model_dump(include={"instruction", "origin_prompt", "rewritten_prompt"})


def _parts(text: str) -> list[Json]:
    """A text with `<image>` tags as the parts of a message."""
    parts: list[Json] = []
    for number, piece in enumerate(text.split("<image>")):
        parts += [{"type": "image", "text": None}] if number else []
        parts += [{"type": "text", "text": piece}] if piece else []
    return parts


class LinesWriter:
    """JSON Lines, one file a split, with the pictures as files in `images/`."""

    def __init__(self, folder: Path, form: Callable[[Row, list[str], Json], Json], names: str = "{split}.jsonl"):
        """Set up a writer.

        Args:
            folder: where the dataset is going to be.
            form: makes the line of a row, from the row, the paths of its pictures, and its split and number.
            names: of the files.
        """
        self.folder = folder
        self._form = form
        self._names = names
        self._files: dict[Split, TextIOWrapper] = {}
        self._count = 0

    def write(self, row: Row, split: Split, read: Read) -> None:
        """See `Writer.write`."""
        if split not in self._files:
            self._files[split] = (self.folder / self._names.format(split=split)).open("w", encoding="utf-8")
        paths = [self._picture(ref, read) for ref in row.images]
        line = self._form(row, paths, {"split": split, "index": self._count})
        self._files[split].write(json.dumps(line, ensure_ascii=False) + "\n")
        self._count += 1

    def close(self) -> None:
        """See `Writer.close`."""
        for file in self._files.values():
            file.close()

    def _picture(self, ref: ImageRef, read: Read) -> str:
        name = f"images/{ref.sha256[:2]}/{ref.sha256}{EXTENSIONS[ref.media_type]}"
        path = self.folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(read(ref))
        return name


class LlamaFactoryWriter(LinesWriter):
    """LLaMA-Factory's *sharegpt* rows, and the `dataset_info.json` that describes them."""

    def __init__(self, kind: Kind, folder: Path):
        self._name = kind.replace("-", "_")
        super().__init__(folder, _sharegpt_row, self._name + "_{split}.jsonl")

    def close(self) -> None:
        """See `Writer.close`."""
        super().close()
        # Without a system tag LLaMA-Factory drops rows with a system turn and says nothing.
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


def _sharegpt_row(row: Row, paths: list[str], told: Json) -> Json:
    messages = [{"role": "user", "content": row.prompt}, {"role": "assistant", "content": row.answer}]
    return {"messages": messages, "images": paths, "run_id": row.run_id, "step": row.step, "attempt": row.attempt}


def _sequence_line(row: Row, paths: list[str], told: Json) -> Json:
    return {"prompt": row.prompt, "text": row.answer, "images": paths, "run_id": row.run_id, "tags": row.tags}


def _verl_row(row: Row, paths: list[str], told: Json) -> Json:
    """One row for both: verl takes `prompt`, `reward_model` and `extra_info`, EasyR1 `problem` and `answer`."""
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
        "extra_info": {**told, "run_id": row.run_id, "step": row.step, "attempt": row.attempt, "group": row.group},
    }
