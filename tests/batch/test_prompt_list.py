"""How a list of requests is read."""

import json
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.batches import item

from interleaver.batch.prompt_list import BatchItem, UnusableRow, read_items


@given(rows=st.lists(st.text(max_size=40), max_size=8), seed=st.integers(0, 2**31 - 1), repeat=st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_any_list_is_read_row_by_row(tmp_path_factory, rows, seed, repeat):
    path = tmp_path_factory.mktemp("rows") / "p.jsonl"
    path.write_text("\n".join(json.dumps({"request": row}) for row in rows), encoding="utf-8")
    found = list(read_items(path, seed, repeat))
    good = [one for one in found if isinstance(one, BatchItem)]
    assert [one.request for one in good[::repeat]] == [row for row in rows if row]
    assert len({one.run_id([]) for one in good}) == len({row for row in rows if row}) * repeat
    assert sum(isinstance(one, UnusableRow) for one in found) == sum(not row for row in rows)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", one.run_id([])) for one in good)


def test_the_name_of_a_run_depends_on_what_it_is_about():
    a = item("a cat")
    assert a.run_id([]) == item("a cat", line=9).run_id([])
    assert len({a.run_id([]), a.run_id(["0" * 64]), item("a cat", seed=1).run_id([]), item("A cat").run_id([])}) == 4
    assert os.path.basename(a.run_id([])) == a.run_id([])


def test_a_line_ends_where_json_lines_end(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"request": "a\u2028b"}\n{"request": "c\x85d"}\n', encoding="utf-8")
    assert [one.request for one in read_items(tmp_path / "p.jsonl", 0)] == ["a\u2028b", "c\x85d"]


@pytest.mark.parametrize("line", ['"just text"', "null", "5", "true", '[{"request": "c"}]', "{", '{"request": 5}'])
def test_a_line_that_is_no_row_does_not_end_the_list(tmp_path, line):
    (tmp_path / "p.jsonl").write_text(f'{{"request": "a"}}\n{line}\n{{"request": "b"}}\n')
    first, bad, last = read_items(tmp_path / "p.jsonl", 0)
    assert (first.request, last.request) == ("a", "b")
    assert isinstance(bad, UnusableRow)
    assert bad.line == 2
    assert "\n" not in bad.problem


def test_an_array_is_read_like_lines(tmp_path):
    (tmp_path / "p.json").write_text('[\n  {"request": "a", "seed": 4},\n  null,\n  {"request": "b"}\n]\n')
    first, bad, last = read_items(tmp_path / "p.json", 0)
    assert (first.request, first.seed, last.request, last.line, bad.line) == ("a", 4, "b", 3, 2)
