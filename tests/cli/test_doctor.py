"""`interleaver doctor`."""

import json
from importlib.metadata import metadata

from support.commands import interleaver

from interleaver import doctor


def test_what_is_installed_works(tmp_path):
    checks = {check["name"]: check for check in json.loads(interleaver("doctor", "--json", cwd=tmp_path).stdout)}
    assert checks["langgraph"]["ok"] and checks["planner"]["detail"] == "sandbox" and checks["images"]["ok"]
    assert checks["extra mcp"] == {"name": "extra mcp", "ok": True, "detail": "works"}


async def test_a_backend_that_is_unknown_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "DOORS", {})
    profile = tmp_path / "mine.toml"
    profile.write_text('[critic]\nbackend = "oracle"\n')
    checks = {check.name: check for check in await doctor.examine(str(profile), "memory://doctor")}
    assert not checks["critic"].ok
    assert "'oracle' is unknown; choose one of: accept, chat, local, sandbox" in checks["critic"].detail


async def test_an_extra_that_is_installed_but_broken_is_named(monkeypatch):
    monkeypatch.setitem(doctor.DOORS, "mcp", "raise ImportError('FastMCP was renamed')")
    monkeypatch.setitem(doctor.DOORS, "data", "import os; os._exit(9)")
    monkeypatch.setattr(doctor, "DOORS", {name: doctor.DOORS[name] for name in ("mcp", "data")})
    checks = {check.name: check for check in await doctor.examine(None, "memory://doctor")}
    assert (
        not checks["extra mcp"].ok
        and "ImportError: FastMCP was renamed; pip install --upgrade" in checks["extra mcp"].detail
    )
    assert not checks["extra data"].ok and checks["extra data"].detail.startswith("exit code 9")


def test_every_extra_has_a_door():
    extras = set(metadata("interleaver").get_all("Provides-Extra")) - {"dev", "integration"}
    assert set(doctor.DOORS) == extras
