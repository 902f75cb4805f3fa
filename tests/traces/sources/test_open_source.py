"""Addresses of sources of traces."""

import pytest
from support.scripted_runs import opened

from interleaver.errors import BadInput
from interleaver.store.images import ImageStore


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nothing", "there are no runs in 'nothing'"),
        ("langsmith:p?sinse=2026-01-01", "no parameter 'sinse' \\(did you mean 'since'\\?\\)"),
        ("langsmith:p?since=yesterday", "since is 'yesterday'; give a date"),
    ],
)
def test_an_address_that_cannot_be_used_is_told(tmp_path, address, said):
    with pytest.raises(BadInput, match=said):
        opened(address, ImageStore(str(tmp_path)))
