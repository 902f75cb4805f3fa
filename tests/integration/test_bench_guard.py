"""The sandbox bench as a guard against getting worse, and ablations."""

import json

import pytest
from support import SUPPORT
from support.evaluations import run

from interleaver.evals.sandbox_bench import run_bench, start_processes, without_critic
from interleaver.profile import Profile

pytestmark = pytest.mark.integration
RECORDED = json.loads((SUPPORT / "recorded_bench.json").read_text())


async def test_the_score_is_not_below_the_recorded_one():
    profile = Profile()
    with start_processes() as pool:
        found = await run_bench(profile, RECORDED["cases"], RECORDED["seed"], pool=pool)
        alone = await run_bench(without_critic(profile), RECORDED["cases"], RECORDED["seed"], pool=pool)
    assert found.score.value >= RECORDED["score"] - RECORDED["noise"], [one for one in found.results if one.score < 1]
    assert alone.score.value == pytest.approx(RECORDED["generator_alone"], abs=RECORDED["generator_alone_noise"])
    assert alone.score.high < found.score.low


def test_ablations_in_a_table_and_a_plot(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lax.toml").write_text('[critic]\nbackend = "sandbox-exact"\nlenience = {place = 1.0}\n')
    asked = [
        "ablations",
        "--world",
        "miniature",
        "--cases",
        "9",
        "--out",
        "abl",
        "--critic",
        "lax=lax.toml",
        "--json",
    ]
    (tmp_path / "interleaver.toml").write_text(
        "[planner]\nbackend = 'sandbox'\nlevel = 'miniature'\n[critic]\nbackend = 'sandbox-exact'\n"
        "[generator]\nbackend = 'sandbox'\nlevel = 'miniature'\n"
    )
    found = json.loads(run(*asked).stdout)["variants"]
    by_name = {(row["part"], row["name"]): row for row in found}
    assert by_name["attempts", "5"]["score"] == by_name["as it is", ""]["score"]
    assert (
        by_name["critic", "off"]["drawings"]
        == by_name["attempts", "1"]["drawings"]
        < by_name["critic", "lax"]["drawings"]
    )
    assert by_name["planner", "off"]["drawings"] < by_name["as it is", ""]["drawings"]
    page = (tmp_path / "abl/ablations.html").read_text()
    assert page.count("<circle") == len(found) and "critic lax" in page
