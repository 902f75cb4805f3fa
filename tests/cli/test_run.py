"""The command line as a user meets it: in a process of its own."""

import json
import os
import re
import signal
import subprocess
import time

import pytest
from support.commands import CAT, COMMAND, files_of, interleaver, only_run
from support.fakes import plain_picture
from support.scripted_server import Reply, chat_reply, serving


def test_the_main_job(cat):
    folder, said = cat
    run = only_run(folder / "out")
    assert {"document.html", "document.md", "document.json", "run.json", "pictures"} <= {p.name for p in run.iterdir()}
    document = json.loads((run / "document.json").read_text())
    assert document["status"] == "complete" and document["request"] == CAT
    assert 5 <= len(document["steps"]) <= 9
    assert all(step["outcome"] == "accepted" for step in document["steps"])
    attempts = [attempt for step in document["steps"] for attempt in step["attempts"]]
    assert any(attempt["accepted"] is False for attempt in attempts)
    assert len(list((run / "pictures").glob("*.png"))) == len(document["steps"])
    assert "Plan of 8 steps" in said and "rejected." in said and "accepted." in said and "document.html" in said


def test_resuming_a_finished_run_changes_nothing(cat):
    folder, _ = cat
    run = only_run(folder / "out")
    before = files_of(run)
    interleaver("run", "--resume", run.name, cwd=folder)
    assert files_of(run) == before


@pytest.mark.parametrize("pictures", [0, 1, 4, 9])
def test_a_killed_run_resumes_to_the_same_bytes(cat, tmp_path, pictures):
    """Killed once the store holds so many pictures, resumed, and compared with the run that was left alone."""
    process = subprocess.Popen([*COMMAND, "run", CAT], cwd=tmp_path, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        store = tmp_path / "out" / ".store"
        if list(store.glob("checkpoints/*.sqlite")) and len(list(store.glob("images/*/*.png"))) >= pictures:
            break
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    run = only_run(tmp_path / "out")
    interleaver("run", "--resume", run.name, cwd=tmp_path)
    assert files_of(run) == files_of(only_run(cat[0] / "out"))


def test_ctrl_c_says_how_to_resume(tmp_path):
    process = subprocess.Popen(
        [*COMMAND, "run", CAT], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith("Step 2"):
            break
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    (resume,) = re.findall(r"interleaver (run --resume \S+ --out \S+)", said)
    assert "Traceback" not in said
    assert "Complete: 8 steps" in interleaver(*resume.split(), cwd=tmp_path).stdout


async def test_two_processes_cannot_work_on_one_run(cat, tmp_path):
    from interleaver.traces.runs import RunStore

    folder, _ = cat
    run = only_run(folder / "out")
    async with RunStore(folder / "out").lock(run.name):
        said = interleaver("run", "--resume", run.name, cwd=folder, code=2).stderr
    assert "being worked on by another process" in said


def test_two_runs_at_once_share_a_folder(cat, tmp_path):
    processes = [subprocess.Popen([*COMMAND, "run", CAT, "--json"], cwd=tmp_path, stdout=subprocess.PIPE) for _ in "ab"]
    documents = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    assert [document["status"] for document in documents] == ["complete"] * 2
    assert documents[0]["blocks"] == documents[1]["blocks"]
    assert len(json.loads(interleaver("runs", "list", "--json", cwd=tmp_path).stdout)) == 2


def test_the_seed_decides(tmp_path):
    runs = [
        json.loads(interleaver("run", "a star", "--seed", seed, "--json", cwd=tmp_path).stdout) for seed in (1, 1, 2)
    ]
    assert runs[0]["blocks"] == runs[1]["blocks"]
    assert runs[0]["blocks"] != runs[2]["blocks"]


def test_pictures_are_continued_and_described(tmp_path):
    (tmp_path / "start.png").write_bytes(plain_picture((190, 220, 240), (320, 240)).data)
    said = interleaver("run", "--image", "start.png", "Continue: add a sun and two clouds", "--json", cwd=tmp_path)
    document = json.loads(said.stdout)
    assert document["status"] == "complete"
    assert [step["number"] for step in document["steps"]] == [2, 3]
    arguments = ["run", "--image", "start.png", "--image", "start.png", "Describe each picture", "--json"]
    document = json.loads(interleaver(*arguments, cwd=tmp_path).stdout)
    assert document["status"] == "complete"
    assert [block["type"] for block in document["blocks"]] == ["text", "text"]
    assert all(step["attempts"] == [] for step in document["steps"])


def test_a_run_that_is_not_complete_exits_with_3_and_says_why(tmp_path):
    result = interleaver("run", "How to draw a dragon?", cwd=tmp_path, code=3)
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: the sandbox does not know 'dragon'. It knows: apple, ")
    result = interleaver("run", CAT, "--max-attempts", 1, cwd=tmp_path, code=3)
    assert "exhausted" in result.stdout


def test_a_partial_run_is_taken_up_where_it_failed(cat, tmp_path):
    """A generator that is down ends the run as partial; when it is back, the same run becomes complete."""
    (tmp_path / "flaky.py").write_text(
        "import os\n"
        "from interleaver.errors import BackendUnavailable\n"
        "from interleaver import calling\n"
        "from interleaver.sandbox.generator import SandboxGenerator\n"
        "from tenacity import wait_none\n"
        "calling.BACKOFF = wait_none()\n"
        "class Flaky(SandboxGenerator):\n"
        "    calls = 0\n"
        "    async def generate(self, *a):\n"
        "        Flaky.calls += 1\n"
        "        if os.path.exists('down') and Flaky.calls > 3:\n"
        "            raise BackendUnavailable('http://127.0.0.1:9 refuses connections')\n"
        "        return await super().generate(*a)\n"
    )
    info = tmp_path / "flaky-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flaky\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[interleaver.generators]\nflaky = flaky:Flaky\n")
    (tmp_path / "interleaver.toml").write_text('[generator]\nbackend = "flaky"\n')
    (tmp_path / "down").touch()
    result = interleaver("run", CAT, cwd=tmp_path, code=3)
    assert "refuses connections" in result.stdout and "Retry the failed steps" in result.stdout
    run = only_run(tmp_path / "out")
    partial = json.loads((run / "document.json").read_text())
    assert partial["status"] == "partial" and partial["blocks"]
    (tmp_path / "down").unlink()
    interleaver("run", "--resume", run.name, cwd=tmp_path)
    assert {path.name for path in (run / "pictures").iterdir()} == {f"step-0{n}.png" for n in range(1, 9)}
    document = json.loads((run / "document.json").read_text())
    assert document["status"] == "complete"
    assert document["blocks"] == json.loads((only_run(cat[0] / "out") / "document.json").read_text())["blocks"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "there is no request"),
        (["run", " "], "the request is empty"),
        (["run", "x" * 100_000], "the request has 100,000 characters; at most 20,000"),
        (["run", "Go on", "--image", "missing.png"], "'missing.png' (--image) cannot be read: No such file"),
        (["run", "Go on", "--image", "."], "cannot be read: Is a directory"),
        (["run", "Go on", "--image", "text.png"], "'text.png' (--image) is not a picture"),
        (["run", "Go on", "--image", "cut.png"], "'cut.png' (--image) is a damaged picture"),
        (["run", "What is <image>?"], "1 <image> tag(s) but 0 picture(s)"),
        (["run", "a cat", "--profile", "bad.toml"], "run.max_atempts: unknown field (did you mean 'max_attempts'?)"),
        (["run", "a cat", "--profile", "store.toml"], "the image store 'nonsense://x' cannot be opened"),
        (["run", "a cat", "--profile", "none.toml"], "'none.toml' cannot be read"),
        (["run", "--resume", "nothing"], "there is no run 'nothing'"),
        (["run", "a cat", "--resume", "nothing"], "leave out the request"),
        (["run", "a cat", "--out", "text.png"], "'text.png' (--out) cannot be written to"),
        (["run", "a cat", "--out", "/proc/x"], "'/proc/x' (--out) cannot be written to"),
        (["run", "a cat", "--max-attempts", "0"], "0 is not in the range 1<=x<=20"),
        (["run", "a cat", "--seeed", "1"], "No such option"),
        (["runs", "show", "nothing"], "there is no run 'nothing'"),
        (["paint"], "No such command 'paint'"),
    ],
)
def test_bad_input_gives_one_clear_line(tmp_path, arguments, said):
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "cut.png").write_bytes(plain_picture(size=(300, 300)).data[:-50])
    (tmp_path / "bad.toml").write_text("[run]\nmax_atempts = 3\n")
    (tmp_path / "store.toml").write_text("[store]\nimages = 'nonsense://x'\n")
    result = interleaver(*arguments, cwd=tmp_path, code=2)
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("Error: ") and said in line
    assert not (tmp_path / "out").exists()


def test_a_request_may_come_from_standard_input(tmp_path):
    command = [*COMMAND, "run", "-", "--json"]
    result = subprocess.run(command, cwd=tmp_path, input="a star\n", capture_output=True, text=True, timeout=60)
    assert json.loads(result.stdout)["status"] == "complete"
    result = subprocess.run(command, cwd=tmp_path, input="x" * 2**20, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "the request has 1,048,576 characters; at most 20,000 are allowed" in result.stderr


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_a_run_with_a_chat_model_tells_what_it_used(tmp_path):
    step = {"step_number": 1, "prompt": "a red circle", "instruction": "A red circle"}
    plan = {"reasoning": "", "execution_plan": [step]}
    with serving(chat_reply(json.dumps(plan), usage=(1200, 34))) as server:
        text = f'[planner]\nbackend = "chat"\nmodel = "m"\nbase_url = "{server.url}/v1"\n'
        (tmp_path / "interleaver.toml").write_text(text)
        said = interleaver("run", "a circle", cwd=tmp_path).stdout
    assert "1 model call: 1,200 tokens in, 34 out, 0 s." in said


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_a_planner_that_is_down_ends_the_run_in_one_line(tmp_path):
    with serving(Reply()) as server:
        text = f'[planner]\nbackend = "chat"\nmodel = "m"\nbase_url = "{server.url}/v1"\ntimeout = 1\n'
        (tmp_path / "interleaver.toml").write_text(text)
    result = interleaver("run", "a circle", cwd=tmp_path, code=3)
    assert result.stderr.count("\n") == 1
    assert "cannot be reached" in result.stderr and "check planner.base_url" in result.stderr
