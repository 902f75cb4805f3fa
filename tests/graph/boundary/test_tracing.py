"""What reaches LangSmith, from the command line, over HTTP."""

import json
import os
import subprocess
import sys

import pytest
from support import REPOSITORY
from support.answers import PLAN
from support.langsmith_server import PROJECT, langsmith, parts_of, run_command, spans_of
from support.scripted_server import chat_reply, serving


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    with serving(langsmith) as server:
        result = run_command(tmp_path_factory.mktemp("traced"), server.url)
        assert result.returncode == 0, result.stderr
        document = json.loads(result.stdout)
        requests = list(server.requests)
    return document, requests, parts_of(requests), result


pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


def test_spans_say_which_step_and_attempt_they_are_about(traced):
    document, _, parts, _ = traced
    spans = spans_of(parts)
    names = [span["name"] for span in spans.values()]
    assert "interleaver: a boat and a tree" in names
    for step in document["steps"]:
        for attempt in step["attempts"]:
            for node in ("generator", "critic"):
                assert f"{node}: step {step['number']}, attempt {attempt['attempt']}" in names
        assert f"accept: step {step['number']}, accepted" in names
    first = next(span for span in spans.values() if span["name"] == "critic: step 1, attempt 1")
    metadata = first["extra"]["metadata"]
    assert (metadata["step"], metadata["attempt"], metadata["run"]) == (1, 1, document["run_id"])
    assert metadata["prompt"] == document["steps"][0]["attempts"][0]["prompt"]
    assert {"step:1", "attempt:1"} <= set(first["tags"])


def test_pictures_are_attachments(traced):
    _, _, parts, _ = traced
    names = {span_id: span["name"] for span_id, span in spans_of(parts).items()}
    attached = {
        (names[name.split(".")[1]], name.split(".")[2]): data
        for name, data in parts.items() if name.startswith("attachment.")
    }  # fmt: skip
    assert attached["generator: step 1, attempt 1", "picture"].startswith(b"\x89PNG")
    assert len(set(attached.values())) == len(attached)  # each picture is sent once
    assert {span.partition(":")[0] for span, _ in attached} == {"generator"}
    critic = next(span for span in spans_of(parts).values() if span["name"] == "critic: step 2, attempt 1")
    assert {"before", "picture"} <= set(critic["extra"]["metadata"])


def test_verdicts_and_the_outcome_are_feedback(traced):
    document, _, parts, _ = traced
    spans = spans_of(parts)
    feedback = [json.loads(data) for name, data in parts.items() if name.startswith("feedback.")]
    by_span = {(spans[item["run_id"]]["name"], item["key"]): item["score"] for item in feedback}
    for step in document["steps"]:
        for attempt in step["attempts"]:
            name = f"critic: step {step['number']}, attempt {attempt['attempt']}"
            assert by_span[name, "accepted"] == float(attempt["accepted"])
            assert 0 <= by_span[name, "critic_score"] <= 1
    assert by_span["interleaver: a boat and a tree", "complete"] == 1
    assert by_span["interleaver: a boat and a tree", "steps_done"] == 1
    assert {item["session_id"] for item in feedback} == {PROJECT["id"]}


def test_the_key_goes_into_a_header_and_nowhere_else(traced):
    _, requests, parts, result = traced
    assert all(request.headers.get("x-api-key") == "secret" for request in requests if request.method == "POST")
    assert not any(b"secret" in data for data in parts.values())
    assert "secret" not in result.stdout + result.stderr


def test_what_is_to_be_hidden_stays_here(tmp_path):
    with serving(langsmith) as server:
        result = run_command(tmp_path, server.url, LANGSMITH_HIDE_INPUTS="true", LANGSMITH_HIDE_OUTPUTS="true")
        parts = parts_of(server.requests)
    prompt = json.loads(result.stdout)["steps"][0]["attempts"][0]["prompt"]
    assert "critic: step 1, attempt 1" in [span["name"] for span in spans_of(parts).values()]
    assert not any(name.startswith("attachment.") for name in parts)
    assert not any(prompt.encode() in data for data in parts.values())
    assert {json.loads(data).get("comment") for name, data in parts.items() if name.startswith("feedback.")} == {None}


def test_without_langsmith_nothing_is_sent_and_nothing_warns(tmp_path):
    with serving(langsmith) as server:
        result = run_command(tmp_path, None, LANGSMITH_ENDPOINT=server.url, LANGSMITH_API_KEY="secret")
    assert result.returncode == 0 and result.stderr == ""
    assert server.requests == []


@pytest.mark.integration  # the LangSmith client itself tries for a while before it gives up
def test_a_langsmith_that_is_down_costs_the_run_nothing(tmp_path):
    result = run_command(tmp_path, "http://127.0.0.1:9")
    assert result.returncode == 0
    assert json.loads(result.stdout)["status"] == "complete"
    assert "Traceback" not in result.stderr


def test_calls_of_openai_compatible_models_are_llm_runs_with_their_tokens(tmp_path):
    with serving(chat_reply(json.dumps(PLAN))) as model, serving(langsmith) as server:
        (tmp_path / "interleaver.toml").write_text(
            f'[planner]\nbackend = "chat"\nmodel = "m"\nbase_url = "{model.url}/v1"\n'
        )
        result = run_command(tmp_path, server.url)
        assert result.returncode in (0, 3), result.stderr
        spans = spans_of(parts_of(server.requests)).values()
    (call,) = [span for span in spans if span["run_type"] == "llm"]
    sent = json.dumps(call)
    assert '"input_tokens": 11' in sent and '"output_tokens": 7' in sent


CHAT = """
import asyncio, base64, sys
from langchain_core.messages import HumanMessage
from langsmith.run_trees import get_cached_client
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan, noise_picture
from interleaver import build_graph
photo = base64.b64encode(noise_picture((600, 400)).data).decode()
message = HumanMessage([{"type": "text", "text": "x"}, {"type": "image", "base64": photo, "mime_type": "image/png"}])
graph = build_graph(
    planner=ScriptedPlanner(drawn_plan(6)), critic=ScriptedCritic(), generator=PlainGenerator()
).compile()
asyncio.run(graph.ainvoke({"messages": [message]}))
get_cached_client().flush()
print(photo[5000:5200])
"""


def test_a_photograph_of_a_chat_is_sent_a_few_times_not_with_every_node(tmp_path):
    with serving(langsmith) as server:
        environment = {"LANGSMITH_TRACING": "true", "LANGSMITH_ENDPOINT": server.url, "LANGSMITH_API_KEY": "secret"}
        result = subprocess.run(
            [sys.executable, "-c", CHAT], cwd=tmp_path, capture_output=True, text=True, timeout=120,
            env={**os.environ, **environment, "PYTHONPATH": f"{REPOSITORY}/tests:{REPOSITORY}"},
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        parts = parts_of(server.requests)
    copies = sum(data.count(result.stdout.strip().encode()) for data in parts.values())
    assert 1 <= copies <= 4
