"""Traces out of LangSmith: what a run really sent there, read back through the official client."""

import json
import re

import pytest
from support import langsmith_server
from support.scripted_server import Reply, serving

from interleaver.errors import BackendUnavailable
from interleaver.store.images import ImageStore
from interleaver.traces.runs import RunStore
from interleaver.traces.sources.langsmith import LangSmithSource
from interleaver.traces.trace import SkippedRecord

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
INFO = {**langsmith_server.INFO, "version": "0.16.20"}


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    """A traced run of the command line: its own trace, and everything that LangSmith got."""
    folder = tmp_path_factory.mktemp("sent")
    with serving(langsmith_server.langsmith) as server:
        result = langsmith_server.run_command(folder, server.url)
        assert result.returncode == 0, result.stderr
        parts = langsmith_server.parts_of(server.requests)
    (run_id,) = RunStore(folder / "out").run_ids()
    return RunStore(folder / "out").trace(run_id), parts


class Project:
    """A project that answers the queries of the client from what was sent to it."""

    def __init__(self, parts, hidden=False):
        self.parts, self.hidden, self.queries = parts, hidden, []
        self.spans = langsmith_server.spans_of(parts)

    def __call__(self, request):
        if request.path.endswith("/info"):
            return Reply(INFO)
        if "/sessions" in request.path:
            return Reply(json.dumps([langsmith_server.PROJECT]).encode())
        if "/attachment/" in request.path:
            return Reply(self.parts[request.path.rpartition("/")[2]], type="image/png")
        asked = request.json
        self.queries.append(asked)
        spans = [self._span(span_id, span, request) for span_id, span in self.spans.items()]
        if asked.get("is_root"):
            spans = [span for span in spans if span["is_root"]]
        # Two pages, as a long project has.
        first, rest = spans[:5], spans[5:]
        if asked.get("cursor"):
            return Reply({"items": rest, "next_cursor": None})
        return Reply({"items": first, "next_cursor": "more" if rest else None})

    def _span(self, span_id, span, request):
        names = [name for name in self.parts if name.startswith(f"attachment.{span_id}.")]
        host = f"http://{request.headers['host']}"
        return {
            "id": span_id, "name": span["name"], "trace_id": span["trace_id"], "start_time": span["start_time"],
            "end_time": span.get("end_time"), "is_root": not span.get("parent_run_id"),
            "inputs": {} if self.hidden else span.get("inputs"), "outputs": {} if self.hidden else span.get("outputs"),
            "metadata": span["extra"]["metadata"],
            "attachments": {name.split(".")[2]: f"{host}/attachment/{name}" for name in names},
        }  # fmt: skip


async def read(project, tmp_path, monkeypatch, address="p", key="ls-secret"):
    with serving(project) as server:
        monkeypatch.setenv("LANGSMITH_ENDPOINT", server.url)
        monkeypatch.setenv("LANGSMITH_API_KEY", key)
        images = ImageStore(str(tmp_path / "images"))
        return [found async for found in LangSmithSource(address, images).read()], images


async def test_a_run_is_read_back_as_it_was_with_its_pictures(sent, tmp_path, monkeypatch):
    trace, parts = sent
    (found,), images = await read(Project(parts), tmp_path, monkeypatch)
    assert found.source == "langsmith" and re.fullmatch(r"[0-9a-f-]{36}", found.run_id)
    same = {"request", "status", "plan", "attempts", "results", "settings", "images", "failure"}
    assert found.model_dump(include=same) == trace.model_dump(include=same)
    for attempt in found.attempts:
        assert (await images.get(attempt.image)).ref == attempt.image


async def test_the_filter_and_the_dates_reach_the_server(sent, tmp_path, monkeypatch):
    project = Project(sent[1])
    address = 'p?filter=eq(name,"x")&since=2026-01-01&until=2026-02-01T10:00'
    await read(project, tmp_path, monkeypatch, address)
    roots = project.queries[0]
    assert roots["filter"] == 'eq(name,"x")' and roots["is_root"] is True
    assert roots["min_start_time"].startswith("2026-01-01") and roots["max_start_time"].startswith("2026-02-01T10:00")
    assert roots["project_ids"] == [langsmith_server.PROJECT["id"]]


async def test_hidden_runs_are_told(sent, tmp_path, monkeypatch):
    (found,), _ = await read(Project(sent[1], hidden=True), tmp_path, monkeypatch)
    assert isinstance(found, SkippedRecord) and "hidden" in found.detail


async def test_a_project_that_cannot_be_read_is_told_without_the_key(tmp_path, monkeypatch):
    def refuse(request):
        return Reply(INFO) if request.path.endswith("/info") else Reply({"detail": "Forbidden ls-secret"}, 403)

    with pytest.raises(BackendUnavailable, match="'p' cannot be read") as error:
        await read(refuse, tmp_path, monkeypatch)
    assert "ls-secret" not in str(error.value)
