"""Planner and critic: the protocols that every planning and judging model meets."""

from interleaver.agents.protocols import Critic, Planner

__all__ = ["Critic", "Planner"]
