"""What outsiders rely on: the front door, what an import costs, and which way imports point."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import REPOSITORY, SUPPORT

import interleaver

ROOT = Path(interleaver.__file__).parent
HEAVY = {"torch", "transformers", "diffusers", "openai", "gradio", "numpy", "PIL", "langgraph", "aiosqlite"}
LAYERS = [
    {"choices", "types"},
    {"errors"},
    {"containers", "heif"},
    {"calling", "extras", "migrations", "pictures", "registry", "text_files", "weights"},
    {"net", "store"},
    {"agents"},
    {"tools"},
    {"graph", "sandbox", "traces"},
    {"profile", "rendering"},
    {"runner", "serving"},
    {"upkeep"},
    {"adapters", "batch", "doctor", "training"},
    {"evals"},
    {"cli"},
]
"""The modules and packages of `interleaver`; each imports only from the layers before its own."""


def python(code, **environment):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def test_importing_pulls_in_nothing_heavy():
    result = python(f"import sys, interleaver; print([name for name in {sorted(HEAVY)} if name in sys.modules])")
    assert result.stdout.strip() == "[]", result.stderr


def test_the_front_door_has_what_it_promises():
    for name in interleaver.__all__:
        assert getattr(interleaver, name) is not None
    assert set(interleaver.__all__) <= set(dir(interleaver))
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        interleaver.nonsense  # noqa: B018


def test_type_checkers_see_the_same_front_door():
    (block,) = (node for node in ast.parse((ROOT / "__init__.py").read_text()).body if isinstance(node, ast.If))
    imports = {alias.asname: node.module for node in block.body for alias in node.names}
    assert {name: module for module, names in interleaver._MODULES.items() for name in names} == imports


def test_a_package_is_not_hidden_by_what_is_in_it():
    result = python(
        "import interleaver.graph.nodes as n, interleaver.graph.context as c; print(n.__name__, c.__name__)"
    )
    assert result.stdout.split() == ["interleaver.graph.nodes", "interleaver.graph.context"], result.stderr


def test_a_profile_for_servers_is_read_by_the_server_alone():
    assert python("import interleaver; interleaver.build_graph()", INTERLEAVER_PROFILE="nonsense").returncode == 0
    served = python("import interleaver.adapters.server", INTERLEAVER_PROFILE="nonsense")
    assert "the profile 'nonsense' cannot be read" in served.stderr
    code = "from interleaver.adapters.server import graph, images; print(images.url, images.public_url)"
    served = python(code, INTERLEAVER_PROFILE=str(SUPPORT / "served.toml"))
    assert served.stdout.split() == ["memory://served", "https://pictures.example/p"], served.stderr


def test_langgraph_json_names_the_compiled_graph():
    config = json.loads((REPOSITORY / "langgraph.json").read_text())
    path, _, name = config["graphs"]["interleaver"]["path"].partition(":")
    assert (REPOSITORY / path).samefile(ROOT / "adapters" / "server.py") and name == "graph"


def imported(file):
    """The parts of interleaver that a file imports: the first name after `interleaver.`"""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("interleaver."))


def files_of(part):
    return [ROOT / f"{part}.py"] if (ROOT / f"{part}.py").exists() else sorted((ROOT / part).rglob("*.py"))


def test_imports_point_one_way():
    folders = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    modules = {path.stem for path in ROOT.glob("*.py")} - {"__init__"}
    assert set().union(*LAYERS) == folders | modules
    below = set()
    for layer in LAYERS:
        for part in layer:
            for file in files_of(part):
                wrong = set(imported(file)) & (folders | modules) - below - {part}
                assert not wrong, f"{file.relative_to(ROOT)} imports {wrong}"
        below |= layer


def test_the_sandbox_is_found_by_its_registered_name_alone():
    for file in set(ROOT.rglob("*.py")) - {ROOT / "__init__.py"}:
        if "sandbox" not in file.parts:
            assert "sandbox" not in set(imported(file)), file


def test_the_core_of_the_graph_stays_small():
    core = [ROOT / "graph" / f"{name}.py" for name in ("builder", "context", "state", "routing", "nodes")]
    assert sum(len(file.read_text().splitlines()) for file in core) < 650
    functions = [
        node
        for node in ast.walk(ast.parse((ROOT / "graph" / "nodes.py").read_text()))
        if isinstance(node, ast.AsyncFunctionDef) and node.name != "__call__"
    ]
    assert {function.name for function in functions} >= {"planner", "generator", "critic", "refine", "accept"}
    assert {f.name: f.end_lineno - f.lineno for f in functions if f.end_lineno - f.lineno >= 25} == {}


BEHAVIOURS = {
    "cli/test_help",
    "cli/test_output",
    "graph/boundary/test_delegation",
    "graph/test_embedding",
    "graph/test_words",
    "store/test_durability",
    "test_examples",
    "test_names",
    "test_package",
    "traces/sources/test_open_source",
}
"""Files of tests that are about more than one module."""


def test_tests_mirror_the_package():
    for file in (REPOSITORY / "tests").rglob("test_*.py"):
        name = file.relative_to(REPOSITORY / "tests").with_suffix("").as_posix()
        if name.startswith(("integration/", "torture/")) or name in BEHAVIOURS:
            continue
        module = ROOT / Path(name).parent / f"{Path(name).name.removeprefix('test_')}.py"
        assert module.exists(), f"tests/{name}.py: there is no {module.relative_to(ROOT)}"
