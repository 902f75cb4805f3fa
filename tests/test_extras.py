import sys

import pytest

from interleaver.errors import BadInput
from interleaver.extras import require_extra
from interleaver.registry import create_backend


def test_what_is_missing_is_told_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "langchain_openai", None)
    with pytest.raises(BadInput, match=r'langchain_openai is not installed; pip install "interleaver\[openai\]"'):
        create_backend("planner", "chat", model="m", base_url="http://127.0.0.1:1")


def test_what_is_broken_is_not_called_missing(monkeypatch, tmp_path):
    (tmp_path / "halfway.py").write_text("import not_there_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        BadInput, match="halfway is installed but cannot be imported: No module named 'not_there_at_all'"
    ):
        require_extra("halfway", "openai")
