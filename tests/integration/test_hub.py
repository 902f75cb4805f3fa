"""Data from the hub: its real client in a process of its own, against a hub on loopback."""

import hashlib
import io
import json
import os
import re
import subprocess
from urllib.parse import unquote, urlsplit

import pyarrow
import pytest
from pyarrow import parquet
from support.evaluations import EVAL_COMMAND, write_json, write_picture
from support.scripted_server import Reply, chat_reply, serving

pytestmark = [pytest.mark.integration, pytest.mark.allow_hosts(["127.0.0.1"])]
COMMIT = "c0ffee" + "0" * 34


def hub(name, files):
    """What the hub answers about a dataset of some files."""

    def reply(request):
        path = unquote(urlsplit(request.path).path)
        if path == f"/api/datasets/{name}/revision/main":
            return Reply({"id": name, "sha": COMMIT, "siblings": [{"rfilename": file} for file in files]})
        if path == f"/api/datasets/{name}/tree/{COMMIT}":
            listed = [
                {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for file, data in files.items()
            ]
            return Reply(json.dumps(listed).encode())
        if found := re.fullmatch(f"/datasets/{name}/resolve/{COMMIT}/(.+)", path):
            data = files[found[1]]
            etag = f'"{hashlib.sha1(data).hexdigest()}"'
            return Reply(data, type="application/octet-stream", headers={"etag": etag, "x-repo-commit": COMMIT})
        return Reply({"error": "Repository not found"}, 404, headers={"x-error-code": "RepoNotFound"})

    return reply


def in_parquet(rows):
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def ueval(folder, endpoint, judge):
    asked = ["ueval", "--outputs", "mine=outputs.json", "--judge", f"m@{judge}/v1", "--limit", "2", "--json"]
    return subprocess.run(
        [*EVAL_COMMAND, *asked],
        cwd=folder,
        env={**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "hub"), "HF_HUB_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_published_dataset_is_downloaded_once(tmp_path):
    picture = write_picture(tmp_path / "made/1.png").read_bytes()
    rows = [
        {
            "id": str(number),
            "prompt": f"question {number}",
            "task": "art" if number < 2 else "space",
            "text_rubrics": [{"criterion": "text rubric", "weight": 1.0}],
            "image_rubrics": [{"criterion": "image rubric", "weight": 1.0}],
            "image_gt": [{"bytes": picture, "path": "gt.png"}],
        }
        for number in range(4)
    ]
    made = [{"id": str(number), "text_answer": "an answer", "image_answer": ["made/1.png"]} for number in range(4)]
    write_json(tmp_path / "outputs.json", made)
    files = {
        "README.md": b"# UEval",
        "data/test-00000-of-00002.parquet": in_parquet(rows[:3]),
        "data/test-00001-of-00002.parquet": in_parquet(rows[3:]),
    }
    with serving(hub("zlab-princeton/UEval", files)) as there, serving(chat_reply('{"criteria_met": true}')) as judge:
        first = ueval(tmp_path, there.url, judge.url)
        assert first.returncode == 0, first.stderr
        assert "zlab-princeton/UEval: 4 items, sha256" in first.stderr
        found = json.loads(first.stdout)["systems"][0]
        assert found["groups"]["art"]["score"]["value"] == 100 and len(judge.requests) == 4
        downloads = [one for one in there.requests if one.method == "GET" and "/resolve/" in one.path]
        assert len(downloads) == 3
        assert json.loads(ueval(tmp_path, there.url, judge.url).stdout)["systems"][0]["groups"] == found["groups"]
        assert [one for one in there.requests if one.method == "GET" and "/resolve/" in one.path] == downloads
    offline = ueval(tmp_path, there.url, judge.url)  # the hub has gone, its copy is here
    assert offline.returncode == 0, offline.stderr


def test_what_to_put_where_when_there_is_no_such_dataset(tmp_path):
    write_json(tmp_path / "outputs.json", [])
    with serving(hub("another/dataset", {})) as there:
        refused = ueval(tmp_path, there.url, "http://127.0.0.1:9")
    assert refused.returncode == 2
    assert "could not be downloaded from the hub (RepositoryNotFoundError)" in refused.stderr
    assert "give its folder with --data; the folder must contain *.parquet or *.jsonl or *.json" in refused.stderr
    assert "Traceback" not in refused.stderr
