"""A run of a benchmark in LangSmith, whose API a server on loopback speaks."""

import json
import re
from email.parser import BytesParser
from uuid import uuid4

import pytest
from support.evaluations import run, wise_rows, write_json, write_picture
from support.scripted_server import Reply, chat_reply, serving

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
NOW = "2026-01-01T00:00:00+00:00"
PROJECT = {"id": str(uuid4()), "start_time": NOW, "name": "experiment", "tenant_id": str(uuid4())}
INFO = {
    "batch_ingest_config": {
        "use_multipart_endpoint": True,
        "size_limit": 100,
        "size_limit_bytes": 20_971_520,
        "scale_up_nthreads_limit": 16,
        "scale_up_qsize_trigger": 1000,
        "scale_down_nempty_trigger": 4,
    },
    "instance_flags": {"dataset_examples_multipart_enabled": True},
}


class LangSmith:
    """As much of LangSmith as an upload needs, in memory."""

    def __init__(self):
        self.dataset, self.examples, self.parts, self.feedback = None, {}, [], []

    def __call__(self, request):
        path = request.path.split("?")[0]
        name = f"{request.method} {re.sub(r'[0-9a-f-]{36}', 'ID', path)}"
        return Reply(self.answer(name, request))

    def answer(self, name, request):
        if name == "GET /info":
            return INFO
        if name == "GET /datasets":
            return json.dumps([self.dataset] if self.dataset else []).encode()
        if name == "POST /datasets":
            told = request.json
            self.dataset = {"id": str(uuid4()), "name": told["name"], "created_at": NOW, "extra": told.get("extra")}
            return self.dataset
        if name == "GET /datasets/ID":
            return self.dataset
        if name == "GET /examples":
            return json.dumps(list(self.examples.values())).encode()
        if name.startswith("POST /v1/platform/datasets/ID/examples"):
            self.store(request)
            return {"count": len(self.examples), "example_ids": list(self.examples)}
        if name == "POST /sessions":
            return PROJECT | {"name": request.json["name"], "reference_dataset_id": self.dataset["id"]}
        if name.startswith("GET /sessions"):
            return PROJECT if "ID" in name else json.dumps([PROJECT]).encode()
        if name == "POST /feedback":
            self.feedback.append(request.json)
        if name == "POST /runs/multipart":
            self.parts += parts_of(request)
        return {}

    def store(self, request):
        for name, data in parts_of(request):
            identity, _, field = name.partition(".")
            example = self.examples.setdefault(
                identity, {"id": identity, "dataset_id": self.dataset["id"], "created_at": NOW, "modified_at": NOW}
            )
            example.update({field: data} if field else data)


def parts_of(request):
    body = request.body
    if request.headers.get("content-encoding") == "zstd":
        import zstandard

        body = zstandard.ZstdDecompressor().stream_reader(body).read()
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    return [
        (part.get_param("name", header="content-disposition"), json.loads(part.get_payload(decode=True)))
        for part in BytesParser().parsebytes(head + body).get_payload()
        if "json" in part.get_content_type()
    ]


def test_items_outputs_and_scores_are_uploaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = write_json(tmp_path / "rows.json", wise_rows([1, 2, 401]))
    for number in (1, 2, 401):
        write_picture(tmp_path / f"mine/{number}.png", (number % 256, 0, 0))
    there = LangSmith()
    with serving(
        lambda request: chat_reply("Score: 1" if "explanation 2" not in str(request.json) else "Score: 0")
    ) as judge:
        with serving(there) as server:
            monkeypatch.setenv("LANGSMITH_ENDPOINT", server.url)
            monkeypatch.setenv("LANGSMITH_API_KEY", "lsv2-secret")
            asked = ["wise-verified", "--data", data, "--outputs", "mine=mine", "--judge", f"m@{judge.url}/v1"]
            result = run(*asked, "--langsmith")
            assert len(there.examples) == 3
            run(*asked, "--langsmith")
            assert len(there.examples) == 3  # the dataset is there already
    assert "Uploaded the LangSmith experiment wise-verified mine m-" in result.output
    scores = [one["score"] for one in there.feedback if one["key"] == "score"]
    assert sorted(scores) == [0, 0, 1, 1, 1, 1]
    results = json.loads((tmp_path / "out/eval/wise-verified/results.json").read_text())
    assert sorted(item["score"] for item in results["systems"][0]["items"].values()) == [0, 1, 1]
    assert "lsv2-secret" not in result.output + json.dumps(there.parts, default=str)
    monkeypatch.setenv("LANGSMITH_ENDPOINT", "http://127.0.0.1:9")
    output = run(*asked[:5], "--judge", f"m@{judge.url}/v1", "--langsmith", code=2).output
    assert "LangSmith: " in output and "lsv2-secret" not in output
    monkeypatch.setenv("LANGSMITH_API_KEY", "lsv2-se\ncret")
    output = run(*asked[:5], "--judge", f"m@{judge.url}/v1", "--langsmith", code=2).output
    assert "LANGSMITH_API_KEY contains invalid characters" in output and "cret" not in output
