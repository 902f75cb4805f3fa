"""CoMM: documents of text and pictures, in four tasks.

Task 1 asks for texts to given pictures, task 2 for pictures to given texts, task 3 for the rest of a document and task
4 for a document from a title. The judge gives several marks from 0 to 10; texts (task 1) and pictures (task 2) are
also compared with the originals by the metrics of `interleaver.evals.metrics`.
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
    BenchmarkItem,
    BenchmarkRow,
    MissingPicture,
    Output,
    OutputBlock,
    PrescribedJudge,
    Question,
    find_picture,
    is_absent,
    read_id,
)
from interleaver.evals.benchmarks.comm_prompts import (
    caption_prompt,
    document_prompt,
    fidelity_prompt,
    marks_reader,
    picture_prompt,
    read_expected,
)
from interleaver.evals.scores import Score, Table, missing_ids, weighted_mean
from interleaver.text_files import read_text_file

CommTask = Literal[1, 2, 3, 4]
IMAGE_TAG = "<IMAGE>"
REQUEST_PHRASES: Mapping[CommTask, tuple[str, str]] = {
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
"""The benchmark's wording of requests: the text before and the text after the given steps."""
COHERENCE_MARKS = ("style", "entity", "trend", "coherence")
TASK_MARKS: Mapping[CommTask, tuple[str, ...]] = {
    1: ("completeness", "fidelity"),
    2: (*COHERENCE_MARKS, "quality", "fidelity"),
    3: (*COHERENCE_MARKS, "completeness", "quality", "fidelity"),
    4: (*COHERENCE_MARKS, "completeness", "quality", "fidelity"),
}
"""Names of the marks that the judge gives in each task."""
CONTENT_FIELDS = {"text": "content", "image": "image_path"}
"""The field that holds the content of a piece of a step, by the type of the piece."""
_STEP = re.compile(r"\(\d+\)\s(.*?)\s*(?=\(\d+\)|$)", re.DOTALL)


class Comm(Benchmark):
    """One task of CoMM; see `interleaver.evals.benchmarks.base.Benchmark`."""

    source = "weisuxi/CoMM"
    files = (("test_data.pth",), ("*.jsonl",), ("*.json",))
    companions = "the pictures in images/"
    count = None
    judge = PrescribedJudge("gpt-4o", key="OPENAI_API_KEY", temperature=1.0, prices=(2.5, 10.0), answer_tokens=150)
    max_side = 512
    scale = 10.0
    headline = "fidelity"

    def __init__(self, task: CommTask):
        self.task: CommTask = task
        self.name = f"comm-task{task}"
        self.title = f"CoMM, task {task}"
        self.needs_picture = task != 1

    def item(self, row: BenchmarkRow, folder: Path) -> BenchmarkItem:
        """Return the item of a row: the given part of a document, and the request for the rest."""
        steps = _read_steps(row)
        title = "" if is_absent(row.get("title")) else str(row["title"])
        opening, closing = REQUEST_PHRASES[self.task]
        given_steps = steps[: len(steps) // 2] if self.task == 3 else [] if self.task == 4 else steps
        parts, pictures = [], []
        for number, step in enumerate(given_steps, start=1):
            parts.append(f"({number})")
            for content in step:
                if content["type"] == "text" and self.task != 1:
                    parts.append(str(content["content"]).strip())
                elif content["type"] == "image" and self.task != 2:
                    pictures.append(find_picture({"image": content["image_path"]}, "image", _picture_folder(folder)))
                    parts.append("<image>")
        request = " ".join([opening.replace("{title}", title), *parts, closing]).strip()
        kind = "all" if is_absent(row.get("dataset_type")) else str(row["dataset_type"])
        return BenchmarkItem(f"{read_id(row, 'data_id')}_task{self.task}", kind, request, row, folder, tuple(pictures))

    def questions(self, item: BenchmarkItem, output: Output, folder: Path) -> list[Question]:
        """Return the questions about a document.

        Task 1 has one question, about the texts. The other tasks have one about the whole document, and one about what
        its pictures should show, whose follow-up asks whether they do.
        """
        if self.task == 1:
            steps = [[content["type"] for content in step].count("image") for step in _read_steps(item.row)]
            return [
                Question(
                    "texts",
                    "comm.texts",
                    marks_reader(TASK_MARKS[1]),
                    content=caption_prompt(_texts_by_step(output), item, steps),
                )
            ]
        if self.task == 2:
            template, prompt = "comm.pictures", picture_prompt(_original_texts(item), _pictures_by_step(output, folder))
        else:
            template, prompt = "comm.document", document_prompt(item, output, folder)

        def fidelity_question(expected: Sequence[str]) -> Question:
            return Question(
                "fidelity",
                "comm.fidelity",
                marks_reader(["fidelity"]),
                content=fidelity_prompt(expected, prompt.output_pictures),
            )

        marks = [name for name in TASK_MARKS[self.task] if name != "fidelity"]
        return [
            Question("document", template, marks_reader(marks), content=prompt.parts),
            Question(
                "fidelity",
                f"{template}.expected",
                read_expected,
                content=prompt.without_output_pictures(),
                follow_up=fidelity_question,
            ),
        ]

    def score(self, item: BenchmarkItem, answers: Answers) -> float:
        """Return the mean of all marks, scaled to 0 to 1."""
        marks = _marks_of(answers)
        return sum(marks.values()) / len(marks) / self.scale

    def table(self, items: Sequence[BenchmarkItem], answers: Mapping[str, Answers], allow_partial: bool) -> Table:
        """Return the mean of each mark, 0 to 10, overall and by kind of document."""
        missing = missing_ids([item.id for item in items], answers.keys(), allow_partial)
        marks = {name: _marks_of(item_answers) for name, item_answers in answers.items()}
        names = TASK_MARKS[self.task]

        def means(ids: Sequence[str]) -> dict[str, Score]:
            return {name: weighted_mean([[marks[item_id][name] for item_id in ids]], [1.0]) for name in names}

        kinds = dict.fromkeys(item.group for item in items)
        by_kind = {kind: [item.id for item in items if item.group == kind and item.id in marks] for kind in kinds}
        return Table(
            overall=means(list(marks)), groups={kind: means(ids) for kind, ids in by_kind.items()}, missing=missing
        )

    def measures(
        self, items: Sequence[BenchmarkItem], outputs: Mapping[str, Output], folder: Path
    ) -> tuple[dict[str, Score], list[str]]:
        """Return the metrics that compare the texts of task 1 or the pictures of task 2 with the originals."""
        item_outputs = [(item, outputs[item.id]) for item in items if item.id in outputs]
        if self.task == 1:
            return metrics.measure_texts(
                [(_texts_by_step(output), _original_texts(item)) for item, output in item_outputs]
            )
        if self.task != 2:
            return {}, []
        pairs = [(output.pictures(folder), _original_pictures(item)) for item, output in item_outputs]
        scores, notes = metrics.measure_pictures([(pictures, originals) for pictures, originals in pairs if originals])
        lost_count = sum(not originals for _, originals in pairs)
        return scores, notes + (
            [f"picture metrics: computed without {lost_count} items whose original pictures are missing"]
            if lost_count
            else []
        )

    def read_outputs(self, path: Path, items: Sequence[BenchmarkItem]) -> Iterator[Output]:
        """Yield the outputs in a folder that has `{data_id}_task{n}/results.json` with its pictures for each item."""
        if not path.is_dir():
            raise BadInput(f"{str(path)!r} is not a folder; CoMM needs one with DATA_ID_task{self.task}/results.json")
        for item in items:
            file = path / item.id / "results.json"
            if file.exists():
                yield Output(id=item.id, blocks=_read_blocks(file, item.id))

    def write_outputs(
        self, path: Path, items: Sequence[BenchmarkItem], outputs: Mapping[str, Output], folder: Path
    ) -> None:
        """Write `{data_id}_task{n}/results.json` with its pictures; given and original pictures go to `origin`."""
        for item in items:
            if item.id in outputs:
                _write_item(path / item.id, item, outputs[item.id], folder, self.task)


def _read_steps(row: BenchmarkRow) -> list[list[dict[str, Any]]]:
    """Return the steps of a document: lists of {"type": "text", "content"} and {"type": "image", "image_path"}."""
    steps = row.get("step_info")
    if not isinstance(steps, list) or not steps:
        raise BadInput("the field 'step_info' is missing or empty; it must be a list of steps")
    for content in (content for step in steps for content in (step if isinstance(step, list) else [None])):
        kind = content.get("type") if isinstance(content, dict) else None
        if not isinstance(content, dict) or not isinstance(content.get(CONTENT_FIELDS.get(str(kind), "")), str):
            raise BadInput(
                f"the field 'step_info' contains {content!r:.80}; each piece of a step must be an object of type "
                "'text' with 'content', or of type 'image' with 'image_path'"
            )
    return steps


def _picture_folder(folder: Path) -> Path:
    """Return the folder of the pictures: its subfolder `images`, as the official script makes it, or the folder."""
    return folder / "images" if (folder / "images").is_dir() else folder


def _original_texts(item: BenchmarkItem) -> list[str]:
    """Return the texts of the original document, one per step."""
    return [
        "".join(content["content"] for content in step if content["type"] == "text") for step in _read_steps(item.row)
    ]


def _original_pictures(item: BenchmarkItem) -> list[Path]:
    """Return all picture files of the original document; an empty list if any of them is missing."""
    paths = [content["image_path"] for step in _read_steps(item.row) for content in step if content["type"] == "image"]
    try:
        return [find_picture({"image": path}, "image", _picture_folder(item.folder)) for path in paths]
    except MissingPicture:
        return []


def _texts_by_step(output: Output) -> list[str]:
    """Return the texts of an output, one per step that has text."""
    texts: dict[int, list[str]] = {}
    for block in output.blocks:
        if block.text:
            texts.setdefault(block.step, []).append(block.text)
    return [" ".join(parts) for _, parts in sorted(texts.items())]


def _pictures_by_step(output: Output, folder: Path) -> list[list[Path]]:
    """Return the picture files of an output, one list per step from 1 to the last step with a picture."""
    pictures_by_step: dict[int, list[Path]] = {}
    for block in output.blocks:
        if block.picture:
            pictures_by_step.setdefault(block.step, []).append(folder / block.picture)
    return [pictures_by_step.get(step, []) for step in range(1, max(pictures_by_step, default=0) + 1)]


def _marks_of(answers: Answers) -> dict[str, float]:
    return {name: value for marks in answers.values() for name, value in marks.items()}


def _read_blocks(file: Path, name: str) -> list[OutputBlock]:
    try:
        row = json.loads(read_text_file(file))
        text, pictures = row["model_output"], list(row["prediction_image_list"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"the output {str(file)!r} cannot be read: {type(error).__name__}: {error}") from None
    if not isinstance(text, str) or not all(isinstance(picture, str) for picture in pictures):
        raise BadInput(
            f"the output {str(file)!r}: model_output must be a string, prediction_image_list a list of paths"
        )
    blocks = []
    for number, step in enumerate(_STEP.findall(text) or [text], start=1):
        for part in re.split(f"({IMAGE_TAG})", step):
            if part == IMAGE_TAG and pictures:
                blocks.append(OutputBlock(step=number, picture=f"{name}/{pictures.pop(0)}"))
            elif part != IMAGE_TAG and part.strip():
                blocks.append(OutputBlock(step=number, text=part.strip()))
    return blocks


def _write_item(path: Path, item: BenchmarkItem, output: Output, folder: Path, task: CommTask) -> None:
    originals = _original_pictures(item)[len(item.pictures) if task == 3 else 0 :] if task != 1 else []
    names: dict[str, list[str]] = {"input": [], "output": [], "predict": []}
    for kind, target_folder, pictures in (
        ("input", path / "origin", item.pictures),
        ("output", path / "origin", originals),
        ("predict", path, output.pictures(folder)),
    ):
        target_folder.mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(pictures, start=1):
            names[kind].append(f"{kind}_{number}{picture.suffix}")
            shutil.copyfile(picture, target_folder / names[kind][-1])
    parts, last_step = [], None
    for block in output.blocks:
        parts += [f"({block.step})"] if block.step != last_step else []
        parts.append(block.text or IMAGE_TAG)
        last_step = block.step
    row = {
        "model_input": item.request.replace("<image>", IMAGE_TAG),
        "model_output": " ".join(parts),
        "input_image_list": names["input"],
        "output_gt_image_list": names["output"],
        "prediction_image_list": names["predict"],
    }
    (path / "results.json").write_text(json.dumps(row, indent=1, ensure_ascii=False), encoding="utf-8")
