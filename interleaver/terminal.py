"""Talking to a person at a terminal: how a run goes, and the questions it asks."""

from __future__ import annotations

import json
import signal
from typing import Any

import click

from interleaver.graph.events import (
    AttemptFailed,
    AttemptStarted,
    Event,
    PlanReady,
    StepEnded,
    VerdictGiven,
)
from interleaver.traces.images import ImageStore
from interleaver.types import Exchange, ImageRef, Outcome


class Paused(Exception):
    """The person left the question open; it will be asked again when the run is carried on."""


def plural(count: int, thing: str) -> str:
    """For example "1 step" or "3 steps"."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def tell(event: Event) -> None:
    """Say what a run has just done."""
    match event:
        case PlanReady(plan=plan, kept=kept) if plan.steps:
            click.echo(f"\nPlan of {plural(len(plan.steps), 'step')}")
            for position, step in enumerate(plan.steps):
                click.echo(f"  {step.number:>2}. {step.name}{'  (stays)' if position < kept else ''}")
            click.echo()
        case AttemptStarted(number=number, attempt=attempt, prompt=prompt, ahead=ahead):
            click.echo(f"Step {number}, attempt {attempt}{' (ahead)' if ahead else ''}: {prompt}")
        case AttemptFailed(error=error):
            click.echo(click.style(f"      {error}", fg="red"))
        case VerdictGiven(verdict=verdict):
            mark = click.style("accepted", fg="green") if verdict.accepted else click.style("rejected", fg="yellow")
            click.echo(f"      {mark}. {verdict.reasoning}")
        case StepEnded(outcome=outcome, reason=reason) if outcome not in (Outcome.ACCEPTED, Outcome.TEXT):
            click.echo(click.style(f"      {outcome}: {reason}", fg="red"))


def usage(exchanges: list[Exchange]) -> str | None:
    """What the chat models of a run had to do; None when none was asked."""
    tokens_in = sum(exchange.usage.input_tokens for exchange in exchanges)
    tokens_out = sum(exchange.usage.output_tokens for exchange in exchanges)
    seconds = sum(exchange.seconds for exchange in exchanges)
    counted = f"{tokens_in:,} tokens in, {tokens_out:,} out, {seconds:.0f} s"
    return f"{plural(len(exchanges), 'model call')}: {counted}." if exchanges else None


class Reviewer:
    """Asks the person at the terminal; questions go to the error stream, so that `--json` stays clean."""

    def __init__(self, images: ImageStore):
        self.images = images

    async def __call__(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer a question of the run.

        Raises:
            Paused: the person left, or the input has ended.
        """
        if question["error"]:
            click.echo(click.style(question["error"], fg="red"), err=True)
        try:
            return _review_plan(question) if question["kind"] == "plan_review" else self._review_step(question)
        except click.Abort:
            raise Paused from None

    def _review_step(self, question: dict[str, Any]) -> dict[str, Any]:
        step = question["step"]
        click.echo(f"\nNo attempt at step {step['number']} was accepted: {step['instruction']}", err=True)
        for attempt in question["attempts"]:
            picture = self.images.path(ImageRef.model_validate(attempt["image"])) if attempt["image"] else "no picture"
            said = attempt["error"] or (attempt["verdict"] or {}).get("reasoning", "")
            click.echo(f"  {attempt['attempt']}. {picture}\n     {said}", err=True)
        while True:
            said = _choose("[1-9] keep that attempt, [w]rite a prompt, [s]kip the picture, sto[p] here, [q]uit for now")
            if said.isdecimal():
                return {"action": "pick", "attempt": int(said)}
            if said == "w":
                return {"action": "rewrite", "prompt": _ask("Prompt", question["attempts"][-1]["prompt"])}
            if said in ("s", "p"):
                return {"action": "skip" if said == "s" else "stop"}


def _review_plan(question: dict[str, Any]) -> dict[str, Any]:
    steps = {step["number"]: step for step in question["plan"]["steps"]}
    for number, step in steps.items():
        click.echo(f"  {number:>2}. {step['instruction'] or step['auxiliary_text']}", err=True)
    edits: dict[int, dict[str, Any]] = {}
    while True:
        said = _choose("[a]pprove, [e]dit a step, [r]eject with feedback, [q]uit for now")
        if said == "a":
            return {"action": "edit", "steps": list(edits.values())} if edits else {"action": "approve"}
        if said == "r":
            return {"action": "reject", "feedback": _ask("What should be different?")}
        if said == "e":
            number = _choose("Which step?")
            if not number.isdecimal() or int(number) not in steps:
                click.echo(
                    f"There is no step {json.dumps(number)}; the plan has {', '.join(map(str, steps))}", err=True
                )
                continue
            step = steps[int(number)]
            field = "instruction" if step["prompt"] else "auxiliary_text"
            said = _ask("What it should show", step[field])
            if said != step[field]:
                edits[int(number)] = {"number": int(number), field: said}


def _ask(question: str, default: str | None = None) -> str:
    # Ctrl-C must reach the prompt: the event loop, which it holds up, would only take note of it.
    at_work = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        said: str = click.prompt(question, default=default, err=True).strip()
    finally:
        signal.signal(signal.SIGINT, at_work)
    return said


def _choose(question: str) -> str:
    said = _ask(question)
    if said == "q":
        raise click.Abort
    return said
