"""Parsing of model answers into plans and verdicts.

The fine-tuned models answer `<think>reasoning</think><answer>{object}</answer>` (*tagged*); general models answer with
the object alone, whose first field is the reasoning (*structured*). One parser accepts both, since models mix them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import ValidationError

from interleaver.agents.backslashes import restore_backslashes
from interleaver.agents.literals import read_json, read_literal
from interleaver.errors import UnreadableAnswer, explain
from interleaver.types import Plan, Step, Verdict

T = TypeVar("T")
MAX_ANSWER = 200_000
"""Maximum length of an answer in characters; a plan of fifty steps has about 40,000."""
MAX_TRIES = 30
"""Maximum number of malformed objects that are tried before an answer counts as unreadable."""
NULL_WORDS = {"", "null", "none", "n/a"}
"""Strings that models write into a field instead of null."""

_EXACT = re.compile(r"<think>((?:(?!</think>).)*)</think>\s*<answer>\s*", re.DOTALL)
_THINK = re.compile(r"<(/?)(?:think|thinking|reasoning)>", re.IGNORECASE)
_ANSWER = re.compile(r"<answer>(.*?)(?=</?answer>|$)", re.IGNORECASE | re.DOTALL)
_CLOSED_ANSWER = re.compile(r"<answer>.*?(?:</answer>|$)", re.IGNORECASE | re.DOTALL)
_KEY_IN_TEXT = re.compile(r"""["']?(?:step_number|execution_plan|previous_step_success)["']\s*:""")


def parse_plan(text: str) -> Plan:
    """Read a planner's answer, in either wire format.

    Args:
        text: the whole raw answer.

    Returns:
        The plan, with the step numbers that the model wrote (0 if it wrote none).

    Raises:
        UnreadableAnswer: the answer has no plan, several plans, or an incomplete one; the message says what is wrong.
    """
    plan = parse_revision(text)
    if not plan.steps:
        raise UnreadableAnswer("execution_plan is empty; it must have at least one step")
    return plan


def parse_revision(text: str) -> Plan:
    """Read a planner's answer to a revision request; like `parse_plan`, but the plan may be empty."""
    return _parse(text, "execution_plan", _read_plan)


def parse_verdict(text: str) -> Verdict:
    """Read a critic's answer, in either wire format.

    Args:
        text: the whole raw answer.

    Raises:
        UnreadableAnswer: the answer has no verdict, several verdicts, or an incomplete one; the message says what is
            wrong.
    """
    return _parse(text, "previous_step_success", _read_verdict)


def _parse(text: str, key: str, read: Callable[[dict[str, Any], str], T]) -> T:
    if not text.strip():
        raise UnreadableAnswer("the answer is empty")
    if len(text) > MAX_ANSWER:
        raise UnreadableAnswer(f"the answer has {len(text):,} characters; at most {MAX_ANSWER:,} are read")
    exact = _parse_exact(text.strip(), key)
    if exact is not None:
        answer, reasoning = exact
    else:
        reasoning, answer_text = _split(text)
        answer = read_literal_in(answer_text, key)
        _refuse_missing_quote(answer)
    try:
        return read(restore_backslashes(answer, text.rpartition("</think>")[2]), reasoning)
    except ValidationError as error:  # a text beyond its limit
        raise UnreadableAnswer(explain(error)) from None


def _parse_exact(text: str, key: str) -> tuple[dict[str, Any], str] | None:
    """Return the object and the reasoning of an answer that follows one of the two formats exactly; else None.

    Such an answer cannot be misread, even if its texts contain tags or keys of the format.
    """
    tagged = _EXACT.match(text)
    begin, end = (tagged.end(), "</answer>") if tagged else (0, "")
    if not text.startswith("{", begin):
        return None
    try:
        answer, length = read_json(text[begin:])
    except (ValueError, RecursionError):
        return None
    whole = text[begin + length :].strip() == end and key in answer
    return (answer, tagged[1].strip() if tagged else "") if whole else None


def _refuse_missing_quote(value: object, name: str = "") -> None:
    """Raise if a text runs on into the fields after it, which happens when its closing quote is missing."""
    if isinstance(value, str) and _KEY_IN_TEXT.search(value):
        raise UnreadableAnswer(f"{name} contains the fields that follow it; its closing quote is missing")
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_missing_quote(inner, key)
    if isinstance(value, list):
        for inner in value:
            _refuse_missing_quote(inner, name)


def _split(text: str) -> tuple[str, str]:
    """Split an answer into its reasoning and the text after it."""
    tags = list(_THINK.finditer(text))
    closing = [tag for tag in tags if tag[1]]
    if closing:
        return _THINK.sub("", text[: closing[-1].start()]).strip(), text[closing[-1].end() :]
    if tags:  # the reasoning was never closed; only an answer tag can tell where it ends
        answer = _ANSWER.search(text)
        if not answer:
            raise UnreadableAnswer("the reasoning is not closed by </think> and no <answer> follows")
        return _THINK.sub("", text[: answer.start()]).strip(), text[answer.start() :]
    return text[: _begin(text)].strip(), text


def _begin(text: str) -> int:
    """Return where the answer begins in a text without reasoning tags."""
    places = [place for place in (text.lower().find("<answer>"), text.find("{"), text.find("```")) if place >= 0]
    return min(places, default=len(text))


def read_literal_in(text: str, key: str) -> dict[str, Any]:
    """Return the only object in a text that has a key.

    Raises:
        UnreadableAnswer: there is no such object, there are several different ones, or a malformed one follows a valid
            one.
    """
    answers = [match[1] for match in _ANSWER.finditer(text) if match[1].strip()]
    outside = _CLOSED_ANSWER.sub(" ", text)
    key_pattern = re.compile(rf"""[{{,]\s*+["'“‘`]?{key}["'”’`]?\s*+:""")
    objects: list[dict[str, Any]] = []
    problems: list[UnreadableAnswer] = []
    for part in [*answers, outside if answers else text, text]:
        if part is text and objects:
            break  # the tags enclose the answer; if they enclose no object, they are part of its texts
        remainder = _collect(part, key, objects, problems)
        if objects and key_pattern.search(remainder):
            raise UnreadableAnswer(f"an object with the key {key!r} is followed by another one that is malformed")
    if not objects:
        missing = UnreadableAnswer(f"the answer has no object with the key {key!r}")
        raise problems[0] if problems and key in text else missing
    if any(other != objects[0] for other in objects[1:]):
        raise UnreadableAnswer(f"the answer has {len(objects)} different objects with the key {key!r}")
    return objects[0]


def _collect(part: str, key: str, objects: list[dict[str, Any]], problems: list[UnreadableAnswer]) -> str:
    """Append every object in a text that has the key to `objects`, and return the text after the last one."""
    position = behind = 0
    while (begin := _next_object(part, position)) is not None and len(problems) < MAX_TRIES:
        try:
            value, length = read_literal(part[begin:])
        except UnreadableAnswer as error:
            problems.append(error)
            position = begin + 1
            continue
        position = begin + max(length, 1)
        if isinstance(value, str) and key in value:  # the object was encoded twice
            _collect(value, key, objects, problems)
            behind = position
        elif isinstance(value, dict) and key in value:
            objects.append(value)
            behind = position
        elif isinstance(value, list) and key == "execution_plan" and value and _is_step(value[0]):
            objects.append({key: value})
            behind = position
        elif isinstance(value, dict | list) and key in json.dumps(value, default=str):
            position = begin + 1  # wrapped in another object
    return part[behind:]


def _next_object(text: str, position: int) -> int | None:
    match = re.compile(r'\{|\[(?=\s*\{)|"(?=\{\\")').search(text, position)
    return match.start() if match else None


def _is_step(value: object) -> bool:
    return isinstance(value, dict) and ("prompt" in value or "auxiliary_text" in value)


def _read_verdict(answer: dict[str, Any], reasoning: str) -> Verdict:
    success = answer["previous_step_success"]
    if isinstance(success, str) and success.strip().lower() in ("true", "false"):
        success = success.strip().lower() == "true"
    if not isinstance(success, bool):
        raise UnreadableAnswer(f"previous_step_success is {success!r}; it must be true or false")
    if not success and "refine_prompt" not in answer:
        raise UnreadableAnswer("refine_prompt is missing; it is required when previous_step_success is false")
    refined_prompt = _text(answer, "refine_prompt", "the verdict")
    return Verdict(accepted=success, refined_prompt=refined_prompt or "", reasoning=_reasoning(answer, reasoning))


def _read_plan(answer: dict[str, Any], reasoning: str) -> Plan:
    steps = _decoded(answer["execution_plan"])
    if not isinstance(steps, list):
        raise UnreadableAnswer(f"execution_plan is a {type(steps).__name__}; it must be a list of steps")
    read = [_read_step(step, f"step {number}") for number, step in enumerate(steps, start=1)]
    return Plan(steps=read, reasoning=_reasoning(answer, reasoning))


def _read_step(step: object, name: str) -> Step:
    step = _decoded(step)
    if not isinstance(step, dict):
        raise UnreadableAnswer(f"{name} is {step!r:.60}; it must be an object")
    if "prompt" not in step:
        raise UnreadableAnswer(f"{name} has no prompt; it must be text, or null if nothing is drawn")
    read = Step(
        number=_number(step.get("step_number")),
        name=_name(step, name),
        instruction=_text(step, "instruction", name),
        prompt=_text(step, "prompt", name),
        auxiliary_text=_text(step, "auxiliary_text", name),
    )
    if not (read.draws or read.text):
        raise UnreadableAnswer(f"{name} is empty: it has neither a prompt nor a text")
    return read


def _decoded(value: object) -> object:
    """Return a list or object that was encoded as a text; anything else as it is."""
    if isinstance(value, str) and value.strip().startswith(("[", "{")):
        return read_literal(value.strip())[0]
    return value


def _name(step: dict[str, Any], name: str) -> str:
    value = step.get("step_name")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return _text(step, "step_name", name) or ""


def _number(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,5}\s*", value, re.ASCII):
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**6 else 0


def _text(answer: dict[str, Any], key: str, name: str) -> str | None:
    """Return a text field; None if it is missing, null, or one of `NULL_WORDS`."""
    value = answer.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise UnreadableAnswer(f"{key} of {name} is {value!r:.60}; it must be text or null")
    return None if value.strip().lower() in NULL_WORDS else _clean(value)


def _reasoning(answer: dict[str, Any], reasoning: str) -> str:
    field = answer.get("reasoning")
    return _clean(field if isinstance(field, str) and field.strip() else reasoning).strip()


def _clean(text: str) -> str:
    """Return text that any store accepts: surrogate pairs joined, lone surrogates replaced, NUL characters removed."""
    decoded_text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return decoded_text.replace("\x00", "")
