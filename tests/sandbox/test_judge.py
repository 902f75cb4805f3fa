"""The sandbox's judge."""

import pytest
from support.sandbox import SCENE

from interleaver.sandbox.judge import score_step
from interleaver.sandbox.world import Scene, SceneItem


class TestJudge:
    @pytest.mark.parametrize(("instruction", "after", "finding"), [
        ("Draw a small blue cat on the right.", [SceneItem(3, "cat", None, "blue", 0.8, 0.53, 0.19)], None),
        ("Draw a small blue cat on the right.", [SceneItem(3, "cat", None, "red", 0.8, 0.53, 0.19)], "not blue"),
        ("Draw a small blue cat on the right.", [SceneItem(3, "cat", None, "blue", 0.8, 0.53, 0.3)], "not small"),
        ("Draw a small blue cat on the right.", [SceneItem(3, "cat", None, "blue", 0.5, 0.53, 0.19)], "wrong place"),
        ("Draw a small blue cat on the right.", [SceneItem(3, "dog", None, "blue", 0.8, 0.53, 0.19)], "no cat"),
        ("Draw a small blue cat on the right.", [], "no cat"),
        ("Draw a tiny blue cat to the right of the house.", [SceneItem(3, "cat", None, "blue", 0.6, 0.5, 0.12)], None),
        (
            "Draw a tiny blue cat to the right of the house.",
            [SceneItem(3, "cat", None, "blue", 0.3, 0.9, 0.12)],
            "side",
        ),
    ])  # fmt: skip
    def test_additions(self, instruction, after, finding):
        result = score_step(instruction, SCENE, Scene(SCENE.background, (*SCENE.items, *after)))
        assert result.success is (finding is None)
        assert finding is None or any(finding in found for found in result.findings)
        assert result.semantics == 10 if finding is None else result.semantics < 10

    def test_damage_smudges_and_strangers_are_seen(self):
        asked = "Draw a small blue cat on the right."
        cat = SceneItem(3, "cat", None, "blue", 0.8, 0.53, 0.19)
        lost = score_step(asked, SCENE, Scene(SCENE.background, (SCENE.items[0], cat)))
        assert lost.findings == ("the yellow sun is gone",) and lost.preserving == 6 and lost.editing == 10
        stranger = SceneItem(4, "owl", None, "pink", 0.5, 0.2, 0.12)
        assert "unasked" in score_step(asked, SCENE, Scene(SCENE.background, (*SCENE.items, cat, stranger))).findings[0]
        blot = score_step(asked, SCENE, Scene(SCENE.background, (*SCENE.items, cat), ((0.5, 0.5, 0.05),)))
        assert blot.quality == 4 and blot.overall == pytest.approx(40**0.5) and not blot.success
        assert "background" in score_step(asked, SCENE, Scene("a desert", (*SCENE.items, cat))).findings[0]
