"""Try every extra with the newest releases that `pyproject.toml` admits; run by `make newest`.

What users install is not pinned, so a release of somebody else may break what worked yesterday. Each extra is
exercised once, by tests that need it. What fails is tried again with the newest releases of a week ago: if it fails
there as well, there was time to adapt or to cap the release, and the build fails; if it works, a younger release is to
blame, and there is a loud warning. torch stays at the version that has builds for the CPU, and vLLM is resolved but not
installed.
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
INTEGRATION = "tests/integration"
DOORS = {
    "base": ["tests/graph/test_builder.py", "tests/graph/test_sync.py"],
    "openai": ["tests/tools/test_openai_images.py", "tests/agents/test_chat.py"],
    "gemini": ["tests/tools/test_gemini_images.py"],
    "diffusers": [f"{INTEGRATION}/test_diffusers.py::test_the_graph_draws_a_document_with_it"],
    "local": [f"{INTEGRATION}/test_local.py"],
    "serve": ["tests/serving/test_images_server.py"],
    "ray": [f"{INTEGRATION}/test_batches.py::test_a_ray_worker_may_die_in_the_middle[here]"],
    "mcp": ["tests/adapters/test_mcp.py::test_illustrate_fetch_list_and_look"],
    "postgres": [f"{INTEGRATION}/test_batches.py::test_the_newest_checkpoint_is_enough_in_postgres"],
    "data": ["tests/training/data"],
    "train": [f"{INTEGRATION}/test_training.py::test_labels_are_the_answers_tokens_and_pictures_reach_the_model"],
    "evals": [f"{INTEGRATION}/test_metrics.py"],
    "heic": ["tests/test_pictures.py"],
    "studio": [f"{INTEGRATION}/test_server.py::TestRuns::test_wait"],
}
"""The tests that exercise an extra."""
TOOLS = ["hypothesis", "langchain", "moto[server]", "psutil", "pytest", "pytest-asyncio", "pytest-socket", "s3fs"]
PYTHONS = ("3.12", "3.13")
"""Further versions of Python on which the base install and the extra `mcp` are tried."""
WEEK = "--uploaded-prior-to=P7D"


def main() -> int:
    """Try everything, two things at a time, print a line for each, and return the exit code."""
    missing = [version for version in PYTHONS if find_python(version) is None]
    for version in missing:
        print(f"warn  Python {version} is not installed on this machine, so nothing was tried on it")
    present = [version for version in PYTHONS if version not in missing]
    with ThreadPoolExecutor(2) as pool:
        pythons = pool.map(try_python, present)
        newest = make_environment("newest", [name for name in DOORS if name != "base"])
        doors = pool.map(lambda door: try_door(door, newest), DOORS)
        broken = [door for door, works in zip(DOORS, doors, strict=True) if not works]
        failed = [f"Python {version}" for version, works in zip(present, pythons, strict=True) if not works]
    resolve_vllm(newest)
    failed += broken and try_week_old(broken)
    print(
        f"{len(DOORS) - len(broken)} of {len(DOORS)} extras work with the newest releases; {len(missing)} of "
        f"{len(PYTHONS)} further Pythons are missing; failed: {', '.join(failed) or 'nothing'}"
    )
    return 1 if failed else 0


def make_environment(name: str, extras: list[str], python: str = sys.executable, *options: str) -> str:
    """Make a virtual environment with the newest releases, and return its interpreter."""
    folder = REPOSITORY / f".venv-{name}"
    subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
    own = str(folder / "bin" / "python")
    install = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--upgrade", "pip"], check=True)
    torch = ["torch==2.13.0"] if "train" in extras else []
    package = ["--editable", f"{REPOSITORY}[{','.join(extras)}]"]
    subprocess.run([*install, *options, *package, *torch, *TOOLS], check=True)
    return own


def try_door(door: str, python: str) -> bool:
    """Run the tests of an extra; print their output if they fail."""
    works = run_tests(DOORS[door], python)
    print(f"{'ok   ' if works else 'FAIL '} {door}", flush=True)
    return works


def run_tests(tests: list[str], python: str) -> bool:
    """Run tests; that one package deprecates what another one uses is no failure here."""
    options = ["-m", "integration or not integration", "--force-enable-socket", "-W", "default"]
    command = [python, "-m", "pytest", *options, *tests]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    if result.returncode:
        print(result.stdout[-6000:], result.stderr[-2000:], flush=True)
    return result.returncode == 0


def try_week_old(broken: list[str]) -> list[str]:
    """Try what failed with the newest releases of a week ago; return what fails there as well."""
    python = make_environment("week-old", [name for name in DOORS if name != "base"], sys.executable, WEEK)
    failed = [door for door in broken if not try_door(door, python)]
    for door in set(broken) - set(failed):
        line = f"WARNING: {door} fails with a release of the last seven days, and works with those before"
        print(f"\n{'!' * len(line)}\n{line}\n{'!' * len(line)}\n")
    return failed


def resolve_vllm(python: str) -> None:
    """Say whether the extra `vllm` can be resolved."""
    command = [python, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", f"{REPOSITORY}[vllm]"]
    result = subprocess.run(command, capture_output=True, text=True)
    print("ok    vllm is resolved" if result.returncode == 0 else f"warn  vllm is not resolved: {result.stderr[-500:]}")


def try_python(version: str) -> bool:
    """Try the base install and `mcp` with another version of Python."""
    python = make_environment(version, ["mcp"], str(find_python(version)))
    works = run_tests([*DOORS["base"], *DOORS["mcp"]], python)
    print(f"{'ok   ' if works else 'FAIL '} Python {version}: base and mcp", flush=True)
    return works


def find_python(version: str) -> str | None:
    """Return an interpreter: one on the path that starts, or one of pyenv's."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [shutil.which(f"python{version}"), *map(str, root.glob(f"versions/{version}.*/bin/python{version}"))]
    for candidate in filter(None, candidates):
        if subprocess.run([candidate, "--version"], capture_output=True).returncode == 0:
            return candidate
    return None


if __name__ == "__main__":
    sys.exit(main())
