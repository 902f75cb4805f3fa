"""Running the graph inside another LangGraph run: which settings count, and where its checkpoints go."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph._internal._constants import CONFIG_KEY_CHECKPOINT_NS, CONFIG_KEY_CHECKPOINTER, CONFIG_KEY_SCRATCHPAD
from langgraph.config import get_config

from interleaver.errors import BadInput
from interleaver.graph.boundary.contexts import given_settings
from interleaver.graph.context import Context, RunSettings
from interleaver.graph.state import NO_LIMIT


def nested_context(parent_context: object, settings: RunSettings | None) -> Context:
    """Return the context of a nested run: the given settings, and what the parent's context adds to them."""
    own_settings = settings.model_dump(exclude_unset=True) if settings else {}
    return Context.model_validate(given_settings(parent_context) | own_settings)


def asks_a_person(context: Context) -> bool:
    """Return whether a run with these settings may interrupt to ask a person."""
    return context.review or context.on_exhausted == "ask"


def check_can_ask(name: str) -> None:
    """Check that a person can be asked, which takes a LangGraph run with a checkpointer around this call.

    Raises:
        BadInput: there is none, so nobody could resume the run after the question.
    """
    if not _configurable().get(CONFIG_KEY_CHECKPOINTER):
        raise BadInput(
            f"{name!r} asks a person, and only a LangGraph run with a checkpointer can wait for the answer; compile "
            'the agent with a checkpointer, or set review=False and on_exhausted to another value than "ask"'
        )


def call_config(call_id: str | None = None) -> RunnableConfig:
    """Return the config for a nested run.

    Several calls in one node share its checkpoint namespace, where LangGraph tells them apart by the order in which
    they start; that may be another order after an interrupt, and then one call gets the results of another.

    Args:
        call_id: identity of the call within its node, by which its checkpoints are found again; None for the order.
    """
    config: RunnableConfig = {"recursion_limit": NO_LIMIT}
    configurable = _configurable()
    scratchpad = configurable.get(CONFIG_KEY_SCRATCHPAD)
    if call_id is None or scratchpad is None:
        return config
    # A part made of digits is what LangGraph itself appends, so it finds the subgraph in spite of it.
    digits = int(hashlib.sha256(call_id.encode()).hexdigest()[:12], 16)
    namespace = f"{configurable.get(CONFIG_KEY_CHECKPOINT_NS, '')}|{digits}"
    own_scratchpad = dataclasses.replace(scratchpad, subgraph_counter=lambda: 0)
    overrides = {CONFIG_KEY_CHECKPOINT_NS: namespace, CONFIG_KEY_SCRATCHPAD: own_scratchpad}
    config["configurable"] = configurable | overrides  # LangGraph takes it instead of the surrounding run's
    return config


def _configurable() -> dict[str, Any]:
    try:
        return get_config().get("configurable", {})
    except RuntimeError:  # outside of any run
        return {}
