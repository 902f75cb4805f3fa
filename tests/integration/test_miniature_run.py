"""`runs/miniature.sh` from end to end, with so few steps that nothing is learned; and again, where it stopped."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration
SCRIPT = Path(__file__).parents[2] / "runs" / "miniature.sh"


def miniature(out):
    bin = Path(sys.executable).parent
    few = {"REQUESTS": "40", "HELD_OUT": "4", "STEPS": "2", "OUT": str(out), "PATH": f"{bin}:{os.environ['PATH']}"}
    done = subprocess.run([SCRIPT, "7"], env={**os.environ, **few}, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_script_goes_all_the_way_and_on(tmp_path):
    said = miniature(tmp_path)
    assert "| + critic after GRPO |" in said and "| GRPO against SFT, on the same steps |" in said
    results = json.loads((tmp_path / "seed-7" / "results.json").read_text())
    assert {name: len(rows) for name, rows in results["documents"].items()} == dict.fromkeys(
        ("alone", "planner", "sft", "grpo", "rules", "exact"), 4
    )
    assert all(one["success"] in (True, False) for one in results["documents"]["alone"])
    model = tmp_path / "seed-7" / "critic-sft" / "model" / "model.safetensors"
    made = model.stat().st_mtime_ns
    (tmp_path / "seed-7" / "critic-grpo" / "model" / "README.md").unlink()
    assert "| + critic after GRPO |" in miniature(tmp_path)
    assert model.stat().st_mtime_ns == made  # what is there is not done again
