"""Traces out of exports."""

import gzip

from support.scripted_runs import opened, read, traced

from interleaver.traces.trace import Trace


async def test_an_export_is_read_back_line_by_line(tmp_path, images):
    traces = [await traced(images, run_id=f"r{n}") for n in range(3)]
    lines = [trace.model_dump_json(exclude_none=True) for trace in traces]
    lines.insert(1, lines[0][:100])
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    for name in ("x.jsonl", "x.jsonl.gz"):
        found = await read(opened(str(tmp_path / name), images))
        assert [one.run_id for one in found if isinstance(one, Trace)] == ["r0", "r1", "r2"]
        assert found[1].reason == "truncated or damaged record" and "line 2" in found[1].name
    (tmp_path / "cut.jsonl.gz").write_bytes((tmp_path / "x.jsonl.gz").read_bytes()[:-60])
    found = await read(opened(str(tmp_path / "cut.jsonl.gz"), images))
    assert found[-1].reason == "truncated or damaged record"
