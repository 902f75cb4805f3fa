"""The results of an evaluation: the schema of `results.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel

from interleaver.agents.conversation import ChatModel
from interleaver.evals.benchmarks.base import PrescribedJudge
from interleaver.evals.evaluation import Evaluation, JudgeAgreement
from interleaver.evals.scores import Score, Table
from interleaver.evals.systems import Outputs
from interleaver.migrations import FORMAT


class DataSummary(BaseModel):
    """The data of an evaluation.

    Attributes:
        source: dataset id on the hub, file or folder.
        sha256: checksum of all rows.
        items: number of rows in the data.
        published: number of items in the published benchmark.
        asked: number of items that were selected for the evaluation.
        complete: whether the selected items are all published items.
    """

    source: str
    sha256: str
    items: int
    published: int
    asked: int
    complete: bool


class JudgeSettings(BaseModel):
    """The settings that a judge's answers depend on."""

    temperature: float | None
    max_tokens: int | None
    extra_body: dict[str, Any]

    @classmethod
    def of(cls, model: ChatModel | PrescribedJudge) -> JudgeSettings:
        """Return the settings of a judge model."""
        return cls(temperature=model.temperature, max_tokens=model.max_tokens, extra_body=dict(model.extra_body))


class PrescribedSettings(JudgeSettings):
    """The name and the settings of the judge that the benchmark prescribes."""

    name: str


class ItemResult(BaseModel):
    """The results of one item.

    Attributes:
        group: category or task of the item.
        score: score from 0 to 1; None if the judge was asked nothing about the item.
        answers: values of the judge's answers by question key.
    """

    group: str
    score: float | None
    answers: dict[str, Any]


class SystemResult(BaseModel):
    """The results of one system with one judge.

    Attributes:
        system: name of the system.
        judge: name of the judge.
        partial: whether some items have no score.
        overall: overall scores and metrics by name.
        not_measured: messages about metrics that could not be computed, with the reason.
        groups: scores by category or task, then by name.
        subgroups: scores by part of a category, then by name; empty for benchmarks without them.
        missing: reason why an item has no score, by item id.
        drawings: number of generator calls for all outputs.
        cost: cost of making the outputs.
        seconds: time spent on making the outputs.
        judge_cost: cost of all judge calls, including those behind cached answers.
        judge_calls_now: number of judge calls made in this evaluation.
        judge_cached: number of answers taken from the cache.
        judge_tokens: input and output tokens of all judge calls, including those behind cached answers.
        items: results of the judged items by item id.
    """

    system: str
    judge: str
    partial: bool
    overall: dict[str, Score]
    not_measured: list[str]
    groups: dict[str, dict[str, Score]]
    subgroups: dict[str, dict[str, Score]] = {}
    missing: dict[str, str]
    drawings: int
    cost: float
    seconds: float
    judge_cost: float
    judge_calls_now: int
    judge_cached: int
    judge_tokens: tuple[int, int]
    items: dict[str, ItemResult]


class EvaluationResults(BaseModel):
    """All results of an evaluation.

    Attributes:
        format: version of this schema.
        benchmark: name of the benchmark.
        title: title of the benchmark.
        headline: name of the score that the table shows for each group.
        scale: best possible score: 1, 10 or 100.
        data: summary of the data.
        judge_prescribed: judge that the benchmark prescribes.
        judges: settings of each judge by name.
        judge_prompts: origin of the judge prompts: this package, or the path that was given.
        models: names of the planner, critic and generator models; empty when only imported outputs were judged.
        interleaver: version of this package.
        made_at: time of the evaluation, ISO 8601 in UTC.
        systems: results of each system with each judge.
        agreement: agreement of each pair of judges, by system.
    """

    format: int = FORMAT
    benchmark: str
    title: str
    headline: str
    scale: float
    data: DataSummary
    judge_prescribed: PrescribedSettings
    judges: dict[str, JudgeSettings]
    judge_prompts: str
    models: dict[str, str]
    interleaver: str
    made_at: str
    systems: list[SystemResult]
    agreement: dict[str, list[JudgeAgreement]]

    @property
    def has_several_judges(self) -> bool:
        """Whether the outputs were judged by more than one judge."""
        return len({system.judge for system in self.systems}) > 1


def build_results(evaluation: Evaluation, allow_partial: bool, prompts: str) -> EvaluationResults:
    """Collect the results of an evaluation.

    Args:
        evaluation: evaluation whose outputs have been made and judged.
        allow_partial: whether to accept items without a score.
        prompts: origin of the judge prompts.

    Raises:
        BadInput: items have no score and `allow_partial` is false.
    """
    data, benchmark = evaluation.data, evaluation.benchmark
    makes_outputs = any(isinstance(system, Outputs) for system in evaluation.systems.values())
    return EvaluationResults(
        benchmark=benchmark.name,
        title=benchmark.title,
        headline=benchmark.headline,
        scale=benchmark.scale,
        data=DataSummary(
            source=data.source,
            sha256=data.sha256,
            items=data.count,
            published=benchmark.count or data.count,
            asked=len(data.items),
            complete=data.complete,
        ),
        judge_prescribed=PrescribedSettings(
            name=benchmark.judge.name, **JudgeSettings.of(benchmark.judge).model_dump()
        ),
        judges={name: JudgeSettings.of(client.judge.model) for name, client in evaluation.clients.items()},
        judge_prompts=prompts,
        models=evaluation.models if makes_outputs else {},
        interleaver=version("interleaver"),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        systems=_system_results(evaluation, allow_partial),
        agreement={name: pairs for name in evaluation.systems if (pairs := evaluation.agreement(name))},
    )


def _system_results(evaluation: Evaluation, allow_partial: bool) -> list[SystemResult]:
    """Collect the results of each system with each judge; tables come first, so that incomplete ones fail early."""
    tables = {pair: evaluation.table(*pair, allow_partial) for pair in evaluation.judged_outputs}
    measures_by_system = {
        name: evaluation.benchmark.measures(evaluation.data.items, evaluation.outputs(name), evaluation.folder(name))
        for name in evaluation.systems
    }
    return [_system_result(evaluation, *pair, table, *measures_by_system[pair[0]]) for pair, table in tables.items()]


def _system_result(
    evaluation: Evaluation, system: str, judge: str, table: Table, measures: Mapping[str, Score], notes: Sequence[str]
) -> SystemResult:
    judged_outputs, outputs = evaluation.judged_outputs[system, judge], evaluation.all_outputs(system)
    return SystemResult(
        system=system,
        judge=judge,
        partial=bool(table.missing),
        overall={**table.overall, **measures},
        not_measured=list(notes),
        groups={group: dict(scores) for group, scores in table.groups.items()},
        subgroups={group: dict(scores) for group, scores in table.subgroups.items()},
        missing={name: evaluation.why_missing(system, judge, name) for name in table.missing},
        drawings=sum(output.drawings for output in outputs),
        cost=sum(output.cost for output in outputs),
        seconds=round(sum(output.seconds for output in outputs), 1),
        judge_cost=judged_outputs.cost,
        judge_calls_now=judged_outputs.calls,
        judge_cached=judged_outputs.cached_calls,
        judge_tokens=(judged_outputs.input_tokens, judged_outputs.output_tokens),
        items={
            item.id: ItemResult(
                group=item.group,
                score=evaluation.benchmark.score(item, judged_outputs.answers_of(item.id)),
                answers=dict(judged_outputs.answers_of(item.id)),
            )
            for item in evaluation.data.items
            if item.id in judged_outputs.answers
        },
    )
