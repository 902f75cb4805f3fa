"""The profile: which models to use and how, in one TOML file.

    [planner]                    # likewise [critic] and [generator]
    backend = "sandbox"          # a registered name; the other fields are the backend's own settings

    [run]                        # the fields of `RunSettings`
    max_attempts = 3

    [store]
    out = "out"                  # where runs are kept
    images = "s3://bucket/runs"  # the image store, any fsspec URL; a folder below `out` by default

Secrets have no place in it: a backend reads its key from the environment.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interleaver.errors import BadInput, did_you_mean
from interleaver.graph.context import RunSettings
from interleaver.registry import Kind, create

DEFAULT_PROFILE = "interleaver.toml"


class BackendSettings(BaseModel):
    """One model: the name of its backend, and the settings that this backend takes."""

    model_config = ConfigDict(extra="allow")

    backend: str = "sandbox"


class StoreSettings(BaseModel):
    """Where runs are kept."""

    model_config = ConfigDict(extra="forbid")

    out: Path = Path("out")
    images: str | None = None


class Profile(BaseModel):
    """Everything a profile may say; every part has a default that works without models."""

    model_config = ConfigDict(extra="forbid")

    planner: BackendSettings = Field(default_factory=BackendSettings)
    critic: BackendSettings = Field(default_factory=BackendSettings)
    generator: BackendSettings = Field(default_factory=BackendSettings)
    run: RunSettings = Field(default_factory=RunSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)

    def create(self, kind: Kind) -> Any:
        """Make the backend of a kind.

        Raises:
            BadInput: the backend is unknown or does not take these settings.
        """
        settings: BackendSettings = getattr(self, kind)
        return create(kind, settings.backend, **(settings.model_extra or {}))


def load_profile(path: str | None = None) -> Profile:
    """Read a profile.

    Args:
        path: a TOML file; None reads `interleaver.toml` of the working directory, and gives the defaults without one.

    Raises:
        BadInput: the file cannot be read, is not TOML, or has a field that is unknown or has a wrong value.
    """
    file = Path(path or DEFAULT_PROFILE)
    if path is None and not file.exists():
        return Profile()
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"the profile {str(file)!r} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"the profile {str(file)!r} is not valid TOML: {error}") from None
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        raise BadInput(f"the profile {str(file)!r}: {explain(error, Profile)}") from None


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem of a validation error in one line: the field, what is wrong, the valid choices."""
    problem = error.errors()[0]
    *parents, name = (str(part) for part in problem["loc"])
    where = ".".join([*parents, name])
    if problem["type"] != "extra_forbidden":
        return f"{where}: {problem['msg']} (it is {problem['input']!r})"
    for parent in parents:
        annotation = model.model_fields[parent].annotation
        assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
        model = annotation
    valid = list(model.model_fields)
    return f"{where}: unknown field{did_you_mean(name, valid)}; valid fields: {', '.join(valid)}"
