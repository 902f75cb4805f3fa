"""Turn one request into an illustrated document: planner, image generator and critic as a LangGraph state machine.

This is the public API: everything that an application or a plugin needs can be imported from here. Names are imported
lazily, on first access, so importing the package stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interleaver.adapters.node import as_node as as_node
    from interleaver.adapters.tool import as_tool as as_tool
    from interleaver.agents import Critic as Critic
    from interleaver.agents import Judge as Judge
    from interleaver.agents import Planner as Planner
    from interleaver.agents import Reviser as Reviser
    from interleaver.agents import parse_plan as parse_plan
    from interleaver.agents import parse_verdict as parse_verdict
    from interleaver.agents.chat import ChatCritic as ChatCritic
    from interleaver.agents.chat import ChatPlanner as ChatPlanner
    from interleaver.errors import BackendError as BackendError
    from interleaver.errors import BackendUnavailable as BackendUnavailable
    from interleaver.errors import BadInput as BadInput
    from interleaver.errors import InterleaverError as InterleaverError
    from interleaver.errors import Refusal as Refusal
    from interleaver.errors import UnreadableAnswer as UnreadableAnswer
    from interleaver.graph.boundary.events import AttemptFailed as AttemptFailed
    from interleaver.graph.boundary.events import AttemptStarted as AttemptStarted
    from interleaver.graph.boundary.events import BlockReady as BlockReady
    from interleaver.graph.boundary.events import DocumentReady as DocumentReady
    from interleaver.graph.boundary.events import Event as Event
    from interleaver.graph.boundary.events import PictureReady as PictureReady
    from interleaver.graph.boundary.events import PlanReady as PlanReady
    from interleaver.graph.boundary.events import StepEnded as StepEnded
    from interleaver.graph.boundary.events import VerdictGiven as VerdictGiven
    from interleaver.graph.boundary.events import read_event as read_event
    from interleaver.graph.builder import build_graph as build_graph
    from interleaver.graph.context import Context as Context
    from interleaver.graph.context import RunSettings as RunSettings
    from interleaver.graph.planning import edit_plan as edit_plan
    from interleaver.pictures import Picture as Picture
    from interleaver.profile import Profile as Profile
    from interleaver.profile import load_profile as load_profile
    from interleaver.registry import create_backend as create_backend
    from interleaver.runner import Runner as Runner
    from interleaver.sandbox.assistant import SandboxAssistant as SandboxAssistant
    from interleaver.store.images import ImageStore as ImageStore
    from interleaver.tools import Capabilities as Capabilities
    from interleaver.tools import ImageGenerator as ImageGenerator
    from interleaver.types import Attempt as Attempt
    from interleaver.types import Document as Document
    from interleaver.types import ImageBlock as ImageBlock
    from interleaver.types import ImageRef as ImageRef
    from interleaver.types import Outcome as Outcome
    from interleaver.types import Plan as Plan
    from interleaver.types import Scores as Scores
    from interleaver.types import Step as Step
    from interleaver.types import StepResult as StepResult
    from interleaver.types import TextBlock as TextBlock
    from interleaver.types import Verdict as Verdict

_MODULES = {
    "interleaver.adapters.node": ["as_node"],
    "interleaver.adapters.tool": ["as_tool"],
    "interleaver.agents": ["Critic", "Judge", "Planner", "Reviser", "parse_plan", "parse_verdict"],
    "interleaver.agents.chat": ["ChatCritic", "ChatPlanner"],
    "interleaver.errors": [
        "BackendError",
        "BackendUnavailable",
        "BadInput",
        "InterleaverError",
        "Refusal",
        "UnreadableAnswer",
    ],
    "interleaver.graph.boundary.events": [
        "AttemptFailed",
        "AttemptStarted",
        "BlockReady",
        "DocumentReady",
        "Event",
        "PictureReady",
        "PlanReady",
        "StepEnded",
        "VerdictGiven",
        "read_event",
    ],
    "interleaver.graph.builder": ["build_graph"],
    "interleaver.graph.context": ["Context", "RunSettings"],
    "interleaver.graph.planning": ["edit_plan"],
    "interleaver.pictures": ["Picture"],
    "interleaver.profile": ["Profile", "load_profile"],
    "interleaver.registry": ["create_backend"],
    "interleaver.runner": ["Runner"],
    "interleaver.sandbox.assistant": ["SandboxAssistant"],
    "interleaver.store.images": ["ImageStore"],
    "interleaver.tools": ["Capabilities", "ImageGenerator"],
    "interleaver.types": [
        "Attempt",
        "Document",
        "ImageBlock",
        "ImageRef",
        "Outcome",
        "Plan",
        "Scores",
        "Step",
        "StepResult",
        "TextBlock",
        "Verdict",
    ],
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
