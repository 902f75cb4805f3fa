"""Fixtures that all tests share."""

import pytest

from interleaver.store.images import ImageStore


@pytest.fixture
def images(tmp_path) -> ImageStore:
    return ImageStore(str(tmp_path / "images"))
