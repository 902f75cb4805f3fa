"""The output files of an evaluation: `results.json`, `results.md` and `report.html`."""

from __future__ import annotations

import asyncio
import base64
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from interleaver.errors import BadInput
from interleaver.evals.benchmarks.base import BenchmarkItem
from interleaver.evals.evaluation import Evaluation
from interleaver.evals.results import EvaluationResults, SystemResult
from interleaver.evals.scores import Score
from interleaver.evals.systems import GraphSystem, Outputs
from interleaver.pictures import Picture, shrink_picture
from interleaver.rendering.templates import render_template
from interleaver.traces.trace import Trace
from interleaver.types import Json

FILES = ("results.json", "results.md", "report.html")
GALLERY_SIZE = 6
"""Number of best items, and of worst items, in the gallery."""
THUMBNAIL_SIDE = 320
MAX_TEXT = 1_200
"""Maximum number of characters of a text in the gallery."""


@dataclass(frozen=True)
class TableRow:
    """A row of the table.

    Attributes:
        name: name of the system, followed by the judge's name where there are several judges.
        cells: scores by column.
        notes: reasons why the row is not directly comparable with the published ones.
        source: origin of a published row; None for a row of this evaluation.
    """

    name: str
    cells: Mapping[str, Score]
    notes: Sequence[str] = ()
    source: str | None = None


def table_rows(results: EvaluationResults) -> tuple[list[str], list[TableRow]]:
    """Return the columns and the rows of the table: rows of this evaluation first, then the published ones."""
    own_rows = [_table_row(results, system) for system in results.systems]
    groups = [name for system in results.systems for name in system.groups]
    columns = list(dict.fromkeys([*groups, *_headlines(results)]))
    return columns, [*own_rows, *_published_rows(results.benchmark)]


def _headlines(results: EvaluationResults) -> list[str]:
    overall = results.systems[0].overall if results.systems else {}
    return [results.headline, *(name for name in overall if name != results.headline)]


def _table_row(results: EvaluationResults, system: SystemResult) -> TableRow:
    cells = {group: scores.get(results.headline) or scores["score"] for group, scores in system.groups.items()}
    return TableRow(_row_name(results, system), cells | system.overall, _row_notes(results, system))


def _row_name(results: EvaluationResults, system: SystemResult) -> str:
    return f"{system.system}, {system.judge}" if results.has_several_judges else system.system


def _row_notes(results: EvaluationResults, system: SystemResult) -> list[str]:
    """Return the reasons why a row is not directly comparable with the published ones."""
    notes = list(system.not_measured)
    if system.partial:
        notes.append(f"partial: {len(system.missing)} items have no score")
    if not results.data.complete:
        notes.append(f"subset: {results.data.asked:,} of {results.data.published:,} items")
    prescribed = results.judge_prescribed
    if system.judge != prescribed.name:
        notes.append(f"judged by {system.judge}, not by {prescribed.name}")
        return notes
    differences = [
        f"{key} {value!r}, not {getattr(prescribed, key)!r}"
        for key, value in results.judges[system.judge]
        if value != getattr(prescribed, key)
    ]
    return [*notes, f"judged with {', '.join(differences)}"] if differences else notes


def _published_rows(benchmark: str) -> list[TableRow]:
    """Return the published rows of a benchmark; rows of its other protocols are not included."""
    file = files("interleaver.evals").joinpath("published", f"{benchmark}.toml")
    if not file.is_file():
        return []
    published_table = tomllib.loads(file.read_text(encoding="utf-8"))
    overall = {"overall": "accuracy"} if benchmark == "risebench" else {}
    rows = [
        TableRow(
            name,
            {
                overall.get(column, column): Score(value)
                for column, value in zip(published_table["columns"], values, strict=True)
            },
            source=f"{published_table['source']} ({published_table['protocol']})",
        )
        for name, values in published_table["rows"].items()
    ]
    reported_scores = published_table.get("reported", {})
    source = f"{reported_scores.pop('source', '')}, as reported there"
    headline = overall.get("overall", "overall")
    return rows + [TableRow(name, {headline: Score(value)}, source=source) for name, value in reported_scores.items()]


def published_sources(rows: Sequence[TableRow]) -> list[str]:
    """Return the distinct sources of the published rows, in table order."""
    return list(dict.fromkeys(row.source for row in rows if row.source))


def category_rows(results: EvaluationResults) -> tuple[list[str], list[tuple[str, str, Mapping[str, Score]]]]:
    """Return the table of all scores by category and subcategory: its columns, and rows of system, category and scores.

    Categories with a single score are left out, since the main table shows it.
    """
    rows: list[tuple[str, str, Mapping[str, Score]]] = [
        (_row_name(results, system), group, scores)
        for system in results.systems
        for group, scores in (system.groups | system.subgroups).items()
        if len(scores) > 1
    ]
    return list(dict.fromkeys(name for _, _, scores in rows for name in scores)), rows


def format_score(score: Score | None, scale: float) -> str:
    """Format a score with its interval for a table.

    Args:
        score: the score; None is formatted as "-".
        scale: best possible score (1, 10 or 100), on which the number of digits depends.
    """
    if score is None or score.value is None:
        return "-"
    if score.low is None or score.high is None:
        return f"{score.value:.4g}"
    digits = 1 if scale > 1 else 3
    return f"{score.value:.{digits}f} ({score.low:.{digits}f} to {score.high:.{digits}f})"


def markdown(results: EvaluationResults) -> str:
    """Return the table in Markdown."""
    columns, rows = table_rows(results)
    sources = published_sources(rows)
    text_lines = [
        f"# {results.title}",
        "",
        f"{results.data.asked:,} of {results.data.items:,} items of {results.data.source} "
        f"(sha256 {results.data.sha256[:12]}); judge prompts: {results.judge_prompts}. "
        f"Intervals: 95 % bootstrap confidence intervals over items. Protocol: {results.benchmark}.",
        "",
        "| System | " + " | ".join(columns) + " | |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for row in rows:
        cells = [format_score(row.cells.get(column), results.scale) for column in columns]
        note = f"published [{sources.index(row.source) + 1}]" if row.source else "; ".join(row.notes)
        text_lines.append(f"| {row.name if row.source else f'**{row.name}**'} | " + " | ".join(cells) + f" | {note} |")
    text_lines += ["", *(f"[{number}] {source}" for number, source in enumerate(sources, start=1))]
    measures, by_category = category_rows(results)
    if by_category:
        text_lines += ["", "| System | category | " + " | ".join(measures) + " |", "|---" * (len(measures) + 2) + "|"]
    for system, category, scores in by_category:
        cells = [format_score(scores.get(name), results.scale) for name in measures]
        text_lines.append(f"| {system} | {category} | " + " | ".join(cells) + " |")
    for system, pairs in results.agreement.items():
        for pair in pairs:
            kappa = "-" if pair.kappa is None else f"{pair.kappa:.2f}"
            first, second = pair.judges
            text_lines += ["", f"Agreement of {first} and {second} on {system}: Cohen's kappa {kappa} "
                         f"({pair.answers:,} answers, {100 * (pair.equal or 0):.0f} % equal)."]  # fmt: skip
    return "\n".join(text_lines) + "\n"


def write_missing(evaluation: Evaluation, folder: Path) -> None:
    """Delete the report of an earlier evaluation and write `missing.json`: why each unscored item has no score."""
    for name in (*FILES, "missing.json"):
        (folder / name).unlink(missing_ok=True)
    missing: Json = {}
    for (system, judge), judged_output in evaluation.judged_outputs.items():
        without = [item.id for item in evaluation.data.items if item.id not in judged_output.answers]
        missing[f"{system}, {judge}"] = {name: evaluation.why_missing(system, judge, name) for name in without}
    (folder / "missing.json").write_text(json.dumps(missing, indent=1, ensure_ascii=False), encoding="utf-8")


async def write_report(evaluation: Evaluation, results: EvaluationResults, folder: Path) -> None:
    """Write `results.json`, `results.md` and `report.html`.

    Args:
        evaluation: the evaluation, whose outputs and answers the gallery shows.
        results: the results of the evaluation.
        folder: existing folder to write to.
    """
    gallery = [await _gallery(evaluation, *pair) for pair in evaluation.judged_outputs]
    await asyncio.to_thread(_write_files, results, gallery, folder)


def _write_files(results: EvaluationResults, gallery: Sequence[Json], folder: Path) -> None:
    (folder / "missing.json").unlink(missing_ok=True)
    (folder / "results.json").write_text(results.model_dump_json(indent=1), encoding="utf-8")
    (folder / "results.md").write_text(markdown(results), encoding="utf-8")
    columns, rows = table_rows(results)
    page = render_template(
        "interleaver.evals",
        "report.html",
        results=results,
        columns=columns,
        rows=rows,
        format_score=format_score,
        gallery=gallery,
        bars=chart_bars(results),
        sources=published_sources(rows),
        details=category_rows(results),
    )
    (folder / "report.html").write_text(page, encoding="utf-8")


def chart_bars(results: EvaluationResults) -> Json:
    """Return the data of the bar chart, in percent of the best possible score.

    Returns:
        `groups`: bars by group, each with the row number of its system, its value and its interval; `names`: the row
        names by row number.
    """
    scale = results.scale / 100
    rows = [_table_row(results, system) for system in results.systems]
    groups: dict[str, list[Json]] = {}
    for number, row in enumerate(rows):
        for group, score in row.cells.items():
            if score.value is not None and score.low is not None and score.high is not None:
                bar = {"system": number, "value": score.value / scale}
                groups.setdefault(group, []).append(bar | {"low": score.low / scale, "high": score.high / scale})
    return {"groups": groups, "names": [row.name for row in rows]}


async def _gallery(evaluation: Evaluation, system: str, judge: str) -> Json:
    """Return the best and the worst items of a system, with all drawings, verdicts and judge answers."""
    judged_output = evaluation.judged_outputs[system, judge]
    scored_items = [
        (score, number, item)
        for number, item in enumerate(evaluation.data.items)
        if item.id in judged_output.answers
        and (score := evaluation.benchmark.score(item, judged_output.answers_of(item.id))) is not None
    ]
    ranked_items = sorted(scored_items, key=lambda entry: entry[:2])
    worst = ranked_items[:GALLERY_SIZE]
    best = [entry for entry in reversed(ranked_items) if entry not in worst][:GALLERY_SIZE]
    gallery: Json = {"system": system, "judge": judge}
    for name, entries in (("best", best), ("worst", worst)):
        gallery[name] = [await _gallery_item(evaluation, system, judge, item, score) for score, _, item in entries]
    return gallery


async def _gallery_item(evaluation: Evaluation, system: str, judge: str, item: BenchmarkItem, score: float) -> Json:
    output, folder = evaluation.outputs(system)[item.id], evaluation.folder(system)
    answers = evaluation.judged_outputs[system, judge].answers[item.id]
    return {
        "id": item.id,
        "group": item.group,
        "score": score,
        "request": item.request.replace("<image>", " ").strip(),
        "given": [await asyncio.to_thread(_thumbnail, path.read_bytes()) for path in item.pictures],
        "blocks": [
            {"text": block.text and block.text[:MAX_TEXT], "picture": None}
            if block.picture is None
            else {"text": None, "picture": await asyncio.to_thread(_thumbnail, (folder / block.picture).read_bytes())}
            for block in output.blocks
        ],
        "answers": {key: {"value": answer.value, "text": answer.answer[:MAX_TEXT]} for key, answer in answers.items()},
        "attempts": await _attempts(evaluation, system, output.run_id),
    }


async def _attempts(evaluation: Evaluation, system: str, run_id: str | None) -> list[Json]:
    """Return every drawing of a run with the critic's verdict."""
    system_outputs = evaluation.systems[system]
    if run_id is None or not (isinstance(system_outputs, Outputs) and isinstance(system_outputs.system, GraphSystem)):
        return []
    runs = system_outputs.system.runner.runs
    trace = await asyncio.to_thread(runs.trace, run_id)
    if not isinstance(trace, Trace):
        return []
    attempts = []
    for attempt in (*trace.attempts, *trace.drafts):
        picture = await runs.images.get(attempt.image) if attempt.image else None
        attempts.append(
            {
                "step": attempt.step + 1,
                "number": attempt.attempt,
                "prompt": attempt.prompt,
                "picture": await asyncio.to_thread(_thumbnail, picture.data) if picture else None,
                "verdict": attempt.verdict_label,
                "reasoning": attempt.reason,
            }
        )
    return attempts


def _thumbnail(data: bytes) -> str:
    """Return a thumbnail as a data URL; "" if the data is not a picture, which no judge was shown either."""
    try:
        small = shrink_picture(Picture.decode(data), THUMBNAIL_SIDE, "JPEG")
    except BadInput:
        return ""
    return f"data:{small.media_type};base64,{base64.b64encode(small.data).decode()}"
