"""What outsiders rely on."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import interleaver

ROOT = Path(interleaver.__file__).parent
HEAVY = {"torch", "transformers", "diffusers", "openai", "gradio", "numpy", "PIL"}
BELOW = {
    "agents": {"agents"},
    "tools": {"tools"},
    "graph": {"graph", "agents", "tools", "traces"},
    "sandbox": {"sandbox", "agents", "tools"},
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


def test_langgraph_json_names_the_compiled_graph():
    config = json.loads((ROOT.parent / "langgraph.json").read_text())
    path, _, name = config["graphs"]["interleaver"].partition(":")
    assert (ROOT.parent / path).samefile(ROOT / "graph" / "app.py") and name == "graph"


def test_imports_point_one_way():
    """Packages import downwards only; the sandbox is imported by nobody but through the registry's names."""
    for package, allowed in BELOW.items():
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
                for name in names:
                    parts = name.split(".")
                    if parts[0] == "interleaver" and len(parts) > 1 and (ROOT / parts[1]).is_dir():
                        assert parts[1] in allowed, f"{file.name} of {package} imports {name}"
