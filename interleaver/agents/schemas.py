"""The wire formats as schemas, for endpoints that can hold a model to one."""

from __future__ import annotations

import json
from typing import Any

Json = dict[str, Any]


def _object(title: str, description: str, properties: Json) -> Json:
    return {
        "title": title,
        "description": description,
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _nested(properties: Json) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


TEXT: Json = {"type": "string"}
TEXT_OR_NULL: Json = {"anyOf": [{"type": "string"}, {"type": "null"}]}
STEP = _nested(
    {
        "step_number": {"type": "integer"},
        "step_name": TEXT,
        "instruction": TEXT_OR_NULL,
        "prompt": TEXT_OR_NULL,
        "auxiliary_text": TEXT_OR_NULL,
    }
)
PLAN_SCHEMA = _object(
    "plan",
    "All steps of an illustrated document.",
    {"reasoning": TEXT, "execution_plan": {"type": "array", "items": STEP}},
)
VERDICT_SCHEMA = _object(
    "verdict",
    "Whether a step succeeded, and a better prompt if it did not.",
    {"reasoning": TEXT, "previous_step_success": {"type": "boolean"}, "refine_prompt": TEXT},
)


def tagged_grammar(schema: Json) -> Json:
    """The fields of a vLLM request that hold a model to the tagged format.

    The reasoning between `<think>` and `</think>` is left free; what stands in `<answer>` must fit the schema
    (without its `reasoning`, which the tags already hold). The language is that of xgrammar's structural tags.
    """
    properties = {key: value for key, value in schema["properties"].items() if key != "reasoning"}
    answer = {"type": "json_schema", "json_schema": _nested(properties)}
    tags = [
        {"type": "tag", "begin": "<think>", "content": {"type": "any_text"}, "end": "</think>"},
        {"type": "tag", "begin": "\n<answer>\n", "content": answer, "end": "\n</answer>"},
    ]
    tag = {"type": "structural_tag", "format": {"type": "sequence", "elements": tags}}
    return {"structured_outputs": {"structural_tag": json.dumps(tag)}}
