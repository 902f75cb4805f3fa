"""What came of a run: `results.json`, `results.md` and `report.html`."""

from __future__ import annotations

import asyncio
import base64
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from interleaver.agents.conversation import ChatModel
from interleaver.errors import BadInput
from interleaver.evals.benchmarks.base import Item, Model
from interleaver.evals.evaluation import Evaluation
from interleaver.evals.scores import Score, Table
from interleaver.evals.systems import GraphSystem, Outputs
from interleaver.pictures import Picture, shrunk
from interleaver.traces.trace import Trace

Json = dict[str, Any]
FILES = ("results.json", "results.md", "report.html")
SHOWN = 6
"""Items at either end of the gallery."""
SIDE = 320
LONGEST = 1_200
"""Letters of a text in the gallery."""


@dataclass(frozen=True)
class Line:
    """A row of the table.

    Attributes:
        name: of the system, and of the judge where there are several.
        cells: by column.
        notes: why the row is not what it seems.
        published: where the numbers come from, if they are not ours.
    """

    name: str
    cells: Mapping[str, Score]
    notes: Sequence[str] = ()
    published: str | None = None


def results(evaluation: Evaluation, allow_partial: bool, prompts: str) -> Json:
    """Everything that was measured, as `results.json` has it.

    Args:
        evaluation: outputs made and judged.
        allow_partial: do not refuse when items have no score.
        prompts: whose words the judge was asked in.

    Raises:
        BadInput: items have no score and that is not allowed.
    """
    data, benchmark = evaluation.data, evaluation.benchmark
    return {
        "benchmark": benchmark.name,
        "title": benchmark.title,
        "headline": benchmark.headline,
        "scale": benchmark.scale,
        "data": {
            "source": data.source,
            "sha256": data.sha256,
            "items": data.count,
            "published": benchmark.count or data.count,
            "asked": len(data.items),
            "complete": data.complete,
        },
        "judge_prescribed": {"name": benchmark.judge.name, **_asked_with(benchmark.judge)},
        "judges": {name: _asked_with(asking.judge.model) for name, asking in evaluation.asking.items()},
        "judge_prompts": prompts,
        "models": evaluation.models if any(isinstance(one, Outputs) for one in evaluation.systems.values()) else {},
        "interleaver": version("interleaver"),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "systems": _systems(evaluation, allow_partial),
        "agreement": {name: pairs for name in evaluation.systems if (pairs := evaluation.agreement(name))},
    }


def _asked_with(model: ChatModel | Model) -> Json:
    """The settings that a judge's answers depend on."""
    return {"temperature": model.temperature, "max_tokens": model.max_tokens, "extra_body": dict(model.extra_body)}


def _systems(evaluation: Evaluation, allow_partial: bool) -> list[Json]:
    """Each system by each judge; tables first, since one that is refused makes all else needless."""
    tables = {pair: evaluation.table(*pair, allow_partial) for pair in evaluation.judged}
    measured = {
        name: evaluation.benchmark.measures(evaluation.data.items, evaluation.outputs(name), evaluation.folder(name))
        for name in evaluation.systems
    }
    return [_system(evaluation, *pair, table, *measured[pair[0]]) for pair, table in tables.items()]


def _system(
    evaluation: Evaluation, system: str, judge: str, table: Table, measures: Mapping[str, Score], notes: Sequence[str]
) -> Json:
    judged, outputs = evaluation.judged[system, judge], evaluation.made(system)
    return {
        "system": system,
        "judge": judge,
        "partial": bool(table.missing),
        "overall": {name: asdict(score) for name, score in {**table.overall, **measures}.items()},
        "not_measured": notes,
        "groups": {
            group: {name: asdict(score) for name, score in scores.items()} for group, scores in table.groups.items()
        },
        "missing": {name: evaluation.why_missing(system, judge, name) for name in table.missing},
        "drawings": sum(output.drawings for output in outputs),
        "cost": sum(output.cost for output in outputs),
        "seconds": round(sum(output.seconds for output in outputs), 1),
        "judge_cost": judged.cost,
        "judge_calls_now": judged.calls,
        "judge_cached": judged.cached,
        "judge_tokens": [judged.input_tokens, judged.output_tokens],
        "items": {
            item.id: {
                "group": item.group,
                "score": evaluation.benchmark.score(item, judged.answers(item.id)),
                "answers": judged.answers(item.id),
            }
            for item in evaluation.data.items
            if item.id in judged.said
        },
    }


def lines(found: Json) -> tuple[list[str], list[Line]]:
    """The columns and rows of the table: ours first, then the published ones."""
    measured = [_line(found, one) for one in found["systems"]]
    published = _published(found["benchmark"])
    groups = [name for one in found["systems"] for name in one["groups"]]
    columns = list(dict.fromkeys([*groups, *_headlines(found)]))
    return columns, [*measured, *published]


def _headlines(found: Json) -> list[str]:
    overall = found["systems"][0]["overall"] if found["systems"] else {}
    return [found["headline"], *(name for name in overall if name != found["headline"])]


def _line(found: Json, one: Json) -> Line:
    notes = list(one["not_measured"])
    if one["partial"]:
        notes.append(f"partial: {len(one['missing'])} items have no score")
    if not found["data"]["complete"]:
        notes.append(f"a part: {found['data']['asked']:,} of {found['data']['published']:,} items")
    name, settings = one["judge"], found["judges"][one["judge"]]
    prescribed = found["judge_prescribed"]
    if name != prescribed["name"]:
        notes.append(f"judged by {name}, not by {prescribed['name']}")
    other = [f"{key} {value!r}, not {prescribed[key]!r}" for key, value in settings.items() if value != prescribed[key]]
    if other and name == prescribed["name"]:
        notes.append(f"judged with {', '.join(other)}")
    cells = {
        group: Score(**(scores.get(found["headline"]) or scores["score"])) for group, scores in one["groups"].items()
    }
    cells |= {name: Score(**score) for name, score in one["overall"].items()}
    several = len({other["judge"] for other in found["systems"]}) > 1
    return Line(f"{one['system']}, {one['judge']}" if several else one["system"], cells, notes)


def _published(benchmark: str) -> list[Line]:
    """The published rows of a benchmark, in that protocol alone."""
    file = files("interleaver.evals").joinpath("published", f"{benchmark}.toml")
    if not file.is_file():
        return []
    told = tomllib.loads(file.read_text(encoding="utf-8"))
    overall = {"overall": "accuracy"} if benchmark == "risebench" else {}
    found = [
        Line(
            name,
            {overall.get(column, column): Score(value) for column, value in zip(told["columns"], values, strict=True)},
            published=f"{told['source']} ({told['protocol']})",
        )
        for name, values in told["rows"].items()
    ]
    reported = told.get("reported", {})
    source = f"{reported.pop('source', '')}, as reported there"
    headline = overall.get("overall", "overall")
    return found + [Line(name, {headline: Score(value)}, published=source) for name, value in reported.items()]


def sources(rows: Sequence[Line]) -> list[str]:
    """Where published rows come from."""
    return list(dict.fromkeys(row.published for row in rows if row.published))


def details(found: Json) -> tuple[list[str], list[tuple[str, str, Mapping[str, Score]]]]:
    """All that is known of each category: the columns, and rows of system, category and scores.

    There are none where a category has one number only, which the table shows.
    """
    rows: list[tuple[str, str, Mapping[str, Score]]] = [
        (_line(found, one).name, group, {name: Score(**score) for name, score in scores.items()})
        for one in found["systems"]
        for group, scores in one["groups"].items()
        if len(scores) > 1
    ]
    return list(dict.fromkeys(name for _, _, scores in rows for name in scores)), rows


def told(score: Score | None, scale: float) -> str:
    """A score as tables show it, with its interval."""
    if score is None or score.value is None:
        return "-"
    if score.low is None or score.high is None:
        return f"{score.value:.4g}"
    digits = 1 if scale > 1 else 3
    return f"{score.value:.{digits}f} ({score.low:.{digits}f} to {score.high:.{digits}f})"


def markdown(found: Json) -> str:
    """The table in Markdown."""
    columns, rows = lines(found)
    known = sources(rows)
    text = [
        f"# {found['title']}",
        "",
        f"{found['data']['asked']:,} of {found['data']['items']:,} items of {found['data']['source']} "
        f"(sha256 {found['data']['sha256'][:12]}); judged in {found['judge_prompts']}. "
        f"Intervals: 95 %, bootstrap over items. Protocol: {found['benchmark']}.",
        "",
        "| System | " + " | ".join(columns) + " | |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for row in rows:
        cells = [told(row.cells.get(column), found["scale"]) for column in columns]
        note = f"published [{known.index(row.published) + 1}]" if row.published else "; ".join(row.notes)
        text.append(f"| {row.name if row.published else f'**{row.name}**'} | " + " | ".join(cells) + f" | {note} |")
    text += ["", *(f"[{number}] {source}" for number, source in enumerate(known, start=1))]
    measures, by_category = details(found)
    if by_category:
        text += ["", "| System | category | " + " | ".join(measures) + " |", "|---" * (len(measures) + 2) + "|"]
    for system, category, scores in by_category:
        cells = [told(scores.get(name), found["scale"]) for name in measures]
        text.append(f"| {system} | {category} | " + " | ".join(cells) + " |")
    for system, pairs in found["agreement"].items():
        for pair in pairs:
            kappa = "-" if pair["kappa"] is None else f"{pair['kappa']:.2f}"
            first, second = pair["judges"]
            text += ["", f"Agreement of {first} and {second} on {system}: Cohen's kappa {kappa} "
                         f"({pair['answers']:,} answers, {100 * (pair['equal'] or 0):.0f} % equal)."]  # fmt: skip
    return "\n".join(text) + "\n"


def refused(evaluation: Evaluation, folder: Path) -> None:
    """Leave no table when items have no score, but say in `missing.json` why each has none."""
    for name in (*FILES, "missing.json"):
        (folder / name).unlink(missing_ok=True)
    missing: Json = {}
    for (system, judge), judged in evaluation.judged.items():
        without = [item.id for item in evaluation.data.items if item.id not in judged.said]
        missing[f"{system}, {judge}"] = {name: evaluation.why_missing(system, judge, name) for name in without}
    (folder / "missing.json").write_text(json.dumps(missing, indent=1, ensure_ascii=False), encoding="utf-8")


async def write(evaluation: Evaluation, found: Json, folder: Path) -> None:
    """Write the three files.

    Args:
        evaluation: for the gallery.
        found: what `results` gave.
        folder: where to.
    """
    gallery = [await _gallery(evaluation, *pair) for pair in evaluation.judged]
    await asyncio.to_thread(_write, found, gallery, folder)


def _write(found: Json, gallery: Sequence[Json], folder: Path) -> None:
    (folder / "missing.json").unlink(missing_ok=True)
    (folder / "results.json").write_text(json.dumps(found, indent=1, ensure_ascii=False), encoding="utf-8")
    (folder / "results.md").write_text(markdown(found), encoding="utf-8")
    environment = Environment(
        loader=PackageLoader("interleaver.evals"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    columns, rows = lines(found)
    page = environment.get_template("report.html").render(
        found=found,
        columns=columns,
        rows=rows,
        told=told,
        gallery=gallery,
        bars=bars(found),
        sources=sources(rows),
        details=details(found),
    )
    (folder / "report.html").write_text(page, encoding="utf-8")


def bars(found: Json) -> Json:
    """The bars of the chart, in percent of the best possible score, by group and system."""
    scale = found["scale"] / 100
    groups: dict[str, list[Json]] = {}
    for number, one in enumerate(found["systems"]):
        for group, score in _line(found, one).cells.items():
            if score.value is not None and score.low is not None and score.high is not None:
                bar = {"system": number, "value": score.value / scale}
                groups.setdefault(group, []).append(bar | {"low": score.low / scale, "high": score.high / scale})
    return {"groups": groups, "names": [_line(found, one).name for one in found["systems"]]}


async def _gallery(evaluation: Evaluation, system: str, judge: str) -> Json:
    """The worst and the best items of a system, with everything that was drawn and said."""
    judged = evaluation.judged[system, judge]
    scored = [
        (score, number, item)
        for number, item in enumerate(evaluation.data.items)
        if item.id in judged.said and (score := evaluation.benchmark.score(item, judged.answers(item.id))) is not None
    ]
    ranked = sorted(scored, key=lambda one: one[:2])
    worst = ranked[:SHOWN]
    best = [one for one in reversed(ranked) if one not in worst][:SHOWN]
    shown: Json = {"system": system, "judge": judge}
    for name, chosen in (("best", best), ("worst", worst)):
        shown[name] = [await _exhibit(evaluation, system, judge, item, score) for score, _, item in chosen]
    return shown


async def _exhibit(evaluation: Evaluation, system: str, judge: str, item: Item, score: float) -> Json:
    output, folder = evaluation.outputs(system)[item.id], evaluation.folder(system)
    said = evaluation.judged[system, judge].said[item.id]
    return {
        "id": item.id,
        "group": item.group,
        "score": score,
        "request": item.request.replace("<image>", " ").strip(),
        "given": [await asyncio.to_thread(_thumbnail, path.read_bytes()) for path in item.pictures],
        "blocks": [
            {"text": block.text and block.text[:LONGEST], "picture": None}
            if block.picture is None
            else {"text": None, "picture": await asyncio.to_thread(_thumbnail, (folder / block.picture).read_bytes())}
            for block in output.blocks
        ],
        "said": {key: {"value": one.value, "words": one.answer[:LONGEST]} for key, one in said.items()},
        "attempts": await _attempts(evaluation, system, output.run_id),
    }


async def _attempts(evaluation: Evaluation, system: str, run_id: str | None) -> list[Json]:
    """Every drawing of a run with what the critic said."""
    made = evaluation.systems[system]
    if run_id is None or not (isinstance(made, Outputs) and isinstance(made.system, GraphSystem)):
        return []
    runs = made.system.runner.runs
    trace = await asyncio.to_thread(runs.trace, run_id)
    if not isinstance(trace, Trace):
        return []
    found = []
    for attempt in (*trace.attempts, *trace.drafts):
        verdict = attempt.verdict
        picture = await runs.images.get(attempt.image) if attempt.image else None
        found.append(
            {
                "step": attempt.step + 1,
                "number": attempt.attempt,
                "prompt": attempt.prompt,
                "picture": await asyncio.to_thread(_thumbnail, picture.data) if picture else None,
                "verdict": "no verdict" if verdict is None else "accepted" if verdict.accepted else "rejected",
                "said": attempt.error or (verdict.reasoning if verdict else ""),
            }
        )
    return found


def _thumbnail(data: bytes) -> str:
    """A small copy for the page; nothing where the file is no picture, as no judge was shown it either."""
    try:
        small = shrunk(Picture.decode(data), SIDE, "JPEG")
    except BadInput:
        return ""
    return f"data:{small.media_type};base64,{base64.b64encode(small.data).decode()}"
