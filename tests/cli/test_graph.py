"""`interleaver graph`."""

from support.commands import interleaver


def test_the_graph_is_printed_as_mermaid(tmp_path):
    said = interleaver("graph", cwd=tmp_path).stdout
    assert said.startswith("---") and "refine --> generator" in said and "graph TD" in said
