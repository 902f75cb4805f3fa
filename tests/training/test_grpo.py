"""The reward functions as the trainer calls them: whole batches, columns by name."""

import asyncio

import pytest
from support.answers import NONSENSE, PLAN, RIGHT, WRONG
from support.fakes import plain_picture

from interleaver.errors import BackendError
from interleaver.pictures import white_canvas
from interleaver.tools import Capabilities
from interleaver.training.grpo import critic_rewards, planner_rewards
from interleaver.training.rewards import CRITIC_WEIGHTS, PLANNER_WEIGHTS, critic_reward, planner_reward
from interleaver.training.scoring import Scorer
from interleaver.types import Scores


class Generator:
    """Cannot draw every third time."""

    capabilities = Capabilities(max_sources=1)

    def __init__(self, fails=0):
        self.calls, self.fails = [], fails

    async def generate(self, prompt, sources, seed, size):
        self.calls.append((prompt, len(sources)))
        number = len(self.calls)
        await asyncio.sleep(0)
        if self.fails and number % self.fails == 0:
            raise BackendError("not now")
        return plain_picture((len(prompt) % 250, 20, 30), size)


class ByPrompt:
    """Scores pictures by their red, which stands for the length of the prompt."""

    async def score(self, step, before, after):
        import io

        from PIL import Image

        red = Image.open(io.BytesIO(after.data)).getpixel((0, 0))[0]
        score = float(red % 11)
        return Scores(editing=score, preserving=10, naturalness=10, soundness=10 - score, success=score > 9)


def batch(count, prompts=None):
    """Rows as they come from the dataset: every second step had succeeded."""
    columns = {
        "success": [n % 2 == 0 for n in range(count)],
        "semantics": [float(n % 11) for n in range(count)],
        "quality": [7.0] * count,
        "instruction": ["i"] * count,
        "origin_prompt": ["o"] * count,
        "rewritten_prompt": [f"prompt {'x' * n}" for n in range(count)],
        "step": [1] * count,
        "split": ["train"] * count,
        "row": list(range(count)),
    }
    said = [(RIGHT, WRONG, NONSENSE)[n % 3] for n in range(count)]
    return [[{"role": "assistant", "content": text}] for text in said], said, columns


async def called(functions, completions, columns):
    logged = []
    told = {**columns, "log_metric": lambda name, value: logged.append((name, value)), "trainer_state": object()}
    values = await asyncio.gather(*(function(completions=completions, **told) for function in functions))
    return list(zip(*values, strict=True)), dict(logged)


def originals(split, row):
    return [plain_picture((1, 1, row % 250)), plain_picture((2, 2, row % 250))]


@pytest.mark.parametrize("fails", [0, 3])
async def test_the_parts_and_their_sum_are_those_of_the_formula(fails):
    generator = Generator(fails)
    scorer = Scorer(generator, ByPrompt())
    completions, said, columns = batch(24)
    parts, logged = await called(critic_rewards(scorer, originals), completions, columns)
    neutral = 0
    for number, (values, text) in enumerate(zip(parts, said, strict=True)):
        truth = columns["success"][number]
        before = columns["semantics"][number], columns["quality"][number]
        prompt = "red!" if text is WRONG else "p" if text is RIGHT else columns["rewritten_prompt"][number]
        score = float(len(prompt) % 250 % 11)
        after = (None, None) if truth or values[2:] == (0.5, 0.5) else (score, 10 - score)
        neutral += not truth and after == (None, None)
        expected = critic_reward(
            text,
            success=truth,
            semantics_before=before[0],
            quality_before=before[1],
            semantics_after=after[0],
            quality_after=after[1],
        )
        assert values == pytest.approx((expected.format, expected.accuracy, expected.semantics, expected.quality))
        weights = CRITIC_WEIGHTS.values()
        total = sum(weight * value for weight, value in zip(weights, values, strict=True))
        assert total == pytest.approx(expected.total)
    # One drawing for each row that had failed, whether it could be scored or not; both parts know of it.
    assert len(generator.calls) == 12 and neutral == logged["scoring/failed"] == (4 if fails else 0)
    assert logged["scoring/done"] == 12 - logged["scoring/failed"] and logged["scoring/cached"] == 0


class BySeed(Generator):
    """Draws something else with every seed; cannot draw with the seed 2."""

    async def generate(self, prompt, sources, seed, size):
        if seed == 2:
            raise BackendError("not this one")
        return plain_picture((3 * seed, 20, 30), size)


async def test_a_prompt_may_be_drawn_several_times():
    completions, _, columns = batch(2)
    parts, logged = await called(critic_rewards(Scorer(BySeed(), ByPrompt()), originals, 4), completions, columns)
    assert parts[0][2:] == (0.5, 0.5)
    # Seeds 0, 1 and 3 are scored 0, 3 and 9 for semantics, which was 1, and 10, 7 and 1 for quality, which was 7.
    assert parts[1][2:] == pytest.approx(((4 - 1) / 20 + 0.5, (6 - 7) / 20 + 0.5))
    assert logged["scoring/done"] == 3 and logged["scoring/failed"] == 1


async def test_a_white_page_is_no_picture_to_edit():
    generator = Generator()
    completions, _, columns = batch(4)
    canvas = [white_canvas(64, 64), plain_picture()]
    await called(critic_rewards(Scorer(generator, ByPrompt()), lambda split, row: canvas), completions, columns)
    assert [sources for _, sources in generator.calls] == [0, 0]


async def test_when_too_much_fails_nothing_is_tried_any_more():
    generator = Generator(fails=1)
    scorer = Scorer(generator, ByPrompt(), drawings=1, give_up=0.5)
    completions, _, columns = batch(200)
    parts, _ = await called(critic_rewards(scorer, originals), completions, columns)
    assert all(values[2:] == (0.5, 0.5) for values in parts)
    assert scorer.failing == 1.0
    await called(critic_rewards(scorer, originals), *batch(200)[::2])
    assert len(generator.calls) <= 100  # the second batch asked for nothing


async def test_a_planners_parts():
    import json

    plan = f"<think>t</think>\n<answer>{json.dumps(PLAN)}</answer>"
    completions = [[{"role": "assistant", "content": text}] for text in (plan, NONSENSE)]
    columns = {"planned_count": [3, 3], "request": ["r", "r"], "split": ["train"] * 2, "row": [0, 1]}
    generator = Generator()
    functions = planner_rewards(Scorer(generator, ByPrompt()), lambda split, row: [], (64, 64))
    parts, _ = await called(functions, completions, columns)
    assert len(generator.calls) == 3
    scored = Scores(editing=4, preserving=10, naturalness=10, soundness=6, success=False).overall
    for values, text, document in zip(parts, (plan, NONSENSE), (scored, None), strict=True):
        expected = planner_reward(text, steps=3, document=document)
        assert values == pytest.approx((expected.format, expected.steps, expected.document))
        total = sum(weight * value for weight, value in zip(PLANNER_WEIGHTS.values(), values, strict=True))
        assert total == pytest.approx(expected.total)
