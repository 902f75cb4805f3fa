"""Presets: how each image model is run with diffusers."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, Field

from interleaver.tools.protocols import Size
from interleaver.types import Json


class Preset(BaseModel):
    """The diffusers settings of a model; see `presets.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pipeline: str
    weights: str
    lora: str | None = None
    lora_file: str | None = None
    shift: float | None = Field(
        None, description="Fixed time shift of the scheduler, as a distilled LoRA needs it; None for the default."
    )
    max_sources: int
    sizes: tuple[Size, ...] = ()
    mask: bool = Field(False, description="Whether the model requires a mask and paints only inside it.")
    fixed_size: bool = Field(False, description="Whether the pipeline derives the size from the source by itself.")
    area: bool = Field(
        False, description="Whether the pipeline needs `max_area`, without which it scales to a default area."
    )
    call: Json

    @property
    def draws(self) -> bool:
        """Whether the model can draw new pictures; some models only edit."""
        return bool(self.sizes)


@cache
def presets() -> dict[str, Preset]:
    """Return the presets of all supported models, by name."""
    text = files("interleaver.tools").joinpath("presets.toml").read_text(encoding="utf-8")
    return {name: Preset.model_validate(preset) for name, preset in tomllib.loads(text).items()}
