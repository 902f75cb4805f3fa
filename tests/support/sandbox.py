"""Short ways to ask the sandbox's planner, generator and critic."""

import io

from PIL import Image

from interleaver.pictures import Picture, white_canvas
from interleaver.sandbox.critic import SandboxCritic
from interleaver.sandbox.generator import FAULTLESS, SandboxGenerator
from interleaver.sandbox.planner import SandboxPlanner
from interleaver.sandbox.world import Scene, SceneItem
from interleaver.types import Step

SIZE = 256


async def plan(request, *images):
    return await SandboxPlanner().plan(request, list(images))


async def draw(prompt, *sources, seed=0, faultless=True):
    generator = SandboxGenerator(FAULTLESS if faultless else None)
    return await generator.generate(prompt, list(sources), seed, (SIZE, SIZE))


async def verdict(instruction, before, after):
    step = Step(number=1, instruction=instruction, prompt="p")
    return await SandboxCritic().review(step, before or white_canvas(SIZE, SIZE), after, "p")


def stripped(picture):
    """The same pixels without the scene behind them."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture.data)).convert("RGB").save(buffer, "PNG")
    return Picture.decode(buffer.getvalue())


SCENE = Scene(
    "a green meadow",
    (SceneItem(1, "house", None, "red", 0.25, 0.53, 0.3), SceneItem(2, "sun", None, "yellow", 0.8, 0.2, 0.19)),
)
