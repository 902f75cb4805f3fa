"""The wheel, as it would be uploaded, in an empty folder."""

import json
import os
import subprocess
import sys

import pytest
from support import REPOSITORY

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder into which the wheel was installed, without its dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, REPOSITORY], check=True)
    (wheel,) = folder.glob("interleaver-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True)
    return folder / "site"


@pytest.fixture
def python(installed, tmp_path):
    def run(*arguments, code=0, **options):
        result = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(installed)},
            capture_output=True, text=True, timeout=300, **options,
        )  # fmt: skip
        assert result.returncode == code, result.stderr
        return result.stdout

    return run


def test_it_is_the_wheel_that_runs(python, installed):
    assert python("-c", "import interleaver; print(interleaver.__file__)").startswith(str(installed))


def test_the_main_job(python, tmp_path):
    document = json.loads(python("-m", "interleaver.cli", "run", "How to draw a cat step by step?", "--json"))
    assert document["status"] == "complete"
    (page,) = tmp_path.glob("out/*/document.html")
    assert "<img" in page.read_text()


def test_the_mcp_server(python):
    messages = [
        {"id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/list"},
    ]  # fmt: skip
    lines = "".join(json.dumps({"jsonrpc": "2.0", **message}) + "\n" for message in messages)
    answers = python("-m", "interleaver.cli", "mcp", input=lines)
    assert '"illustrate"' in answers


def test_the_doctor(python):
    checks = {check["name"]: check for check in json.loads(python("-m", "interleaver.cli", "doctor", "--json"))}
    assert checks["extra mcp"]["ok"] and all(check["ok"] is not False for check in checks.values())


def test_the_pair_and_the_profiles_come_with_it(installed):
    assert (installed / "interleaver/weights/miniature-planner/model.safetensors").stat().st_size > 100_000
    assert (installed / "interleaver/profiles/openai.toml").exists()
    assert (installed / "interleaver/agents/prompts/review.md").exists()
