"""Measure import time, and the wall time and peak memory of a whole `interleaver run`.

    python benchmarks/startup.py

The ratio compares the imports of an embedding application with `import langgraph.graph`; the two alternate, since
timings are noisy. `import interleaver` alone loads almost nothing, because names are loaded on first use.
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

EMBEDDING = "from interleaver import Context, as_tool, build_graph"
REQUEST = "How to draw a cat step by step?"
HEAVY = ("torch", "transformers", "diffusers", "openai", "gradio")


def seconds_of(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def imports(rounds: int = 7) -> None:
    seconds_of(EMBEDDING)  # writes the bytecode
    pairs = [(seconds_of("import langgraph.graph"), seconds_of(EMBEDDING)) for _ in range(rounds)]
    langgraph, interleaver = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"import langgraph.graph         {langgraph:.3f} s")
    print(f"build_graph, as_tool, Context  {interleaver:.3f} s")
    print(f"ratio                          {interleaver / langgraph:.3f} (at most 1.25)")
    loaded = f"import sys; {EMBEDDING}; print([name for name in {HEAVY} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", loaded], check=True, capture_output=True, text=True).stdout.strip()
    print(f"heavy packages imported        {answer}")


def whole_run(rounds: int = 5) -> None:
    """Run the command as a user would; the peak memory is that of the child process."""
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
