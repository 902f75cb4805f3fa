"""The interface of a benchmark: its items, the questions for the judge, and the table of the judge's scores."""

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
from interleaver.pictures import Picture, convert_picture

BenchmarkRow = Mapping[str, Any]
Answers = Mapping[str, Any]
"""Values of the judge's answers about one item, by question key."""


@dataclass(frozen=True)
class BenchmarkItem:
    """One item of a benchmark.

    Attributes:
        id: id that the benchmark gives the item.
        group: category or task of the item.
        request: request to the system; an `<image>` tag marks the position of each picture.
        row: published row of the item.
        folder: folder that the paths in the row are relative to.
        pictures: files of the pictures that come with the request.
    """

    id: str
    group: str
    request: str
    row: BenchmarkRow
    folder: Path
    pictures: tuple[Path, ...] = ()


class OutputBlock(BaseModel):
    """A block of an output: a text or a picture."""

    step: int = Field(1, description="Number of the step that the block belongs to, from 1.")
    text: str | None = None
    picture: str | None = Field(None, description="Path of the picture, relative to the folder of the outputs.")


class Output(BaseModel):
    """The output of a system for an item.

    Attributes:
        id: id of the item.
        blocks: texts and pictures in reading order.
        run_id: id of the run that made the output; None if it was not made in a run.
        problem: reason why the output is missing or incomplete; None if it is complete.
        drawings: number of generator calls.
        seconds: time that the output took.
        cost: cost of the output at the profile's prices.
    """

    id: str
    blocks: list[OutputBlock] = Field(default_factory=list)
    run_id: str | None = None
    problem: str | None = None
    drawings: int = 0
    seconds: float = 0.0
    cost: float = 0.0

    @property
    def text(self) -> str:
        """All texts, separated by blank lines."""
        return "\n\n".join(block.text for block in self.blocks if block.text)

    def pictures(self, folder: Path) -> list[Path]:
        """Return the files of all pictures.

        Args:
            folder: folder of the outputs, which the picture paths are relative to.
        """
        return [folder / block.picture for block in self.blocks if block.picture]


@dataclass(frozen=True)
class Question:
    """A question to the judge about an item.

    Attributes:
        key: key of the answer, unique among the questions about the item.
        template: name of the prompt template, see `interleaver.evals.prompts`.
        read: parser that turns the raw answer into plain JSON, or raises `UnreadableAnswer`.
        fields: values of the template's placeholders.
        content: pictures, and texts between them, that follow the prompt.
        follow_up: function that makes the next question from the parsed answer; only the last answer counts.
    """

    key: str
    template: str
    read: Callable[[str], Any]
    fields: Mapping[str, str] = field(default_factory=dict)
    content: tuple[str | Path, ...] = ()
    follow_up: Callable[[Any], Question] | None = None

    @property
    def calls(self) -> int:
        """Number of judge calls that the question takes."""
        return 1 if self.follow_up is None else 2


@dataclass(frozen=True)
class PrescribedJudge:
    """The judge that a benchmark prescribes.

    Attributes:
        name: name of the model.
        base_url: base URL of the endpoint; None for OpenAI's.
        key: name of the environment variable with the API key.
        temperature: sampling temperature; None uses the server's default.
        max_tokens: maximum number of tokens of an answer; None uses the server's default.
        detail: OpenAI's level of detail of pictures, which the benchmark's own script sends; None sends none.
        extra_body: additional fields of the request body.
        prices: list prices of a million input tokens and of a million output tokens, in US dollars.
        answer_tokens: expected number of tokens of an answer, including its reasoning, for estimates.
    """

    name: str
    base_url: str | None = None
    key: str | None = None
    temperature: float | None = 0.0
    max_tokens: int | None = None
    detail: str | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    prices: tuple[float, float] = (0.0, 0.0)
    answer_tokens: int = 50


class Benchmark(ABC):
    """A benchmark.

    Attributes:
        name: name on the command line and in files.
        title: name in prose.
        source: id of the published dataset on the hub.
        files: alternative sets of data files, as glob patterns; the first set found in a folder is read.
        companions: what a folder with the data must contain besides these files, in words; "" if nothing.
        count: number of published items; None if it is not fixed.
        judge: prescribed judge.
        max_side: maximum width and height in pixels of pictures for the judge; None sends them unchanged.
        scale: best possible score: 1, 10 or 100.
        headline: name of the overall score by which leaderboards are sorted.
        needs_picture: whether an output without a picture counts as failed.
    """

    name: str
    title: str
    source: str
    files: tuple[tuple[str, ...], ...]
    companions: str = ""
    count: int | None
    judge: PrescribedJudge
    max_side: int | None
    scale: float
    headline: str
    needs_picture: bool

    @abstractmethod
    def item(self, row: BenchmarkRow, folder: Path) -> BenchmarkItem:
        """Return the item of a row.

        Args:
            row: row of the dataset.
            folder: folder that the paths in the row are relative to.

        Raises:
            BadInput: a field of the row is missing or invalid.
        """

    @abstractmethod
    def questions(self, item: BenchmarkItem, output: Output, folder: Path) -> list[Question]:
        """Return the questions to the judge about an output.

        Args:
            item: item that the output was made for.
            output: output to judge.
            folder: folder that the output's picture paths are relative to.
        """

    @abstractmethod
    def score(self, item: BenchmarkItem, answers: Answers) -> float | None:
        """Return the score of an output, 0 to 1, for ranking in the gallery; None if the judge was asked nothing."""

    @abstractmethod
    def table(self, items: Sequence[BenchmarkItem], answers: Mapping[str, Answers], allow_partial: bool) -> Table:
        """Return the scores of a system.

        Args:
            items: all selected items.
            answers: the judge's answers by item id, for completely judged items only.
            allow_partial: whether to accept items without answers.

        Raises:
            BadInput: items have no answers and `allow_partial` is false.
        """

    def measures(
        self, items: Sequence[BenchmarkItem], outputs: Mapping[str, Output], folder: Path
    ) -> tuple[dict[str, Score], list[str]]:
        """Return the metrics that need no judge.

        Args:
            items: all selected items.
            outputs: outputs by item id.
            folder: folder that the outputs' picture paths are relative to.

        Returns:
            The scores by metric name, and messages that say why other metrics are missing.
        """
        return {}, []

    @abstractmethod
    def read_outputs(self, path: Path, items: Sequence[BenchmarkItem]) -> Iterator[Output]:
        """Yield the outputs of another system from files in the benchmark's own format.

        Args:
            path: file or folder with the outputs.
            items: selected items; outputs for other items are ignored.

        Raises:
            BadInput: the file or folder does not have the benchmark's format.
        """

    @abstractmethod
    def write_outputs(
        self, path: Path, items: Sequence[BenchmarkItem], outputs: Mapping[str, Output], folder: Path
    ) -> None:
        """Write outputs in the benchmark's own format, so that its own scripts can score them.

        Args:
            path: new folder to write to.
            items: selected items.
            outputs: outputs by item id.
            folder: folder that the outputs' picture paths are relative to.
        """


def is_absent(value: object) -> bool:
    """Return whether a field of a row is empty: None, an empty string, or NaN, which tables have for missing values."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def read_text(row: BenchmarkRow, name: str) -> str:
    """Return the string in a field of a row.

    Raises:
        BadInput: the field is missing or not a string.
    """
    value = row.get(name)
    if is_absent(value):
        raise BadInput(f"the field {name!r} is missing")
    if not isinstance(value, str):
        raise BadInput(f"the field {name!r} is {value!r:.80}; it must be a string")
    return value


def read_id(row: BenchmarkRow, name: str) -> str:
    """Return the id in a field of a row as a string.

    Raises:
        BadInput: the field is missing, or neither a string nor an integer.
    """
    value = row.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # integer columns with missing values are read as floats
    if is_absent(value):
        raise BadInput(f"the field {name!r} is missing")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadInput(f"the field {name!r} is {value!r:.80}; it must be a string or an integer")
    return str(value).strip()


def write_png(picture: Path, path: Path) -> None:
    """Convert a picture file to PNG and write it to a path, creating its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(convert_picture(Picture.decode(picture.read_bytes(), str(picture)), "PNG").data)


class MissingPicture(BadInput):
    """The picture file that a row names does not exist."""


def find_picture(row: BenchmarkRow, name: str, folder: Path) -> Path:
    """Return the picture file that a field of a row names, relative to the folder or to its subfolder `data`.

    Raises:
        MissingPicture: the file does not exist.
        BadInput: the field is missing or not a string.
    """
    file_name = read_text(row, name)
    for path in (folder / file_name, folder / "data" / file_name):
        if path.is_file():
            return path
    raise MissingPicture(f"the picture {str(folder / file_name)!r} (field {name!r}) does not exist")
