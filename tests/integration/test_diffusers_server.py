"""The images server over diffusers pipelines, with the stock `openai` client."""

import base64
import io

import openai
import pytest
from PIL import Image
from support.fakes import plain_picture
from support.processes import served

from interleaver.pictures import Picture
from interleaver.tools.openai_images import OpenAIImages

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("default")]
SOURCE = plain_picture((9, 99, 200), (96, 64))
QUICK = {"num_inference_steps": 1}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder of tiny weights for a pipeline's class."""
    from support import tiny_pipelines

    return lambda name: tiny_pipelines.save(name, tmp_path_factory.mktemp(name))


@pytest.fixture(scope="module")
def klein(weights):
    with served(
        "--weights", weights("Flux2KleinPipeline"), "--set", "device=cpu", "--set", "sizes=[]", name="flux2-klein-4b"
    ) as (url, _):
        yield url


def images(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0).images


def picture(answer):
    return Picture.decode(base64.b64decode(answer.data[0].b64_json))


def test_generations_and_edits(klein):
    asked = {"model": "flux2-klein-4b", "prompt": "a cat", "size": "96x64"}
    first, again, more_steps = (
        picture(images(klein).generate(**asked, extra_body={"seed": 1, "num_inference_steps": steps}))
        for steps in (1, 1, 3)
    )
    assert first == again != more_steps and (first.width, first.height) == (96, 64)
    file = ("a.png", SOURCE.data, "image/png")
    one, two = (
        picture(images(klein).edit(image=sources, prompt="add ears", extra_body={"seed": 1, **QUICK}))
        for sources in ([file], [file, ("b.png", first.data, "image/png")])
    )
    assert (one.width, one.height) == (96, 64) and one != two


def test_a_parameter_that_the_pipeline_lacks_is_told(klein):
    with pytest.raises(openai.UnprocessableEntityError, match="Flux2KleinPipeline has no parameter 'true_cfg_scale'"):
        images(klein).generate(prompt="a cat", size="64x64", extra_body={"true_cfg_scale": 2})


async def test_the_generator_of_this_package_draws_the_same_over_http(klein):
    generator = OpenAIImages(model="flux2-klein-4b", base_url=f"{klein}/v1", max_sources=4, extra_body=QUICK)
    first = await generator.generate("a cat", [], 7, (64, 64))
    assert first == picture(images(klein).generate(prompt="a cat", size="64x64", extra_body={"seed": 7, **QUICK}))
    assert (await generator.generate("add ears", [first, SOURCE], 7, (64, 64))).width == 96


async def test_both_kinds_of_mask_reach_the_pipeline(weights, tmp_path):
    half = Image.new("L", (96, 64), 255)
    half.paste(0, (0, 0, 48, 64))
    half.save(tmp_path / "mask.png")
    with served("--weights", weights("FluxFillPipeline"), "--set", "device=cpu", name="flux1-fill-dev") as (url, _):
        drawn = [
            await OpenAIImages(
                model="flux1-fill-dev",
                base_url=f"{url}/v1",
                mask=mask,
                extensions=extensions,
                extra_body={"seed": 1, **QUICK},
            ).generate("a cat", [SOURCE], 1, (64, 64))
            for mask, extensions in (
                (str(tmp_path / "mask.png"), True),
                (str(tmp_path / "mask.png"), False),
                (white(tmp_path), True),
            )
        ]
        with pytest.raises(openai.UnprocessableEntityError, match="paints within a mask only, and there is none"):
            images(url).edit(image=("a.png", SOURCE.data, "image/png"), prompt="x", extra_body=QUICK)
    assert drawn[0] == drawn[1] != drawn[2]


def white(folder):
    buffer = io.BytesIO()
    Image.new("L", (96, 64), 255).save(buffer, "PNG")
    (folder / "white.png").write_bytes(buffer.getvalue())
    return str(folder / "white.png")
