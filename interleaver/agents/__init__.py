"""Planner and critic."""

from interleaver.agents.answers import parse_plan, parse_verdict
from interleaver.agents.protocols import Critic, Planner

__all__ = ["Critic", "Planner", "parse_plan", "parse_verdict"]
