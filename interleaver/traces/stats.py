"""Figures over many traces, one after another."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from interleaver.traces.failure_kinds import failure_kind
from interleaver.traces.trace import Skipped, Trace


class Stats:
    """Counts that grow with the kinds of things, not with the number of traces."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self.steps = 0
        self.judged: Counter[int] = Counter()
        self.accepted: Counter[int] = Counter()
        self.kinds: Counter[str] = Counter()
        self.problems: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.tokens: dict[str, Counter[str]] = defaultdict(Counter)
        self.seconds: dict[str, float] = defaultdict(float)
        self.drawings = 0
        self.tags: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, found: Trace | Skipped) -> None:
        """Take a trace, or what could not be read, into account."""
        if isinstance(found, Skipped):
            self.skipped[found.reason] += 1
            return
        self.statuses[found.status] += 1
        self.steps += len(found.plan.steps)
        self.outcomes.update(str(result.outcome) if result else "not reached" for result in found.results)
        self.models.update(f"{role}: {model}" for role, model in found.models.items())
        for name, value in found.tags.items():
            self.tags[name][value] += 1
        self.seconds["planner"] += found.plan_seconds or 0
        for attempt in found.attempts:
            self.drawings += attempt.image is not None
            self.seconds["generator"] += attempt.draw_seconds or 0
            self.seconds["critic"] += attempt.judge_seconds or 0
            if attempt.verdict:
                self.judged[attempt.attempt] += 1
                self.accepted[attempt.attempt] += attempt.verdict.accepted
                if not attempt.verdict.accepted:
                    self.kinds[failure_kind(attempt.verdict.reasoning)] += 1
        for exchange in found.exchanges():
            self.tokens[exchange.role]["calls"] += 1
            self.tokens[exchange.role]["input_tokens"] += exchange.usage.input_tokens
            self.tokens[exchange.role]["output_tokens"] += exchange.usage.output_tokens
            if exchange.problem:
                self.problems[f"{exchange.role}: {exchange.problem}"] += 1

    def summary(self) -> dict[str, Any]:
        """All figures, for a machine."""
        judged, accepted = sum(self.judged.values()), sum(self.accepted.values())
        return {
            "runs": sum(self.statuses.values()),
            "statuses": dict(self.statuses),
            "steps": self.steps,
            "outcomes": dict(self.outcomes),
            "drawings": self.drawings,
            "accepted_share": round(accepted / judged, 4) if judged else None,
            "accepted_at_attempt": {
                number: {"judged": self.judged[number], "accepted": self.accepted[number]}
                for number in sorted(self.judged)
            },
            "failure_kinds": dict(self.kinds.most_common()),
            "models": dict(self.models),
            "calls": {role: dict(counts) for role, counts in self.tokens.items()},
            "call_problems": dict(self.problems),
            "seconds": {role: round(seconds, 1) for role, seconds in self.seconds.items()},
            "tags": {name: dict(values.most_common()) for name, values in self.tags.items()},
            "skipped": dict(self.skipped),
        }
