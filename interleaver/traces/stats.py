"""Statistics over many traces, accumulated one trace at a time."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from interleaver.traces.failure_kinds import failure_kind
from interleaver.traces.trace import SkippedRecord, Trace


class TraceStats:
    """Accumulated statistics, whose size does not grow with the number of traces."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self.steps = 0
        self.review_counts: Counter[int] = Counter()
        self.accept_counts: Counter[int] = Counter()
        self.kinds: Counter[str] = Counter()
        self.problems: Counter[str] = Counter()
        self.skip_counts: Counter[str] = Counter()
        self.tokens: dict[str, Counter[str]] = defaultdict(Counter)
        self.seconds: dict[str, float] = defaultdict(float)
        self.drawings = 0
        self.tags: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, trace: Trace | SkippedRecord) -> None:
        """Add a trace or a skipped record to the statistics."""
        if isinstance(trace, SkippedRecord):
            self.skip_counts[trace.reason] += 1
            return
        self.statuses[trace.status] += 1
        self.steps += len(trace.plan.steps)
        self.outcomes.update(str(result.outcome) if result else "not reached" for result in trace.results)
        self.models.update(f"{role}: {model}" for role, model in trace.models.items())
        for name, value in trace.tags.items():
            self.tags[name][value] += 1
        self.seconds["planner"] += trace.plan_seconds or 0
        for attempt in trace.attempts:
            self.drawings += attempt.image is not None
            self.seconds["generator"] += attempt.draw_seconds or 0
            self.seconds["critic"] += attempt.review_seconds or 0
            if attempt.verdict:
                self.review_counts[attempt.attempt] += 1
                self.accept_counts[attempt.attempt] += attempt.verdict.accepted
                if not attempt.verdict.accepted:
                    self.kinds[failure_kind(attempt.verdict.reasoning)] += 1
        for exchange in trace.exchanges():
            self.tokens[exchange.role]["calls"] += 1
            self.tokens[exchange.role]["input_tokens"] += exchange.usage.input_tokens
            self.tokens[exchange.role]["output_tokens"] += exchange.usage.output_tokens
            if exchange.problem:
                self.problems[f"{exchange.role}: {exchange.problem}"] += 1

    def summary(self) -> dict[str, Any]:
        """Return all statistics as a JSON object."""
        reviewed_count, accepted_count = sum(self.review_counts.values()), sum(self.accept_counts.values())
        return {
            "runs": sum(self.statuses.values()),
            "statuses": dict(self.statuses),
            "steps": self.steps,
            "outcomes": dict(self.outcomes),
            "drawings": self.drawings,
            "accepted_share": round(accepted_count / reviewed_count, 4) if reviewed_count else None,
            "accepted_at_attempt": {
                number: {"reviewed": self.review_counts[number], "accepted": self.accept_counts[number]}
                for number in sorted(self.review_counts)
            },
            "failure_kinds": dict(self.kinds.most_common()),
            "models": dict(self.models),
            "calls": {role: dict(counts) for role, counts in self.tokens.items()},
            "call_problems": dict(self.problems),
            "seconds": {role: round(seconds, 1) for role, seconds in self.seconds.items()},
            "tags": {name: dict(values.most_common()) for name, values in self.tags.items()},
            "skipped": dict(self.skip_counts),
        }
