"""The benchmarks, by name."""

from __future__ import annotations

from interleaver.evals.benchmarks.base import Benchmark
from interleaver.evals.benchmarks.comm import Comm
from interleaver.evals.benchmarks.risebench import RiseBench
from interleaver.evals.benchmarks.ueval import UEval
from interleaver.evals.benchmarks.wise import Wise

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Wise("wise-verified"),
        Wise("wise-legacy"),
        UEval(),
        RiseBench(),
        Comm(1),
        Comm(2),
        Comm(3),
        Comm(4),
    )
}
