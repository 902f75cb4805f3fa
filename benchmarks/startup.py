"""Measure imports, and a whole `interleaver run` of the cat: wall time and peak memory.

    python benchmarks/startup.py

The ratio compares `import interleaver` with `import langgraph.graph`, in alternation, since machines are noisy.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REQUEST = "How to draw a cat step by step?"
HEAVY = ("torch", "transformers", "diffusers", "openai", "gradio")


def seconds_of(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def imports(rounds: int = 7) -> None:
    seconds_of("import interleaver")  # writes the bytecode
    pairs = [(seconds_of("import langgraph.graph"), seconds_of("import interleaver")) for _ in range(rounds)]
    langgraph, interleaver = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"import langgraph.graph         {langgraph:.3f} s")
    print(f"import interleaver             {interleaver:.3f} s")
    print(f"ratio                          {interleaver / langgraph:.3f} (at most 1.25)")
    loaded = f"import sys, interleaver; print([name for name in {HEAVY} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", loaded], check=True, capture_output=True, text=True).stdout.strip()
    print(f"heavy packages imported        {answer}")


def whole_run(rounds: int = 5) -> None:
    """The command as a user runs it; peak memory is that of the child process."""
    command = shutil.which("interleaver", path=str(Path(sys.executable).parent))
    assert command, "install the package first"
    results = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as out:
            started = time.perf_counter()
            child = os.posix_spawn(
                command,
                [command, "run", REQUEST, "--out", out],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
            )
            _, status, usage = os.wait4(child, 0)
            assert status == 0
            results.append((time.perf_counter() - started, usage.ru_maxrss / 1024))
    print(f"interleaver run (cat)          {statistics.median(r[0] for r in results):.2f} s (under 3 s)")
    print(f"peak memory                    {max(r[1] for r in results):.0f} MiB (under 250 MB)")


if __name__ == "__main__":
    imports()
    whole_run()
