"""A database of checkpoints is data, and may come from a stranger."""

import asyncio
import sqlite3

import ormsgpack
import pytest
from click.testing import CliRunner
from langgraph.checkpoint.serde.jsonplus import (
    EXT_CONSTRUCTOR_KW_ARGS,
    EXT_CONSTRUCTOR_POS_ARGS,
    EXT_CONSTRUCTOR_SINGLE_ARG,
    EXT_METHOD_SINGLE_ARG,
    EXT_PYDANTIC_V1,
    EXT_PYDANTIC_V2,
)

from interleaver.cli import main
from interleaver.errors import BadInput
from interleaver.profile import Profile
from interleaver.runner import Runner
from interleaver.store.checkpointers import CheckpointSerializer


def hostile_values(marker):
    """Values that make LangGraph's permissive serializer call what they name; each would create the file `marker`."""
    touch = f"touch {marker}"
    payloads = {
        EXT_CONSTRUCTOR_SINGLE_ARG: ["os", "system", touch],
        EXT_CONSTRUCTOR_POS_ARGS: ["os", "system", [touch]],
        EXT_CONSTRUCTOR_KW_ARGS: ["subprocess", "Popen", {"args": touch, "shell": True}],
        EXT_METHOD_SINGLE_ARG: ["pathlib", "Path", str(marker), "touch"],
        EXT_PYDANTIC_V1: ["subprocess", "Popen", {"args": touch, "shell": True}],
        EXT_PYDANTIC_V2: ["subprocess", "Popen", {"args": touch, "shell": True}, "model_validate_json"],
    }
    return [ormsgpack.Ext(code, ormsgpack.packb(payload)) for code, payload in payloads.items()]


def plant(database, value):
    """Put a value in the place of a channel of every checkpoint, and into every pending write."""
    connection = sqlite3.connect(database)
    keep = {"ext_hook": ormsgpack.Ext, "option": ormsgpack.OPT_NON_STR_KEYS}
    for row, blob in list(connection.execute("SELECT rowid, checkpoint FROM checkpoints")):
        checkpoint = ormsgpack.unpackb(blob, **keep)
        checkpoint["channel_values"] |= {"status": value, "failure": value}
        data = ormsgpack.packb(checkpoint, option=ormsgpack.OPT_NON_STR_KEYS)
        connection.execute("UPDATE checkpoints SET checkpoint = ? WHERE rowid = ?", (data, row))
    connection.execute("UPDATE writes SET value = ? WHERE channel IN ('status', 'plan')", (ormsgpack.packb(value),))
    connection.commit()
    connection.close()


async def finished_run(folder):
    runner = Runner(Profile.model_validate({"run": {"width": 64, "height": 64, "max_attempts": 1}}), folder)
    record = await runner.begin("a red star at the top", [], {"seed": 1})
    async for _ in runner.work(record):
        pass
    return record, folder / ".store/checkpoints" / f"{record.run_id}.sqlite"


@pytest.mark.parametrize("number", range(6))
def test_a_strangers_database_calls_nothing(tmp_path, number):
    """At every door: listing and exporting its traces, resuming and changing its run, and cleaning up."""
    marker = tmp_path / "marker"
    record, database = asyncio.run(finished_run(tmp_path / "out"))
    plant(database, hostile_values(marker)[number])
    (tmp_path / "out" / record.run_id / "trace.json").unlink()
    out = ["--out", str(tmp_path / "out")]
    doors = [
        ["traces", "list", f"sqlite:{database}"],
        ["traces", "export", f"sqlite:{database}", "--output", str(tmp_path / "traces.jsonl")],
        ["run", "--resume", record.run_id, *out],
        ["change", record.run_id, "--redraw", "1", *out],
        ["traces", "gc", *out],
    ]
    for door in doors:
        result = CliRunner().invoke(main, door)  # a refusal is as good as a skipped record
        assert not marker.exists(), door
        assert result.exception is None or isinstance(result.exception, SystemExit), (door, result.exception)


@pytest.mark.parametrize("data", [
    ("pickle", b"cos\nsystem\n(S'true'\ntR."),
    ("json", b'{"lc": 2, "type": "constructor", "id": ["os", "system"], "args": ["true"]}'),
    ("msgpack", b"\xc1"),
    ("msgpack", b"\x91" * 5000),
    ("msgpack", b""),
    ("", b""),
])  # fmt: skip
def test_what_no_saver_writes_is_refused(data):
    with pytest.raises(BadInput, match="a checkpoint"):
        CheckpointSerializer().loads_typed(data)
