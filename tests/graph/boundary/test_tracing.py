"""What reaches LangSmith, from the command line, over HTTP."""

import json

import pytest
from support.langsmith_server import PROJECT, langsmith, parts_of, run_command, spans_of
from support.scripted_server import serving


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
    assert ("generator: step 1, attempt 1", "before") not in attached
    assert attached["critic: step 2, attempt 1", "before"].startswith(b"\x89PNG")


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
