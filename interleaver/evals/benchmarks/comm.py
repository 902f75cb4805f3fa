"""CoMM: documents of text and pictures, in four tasks.

Task 1 writes the texts to given pictures, task 2 draws the pictures to given texts, task 3 continues a document, task
4 makes one from a title. A judge marks what was made from 0 to 10; texts (task 1) and pictures (task 2) are also
compared with the original by the measures of `interleaver.evals.metrics`.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from interleaver.errors import BadInput
from interleaver.evals import metrics
from interleaver.evals.benchmarks.base import (
    Answers,
    Benchmark,
    Block,
    Item,
    MissingPicture,
    Model,
    Output,
    Question,
    Row,
    absent,
    id_in,
    picture_in,
)
from interleaver.evals.benchmarks.comm_judging import captions, document, illustrated, pairs, read_expected, reader
from interleaver.evals.scores import Score, Table, complete, weighted

Task = Literal[1, 2, 3, 4]
IMAGE = "<IMAGE>"
OPENINGS: Mapping[Task, tuple[str, str]] = {
    1: (
        "Here are step-by-step instructions images sequence about {title}:",
        "According to the above images, can you generate text for each step?",
    ),
    2: (
        "Here are step-by-step instructions without images about {title}:",
        "According to the above steps, can you generate images for each step?",
    ),
    3: (
        "Here are step-by-step instructions with images about {title}:",
        "According to the above steps, can you generate the rest steps?",
    ),
    4: ("Can you generate step-by-step instructions with images about {title}?", ""),
}
"""The words of the benchmark's requests, before and after what is given."""
COHERENCE = ("style", "entity", "trend", "coherence")
MARKS: Mapping[Task, tuple[str, ...]] = {
    1: ("completeness", "fidelity"),
    2: (*COHERENCE, "quality", "fidelity"),
    3: (*COHERENCE, "completeness", "quality", "fidelity"),
    4: (*COHERENCE, "completeness", "quality", "fidelity"),
}
"""What the judge marks in a task."""
FIELDS = {"text": "content", "image": "image_path"}
"""Where a step's content stands, by its type."""
_STEP = re.compile(r"\(\d+\)\s(.*?)\s*(?=\(\d+\)|$)", re.DOTALL)


class Comm(Benchmark):
    """One task of CoMM; see `interleaver.evals.benchmarks.base.Benchmark`."""

    source = "weisuxi/CoMM"
    files = (("test_data.pth",), ("*.jsonl",), ("*.json",))
    beside = "the pictures in images/"
    count = None
    judge = Model("gpt-4o", key="OPENAI_API_KEY", temperature=1.0, prices=(2.5, 10.0), answer_tokens=150)
    side = 512
    scale = 10.0
    headline = "fidelity"

    def __init__(self, task: Task):
        self.task: Task = task
        self.name = f"comm-task{task}"
        self.title = f"CoMM, task {task}"
        self.needs_picture = task != 1

    def item(self, row: Row, folder: Path) -> Item:
        """An item: what the task gives of a document, and what it asks for."""
        steps = _steps(row)
        title = "" if absent(row.get("title")) else str(row["title"])
        opening, closing = OPENINGS[self.task]
        given = steps[: len(steps) // 2] if self.task == 3 else [] if self.task == 4 else steps
        parts, pictures = [], []
        for number, step in enumerate(given, start=1):
            parts.append(f"({number})")
            for content in step:
                if content["type"] == "text" and self.task != 1:
                    parts.append(str(content["content"]).strip())
                elif content["type"] == "image" and self.task != 2:
                    pictures.append(picture_in({"image": content["image_path"]}, "image", _pictures(folder)))
                    parts.append("<image>")
        request = " ".join([opening.replace("{title}", title), *parts, closing]).strip()
        kind = "all" if absent(row.get("dataset_type")) else str(row["dataset_type"])
        return Item(f"{id_in(row, 'data_id')}_task{self.task}", kind, request, row, folder, tuple(pictures))

    def questions(self, item: Item, output: Output, folder: Path) -> list[Question]:
        """The document as a whole is one; the other what its pictures should show, and then whether they do."""
        if self.task == 1:
            steps = [[content["type"] for content in step].count("image") for step in _steps(item.row)]
            return [Question("texts", "comm.texts", reader(MARKS[1]), shown=captions(_said_by(output), item, steps))]
        if self.task == 2:
            template, told = "comm.pictures", illustrated(_texts(item), _drawn(output, folder))
        else:
            template, told = "comm.document", document(item, output, folder)

        def compared(expected: Sequence[str]) -> Question:
            return Question("fidelity", "comm.fidelity", reader(["fidelity"]), shown=pairs(expected, told.made))

        marks = [name for name in MARKS[self.task] if name != "fidelity"]
        return [
            Question("document", template, reader(marks), shown=told.parts),
            Question("fidelity", f"{template}.expected", read_expected, shown=told.without_made(), then=compared),
        ]

    def score(self, item: Item, answers: Answers) -> float:
        """The mean of all marks, as a share."""
        marks = _marks(answers)
        return sum(marks.values()) / len(marks) / self.scale

    def table(self, items: Sequence[Item], answers: Mapping[str, Answers], allow_partial: bool) -> Table:
        """The mean of each mark, over all items and by kind of document."""
        missing = complete([item.id for item in items], answers.keys(), allow_partial)
        marks = {name: _marks(said) for name, said in answers.items()}
        names = MARKS[self.task]

        def means(chosen: Sequence[str]) -> dict[str, Score]:
            return {name: weighted([[marks[one][name] for one in chosen]], [1.0]) for name in names}

        kinds = dict.fromkeys(item.group for item in items)
        by_kind = {kind: [item.id for item in items if item.group == kind and item.id in marks] for kind in kinds}
        return Table(
            overall=means(list(marks)), groups={kind: means(ids) for kind, ids in by_kind.items()}, missing=missing
        )

    def measures(
        self, items: Sequence[Item], outputs: Mapping[str, Output], folder: Path
    ) -> tuple[dict[str, Score], list[str]]:
        """Texts of task 1 and pictures of task 2 compared with the originals."""
        made = [(item, outputs[item.id]) for item in items if item.id in outputs]
        if self.task == 1:
            return metrics.texts([(_said_by(output), _texts(item)) for item, output in made])
        if self.task != 2:
            return {}, []
        pairs = [(output.pictures(folder), _originals(item)) for item, output in made]
        scores, notes = metrics.pictures([(drawn, originals) for drawn, originals in pairs if originals])
        lost = sum(not originals for _, originals in pairs)
        return scores, notes + (
            [f"SSIM to IS: without {lost} items whose original pictures are not there"] if lost else []
        )

    def read_outputs(self, path: Path, items: Sequence[Item]) -> Iterator[Output]:
        """A folder with `{data_id}_task{n}/results.json` and the pictures beside it."""
        if not path.is_dir():
            raise BadInput(f"{str(path)!r} is no folder; CoMM takes one with DATA_ID_task{self.task}/results.json")
        for item in items:
            file = path / item.id / "results.json"
            if file.exists():
                yield Output(id=item.id, blocks=_blocks(file, item.id))

    def write_outputs(self, path: Path, items: Sequence[Item], outputs: Mapping[str, Output], folder: Path) -> None:
        """The same, with the pictures that were given and the original ones in `origin`."""
        for item in items:
            if item.id in outputs:
                _write(path / item.id, item, outputs[item.id], folder, self.task)


def _steps(row: Row) -> list[list[dict[str, Any]]]:
    """The steps of a document: lists of {"type": "text", "content"} and {"type": "image", "image_path"}."""
    steps = row.get("step_info")
    if not isinstance(steps, list) or not steps:
        raise BadInput("the field 'step_info' is missing; it must be a list of steps")
    for content in (content for step in steps for content in (step if isinstance(step, list) else [None])):
        kind = content.get("type") if isinstance(content, dict) else None
        if not isinstance(content, dict) or not isinstance(content.get(FIELDS.get(str(kind), "")), str):
            raise BadInput(f"the field 'step_info' has {content!r:.80}; it must be a text or an image with its path")
    return steps


def _pictures(folder: Path) -> Path:
    """Where the pictures are: in the folder `images`, as the official script downloads them, or beside the rows."""
    return folder / "images" if (folder / "images").is_dir() else folder


def _texts(item: Item) -> list[str]:
    """The texts of a document's steps."""
    return ["".join(one["content"] for one in step if one["type"] == "text") for step in _steps(item.row)]


def _originals(item: Item) -> list[Path]:
    """All pictures of a document; none when one of them is not there."""
    paths = [one["image_path"] for step in _steps(item.row) for one in step if one["type"] == "image"]
    try:
        return [picture_in({"image": path}, "image", _pictures(item.folder)) for path in paths]
    except MissingPicture:
        return []


def _said_by(output: Output) -> list[str]:
    """The texts of an output, by step."""
    texts: dict[int, list[str]] = {}
    for block in output.blocks:
        if block.text:
            texts.setdefault(block.step, []).append(block.text)
    return [" ".join(parts) for _, parts in sorted(texts.items())]


def _drawn(output: Output, folder: Path) -> list[list[Path]]:
    """The pictures of an output, by step."""
    drawn: dict[int, list[Path]] = {}
    for block in output.blocks:
        if block.picture:
            drawn.setdefault(block.step, []).append(folder / block.picture)
    return [drawn.get(step, []) for step in range(1, max(drawn, default=0) + 1)]


def _marks(answers: Answers) -> dict[str, float]:
    return {name: value for said in answers.values() for name, value in said.items()}


def _blocks(file: Path, name: str) -> list[Block]:
    try:
        row = json.loads(file.read_text(encoding="utf-8"))
        text, pictures = row["model_output"], list(row["prediction_image_list"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"the output {str(file)!r} cannot be read: {type(error).__name__}: {error}") from None
    if not isinstance(text, str) or not all(isinstance(picture, str) for picture in pictures):
        raise BadInput(f"the output {str(file)!r}: model_output must be a text, prediction_image_list a list of paths")
    blocks = []
    for number, step in enumerate(_STEP.findall(text) or [text], start=1):
        for part in re.split(f"({IMAGE})", step):
            if part == IMAGE and pictures:
                blocks.append(Block(step=number, picture=f"{name}/{pictures.pop(0)}"))
            elif part != IMAGE and part.strip():
                blocks.append(Block(step=number, text=part.strip()))
    return blocks


def _write(path: Path, item: Item, output: Output, folder: Path, task: Task) -> None:
    originals = _originals(item)[len(item.pictures) if task == 3 else 0 :] if task != 1 else []
    names: dict[str, list[str]] = {"input": [], "output": [], "predict": []}
    for kind, where, pictures in (
        ("input", path / "origin", item.pictures),
        ("output", path / "origin", originals),
        ("predict", path, output.pictures(folder)),
    ):
        where.mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(pictures, start=1):
            names[kind].append(f"{kind}_{number}{picture.suffix}")
            shutil.copyfile(picture, where / names[kind][-1])
    parts, last = [], None
    for block in output.blocks:
        parts += [f"({block.step})"] if block.step != last else []
        parts.append(block.text or IMAGE)
        last = block.step
    row = {
        "model_input": item.request.replace("<image>", IMAGE),
        "model_output": " ".join(parts),
        "input_image_list": names["input"],
        "output_gt_image_list": names["output"],
        "prediction_image_list": names["predict"],
    }
    (path / "results.json").write_text(json.dumps(row, indent=1, ensure_ascii=False), encoding="utf-8")
