"""`experiments/miniature.sh` from end to end, with so few steps that nothing is learned."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import REPOSITORY

pytestmark = pytest.mark.integration
SCRIPT = REPOSITORY / "experiments" / "miniature.sh"


def test_the_script_goes_all_the_way(tmp_path):
    bin = Path(sys.executable).parent
    few = {"REQUESTS": "30", "HELD_OUT": "2", "STEPS": "2", "OUT": str(tmp_path), "PATH": f"{bin}:{os.environ['PATH']}"}
    done = subprocess.run([SCRIPT, "7"], env={**os.environ, **few}, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "| + critic after GRPO |" in done.stdout and "| GRPO against SFT, on the same steps |" in done.stdout
    results = json.loads((tmp_path / "seed-7" / "results.json").read_text())
    assert {name: len(rows) for name, rows in results["documents"].items()} == dict.fromkeys(
        ("alone", "planner", "sft", "grpo", "rules", "exact"), 2
    )
    assert all(one["success"] in (True, False) for one in results["documents"]["alone"])
