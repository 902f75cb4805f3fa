"""Terminal output of a run: its progress, and the review questions that it asks the user."""

from __future__ import annotations

import json
import signal
from typing import Any

import click

from interleaver.graph.boundary.events import (
    AttemptFailed,
    AttemptStarted,
    Event,
    PlanReady,
    StepEnded,
    VerdictGiven,
)
from interleaver.store.images import ImageStore
from interleaver.types import Exchange, ImageRef


class ReviewPaused(Exception):
    """The user quit without answering; the question is asked again when the run is resumed."""


def plural(count: int, thing: str) -> str:
    """Return a count with its noun, such as "1 step" or "3 steps"."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def print_event(event: Event) -> None:
    """Print a progress event of a run."""
    match event:
        case PlanReady(plan=plan, kept_steps=kept_steps) if plan.steps:
            click.echo(f"\nPlan of {plural(len(plan.steps), 'step')}")
            for position, step in enumerate(plan.steps):
                click.echo(f"  {step.number:>2}. {step.name}{'  (unchanged)' if position < kept_steps else ''}")
            click.echo()
        case AttemptStarted(number=number, attempt=attempt, prompt=prompt, ahead=ahead):
            click.echo(f"Step {number}, attempt {attempt}{' (draft)' if ahead else ''}: {prompt}")
        case AttemptFailed(error=error):
            click.echo(click.style(f"      {error}", fg="red"))
        case VerdictGiven(verdict=verdict):
            mark = click.style("accepted", fg="green") if verdict.accepted else click.style("rejected", fg="yellow")
            click.echo(f"      {mark}. {verdict.reasoning}")
        case StepEnded(outcome=outcome, reason=reason) if not outcome.finished:
            click.echo(click.style(f"      {outcome}: {reason}", fg="red"))


def format_usage(exchanges: list[Exchange]) -> str | None:
    """Return a line with the number, tokens and total duration of model calls; None if there were no calls."""
    tokens_in = sum(exchange.usage.input_tokens for exchange in exchanges)
    tokens_out = sum(exchange.usage.output_tokens for exchange in exchanges)
    seconds = sum(exchange.seconds for exchange in exchanges)
    token_text = f"{tokens_in:,} tokens in, {tokens_out:,} out, {seconds:.0f} s"
    return f"{plural(len(exchanges), 'model call')}: {token_text}." if exchanges else None


class TerminalReviewer:
    """Asks the user at the terminal to review a plan or a step.

    Questions are written to standard error, so that standard output stays valid JSON with `--json`.
    """

    def __init__(self, images: ImageStore):
        self.images = images

    async def __call__(self, question: dict[str, Any]) -> dict[str, Any]:
        """Ask the user a review question of the run and return the answer.

        Raises:
            ReviewPaused: the user quit, or standard input ended.
        """
        if question["error"]:
            click.echo(click.style(question["error"], fg="red"), err=True)
        try:
            return _review_plan(question) if question["kind"] == "plan_review" else self._review_step(question)
        except click.Abort:
            raise ReviewPaused from None

    def _review_step(self, question: dict[str, Any]) -> dict[str, Any]:
        step = question["step"]
        click.echo(f"\nNo attempt at step {step['number']} was accepted: {step['instruction']}", err=True)
        for attempt in question["attempts"]:
            picture = self.images.path(ImageRef.model_validate(attempt["image"])) if attempt["image"] else "no picture"
            answer = attempt["error"] or (attempt["verdict"] or {}).get("reasoning", "")
            click.echo(f"  {attempt['attempt']}. {picture}\n     {answer}", err=True)
        while True:
            answer = _choose(
                "[1-9] keep that attempt, [w]rite a new prompt, [s]kip the picture, sto[p] the run, [q]uit for now"
            )
            if answer.isdecimal():
                return {"action": "pick", "attempt": int(answer)}
            if answer == "w":
                return {"action": "rewrite", "prompt": _ask("Prompt", question["attempts"][-1]["prompt"])}
            if answer in ("s", "p"):
                return {"action": "skip" if answer == "s" else "stop"}


def _review_plan(question: dict[str, Any]) -> dict[str, Any]:
    steps = {step["number"]: step for step in question["plan"]["steps"]}
    for number, step in steps.items():
        click.echo(f"  {number:>2}. {step['instruction'] or step['auxiliary_text']}", err=True)
    edits: dict[int, dict[str, Any]] = {}
    while True:
        answer = _choose("[a]pprove, [e]dit a step, [r]eject with feedback, [q]uit for now")
        if answer == "a":
            return {"action": "edit", "steps": list(edits.values())} if edits else {"action": "approve"}
        if answer == "r":
            return {"action": "reject", "feedback": _ask("What should be different?")}
        if answer == "e":
            number = _choose("Which step?")
            if not number.isdecimal() or int(number) not in steps:
                click.echo(
                    f"There is no step {json.dumps(number)}; the plan has {', '.join(map(str, steps))}", err=True
                )
                continue
            step = steps[int(number)]
            field = "instruction" if step["prompt"] else "auxiliary_text"
            answer = _ask("New text of the step", step[field])
            if answer != step[field]:
                edits[int(number)] = {"number": int(number), field: answer}


def _ask(question: str, default: str | None = None) -> str:
    # Ctrl-C must interrupt the prompt. The event loop's own handler would run only after the prompt, which blocks it.
    previous_handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        answer: str = click.prompt(question, default=default, err=True).strip()
    finally:
        signal.signal(signal.SIGINT, previous_handler)
    return answer


def _choose(question: str) -> str:
    answer = _ask(question)
    if answer == "q":
        raise click.Abort
    return answer
