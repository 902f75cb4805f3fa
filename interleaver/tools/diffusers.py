"""Image models that run in this process, with the diffusers library."""

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
from interleaver.extras import require_extra
from interleaver.pictures import Picture, flatten
from interleaver.tools.masks import read_mask
from interleaver.tools.presets import presets
from interleaver.tools.protocols import Capabilities, Size
from interleaver.tools.sizes import nearest_size
from interleaver.types import Json

if TYPE_CHECKING:
    from PIL import Image

GRID = 16
"""Width and height of a picture are multiples of this: eight pixels per latent, two latents per patch."""


@settings(config=ConfigDict(extra="forbid"))
class DiffusersGenerator:
    """A generator that runs a diffusers pipeline, which is loaded when the first picture is drawn.

    Generators with the same model, weights, LoRA, device, precision and offloading share one loaded pipeline. Calls run
    one at a time, each with its own random number generator, so that a seed gives the same picture whatever else is
    drawn.

    Attributes:
        model: name of a preset, see `presets.toml`.
        weights: Hugging Face Hub id or local folder of other weights for the same pipeline; None for the preset's.
        lora: Hugging Face Hub id, folder or file of a LoRA; None for the preset's, if it has one.
        device: cuda, cuda:1, mps or cpu; None for the first GPU, or the CPU if there is none.
        dtype: precision of the weights; None for bfloat16, or float32 on the CPU.
        offload: keep the weights in main memory and move them to the GPU one component (*model*) or one layer
            (*sequential*) at a time, which is slower but needs far less GPU memory; None to keep them on the device.
        sizes: sizes (width, height) of new pictures; None for the preset's, [] for the size that the run requests.
        max_pixels: maximum number of pixels of an edit; it has the size of its source, scaled down to this if larger.
        mask: path of a mask image, white where the model may paint; for models that require a mask.
        call: pipeline parameters that override or extend the preset's, such as `num_inference_steps`.
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
        require_extra("diffusers", "diffusers")
        self.preset = presets()[self.model]
        if self.mask and not self.preset.mask:
            raise BadInput(f"mask: {self.model} does not take a mask; remove it")
        self._mask = read_mask(self.mask) if self.mask else None
        lora = self.lora or self.preset.lora
        self._pipeline = shared_pipeline(
            PipelineKey(self.model, self.weights or self.preset.weights, lora, self.device, self.dtype, self.offload)
        )

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the model."""
        return Capabilities(max_sources=self.preset.max_sources)

    async def load(self) -> None:
        """Load the weights now instead of when the first picture is drawn.

        Raises:
            BackendError: the weights cannot be loaded.
        """
        try:
            await asyncio.get_running_loop().run_in_executor(self._pipeline.thread, self._pipeline.load)
        except BackendError:
            raise
        except Exception as error:
            raise _explain(error, self.model) from error

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
            sources: the pictures to edit, oldest first; empty for a new picture.
            seed: seed of the drawing, 0 to 2**31 - 1.
            size: width and height in pixels of a new picture.
            mask: mask for this picture; None for the generator's own.
            call: additional pipeline parameters for this picture only.

        Raises:
            BackendError: this prompt cannot be drawn.
        """
        if not sources and not self.preset.draws:
            raise BackendError(
                f"{self.model} only edits, and there is no picture to edit; "
                "use the backend 'draw-and-edit' to draw the first one with another model"
            )
        if mask and not self.preset.mask:
            raise BadInput(f"mask: {self.model} does not take a mask; remove it")
        arguments = await asyncio.to_thread(self._arguments, sources, size, mask or self._mask)
        return (await self._run([prompt], [seed], {**arguments, **(call or {})}))[0]

    async def generate_batch(self, prompts: Sequence[str], seeds: Sequence[int], size: Size) -> list[Picture]:
        """Draw several new pictures in one pass of the pipeline.

        A picture of a batch can differ in a few pixels from the same picture drawn alone, since the order of the
        arithmetic operations differs.

        Raises:
            BackendError: as for `generate`.
        """
        if not self.preset.draws:
            raise BackendError(f"{self.model} only edits; it cannot draw new pictures")
        return await self._run(list(prompts), list(seeds), self._arguments([], size, None))

    async def _run(self, prompts: list[str], seeds: list[int], arguments: Json) -> list[Picture]:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pipeline.thread, self._pipeline.draw, prompts, seeds, arguments)
        except BackendError:
            raise
        except Exception as error:
            raise _explain(error, self.model) from error

    def _arguments(self, sources: Sequence[Picture], size: Size, mask: Picture | None) -> Json:
        """Return the arguments of the pipeline, except the prompt and the seed."""
        arguments: Json = {**self.preset.call, **self.call}
        width, height = self._size(sources, size)
        if not self.preset.fixed_size:
            arguments |= {"width": width, "height": height}
        if self.preset.area:
            arguments["max_area"] = width * height
        if sources:
            images = [_open_image(source) for source in sources]
            arguments["image"] = images if self.preset.max_sources > 1 else images[-1]
        if self.preset.mask:
            if mask is None:
                raise BackendError(f"{self.model} paints within a mask only, and there is none; give generator.mask")
            arguments["mask_image"] = _open_image(mask).convert("L").resize((width, height))
        return arguments

    def _size(self, sources: Sequence[Picture], size: Size) -> Size:
        """Return the size to draw: that of the last source (up to `max_pixels`), or else the nearest one offered."""
        if sources:
            width, height = sources[-1].width, sources[-1].height
            shrink = min(1.0, math.sqrt(self.max_pixels / (width * height)))
            size = round(width * shrink), round(height * shrink)
        else:
            sizes = self.preset.sizes if self.sizes is None else self.sizes
            size = nearest_size(size, sizes) if sizes else size
        return max(size[0] // GRID, 4) * GRID, max(size[1] // GRID, 4) * GRID


@dataclass(frozen=True)
class PipelineKey:
    """The settings of a loaded pipeline; generators with equal keys share one."""

    model: str
    weights: str
    lora: str | None
    device: str | None
    dtype: str | None
    offload: str | None


@dataclass
class Pipeline:
    """A diffusers pipeline and the only thread that may use it."""

    key: PipelineKey
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "diffusers"))
    _pipeline: Any = None

    def load(self) -> None:
        """Load the weights unless they are loaded; runs in the pipeline's thread."""
        if self._pipeline is None:
            self._pipeline = _load(self.key)

    def draw(self, prompts: list[str], seeds: list[int], arguments: Json) -> list[Picture]:
        """Draw a picture for each prompt; runs in the pipeline's thread."""
        import torch

        self.load()
        # On the CPU, so that a seed means the same on every device.
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        single = len(prompts) == 1
        if not single and arguments.get("negative_prompt") is not None:
            arguments = {**arguments, "negative_prompt": [arguments["negative_prompt"]] * len(prompts)}
        answer = self._pipeline(
            prompt=prompts[0] if single else prompts,
            generator=generators[0] if single else generators,
            **_check_arguments(self._pipeline, arguments),
        )
        return [Picture.encode(image) for image in answer.images]


@cache
def shared_pipeline(key: PipelineKey) -> Pipeline:
    """Return this process's only pipeline for a key; its weights are loaded when it first draws."""
    return Pipeline(key)


def _load(key: PipelineKey) -> Any:
    """Load a pipeline's weights.

    Raises:
        BackendError: the weights cannot be found or loaded.
    """
    import diffusers
    import torch

    preset = presets()[key.model]
    device = key.device or _best_device()
    if key.offload and device == "cpu":
        raise BackendError(f"generator.offload is {key.offload!r}, but there is no GPU; remove generator.offload")
    dtype = getattr(torch, key.dtype or ("float32" if device == "cpu" else "bfloat16"))
    try:
        pipeline = getattr(diffusers, preset.pipeline).from_pretrained(key.weights, dtype=dtype, use_safetensors=True)
        if preset.shift:
            pipeline.scheduler = _with_fixed_shift(pipeline.scheduler, preset.shift)
        if key.lora:
            is_preset_lora = key.lora == preset.lora
            weight_name = preset.lora_file if is_preset_lora else None
            pipeline.load_lora_weights(key.lora, weight_name=weight_name, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise BackendError(
            f"the weights of {key.model} cannot be loaded from {key.weights!r}: {_first_line(error)}; set "
            "generator.weights to a local folder or a hub id"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    if key.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif key.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)
    return pipeline


def _with_fixed_shift(scheduler: Any, shift: float) -> Any:
    """Return the scheduler that the Lightning LoRAs were distilled with: the same time shift for every picture size."""
    change = {"base_shift": math.log(shift), "max_shift": math.log(shift), "shift_terminal": None}
    return type(scheduler).from_config(scheduler.config, **change, use_dynamic_shifting=True, shift=1.0)


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _check_arguments(pipeline: Any, arguments: Json) -> Json:
    """Check that a pipeline has parameters for all arguments, and return the arguments.

    Raises:
        BackendError: the pipeline has no such parameter.
    """
    parameters = inspect.signature(pipeline.__call__).parameters
    for name in arguments:
        if name not in parameters:
            hint = did_you_mean(name, parameters)
            raise BackendError(f"{type(pipeline).__name__} has no parameter {name!r}{hint}; see generator.call")
    return arguments


def _explain(error: Exception, model: str) -> BackendError:
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


def _open_image(picture: Picture) -> Image.Image:
    from PIL import Image

    with Image.open(io.BytesIO(picture.data)) as image:
        return flatten(image)
