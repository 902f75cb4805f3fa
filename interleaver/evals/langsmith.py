"""A run of a benchmark in LangSmith: the items as a dataset, each system and judge as an experiment with evaluators."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from interleaver.errors import BadInput
from interleaver.evals.evaluation import Evaluation
from interleaver.evals.report import Json

A_REQUEST = 100
"""Examples that are sent at a time."""


def upload(evaluation: Evaluation, found: Json) -> list[str]:
    """Send the items, the outputs and the scores, in the same numbers as the report.

    The address and the key come from the environment (`LANGSMITH_ENDPOINT`, `LANGSMITH_API_KEY`).

    Args:
        evaluation: whose outputs are sent.
        found: what `interleaver.evals.report.results` gave.

    Returns:
        The names of the experiments.

    Raises:
        BadInput: LangSmith cannot be reached, or refuses.
    """
    from langsmith import Client
    from langsmith.utils import LangSmithError

    client = Client()
    if not (key := client.api_key or "").isascii() or not key.isprintable():
        raise BadInput("LANGSMITH_API_KEY has characters that no key has; was it copied with something around it?")
    try:
        examples = _dataset(client, evaluation, found)
        return [_experiment(client, evaluation, found, one, examples) for one in found["systems"]]
    except LangSmithError as error:
        said = str(error).partition("\n")[0].replace(client.api_key or "\n", "***")
        raise BadInput(f"LangSmith: {said}") from None


def _dataset(client: Any, evaluation: Evaluation, found: Json) -> list[Any]:
    """The examples of the items that were asked for; those that are there already are taken as they are."""
    name = f"{found['benchmark']} {found['data']['sha256'][:12]}"
    if client.has_dataset(dataset_name=name):
        dataset = client.read_dataset(dataset_name=name)
    else:
        dataset = client.create_dataset(name, description=found["title"], metadata=found["data"])
    ids = {item.id: _id(dataset.id, item.id) for item in evaluation.data.items}
    there = {example.id for example in client.list_examples(dataset_id=dataset.id)}
    new = [
        {
            "id": ids[item.id],
            "inputs": {"item": item.id, "request": item.request},
            "metadata": {"group": item.group},
        }
        for item in evaluation.data.items
        if ids[item.id] not in there
    ]
    for start in range(0, len(new), A_REQUEST):
        client.create_examples(dataset_id=dataset.id, examples=new[start : start + A_REQUEST])
    wanted = set(ids.values())
    return [example for example in client.list_examples(dataset_id=dataset.id) if example.id in wanted]


def _id(dataset: UUID, item: str) -> UUID:
    """The id of an item's example: always the same, so that uploading again adds nothing."""
    return uuid5(NAMESPACE_URL, f"{dataset}/{item}")


def _experiment(client: Any, evaluation: Evaluation, found: Json, one: Json, examples: list[Any]) -> str:
    outputs = evaluation.outputs(one["system"])

    def target(inputs: Mapping[str, Any]) -> Json:
        output = outputs[inputs["item"]]
        return output.model_dump(include={"blocks", "run_id", "drawings", "seconds", "cost"})

    def evaluator(run: Any, example: Any) -> Json:
        said = one["items"][example.inputs["item"]]
        score = [] if said["score"] is None else [{"key": "score", "score": said["score"]}]
        return {"results": [*score, *_feedback(said["answers"])]}

    with redirect_stdout(sys.stderr):  # the client tells where to look, on standard output
        results = client.evaluate(
            target,
            data=[example for example in examples if example.inputs["item"] in one["items"]],
            evaluators=[evaluator],
            experiment_prefix=f"{found['benchmark']} {one['system']} {one['judge']}",
            metadata={
                **{f"overall.{name}": score["value"] for name, score in one["overall"].items()},
                "judge": one["judge"],
                "partial": one["partial"],
                "data": found["data"]["sha256"],
            },
            max_concurrency=0,
        )
    return str(results.experiment_name)


def _feedback(answers: Mapping[str, Any]) -> list[Json]:
    """What the judge said, as feedback: numbers as scores, words as values."""
    found = []
    for key, value in answers.items():
        for part, said in value.items() if isinstance(value, dict) else [("", value)]:
            kind = "score" if isinstance(said, int | float) else "value"
            found.append({"key": part or key, kind: said})
    return found
