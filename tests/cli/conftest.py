"""One run that the tests of several commands look at."""

import pytest
from support.commands import CAT, interleaver


@pytest.fixture(scope="module")
def cat(tmp_path_factory):
    """One uninterrupted run of the cat."""
    folder = tmp_path_factory.mktemp("cat")
    result = interleaver("run", CAT, cwd=folder)
    return folder, result.stdout
