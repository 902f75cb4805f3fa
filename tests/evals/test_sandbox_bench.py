"""The sandbox bench: its answers are known."""

import pytest
from support.evaluations import run

from interleaver.evals.sandbox_bench import run_bench
from interleaver.profile import Profile

FAULTLESS = {name: 0 for name in ("stated", "stressed", "crowding", "damage", "careful_damage", "smudge")}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


async def test_every_answer_can_be_given():
    profile = Profile.model_validate(
        {"critic": {"backend": "sandbox-exact"}, "generator": {"backend": "sandbox", "slips": FAULTLESS}}
    )
    found = await run_bench(profile, 21)
    assert [one for one in found.results if one.score < 1] == []
    assert set(found.levels) == {one.level for one in found.results} and len(found.levels) == 9


def test_pictures_of_other_generators_are_refused(tmp_path):
    (tmp_path / "interleaver.toml").write_text('[generator]\nbackend = "svg"\nmodel = "m"\n')
    assert "the sandbox bench scores only pictures of the sandbox generator" in run("sandbox", code=2).output
    assert "--critic is 'x'; give a name and a path" in run("ablations", "--critic", "x", code=2).output
