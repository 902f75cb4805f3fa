"""The command line as a user meets it: in a process of its own."""

import re
import subprocess
import sys

CAT = "How to draw a cat step by step?"


COMMAND = [sys.executable, "-m", "interleaver.cli"]


def interleaver(*arguments, cwd, code=0):
    result = subprocess.run([*COMMAND, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=120)
    assert result.returncode == code, result.stderr + result.stdout
    assert "Traceback" not in result.stderr
    return result


def only_run(folder):
    (run,) = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return run


def files_of(run):
    """Everything a run has written, by name, without what names the run and without dates and seconds."""
    content = {path.relative_to(run).as_posix(): path.read_bytes() for path in run.rglob("*") if path.is_file()}
    del content["run.json"]
    content["document.json"] = content["document.json"].replace(run.name.encode(), b"RUN")
    trace = re.sub(rb'"(\w+_seconds|\w+_at)":("[^"]*"|[\d.]+),?', b"", content["trace.json"])
    content["trace.json"] = trace.replace(run.name.encode(), b"RUN")
    return content
