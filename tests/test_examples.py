"""What the documentation shows runs as it is."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import REPOSITORY

ROOT = REPOSITORY
ELSEWHERE = {"openai_agents", "server_client"}
"""Examples that need a paid model or a server: the tests of the adapters and of the server run them."""


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short(example):
    assert len(example.read_text().splitlines()) <= 30
    assert len([line for line in example.read_text().splitlines() if line.strip()]) <= 25


RUNNABLE = [path for path in sorted((ROOT / "examples").glob("*.py")) if path.stem not in ELSEWHERE]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Every example, run in a folder of its own, two at a time."""

    def run(example):
        folder = tmp_path_factory.mktemp(example.stem)
        return subprocess.run([sys.executable, example], cwd=folder, capture_output=True, text=True, timeout=120)

    with ThreadPoolExecutor(2) as threads:
        return dict(zip(RUNNABLE, threads.map(run, RUNNABLE), strict=True))


@pytest.mark.parametrize("example", RUNNABLE, ids=lambda path: path.stem)
def test_examples_run(example, finished):
    assert finished[example].returncode == 0, finished[example].stderr
    assert "boat" in finished[example].stdout


def test_the_program_in_the_readme_runs(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "[picture: " in result.stdout
