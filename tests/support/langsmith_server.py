"""LangSmith's ingestion as far as a client needs it, and what was sent to it."""

import gzip
import json
import os
import re
import subprocess
import sys
from email.parser import BytesParser

import pytest

from support.scripted_server import Reply

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


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


def run_command(folder, url=None, **env):
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


def spans_of(parts):
    """Every span as it was last described: id -> fields."""
    spans = {}
    for name, data in parts.items():
        match = re.fullmatch(r"(post|patch)\.([0-9a-f-]{36})(?:\.(\w+))?", name)
        if match:
            fields = json.loads(data)
            spans.setdefault(match[2], {}).update({match[3]: fields} if match[3] else fields)
    return spans
