"""`interleaver doctor`."""

import json

from support.commands import interleaver


def test_doctor(tmp_path):
    checks = {check["name"]: check for check in json.loads(interleaver("doctor", "--json", cwd=tmp_path).stdout)}
    assert checks["langgraph"]["ok"] and checks["planner"]["detail"] == "sandbox" and checks["images"]["ok"]
    (tmp_path / "interleaver.toml").write_text('[critic]\nbackend = "oracle"\n')
    said = interleaver("doctor", cwd=tmp_path, code=3).stdout
    assert "FAIL critic" in said and "'oracle' is unknown; choose one of: accept, chat, local, sandbox" in said
