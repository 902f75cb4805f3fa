"""What reaches LangSmith, from the command line, over HTTP."""

import gzip
import json
import os
import re
import subprocess
import sys
from email.parser import BytesParser

import pytest
from scripted_server import Reply, serving

INFO = {
    "version": "0.13.0",
    "batch_ingest_config": {
        "use_multipart_endpoint": True, "scale_up_qsize_trigger": 1000, "scale_up_nthreads_limit": 16,
        "scale_down_nempty_trigger": 4, "size_limit": 100, "size_limit_bytes": 20971520,
    },
    "instance_flags": {},
}  # fmt: skip
PROJECT = {
    "id": "11111111-1111-1111-1111-111111111111", "tenant_id": "22222222-2222-2222-2222-222222222222", "name": "p",
    "start_time": "2026-01-01T00:00:00Z", "reference_dataset_id": None,
}  # fmt: skip


def langsmith(request):
    if request.path.endswith("/info"):
        return Reply(INFO)
    if "/sessions" in request.path:
        return Reply(PROJECT)
    return Reply({}, 202)


def run(folder, url=None, **env):
    configured = {"LANGSMITH_TRACING": "true", "LANGSMITH_ENDPOINT": url, "LANGSMITH_API_KEY": "secret"} if url else {}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LANGSMITH", "LANGCHAIN"))}
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-m", "interleaver.cli", "run", "a boat and a tree", "--json"],
        cwd=folder, env={**inherited, **configured, **env}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def parts_of(requests):
    """The parts of all multipart bodies: name -> bytes."""
    parts = {}
    for request in requests:
        if not request.headers.get("content-type", "").startswith("multipart/"):
            continue
        body = request.body
        if request.headers.get("content-encoding") == "zstd":
            import zstandard

            body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
        elif request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        message = BytesParser().parsebytes(f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode() + body)
        for part in message.get_payload():
            parts[part.get_param("name", header="content-disposition")] = part.get_payload(decode=True)
    return parts


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    with serving(langsmith) as server:
        result = run(tmp_path_factory.mktemp("traced"), server.url)
        assert result.returncode == 0, result.stderr
        document = json.loads(result.stdout)
        requests = list(server.requests)
    return document, requests, parts_of(requests), result


pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


def spans_of(parts):
    """Every span as it was last described: id -> fields."""
    spans = {}
    for name, data in parts.items():
        match = re.fullmatch(r"(post|patch)\.([0-9a-f-]{36})(?:\.(\w+))?", name)
        if match:
            fields = json.loads(data)
            spans.setdefault(match[2], {}).update({match[3]: fields} if match[3] else fields)
    return spans


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
        result = run(tmp_path, server.url, LANGSMITH_HIDE_INPUTS="true", LANGSMITH_HIDE_OUTPUTS="true")
        parts = parts_of(server.requests)
    prompt = json.loads(result.stdout)["steps"][0]["attempts"][0]["prompt"]
    assert "critic: step 1, attempt 1" in [span["name"] for span in spans_of(parts).values()]
    assert not any(name.startswith("attachment.") for name in parts)
    assert not any(prompt.encode() in data for data in parts.values())
    assert {json.loads(data).get("comment") for name, data in parts.items() if name.startswith("feedback.")} == {None}


def test_without_langsmith_nothing_is_sent_and_nothing_warns(tmp_path):
    with serving(langsmith) as server:
        result = run(tmp_path, None, LANGSMITH_ENDPOINT=server.url, LANGSMITH_API_KEY="secret")
    assert result.returncode == 0 and result.stderr == ""
    assert server.requests == []


@pytest.mark.integration  # the LangSmith client itself tries for a while before it gives up
def test_a_langsmith_that_is_down_costs_the_run_nothing(tmp_path):
    result = run(tmp_path, "http://127.0.0.1:9")
    assert result.returncode == 0
    assert json.loads(result.stdout)["status"] == "complete"
    assert "Traceback" not in result.stderr
