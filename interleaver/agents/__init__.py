"""Planner, critic and judge: their protocols and the parsers of their answers."""

from interleaver.agents.answers import parse_plan, parse_verdict
from interleaver.agents.protocols import Critic, Judge, Planner, Reviser

__all__ = ["Critic", "Judge", "Planner", "Reviser", "parse_plan", "parse_verdict"]
