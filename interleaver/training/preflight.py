"""The check of a dataset with the model's own tokenizer and picture processor, before the first training step.

A row that is too long, or has a picture that the processor refuses, would teach nothing or end the training in the
middle. Such rows are left out, and counted.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from interleaver.choices import TrainingTask
from interleaver.errors import BadInput
from interleaver.training.config import TrainConfig
from interleaver.training.datasets import TrainingData
from interleaver.training.models import check_model

MAX_ASPECT = 200
"""Largest ratio of the sides of a picture that the processors of Qwen's models take."""


@dataclass(frozen=True)
class Preflight:
    """The result of the check.

    Attributes:
        data: the dataset without the rows that cannot be used.
        rows: number of training rows before the check.
        problems: number of training rows left out, by reason.
        longest: number of tokens of the longest row that is used.
    """

    data: TrainingData
    rows: int
    problems: Counter[str]
    longest: int

    def __str__(self) -> str:
        used = self.rows - self.problems.total()
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.problems.most_common())
        left_out = f"; left out: {reasons}" if reasons else ""
        return f"{used:,} of {self.rows:,} rows are used, the longest with {self.longest:,} tokens{left_out}"


def check_rows(data: TrainingData, config: TrainConfig, task: TrainingTask) -> Preflight:
    """Check all rows of a dataset, and leave out those that cannot be used.

    Args:
        data: the dataset.
        config: settings of the task, whose `max_tokens` and `max_answer` limit the rows.
        task: the task.

    Raises:
        BadInput: no training row can be used, or texts have special tokens of this model.
    """
    from interleaver.agents.hf_processors import load_processor

    check_model(config)
    checker = _RowChecker(load_processor(config.model, config.image_max_pixels), config, task)
    problems, lengths = checker.check(data.train)
    counts = Counter(problem for problem in problems if problem)
    if counts.total() == len(problems):
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common())
        raise BadInput(
            f"none of the {len(problems):,} training rows can be used ({reasons}); raise max_tokens, lower "
            "image_max_pixels, or build the dataset from other runs"
        )
    longest = max(length for length, problem in zip(lengths, problems, strict=True) if not problem)
    validation = data.validation
    if validation is not None:
        validation_problems, _ = checker.check(validation)
        validation = _without(validation, validation_problems)
        validation = validation if len(validation) else None
    checked_data = TrainingData(_without(data.train, problems), validation, data.fingerprint, data.card)
    return Preflight(checked_data, len(problems), counts, longest)


def _without(rows: Any, problems: Sequence[str | None]) -> Any:
    if not any(problems):
        return rows
    return rows.select([number for number, problem in enumerate(problems) if not problem])


class _RowChecker:
    """Measures rows as the trainer will see them."""

    def __init__(self, processor: Any, config: TrainConfig, task: TrainingTask):
        self._processor = processor
        self._config = config
        self._is_sft = task.startswith("sft")
        tokenizer = processor.tokenizer
        self._special_tokens = set(tokenizer.all_special_tokens) - {getattr(processor, "image_token", "")}

    def check(self, rows: Any) -> tuple[list[str | None], list[int]]:
        """Return for each row why it cannot be used (None if it can), and its length in tokens."""
        from datasets import Image, List

        undecoded_rows = rows.cast_column("images", List(Image(decode=False)))
        results = [self._check_row(number, row) for number, row in enumerate(undecoded_rows)]
        return [problem for problem, _ in results], [length for _, length in results]

    def _check_row(self, number: int, row: dict[str, Any]) -> tuple[str | None, int]:
        sizes = [_size(image["bytes"]) for image in row["images"]]
        if any(max(size) > MAX_ASPECT * min(size) for size in sizes):
            return f"with a picture beyond {MAX_ASPECT}:1", 0
        messages = [*row["prompt"], *(row["completion"] if self._is_sft else [])]
        self._refuse_special_tokens(number, messages)
        length = self._text_tokens(messages) + sum(map(self._picture_tokens, sizes))
        if length > self._config.max_tokens:
            return f"longer than {self._config.max_tokens:,} tokens", length
        return None, length

    def _text_tokens(self, messages: list[dict[str, Any]]) -> int:
        text = self._processor.apply_chat_template(
            [_plain_message(message) for message in messages], tokenize=False, add_generation_prompt=not self._is_sft
        )
        return len(self._processor.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _picture_tokens(self, size: tuple[int, int]) -> int:
        image_processor = self._processor.image_processor
        if not hasattr(image_processor, "get_number_of_image_patches"):
            return 0  # the model's processor cannot tell
        patches = image_processor.get_number_of_image_patches(size[1], size[0], {})
        return int(patches) // int(getattr(image_processor, "merge_size", 1)) ** 2 - 1  # its placeholder is in the text

    def _refuse_special_tokens(self, number: int, messages: list[dict[str, Any]]) -> None:
        for part in (part for message in messages for part in message["content"]):
            tokens = [token for token in self._special_tokens if token and token in (part["text"] or "")]
            if tokens:
                raise BadInput(
                    f"row {number} of the dataset has {tokens[0]!r} in a text, which is a special token of "
                    f"{self._config.model!r}; build the dataset again with this version of `interleaver data`"
                )


def _plain_message(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message whose parts have no empty fields, which chat templates would print."""
    content = [{"type": "text", "text": part["text"]} if part["type"] == "text" else {"type": "image"}
               for part in message["content"]]  # fmt: skip
    return {"role": message["role"], "content": content}


def _size(data: bytes) -> tuple[int, int]:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return image.size
