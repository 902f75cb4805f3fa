"""Image models in this process, through the diffusers library."""

from __future__ import annotations

import asyncio
import gc
import inspect
import io
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings

from interleaver.errors import BackendError, BadInput, did_you_mean
from interleaver.extras import need
from interleaver.pictures import Picture, encoded, flatten
from interleaver.tools.generators import Capabilities, Size, nearest, read_mask
from interleaver.tools.presets import presets

if TYPE_CHECKING:
    from PIL import Image

Json = dict[str, Any]
GRID = 16
"""Width and height of a picture are multiples of it: eight pixels a latent, two latents a patch."""


@settings(config=ConfigDict(extra="forbid"))
class DiffusersGenerator:
    """Draws with a diffusers pipeline that is loaded at the first picture.

    Generators with the same model, weights, device and precision share one loaded pipeline; their calls take turns,
    each with a random generator of its own, so that a seed gives the same picture whatever else is drawn.

    Attributes:
        model: the name of a preset, see `presets.toml`.
        weights: another hub id, or a local folder, for the same pipeline.
        lora: likewise for the preset's LoRA: a hub id, a folder or a file.
        device: cuda, cuda:1, mps or cpu; None: the first GPU where there is one.
        dtype: the precision of the weights; None: bfloat16, or float32 on the CPU.
        offload: keep the weights in main memory and bring them to the GPU a *model* or a layer (*sequential*) at a
            time: slower, and with far less GPU memory.
        sizes: sizes (width, height) of pictures drawn anew, instead of the preset's; [] takes the run's.
        max_pixels: an edit is drawn at the size of its source, unless that has more pixels than this.
        mask: a picture file for a model that paints within a mask: white where it may paint.
        call: parameters of the pipeline that replace or complete the preset's: `num_inference_steps` ...
    """

    model: str
    weights: str | None = None
    lora: str | None = None
    device: str | None = None
    dtype: Literal["bfloat16", "float16", "float32"] | None = None
    offload: Literal["model", "sequential"] | None = None
    sizes: list[Size] | None = None
    max_pixels: int = Field(default=1328 * 1328, ge=64 * 64)
    mask: str | None = None
    call: Json = Field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.model not in presets():
            hint = did_you_mean(self.model, presets())
            raise BadInput(f"model {self.model!r} is unknown{hint}; choose one of: {', '.join(presets())}")
        need("diffusers", "diffusers")
        self.preset = presets()[self.model]
        if self.mask and not self.preset.mask:
            raise BadInput(f"mask: {self.model} takes none")
        self._mask = read_mask(self.mask) if self.mask else None
        lora = self.lora or self.preset.lora
        self._pipeline = shared_pipeline(
            Loading(self.model, self.weights or self.preset.weights, lora, self.device, self.dtype, self.offload)
        )

    @property
    def capabilities(self) -> Capabilities:
        """What the model can do."""
        return Capabilities(max_sources=self.preset.max_sources)

    async def load(self) -> None:
        """Load the weights now instead of at the first picture.

        Raises:
            BackendError: they cannot be loaded.
        """
        try:
            await asyncio.get_running_loop().run_in_executor(self._pipeline.thread, self._pipeline.load)
        except BackendError:
            raise
        except Exception as error:
            raise _explained(error, self.model) from error

    async def generate(
        self,
        prompt: str,
        sources: Sequence[Picture],
        seed: int,
        size: Size,
        *,
        mask: Picture | None = None,
        call: Json | None = None,
    ) -> Picture:
        """Draw or edit one picture; see `ImageGenerator.generate`.

        Args:
            prompt: what to draw or change.
            sources: the pictures to edit, oldest first; empty draws anew.
            seed: 0 to 2**31 - 1.
            size: of a picture drawn anew.
            mask: for this picture, instead of the generator's own.
            call: parameters of the pipeline for this picture alone.

        Raises:
            BackendError: this prompt cannot be drawn.
        """
        if not sources and not self.preset.draws:
            raise BackendError(
                f"{self.model} only edits, and there is no picture to edit; "
                "use the backend 'draw-and-edit' to draw the first one with another model"
            )
        if mask and not self.preset.mask:
            raise BadInput(f"mask: {self.model} takes none")
        given = await asyncio.to_thread(self._arguments, sources, size, mask or self._mask)
        return (await self._run([prompt], [seed], {**given, **(call or {})}))[0]

    async def generate_batch(self, prompts: Sequence[str], seeds: Sequence[int], size: Size) -> list[Picture]:
        """Draw several pictures anew in one pass of the pipeline.

        A picture of a batch can differ in a few pixels from the same one drawn alone, since the arithmetic is ordered
        otherwise.

        Raises:
            BackendError: as for `generate`.
        """
        if not self.preset.draws:
            raise BackendError(f"{self.model} only edits")
        return await self._run(list(prompts), list(seeds), self._arguments([], size, None))

    async def _run(self, prompts: list[str], seeds: list[int], given: Json) -> list[Picture]:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pipeline.thread, self._pipeline.draw, prompts, seeds, given)
        except BackendError:
            raise
        except Exception as error:
            raise _explained(error, self.model) from error

    def _arguments(self, sources: Sequence[Picture], size: Size, mask: Picture | None) -> Json:
        """The arguments of the pipeline but the prompt and the seed."""
        given: Json = {**self.preset.call, **self.call}
        width, height = self._size(sources, size)
        if not self.preset.fixed_size:
            given |= {"width": width, "height": height}
        if self.preset.area:
            given["max_area"] = width * height
        if sources:
            images = [_opened(source) for source in sources]
            given["image"] = images if self.preset.max_sources > 1 else images[-1]
        if self.preset.mask:
            if mask is None:
                raise BackendError(f"{self.model} paints within a mask only, and there is none; give generator.mask")
            given["mask_image"] = _opened(mask).convert("L").resize((width, height))
        return given

    def _size(self, sources: Sequence[Picture], size: Size) -> Size:
        """The size to draw at: the source's, else the nearest of the model's."""
        if sources:
            width, height = sources[-1].width, sources[-1].height
            shrink = min(1.0, math.sqrt(self.max_pixels / (width * height)))
            size = round(width * shrink), round(height * shrink)
        else:
            sizes = self.preset.sizes if self.sizes is None else self.sizes
            size = nearest(size, sizes) if sizes else size
        return max(size[0] // GRID, 4) * GRID, max(size[1] // GRID, 4) * GRID


@dataclass(frozen=True)
class Loading:
    """What a loaded pipeline is shared by."""

    model: str
    weights: str
    lora: str | None
    device: str | None
    dtype: str | None
    offload: str | None


@dataclass
class Pipeline:
    """A diffusers pipeline and the one thread that may touch it."""

    loading: Loading
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "diffusers"))
    _loaded: Any = None

    def load(self) -> None:
        """Load the weights, once; runs in the pipeline's thread."""
        if self._loaded is None:
            self._loaded = _load(self.loading)

    def draw(self, prompts: list[str], seeds: list[int], given: Json) -> list[Picture]:
        """Draw a picture for each prompt; runs in the pipeline's thread."""
        import torch

        self.load()
        # On the CPU, so that a seed means the same on every device.
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        single = len(prompts) == 1
        if not single and given.get("negative_prompt") is not None:
            given = {**given, "negative_prompt": [given["negative_prompt"]] * len(prompts)}
        answer = self._loaded(
            prompt=prompts[0] if single else prompts,
            generator=generators[0] if single else generators,
            **_accepted(self._loaded, given),
        )
        return [encoded(image) for image in answer.images]


@cache
def shared_pipeline(loading: Loading) -> Pipeline:
    """The one pipeline of its kind in this process; its weights are loaded when it first draws."""
    return Pipeline(loading)


def _load(loading: Loading) -> Any:
    """Load a pipeline's weights.

    Raises:
        BackendError: they cannot be found or loaded.
    """
    import diffusers
    import torch

    preset = presets()[loading.model]
    device = loading.device or _best_device()
    if loading.offload and device == "cpu":
        raise BackendError(f"generator.offload is {loading.offload!r}, but there is no GPU to bring the weights to")
    dtype = getattr(torch, loading.dtype or ("float32" if device == "cpu" else "bfloat16"))
    try:
        pipeline = getattr(diffusers, preset.pipeline).from_pretrained(loading.weights, dtype=dtype)
        if preset.shift:
            pipeline.scheduler = _shifted(pipeline.scheduler, preset.shift)
        if loading.lora:
            own = loading.lora == preset.lora
            pipeline.load_lora_weights(loading.lora, weight_name=preset.lora_file if own else None)
    except (OSError, ValueError) as error:
        raise BackendError(
            f"the weights of {loading.model} cannot be loaded from {loading.weights!r}: {_first_line(error)}; set "
            "generator.weights to a local folder or a hub id"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    if loading.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif loading.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)
    return pipeline


def _shifted(scheduler: Any, shift: float) -> Any:
    """The scheduler that the Lightning LoRAs were distilled with: one time shift whatever the picture's size."""
    change = {"base_shift": math.log(shift), "max_shift": math.log(shift), "shift_terminal": None}
    return type(scheduler).from_config(scheduler.config, **change, use_dynamic_shifting=True, shift=1.0)


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _accepted(pipeline: Any, given: Json) -> Json:
    """The arguments, once they are known to be the pipeline's.

    Raises:
        BackendError: a parameter in `generator.call` is none of them.
    """
    known = inspect.signature(pipeline.__call__).parameters
    for name in given:
        if name not in known:
            raise BackendError(
                f"{type(pipeline).__name__} has no parameter {name!r}{did_you_mean(name, known)}; see generator.call"
            )
    return given


def _explained(error: Exception, model: str) -> BackendError:
    import torch

    if isinstance(error, torch.cuda.OutOfMemoryError):
        gc.collect()
        torch.cuda.empty_cache()
        return BackendError(
            f"{model} ran out of GPU memory; set generator.offload to 'model', or draw smaller pictures"
        )
    return BackendError(f"{model} failed: {type(error).__name__}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _opened(picture: Picture) -> Image.Image:
    from PIL import Image

    with Image.open(io.BytesIO(picture.data)) as image:
        return flatten(image)
