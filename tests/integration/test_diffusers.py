"""Every preset, on a tiny random pipeline of exactly its class."""

import asyncio
import inspect
import io

import pytest
from PIL import Image
from support.fakes import ScriptedCritic, ScriptedPlanner, drawn_plan, plain_picture

from interleaver import build_graph
from interleaver.errors import BackendError, BadInput
from interleaver.registry import create_backend
from interleaver.tools.diffusers import DiffusersGenerator, PipelineKey, presets, shared_pipeline

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("default")]
STEPS = 1
SOURCES = [plain_picture((9, 99, 200), (96, 64)), plain_picture((200, 99, 9), (96, 64))]
EXPECTED = {  # as the models' makers recommend: steps, guidance, true guidance, negative prompt
    "qwen-image": (50, None, 4.0, ""),
    "qwen-image-lightning": (8, None, 1.0, " "),
    "flux1-krea-dev": (50, 4.5, None, None),
    "qwen-image-edit": (50, None, 4.0, " "),
    "qwen-image-edit-lightning": (8, None, 1.0, " "),
    "flux1-kontext-dev": (28, 2.5, None, None),
    "flux1-fill-dev": (50, 30.0, None, None),
    "longcat-image-edit": (50, 4.5, None, ""),
    "qwen-image-edit-2509": (40, 1.0, 4.0, " "),
    "qwen-image-edit-2511": (40, 1.0, 4.0, " "),
    "flux2-klein-9b": (4, 1.0, None, None),
    "flux2-klein-4b": (4, 1.0, None, None),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder of weights, and of LoRA weights where the preset has one, for a preset."""
    from support import tiny_pipelines

    root = tmp_path_factory.mktemp("weights")

    def folders(name):
        preset = presets()[name]
        folder = root / preset.pipeline
        if not folder.exists():
            tiny_pipelines.save(preset.pipeline, folder)
        return str(folder), tiny_pipelines.save_lora(folder, root / name, preset.lora_file) if preset.lora else None

    return folders


@pytest.fixture
def mask(tmp_path):
    (tmp_path / "mask.png").write_bytes(plain_picture((255, 255, 255)).data)
    return str(tmp_path / "mask.png")


@pytest.fixture
def made(weights, mask):
    def make(name, **settings):
        preset = presets()[name]
        folder, lora = weights(name)
        given = {
            "weights": folder,
            "lora": lora,
            "sizes": [(64, 64)] if preset.draws else None,
            "mask": mask if preset.mask else None,
            "call": {"num_inference_steps": STEPS},
        }
        return DiffusersGenerator(model=name, **{**given, **settings})

    return make


@pytest.fixture
def calls(monkeypatch):
    """What reaches the pipelines."""
    import diffusers

    seen = []
    for name in {preset.pipeline for preset in presets().values()}:
        kind = getattr(diffusers, name)

        def spy(self, *args, original=kind.__call__, **kwargs):
            seen.append(kwargs)
            return original(self, *args, **kwargs)

        spy.__signature__ = inspect.signature(kind.__call__)
        monkeypatch.setattr(kind, "__call__", spy)
    return seen


def test_every_preset_has_its_makers_parameters():
    found = {
        name: tuple(
            preset.call.get(key)
            for key in ("num_inference_steps", "guidance_scale", "true_cfg_scale", "negative_prompt")
        )
        for name, preset in presets().items()
    }
    assert found == EXPECTED


@pytest.mark.parametrize("name", EXPECTED)
async def test_a_preset_draws_and_edits_on_its_class(name, made, calls):
    preset, generator = presets()[name], made(name)
    sources = SOURCES[: preset.max_sources]
    if preset.draws:
        first, same, other_prompt, other_seed = [
            await generator.generate(prompt, [], seed, (512, 512))
            for prompt, seed in (("a cat", 1), ("a cat", 1), ("a dog", 1), ("a cat", 2))
        ]
        assert first == same and first != other_prompt and first != other_seed
        assert calls[0]["prompt"] == "a cat" and (calls[0]["width"], calls[0]["height"]) == (64, 64)
    if sources:
        edited, same, other_prompt, other_seed, other_source = [
            await generator.generate(prompt, given, seed, (512, 512))
            for prompt, seed, given in (
                ("add ears", 1, sources),
                ("add ears", 1, sources),
                ("add a tail", 1, sources),
                ("add ears", 2, sources),
                ("add ears", 1, [plain_picture((0, 0, 0), (96, 64))] * len(sources)),
            )
        ]
        assert edited == same and edited not in (other_prompt, other_seed)
        assert edited != other_source or preset.mask  # the whole source lies under the mask
        images = calls[-2]["image"]
        seen = images if isinstance(images, list) else [images]
        assert [image.getpixel((0, 0)) for image in seen] == [(9, 99, 200), (200, 99, 9)][: len(sources)][-len(seen) :]
        if not preset.fixed_size:
            assert (edited.width, edited.height) == (96, 64)
    assert {call["generator"].initial_seed() for call in calls} == {1, 2}
    expected = {**preset.call, "num_inference_steps": STEPS}
    assert all({key: call[key] for key in expected} == expected for call in calls)


@pytest.mark.parametrize("name", ["qwen-image-lightning", "qwen-image-edit-lightning"])
async def test_lightning_has_its_lora_and_its_scheduler(name, made):
    generator = made(name)
    sources = SOURCES[: presets()[name].max_sources]
    with_lora = await generator.generate("a cat", sources, 1, (64, 64))
    pipeline = generator._pipeline._pipeline
    assert pipeline.get_active_adapters()
    scheduler = pipeline.scheduler.config
    assert scheduler.base_shift == scheduler.max_shift == pytest.approx(1.0986, abs=1e-4)  # log 3
    assert scheduler.use_dynamic_shifting and scheduler.shift_terminal is None
    pipeline.disable_lora()
    assert await generator.generate("a cat", sources, 1, (64, 64)) != with_lora
    pipeline.enable_lora()


async def test_a_mask_keeps_what_it_covers(made, tmp_path):
    image = Image.new("L", (64, 64), 255)
    image.paste(0, (0, 0, 32, 64))
    image.save(tmp_path / "half.png")
    drawn = [
        await made("flux1-fill-dev", mask=mask).generate("a cat", [plain_picture((9, 99, 200))], 1, (64, 64))
        for mask in (str(tmp_path / "half.png"), white(tmp_path))
    ]
    assert drawn[0] != drawn[1]


def white(folder):
    Image.new("L", (64, 64), 255).save(folder / "white.png")
    return str(folder / "white.png")


async def test_runs_at_once_share_a_pipeline_and_keep_their_seeds(made, images):
    alone = {seed: await made("flux2-klein-4b").generate("a cat", [], seed, (64, 64)) for seed in range(4)}
    generators = [made("flux2-klein-4b") for _ in range(4)]
    assert len({id(generator._pipeline) for generator in generators}) == 1
    drawn = await asyncio.gather(
        *[generators[seed].generate("a cat", [], seed, (64, 64)) for seed in range(4) for _ in range(2)]
    )
    assert drawn == [alone[seed] for seed in range(4) for _ in range(2)]


async def test_a_batch_draws_each_prompt_with_its_seed(made):
    generator = made("qwen-image")
    batch = await generator.generate_batch(["a cat", "a dog"], [1, 2], (64, 64))
    alone = [await generator.generate(prompt, [], seed, (64, 64)) for prompt, seed in (("a cat", 1), ("a dog", 2))]
    for one, other in zip(batch, alone, strict=True):
        assert difference(one, other) < 6
    assert difference(*alone) > 0


def difference(one, other):
    """The mean difference of two pictures, 0 to 255."""
    import numpy as np

    pixels = [np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB"), dtype=float) for picture in (one, other)]
    return abs(pixels[0] - pixels[1]).mean()


async def test_the_graph_draws_a_document_with_it(made, images):
    graph = build_graph(
        planner=ScriptedPlanner(drawn_plan(3)),
        critic=ScriptedCritic(False),
        generator=made("flux2-klein-9b"),
        images=images,
    ).compile()
    result = await graph.ainvoke({"request": "three pictures"})
    assert result["status"] == "complete"
    shas = [block["image"]["sha256"] for block in result["document"]["blocks"] if block["type"] == "image"]
    assert len(set(shas)) == 3


async def test_a_model_that_only_edits_says_so(made):
    with pytest.raises(BackendError, match="qwen-image-edit only edits.*draw-and-edit"):
        await made("qwen-image-edit").generate("a cat", [], 1, (64, 64))


async def test_a_model_that_needs_a_mask_says_so(made):
    with pytest.raises(BackendError, match="paints within a mask only, and there is none; give generator.mask"):
        await made("flux1-fill-dev", mask=None).generate("a cat", SOURCES[:1], 1, (64, 64))


async def test_one_model_draws_and_another_edits(weights):
    common = {"backend": "diffusers", "call": {"num_inference_steps": STEPS}}
    generator = create_backend(
        "generator",
        "draw-and-edit",
        draw={**common, "model": "qwen-image", "weights": weights("qwen-image")[0], "sizes": [[64, 64]]},
        edit={**common, "model": "qwen-image-edit-2511", "weights": weights("qwen-image-edit-2511")[0]},
    )
    first = await generator.generate("a cat", [], 1, (64, 64))
    assert await generator.generate("add ears", [first], 1, (64, 64)) != first


@pytest.mark.parametrize("offload", ["model", "sequential"])
async def test_offloading_needs_an_accelerator(made, offload):
    with pytest.raises(BackendError, match="generator.offload is .* no GPU"):
        await made("flux2-klein-4b", offload=offload).generate("a cat", [], 1, (64, 64))


async def test_half_precision_draws_too(made):
    picture = await made("flux2-klein-4b", dtype="bfloat16").generate("a cat", [], 1, (64, 64))
    assert (picture.width, picture.height) == (64, 64)


async def test_a_large_source_is_edited_smaller(made, calls):
    await made("flux2-klein-4b", max_pixels=96 * 96).generate("x", [plain_picture((0, 0, 0), (400, 100))], 1, (9, 9))
    assert (calls[0]["width"], calls[0]["height"]) == (192, 64)  # 48 high, if the model drew so small


async def test_a_parameter_that_the_pipeline_lacks_is_told(made):
    generator = made("flux2-klein-4b", call={"num_inference_steps": 2, "guidance_scal": 3})
    with pytest.raises(
        BackendError, match="no parameter 'guidance_scal' .did you mean 'guidance_scale'..; see generator.call"
    ):
        await generator.generate("x", [], 1, (64, 64))


async def test_weights_that_are_not_there_are_told():
    generator = DiffusersGenerator(model="flux2-klein-4b", weights="/nowhere/at-all")
    with pytest.raises(BackendError, match="cannot be loaded from '/nowhere/at-all'.*set generator.weights"):
        await generator.generate("x", [], 1, (64, 64))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": "flux2-klein"}, "model 'flux2-klein' is unknown .did you mean 'flux2-klein-"),
        ({"model": "qwen-image", "dtype": "int8"}, "dtype: .*'bfloat16', 'float16' or 'float32'"),
    ],
)
def test_settings_are_checked_at_once(settings, said):
    with pytest.raises(BadInput, match=said):
        create_backend("generator", "diffusers", **settings)


def test_what_differs_in_kind_is_not_shared():
    one = PipelineKey("qwen-image", "w", None, None, None, None)
    assert shared_pipeline(one) is shared_pipeline(PipelineKey("qwen-image", "w", None, None, None, None))
    assert shared_pipeline(one) is not shared_pipeline(PipelineKey("qwen-image", "w", None, "cuda:1", None, None))
