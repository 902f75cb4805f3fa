"""From what a model answered to a plan or a verdict.

The fine-tuned models answer `<think>reasoning</think><answer>{object}</answer>` (*tagged*), general models the object
alone, with the reasoning as its first field (*structured*). One reader takes both, since models mix them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

from interleaver.agents.literals import read_json, read_literal
from interleaver.errors import UnreadableAnswer
from interleaver.types import Plan, Step, Verdict

T = TypeVar("T")
MAX_ANSWER = 200_000
"""Characters of an answer that are looked at; a plan of fifty steps has about 40,000."""
MAX_TRIES = 30
"""Broken objects that are looked into before an answer counts as unreadable."""
NOTHING = {"", "null", "none", "n/a"}
"""What models write into a field, in quotes, to say that there is nothing."""

_EXACT = re.compile(r"<think>((?:(?!</think>).)*)</think>\s*<answer>\s*", re.DOTALL)
_THINK = re.compile(r"<(/?)(?:think|thinking|reasoning)>", re.IGNORECASE)
_ANSWER = re.compile(r"<answer>(.*?)(?=</?answer>|$)", re.IGNORECASE | re.DOTALL)
_SWALLOWED = re.compile(r"""["']?(?:step_number|execution_plan|previous_step_success)["']\s*:""")


def parse_plan(text: str) -> Plan:
    """Read a planner's answer, in either wire format.

    Args:
        text: the whole raw answer.

    Returns:
        The plan, its steps with the numbers that the model wrote (0 where it wrote none).

    Raises:
        UnreadableAnswer: there is no plan in it, more than one, or one that is incomplete; the message says what is
            wrong.
    """
    plan = parse_revision(text)
    if not plan.steps:
        raise UnreadableAnswer("execution_plan is empty; it must have at least one step")
    return plan


def parse_revision(text: str) -> Plan:
    """Read the answer of a planner that was to change a plan: as `parse_plan` does, but the plan may be empty."""
    return _parse(text, "execution_plan", _read_plan)


def parse_verdict(text: str) -> Verdict:
    """Read a critic's answer, in either wire format.

    Args:
        text: the whole raw answer.

    Raises:
        UnreadableAnswer: there is no verdict in it, more than one, or one that is incomplete; the message says what
            is wrong.
    """
    return _parse(text, "previous_step_success", _read_verdict)


def _parse(text: str, key: str, read: Callable[[dict[str, Any], str], T]) -> T:
    if not text.strip():
        raise UnreadableAnswer("the answer is empty")
    if len(text) > MAX_ANSWER:
        raise UnreadableAnswer(f"the answer has {len(text):,} characters; at most {MAX_ANSWER:,} are read")
    exact = _as_written(text.strip(), key)
    if exact is not None:
        return read(*exact)
    reasoning, rest = _split(text)
    found = read_literal_in(rest, key)
    _refuse_swallowed(found)
    return read(found, reasoning)


def _as_written(text: str, key: str) -> tuple[dict[str, Any], str] | None:
    """The object and the reasoning of an answer in exactly one of the two forms; None when it is in neither.

    An exact answer cannot be misread, whatever tags and keys its texts mention.
    """
    tagged = _EXACT.match(text)
    begin, end = (tagged.end(), "</answer>") if tagged else (0, "")
    if not text.startswith("{", begin):
        return None
    try:
        found, length = read_json(text[begin:])
    except (ValueError, RecursionError):
        return None
    whole = text[begin + length :].strip() == end and key in found
    return (found, tagged[1].strip() if tagged else "") if whole else None


def _refuse_swallowed(value: object, name: str = "") -> None:
    """Raise when a text goes on into the fields behind it, as it does where a quote is missing."""
    if isinstance(value, str) and _SWALLOWED.search(value):
        raise UnreadableAnswer(f"{name} has swallowed what follows it: a quote is missing")
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_swallowed(inner, key)
    if isinstance(value, list):
        for inner in value:
            _refuse_swallowed(inner, name)


def _split(text: str) -> tuple[str, str]:
    """The reasoning, and what follows it."""
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
    """Where the answer begins in a text without reasoning tags."""
    places = [place for place in (text.lower().find("<answer>"), text.find("{"), text.find("```")) if place >= 0]
    return min(places, default=len(text))


def read_literal_in(text: str, key: str) -> dict[str, Any]:
    """The one object with a key that a text holds.

    Raises:
        UnreadableAnswer: there is none, or there are several that differ, or a broken one stands behind a whole one.
    """
    answers = [match[1] for match in _ANSWER.finditer(text) if match[1].strip()]
    begun = re.compile(rf"""[{{,]\s*+["'“‘`]?{key}["'”’`]?\s*+:""")
    found: list[dict[str, Any]] = []
    problems: list[UnreadableAnswer] = []
    for part in answers or [text]:
        rest = _collect(part, key, found, problems)
        if found and begun.search(rest):
            raise UnreadableAnswer(f"behind an object with the key {key!r} stands another one, which is broken")
    if not found:
        missing = UnreadableAnswer(f"the answer has no object with the key {key!r}")
        raise problems[0] if problems and key in text else missing
    if any(other != found[0] for other in found[1:]):
        raise UnreadableAnswer(f"the answer has {len(found)} different objects with the key {key!r}")
    return found[0]


def _collect(part: str, key: str, found: list[dict[str, Any]], problems: list[UnreadableAnswer]) -> str:
    """Add every object of a text that has the key; returns what stands behind the last of them."""
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
            _collect(value, key, found, problems)
            behind = position
        elif isinstance(value, dict) and key in value:
            found.append(value)
            behind = position
        elif isinstance(value, list) and key == "execution_plan" and value and _is_step(value[0]):
            found.append({key: value})
            behind = position
        elif isinstance(value, dict | list) and key in json.dumps(value, default=str):
            position = begin + 1  # wrapped in another object
    return part[behind:]


def _next_object(text: str, position: int) -> int | None:
    match = re.compile(r'\{|\[(?=\s*\{)|"(?=\{\\")').search(text, position)
    return match.start() if match else None


def _is_step(value: object) -> bool:
    return isinstance(value, dict) and ("prompt" in value or "auxiliary_text" in value)


def _read_verdict(found: dict[str, Any], reasoning: str) -> Verdict:
    said = found["previous_step_success"]
    if isinstance(said, str) and said.strip().lower() in ("true", "false"):
        said = said.strip().lower() == "true"
    if not isinstance(said, bool):
        raise UnreadableAnswer(f"previous_step_success is {said!r}; it must be true or false")
    if not said and "refine_prompt" not in found:
        raise UnreadableAnswer("refine_prompt is missing; a step that did not succeed needs one")
    refined = _text(found, "refine_prompt", "the verdict")
    return Verdict(accepted=said, refined_prompt=refined or "", reasoning=_reasoning(found, reasoning))


def _read_plan(found: dict[str, Any], reasoning: str) -> Plan:
    steps = found["execution_plan"]
    if not isinstance(steps, list):
        raise UnreadableAnswer(f"execution_plan is a {type(steps).__name__}; it must be a list of steps")
    read = [_read_step(step, f"step {number}") for number, step in enumerate(steps, start=1)]
    return Plan(steps=read, reasoning=_reasoning(found, reasoning))


def _read_step(step: object, name: str) -> Step:
    if not isinstance(step, dict):
        raise UnreadableAnswer(f"{name} is {step!r:.60}; it must be an object")
    if "prompt" not in step:
        raise UnreadableAnswer(f"{name} has no prompt; it must be text, or null where nothing is drawn")
    read = Step(
        number=_number(step.get("step_number")),
        name=_text(step, "step_name", name) or "",
        instruction=_text(step, "instruction", name),
        prompt=_text(step, "prompt", name),
        auxiliary_text=_text(step, "auxiliary_text", name),
    )
    if not (read.draws or read.text):
        raise UnreadableAnswer(f"{name} is empty: it has neither a prompt nor a text")
    return read


def _number(said: object) -> int:
    if isinstance(said, str) and re.fullmatch(r"\s*\d{1,5}\s*", said, re.ASCII):
        said = int(said)
    return said if isinstance(said, int) and not isinstance(said, bool) and 0 <= said < 10**6 else 0


def _text(found: dict[str, Any], key: str, name: str) -> str | None:
    """A field that is text or nothing."""
    value = found.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise UnreadableAnswer(f"{key} of {name} is {value!r:.60}; it must be text or null")
    return None if value.strip().lower() in NOTHING else _clean(value)


def _reasoning(found: dict[str, Any], reasoning: str) -> str:
    own = found.get("reasoning")
    return _clean(own if isinstance(own, str) and own.strip() else reasoning).strip()


def _clean(text: str) -> str:
    """Text that can be stored anywhere: surrogate pairs joined, what is no character replaced."""
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return joined.replace("\x00", "")
