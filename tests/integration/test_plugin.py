"""The example package is installed as anybody would, and its backend used by name."""

import json
import os
import subprocess
import sys

import pytest
from support import REPOSITORY

PLUGIN = REPOSITORY / "examples" / "plugin"
pytestmark = pytest.mark.integration


def test_a_backend_of_another_package_is_found_by_name(tmp_path):
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "site")]
    subprocess.run([*install, str(PLUGIN)], check=True)
    (tmp_path / "interleaver.toml").write_text(
        '[generator]\nbackend = "cards"\nfont_size = 18\n[run]\nmax_attempts = 1\n'
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-m", "interleaver.cli", "run", "How to draw a cat in 2 steps", "--json"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 3, result.stderr  # the sandbox's critic looks for a cat, and there is only the word
    document = json.loads(result.stdout)
    assert [block["type"] for block in document["blocks"]].count("image") == 2

    (tmp_path / "interleaver.toml").write_text('[generator]\nbackend = "cards"\nfontsize = 18\n')
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 2 and "no field 'fontsize' (did you mean 'font_size'?)" in result.stderr
