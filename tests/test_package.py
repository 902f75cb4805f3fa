"""What outsiders rely on."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import interleaver

ROOT = Path(interleaver.__file__).parent
HEAVY = {"torch", "transformers", "diffusers", "openai", "gradio", "numpy", "PIL"}
BELOW = {
    "checkpoints": {"checkpoints"},
    "agents": {"agents", "checkpoints"},
    "tools": {"tools", "agents"},
    "graph": {"graph", "agents", "tools", "traces"},
    "cli": {"cli", "adapters", "batch", "evals", "graph", "agents", "tools", "traces", "training", "serving", "ui"},
    "evals": {"evals", "batch", "graph", "agents", "tools", "traces"},
    "batch": {"batch", "graph", "agents", "traces"},
    "training": {"training", "graph", "agents", "tools", "traces"},
    "adapters": {"adapters", "graph", "agents", "tools", "traces"},
    "sandbox": {"sandbox", "agents", "tools"},
    "serving": {"serving", "tools", "checkpoints"},
    "traces": {"traces"},
    "ui": {"ui", "traces"},
}


def test_importing_pulls_in_nothing_heavy():
    code = f"import sys, interleaver; print([name for name in {sorted(HEAVY)} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_public_doors():
    code = "from interleaver import build_graph, graph, Plan, Verdict, Document; import interleaver.graph.state;" \
           "from interleaver import graph; print(type(graph).__name__)"  # fmt: skip
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "CompiledStateGraph"


def test_a_profile_for_servers_is_no_affair_of_an_import():
    code = "import interleaver; print(type(interleaver.graph).__name__)"
    environment = {**os.environ, "INTERLEAVER_PROFILE": "nonsense"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.stdout.strip() == "CompiledStateGraph", result.stderr
    served = subprocess.run(
        [sys.executable, "-c", "import interleaver.graph.app"], capture_output=True, text=True, env=environment
    )
    assert "the profile 'nonsense' cannot be read" in served.stderr
    profile = ROOT.parent / "tests" / "served.toml"
    code = "from interleaver.graph.app import graph, images; print(images.url, images.public_url)"
    environment["INTERLEAVER_PROFILE"] = str(profile)
    served = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert served.stdout.split() == ["memory://served", "https://pictures.example/p"], served.stderr


def test_langgraph_json_names_the_compiled_graph():
    config = json.loads((ROOT.parent / "langgraph.json").read_text())
    path, _, name = config["graphs"]["interleaver"]["path"].partition(":")
    assert (ROOT.parent / path).samefile(ROOT / "graph" / "app.py") and name == "graph"


def imported(file):
    """The subpackages of interleaver that a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("interleaver."))


def test_imports_point_one_way():
    packages = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert packages == set(BELOW)
    for package, allowed in BELOW.items():
        for file in (ROOT / package).rglob("*.py"):
            strangers = set(imported(file)) & packages - allowed
            assert not strangers, f"{file} imports {strangers}"


def test_the_sandbox_is_found_by_name_alone():
    for file in ROOT.rglob("*.py"):
        if "sandbox" not in file.parts:
            assert "sandbox" not in set(imported(file)), file
