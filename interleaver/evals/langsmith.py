"""Upload of an evaluation to LangSmith: the items as a dataset, each system with each judge as an experiment."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from interleaver.errors import BadInput
from interleaver.evals.evaluation import Evaluation
from interleaver.evals.results import EvaluationResults, SystemResult
from interleaver.types import Json

EXAMPLES_PER_REQUEST = 100
"""Number of examples sent in one request."""


def upload(evaluation: Evaluation, results: EvaluationResults) -> list[str]:
    """Upload the items, the outputs and the scores of an evaluation; the numbers are those of the report.

    The endpoint and the API key come from the environment variables `LANGSMITH_ENDPOINT` and `LANGSMITH_API_KEY`.

    Args:
        evaluation: evaluation whose items and outputs are uploaded.
        results: results of the evaluation.

    Returns:
        The names of the experiments.

    Raises:
        BadInput: the API key is malformed, or LangSmith cannot be reached or rejects a request.
    """
    from langsmith import Client
    from langsmith.utils import LangSmithError

    client = Client()
    if not (key := client.api_key or "").isascii() or not key.isprintable():
        raise BadInput("LANGSMITH_API_KEY contains invalid characters; check that only the key itself was copied")
    try:
        examples = _dataset(client, evaluation, results)
        return [_experiment(client, evaluation, results, system, examples) for system in results.systems]
    except LangSmithError as error:
        reason = str(error).partition("\n")[0].replace(client.api_key or "\n", "***")
        raise BadInput(f"LangSmith: {reason}") from None


def _dataset(client: Any, evaluation: Evaluation, results: EvaluationResults) -> list[Any]:
    """Return the examples of the selected items; missing ones are created, existing ones are left unchanged."""
    name = f"{results.benchmark} {results.data.sha256[:12]}"
    if client.has_dataset(dataset_name=name):
        dataset = client.read_dataset(dataset_name=name)
    else:
        dataset = client.create_dataset(name, description=results.title, metadata=results.data.model_dump())
    ids = {item.id: _example_id(dataset.id, item.id) for item in evaluation.data.items}
    existing_ids = {example.id for example in client.list_examples(dataset_id=dataset.id)}
    new_examples = [
        {
            "id": ids[item.id],
            "inputs": {"item": item.id, "request": item.request},
            "metadata": {"group": item.group},
        }
        for item in evaluation.data.items
        if ids[item.id] not in existing_ids
    ]
    for start in range(0, len(new_examples), EXAMPLES_PER_REQUEST):
        client.create_examples(dataset_id=dataset.id, examples=new_examples[start : start + EXAMPLES_PER_REQUEST])
    wanted_ids = set(ids.values())
    return [example for example in client.list_examples(dataset_id=dataset.id) if example.id in wanted_ids]


def _example_id(dataset: UUID, item: str) -> UUID:
    """Return the id of an item's example, which is deterministic, so that uploading again adds no duplicate."""
    return uuid5(NAMESPACE_URL, f"{dataset}/{item}")


def _experiment(
    client: Any, evaluation: Evaluation, results: EvaluationResults, system: SystemResult, examples: list[Any]
) -> str:
    outputs = evaluation.outputs(system.system)

    def target(inputs: Mapping[str, Any]) -> Json:
        output = outputs[inputs["item"]]
        return output.model_dump(include={"blocks", "run_id", "drawings", "seconds", "cost"})

    def evaluator(run: Any, example: Any) -> Json:
        item_results = system.items[example.inputs["item"]]
        score = [] if item_results.score is None else [{"key": "score", "score": item_results.score}]
        return {"results": [*score, *_feedback(item_results.answers)]}

    with redirect_stdout(sys.stderr):  # the client prints a link to the experiment to standard output
        experiment = client.evaluate(
            target,
            data=[example for example in examples if example.inputs["item"] in system.items],
            evaluators=[evaluator],
            experiment_prefix=f"{results.benchmark} {system.system} {system.judge}",
            metadata={
                **{f"overall.{name}": score.value for name, score in system.overall.items()},
                "judge": system.judge,
                "partial": system.partial,
                "data": results.data.sha256,
            },
            max_concurrency=0,
        )
    return str(experiment.experiment_name)


def _feedback(answers: Mapping[str, Any]) -> list[Json]:
    """Return the judge's answers as feedback: numbers as scores, everything else as values."""
    feedback = []
    for key, value in answers.items():
        for part, part_value in value.items() if isinstance(value, dict) else [("", value)]:
            kind = "score" if isinstance(part_value, int | float) else "value"
            feedback.append({"key": part or key, kind: part_value})
    return feedback
