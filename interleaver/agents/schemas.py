"""The wire formats as JSON schemas, for endpoints that can constrain a model's output."""

from __future__ import annotations

import json

from interleaver.types import Json, Plan


def _object(properties: Json) -> Json:
    """Return the schema of an object with exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _answer(title: str, description: str, properties: Json) -> Json:
    return {"title": title, "description": description, **_object(properties)}


TEXT: Json = {"type": "string"}
TEXT_OR_NULL: Json = {"anyOf": [{"type": "string"}, {"type": "null"}]}
STEP = _object(
    {
        "step_number": {"type": "integer"},
        "step_name": TEXT,
        "instruction": TEXT_OR_NULL,
        "prompt": TEXT_OR_NULL,
        "auxiliary_text": TEXT_OR_NULL,
    }
)
PLAN_SCHEMA = _answer(
    "plan",
    "All steps of an illustrated document.",
    {"reasoning": TEXT, "execution_plan": {"type": "array", "items": STEP}},
)
VERDICT_SCHEMA = _answer(
    "verdict",
    "Whether a step succeeded, and a better prompt if it did not.",
    {"reasoning": TEXT, "previous_step_success": {"type": "boolean"}, "refine_prompt": TEXT},
)
SCORES_SCHEMA = _answer(
    "scores",
    "Two scores of one picture.",
    {"reasoning": TEXT, "score": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}},
)


def write_plan(plan: Plan) -> str:
    """Return a plan in the wire format of a model's answer, without the reasoning."""
    steps = [
        {
            "step_number": step.number,
            "step_name": step.name,
            "instruction": step.instruction,
            "prompt": step.prompt,
            "auxiliary_text": step.auxiliary_text,
        }
        for step in plan.steps
    ]
    return json.dumps({"execution_plan": steps}, ensure_ascii=False, indent=1)


def tagged_grammar(schema: Json) -> Json:
    """Return the fields of a vLLM request that constrain a model to the tagged format.

    The reasoning between `<think>` and `</think>` is unconstrained; the content of `<answer>` must match the schema
    without its `reasoning`, which is already in the tags. The grammar is written in xgrammar's structural tags.
    """
    properties = {key: value for key, value in schema["properties"].items() if key != "reasoning"}
    answer = {"type": "json_schema", "json_schema": _object(properties)}
    tags = [
        {"type": "tag", "begin": "<think>", "content": {"type": "any_text"}, "end": "</think>"},
        {"type": "tag", "begin": "\n<answer>\n", "content": answer, "end": "\n</answer>"},
    ]
    tag = {"type": "structural_tag", "format": {"type": "sequence", "elements": tags}}
    return {"structured_outputs": {"structural_tag": json.dumps(tag)}}
