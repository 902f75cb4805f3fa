"""The sandbox bench: its answers are known."""

import pytest
from harness import run

from interleaver.config import Profile
from interleaver.evals.bench import bench

FAULTLESS = {name: 0 for name in ("stated", "stressed", "crowding", "damage", "careful_damage", "smudge")}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


async def test_every_answer_can_be_given():
    profile = Profile.model_validate(
        {"critic": {"backend": "sandbox-exact"}, "generator": {"backend": "sandbox", "slips": FAULTLESS}}
    )
    found = await bench(profile, 21)
    assert [one for one in found.made if one.score < 1] == []
    assert set(found.levels) == {one.level for one in found.made} and len(found.levels) == 9


def test_pictures_of_other_generators_are_refused(tmp_path):
    (tmp_path / "interleaver.toml").write_text('[generator]\nbackend = "svg"\nmodel = "m"\n')
    assert "the sandbox bench scores the sandbox's own pictures" in run("sandbox", code=2).output
    assert "--critic is 'x'; give a name and a path" in run("ablations", "--critic", "x", code=2).output
