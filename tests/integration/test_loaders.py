"""Datasets in the loaders that trainers really use: LLaMA-Factory's, verl's and TRL's."""

import json
import subprocess

import pytest
from click.testing import CliRunner
from support import REPOSITORY, SUPPORT

from interleaver.cli import main

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("default")]
PYTHON = REPOSITORY / ".venv-loaders" / "bin" / "python"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store of runs with a judge's labels."""
    folder = tmp_path_factory.mktemp("made")
    requests = ["How to draw a cat step by step?", "How to draw a tree step by step?", "a flower beside a tree"]
    (folder / "p.jsonl").write_text("\n".join(json.dumps({"request": request}) for request in requests))
    invoke("batch", folder / "p.jsonl", "--out", folder / "runs")
    invoke("traces", "label", folder / "runs")
    return folder / "runs"


def invoke(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output


def loaded(script, argument, cwd):
    command = [PYTHON, "-W", "ignore", SUPPORT / "loaders" / script, argument]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize("kind", ["planner-sft", "critic-sft"])
def test_llama_factory_prepares_every_row(made, tmp_path, kind):
    out = tmp_path / "d"
    invoke("data", kind, made, "--format", "llamafactory", "--out", out, "--validation", 0.34, "--balance", "none")
    splits = json.loads((out / "dataset.json").read_text())["splits"]
    found = loaded("llamafactory_loader.py", out, tmp_path)  # from another folder: the paths are the dataset's
    name = kind.replace("-", "_")
    assert {dataset: one["rows"] for dataset, one in found.items()} == {
        name: splits["train"]["rows"], f"{name}_validation": splits["validation"]["rows"],
    }  # fmt: skip
    for one in found.values():
        assert one["prepared"] == one["rows"] and one["roles"] == ["assistant", "user"] and not one["missing"]
        assert all(count > 20 for count in one["trained_tokens"])
        assert all((count > 0) == (kind == "critic-sft") for count in one["image_tokens"])


def test_verl_reads_every_row(made, tmp_path):
    out = tmp_path / "d"
    invoke("data", "critic-rl", made, "--format", "verl", "--out", out, "--validation", 0)
    rows = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    found = loaded("verl_loader.py", "train.jsonl", out)
    assert found["rows"] == len(rows) > 10 and found["pictures"] == [2] * len(rows)
    assert found["truths"] == [row["answer"] for row in rows]
    assert {"data_source", "reward_model", "extra_info", "raw_prompt", "evaluation"} <= set(found["batch"])


def test_trl_takes_the_rows_as_they_are(made, tmp_path):
    """Conversations of parts, with as many image parts as pictures, as TRL's collators want them."""
    from datasets import load_dataset
    from trl.data_utils import is_conversational, prepare_multimodal_messages

    for kind in ("critic-sft", "critic-rl"):
        invoke("data", kind, made, "--out", tmp_path / kind)
        row = load_dataset(str(tmp_path / kind), cache_dir=str(tmp_path / "cache"))["train"][0]
        assert is_conversational(row)
        turns = row["prompt"] + row.get("completion", [])
        messages = prepare_multimodal_messages(turns, images=row["images"])
        parts = [part for message in messages for part in message["content"]]
        assert [part["type"] for part in parts] == ["image", "image"] + ["text"] * len(turns)
        assert [part["image"] for part in parts[:2]] == row["images"]
