"""How each image model is run with diffusers."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from interleaver.tools.generators import Size

Json = dict[str, Any]


class Preset(BaseModel):
    """How a model is run; see `presets.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pipeline: str
    weights: str
    lora: str | None = None
    lora_file: str | None = None
    shift: float | None = Field(
        None, description="Of a scheduler with a fixed time shift, as a distilled LoRA needs it."
    )
    max_sources: int
    sizes: tuple[Size, ...] = ()
    mask: bool = Field(False, description="It paints within a mask only.")
    fixed_size: bool = Field(False, description="The pipeline chooses the size itself, from that of the source.")
    area: bool = Field(
        False, description="The pipeline scales to a number of pixels of its own, unless it is told one."
    )
    call: Json

    @property
    def draws(self) -> bool:
        """Whether it can draw anew; some models only edit."""
        return bool(self.sizes)


@cache
def presets() -> dict[str, Preset]:
    """The models that this backend knows, by name."""
    text = files("interleaver.tools").joinpath("presets.toml").read_text(encoding="utf-8")
    return {name: Preset.model_validate(preset) for name, preset in tomllib.loads(text).items()}
