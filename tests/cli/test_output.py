"""Standard output that breaks, or cannot show a letter, in the middle of a command."""

import os
import subprocess

import pytest
from support.commands import CAT, COMMAND, interleaver, only_run

COMMANDS = {
    "run": (["run", "a boat and a tree", "--out", "other"], "after a line"),
    "change": (["change", "RUN", "--redraw", "2"], "at once"),
    "runs": (["runs", "list"], "at once"),
    "traces": (["traces", "list"], "after a line"),
}


def piped(arguments, folder, wait):
    """Run a command whose output is read up to the first line, or not at all; return its exit code and errors."""
    command, pipes = [*COMMAND, *arguments], {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=folder, **pipes) as process:
        if wait:
            process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read().decode()
        return process.wait(60), errors


@pytest.mark.parametrize("name", COMMANDS)
def test_a_closed_pipe_ends_quietly(cat, name):
    words, moment = COMMANDS[name]
    folder, _ = cat
    arguments = [only_run(folder / "out").name if word == "RUN" else word for word in words]
    code, errors = piped(arguments, folder, moment == "after a line")
    assert code in (0, 1)
    assert "Traceback" not in errors
    assert "Exception" not in errors


def test_a_run_whose_reader_has_gone_can_be_resumed(tmp_path):
    piped(["run", CAT], tmp_path, True)
    run = only_run(tmp_path / "out").name
    assert "Complete" in interleaver("run", "--resume", run, cwd=tmp_path).stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is always full")
def test_a_full_disk_behind_the_output_is_an_error_in_words(tmp_path):
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*COMMAND, "run", "a boat"], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert result.returncode == 3
    (line,) = result.stderr.strip().splitlines()
    assert "No space left on device" in line


def test_letters_that_the_console_lacks_are_replaced(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    for arguments in (["run", "a boat", "--json", "--out", "船"], ["runs", "list", "--out", "船"]):
        result = subprocess.run([*COMMAND, *arguments], cwd=tmp_path, capture_output=True, env=environment, timeout=60)
        assert result.returncode == 0, result.stderr
