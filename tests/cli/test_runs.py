"""`interleaver runs`."""

import json

from support.commands import interleaver, only_run


def test_runs_are_listed_and_shown(cat):
    folder, _ = cat
    run = only_run(folder / "out")
    (listed,) = json.loads(interleaver("runs", "list", "--json", cwd=folder).stdout)
    assert listed["run_id"] == run.name and listed["status"] == "complete"
    assert run.name in interleaver("runs", "list", cwd=folder).stdout
    assert "1. Body: accepted" in interleaver("runs", "show", run.name, cwd=folder).stdout
    shown = json.loads(interleaver("runs", "show", run.name, "--json", cwd=folder).stdout)
    assert shown == json.loads((run / "document.json").read_text())
