"""The runs of a store."""

import pytest

from interleaver.errors import BadInput
from interleaver.traces.runs import RunStore


def test_runs_are_listed_newest_first_and_unfinished_ones_too(tmp_path):
    store = RunStore(tmp_path)
    store.prepare()
    context = {"seed": 3}
    first, second = (store.begin(request, [], context, None, models={}, tags={}) for request in ("one", "two: a cat?"))
    assert [run.run_id for run in store.summaries()] == [second.run_id, first.run_id]
    assert store.summaries()[0].status == "unfinished"
    assert second.run_id.split("-", 2)[2].startswith("two-a-cat-")
    assert store.record(first.run_id) == first


@pytest.mark.parametrize("run_id", ["nope", "../x", "", "."])
def test_a_run_that_does_not_exist_is_told(tmp_path, run_id):
    store = RunStore(tmp_path)
    with pytest.raises(BadInput, match="there is no run"):
        store.record(run_id)
