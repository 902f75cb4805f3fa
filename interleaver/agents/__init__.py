"""Planner and critic."""

from interleaver.agents.answers import parse_plan, parse_verdict
from interleaver.agents.protocols import Critic, Planner, Reviser

__all__ = ["Critic", "Planner", "Reviser", "parse_plan", "parse_verdict"]
