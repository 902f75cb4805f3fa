"""What a benchmark is to the rest: items to ask, questions for the judge, and a table of what it said."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from interleaver.errors import BadInput
from interleaver.evals.scores import Score, Table
from interleaver.pictures import Picture, encoded_as

Row = Mapping[str, Any]
Answers = Mapping[str, Any]
"""What the judge said of one item, by the key of the question."""


@dataclass(frozen=True)
class Item:
    """One task of a benchmark.

    Attributes:
        id: as the benchmark names it.
        group: its category or task.
        request: what a system is asked; an `<image>` tag stands where each picture belongs.
        pictures: that come with the request.
        row: as published.
        folder: where the files are that the row names.
    """

    id: str
    group: str
    request: str
    row: Row
    folder: Path
    pictures: tuple[Path, ...] = ()


class Block(BaseModel):
    """A piece of an output: words, or a picture's file."""

    step: int = Field(1, description="The step that it belongs to, from 1.")
    text: str | None = None
    picture: str | None = Field(None, description="Relative to the folder of the outputs.")


class Output(BaseModel):
    """What a system made of an item.

    Attributes:
        blocks: in reading order.
        run_id: the run behind it, if it was one.
        problem: why there is less than was asked for.
        drawings: generator calls.
        seconds: that it took.
        cost: by the profile's prices.
    """

    id: str
    blocks: list[Block] = Field(default_factory=list)
    run_id: str | None = None
    problem: str | None = None
    drawings: int = 0
    seconds: float = 0.0
    cost: float = 0.0

    @property
    def text(self) -> str:
        """All words."""
        return "\n\n".join(block.text for block in self.blocks if block.text)

    def pictures(self, folder: Path) -> list[Path]:
        """The files of all pictures."""
        return [folder / block.picture for block in self.blocks if block.picture]


@dataclass(frozen=True)
class Question:
    """One thing that the judge is asked of an item.

    Attributes:
        key: what its answer is called.
        template: the prompt's name, see `interleaver.evals.prompts`.
        read: makes sense of the answer, as plain JSON; raises `UnreadableAnswer`.
        fields: what stands at the prompt's placeholders.
        shown: what follows the prompt: pictures, and where they belong to a text, its words between them.
        then: makes the question that the judge is asked next out of what was read; only the last answer counts.
    """

    key: str
    template: str
    read: Callable[[str], Any]
    fields: Mapping[str, str] = field(default_factory=dict)
    shown: tuple[str | Path, ...] = ()
    then: Callable[[Any], Question] | None = None

    @property
    def calls(self) -> int:
        """How many times the judge is called for it."""
        return 1 if self.then is None else 2


@dataclass(frozen=True)
class Model:
    """The judge that a benchmark prescribes.

    Attributes:
        name: of the model.
        base_url: of its endpoint; None for OpenAI's own.
        key: the variable that holds the key.
        temperature: None leaves it to the server.
        max_tokens: of an answer; None leaves it to the server.
        extra_body: further fields of the request.
        prices: of a million tokens in and out, in US dollars, as listed by the provider.
        answer_tokens: that an answer is likely to have, its reasoning included; for estimates.
    """

    name: str
    base_url: str | None = None
    key: str | None = None
    temperature: float | None = 0.0
    max_tokens: int | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    prices: tuple[float, float] = (0.0, 0.0)
    answer_tokens: int = 50


class Benchmark(ABC):
    """A benchmark.

    Attributes:
        name: on the command line and in every file.
        title: in a sentence.
        source: its data on the hub.
        files: names of the data's files anywhere in a folder, in one way or another; patterns are allowed.
        beside: what else a folder with the data must hold, in words.
        count: of its items; None where that is not fixed.
        judge: the model that it prescribes.
        side: pixels that pictures for the judge have at most; None shows them as they are.
        scale: what the best possible score is, 1 or 100.
        headline: the overall score that leaderboards sort by.
        needs_picture: whether an output without one is none.
    """

    name: str
    title: str
    source: str
    files: tuple[tuple[str, ...], ...]
    beside: str = ""
    count: int | None
    judge: Model
    side: int | None
    scale: float
    headline: str
    needs_picture: bool

    @abstractmethod
    def item(self, row: Row, folder: Path) -> Item:
        """An item.

        Raises:
            BadInput: the row lacks something, or has something else there.
        """

    @abstractmethod
    def questions(self, item: Item, output: Output, folder: Path) -> list[Question]:
        """What the judge is asked of an output.

        Args:
            item: what was to be made.
            output: what was made of it.
            folder: of the output's pictures.
        """

    @abstractmethod
    def score(self, item: Item, answers: Answers) -> float | None:
        """How good an output is, from 0 to 1, to tell the best from the worst; None where nothing was asked."""

    @abstractmethod
    def table(self, items: Sequence[Item], answers: Mapping[str, Answers], allow_partial: bool) -> Table:
        """The scores of a system.

        Args:
            items: all that were asked for.
            answers: the judge's, by id; only of items that are judged wholly.
            allow_partial: do not refuse when some are missing.

        Raises:
            BadInput: some are missing and that is not allowed.
        """

    def measures(
        self, items: Sequence[Item], outputs: Mapping[str, Output], folder: Path
    ) -> tuple[dict[str, Score], list[str]]:
        """What is measured without a judge.

        Args:
            items: all that were asked for.
            outputs: what was made, by id.
            folder: of their pictures.

        Returns:
            The scores by name, and why others that belong there are missing.
        """
        return {}, []

    @abstractmethod
    def read_outputs(self, path: Path, items: Sequence[Item]) -> Iterator[Output]:
        """The outputs of another system, in the format that the benchmark publishes.

        Args:
            path: the file or folder.
            items: those that are asked for; others are passed over.

        Raises:
            BadInput: it is not in that format.
        """

    @abstractmethod
    def write_outputs(self, path: Path, items: Sequence[Item], outputs: Mapping[str, Output], folder: Path) -> None:
        """Write outputs in the benchmark's own format, for its own scripts.

        Args:
            path: a new folder.
            items: what was to be made.
            outputs: what was made, by id.
            folder: of their pictures.
        """


def absent(value: object) -> bool:
    """Whether a row says nothing there; tables have NaN where JSON has nothing."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def text_in(row: Row, name: str) -> str:
    """A text of a row.

    Raises:
        BadInput: it is missing, or something else.
    """
    value = row.get(name)
    if absent(value):
        raise BadInput(f"the field {name!r} is missing")
    if not isinstance(value, str):
        raise BadInput(f"the field {name!r} is {value!r:.80}; it must be a text")
    return value


def id_in(row: Row, name: str) -> str:
    """An id of a row: a text or a whole number.

    Raises:
        BadInput: it is missing, or something else.
    """
    value = row.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # whole numbers in a table that has gaps
    if absent(value):
        raise BadInput(f"the field {name!r} is missing")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadInput(f"the field {name!r} is {value!r:.80}; it must be a text or a whole number")
    return str(value).strip()


def write_png(picture: Path, path: Path) -> None:
    """Write a picture's file as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded_as(Picture.decode(picture.read_bytes(), str(picture)), "PNG").data)


class MissingPicture(BadInput):
    """A row names a picture that is not there."""


def picture_in(row: Row, name: str, folder: Path) -> Path:
    """The file of a picture that a row names, in the folder or in the folder `data` of it.

    Raises:
        MissingPicture: there is no such file.
    """
    said = text_in(row, name)
    for path in (folder / said, folder / "data" / said):
        if path.is_file():
            return path
    raise MissingPicture(f"the picture {str(folder / said)!r} (field {name!r}) is not there")
