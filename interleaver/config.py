"""The profile: which models to use and how, in one TOML file.

    [planner]                    # likewise [critic], [generator] and [judge]
    backend = "sandbox"          # a registered name; the other fields are the backend's own settings
    concurrency = 8              # calls at a time; no limit by default

    [run]                        # the fields of `RunSettings`
    max_attempts = 3

    [store]
    out = "out"                  # where runs are kept, a folder or any fsspec URL
    checkpoints = "postgresql://user@host/database"   # SQLite beside the runs by default
    images = "s3://bucket/runs"  # the image store, any fsspec URL; a folder below `out` by default
    public_url = "https://..."   # where readers can fetch the pictures, if something serves them
    image_hosts = ["files.lan"]  # private hosts from which the pictures of a request may be fetched

    [prices]                     # in any currency, to tell what runs cost
    planner = {input = 0.3, output = 2.5}   # a million tokens; likewise critic and generator
    picture = 0.04               # a drawing

Secrets have no place in it: a backend reads its key from the environment.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from interleaver.errors import BadInput, explain
from interleaver.graph.builder import Builder, build_graph
from interleaver.graph.context import RunSettings
from interleaver.registry import Kind, create
from interleaver.traces.checkpointers import check_address
from interleaver.traces.images import ImageStore
from interleaver.traces.runs import RunStore, images_below
from interleaver.types import Exchange

DEFAULT_PROFILE = "interleaver.toml"


class BackendSettings(BaseModel):
    """One model: the name of its backend, how many calls it takes at a time, and the backend's own settings."""

    model_config = ConfigDict(extra="allow")

    backend: str = "sandbox"
    concurrency: int | None = Field(None, ge=1)

    @property
    def title(self) -> str:
        """The backend and its model, for example "chat gpt-5"."""
        extra = self.model_extra or {}
        model = extra.get("model") or extra.get("preset")
        return f"{self.backend} {model}" if isinstance(model, str) else self.backend


class StoreSettings(BaseModel):
    """Where runs are kept, and where pictures come from."""

    model_config = ConfigDict(extra="forbid")

    out: str = "out"
    images: str | None = None
    checkpoints: Annotated[str, AfterValidator(check_address)] | None = None
    public_url: str | None = None
    image_hosts: list[str] = Field(default_factory=list)

    def open(self, out: str | Path | None = None) -> RunStore:
        """The store of the runs, below another folder if one is given."""
        root = out or self.out
        images = ImageStore(self.images or images_below(root), self.public_url)
        return RunStore(root, images, self.checkpoints)


class TokenPrices(BaseModel):
    """What a million tokens of a model cost."""

    model_config = ConfigDict(extra="forbid")

    input: float = Field(0.0, ge=0)
    output: float = Field(0.0, ge=0)


class Prices(BaseModel):
    """What models cost, in any currency."""

    model_config = ConfigDict(extra="forbid")

    planner: TokenPrices = Field(default_factory=TokenPrices)
    critic: TokenPrices = Field(default_factory=TokenPrices)
    generator: TokenPrices = Field(default_factory=TokenPrices)
    judge: TokenPrices = Field(default_factory=TokenPrices)
    picture: float = Field(0.0, ge=0)

    def of(self, exchanges: Iterable[Exchange], drawings: int) -> float:
        """What model calls and drawings cost."""
        tokens = 0.0
        for exchange in exchanges:
            price: TokenPrices = getattr(self, exchange.role)
            tokens += exchange.usage.input_tokens * price.input + exchange.usage.output_tokens * price.output
        return tokens / 1e6 + drawings * self.picture


class Profile(BaseModel):
    """Everything a profile may say; every part has a default that works without models."""

    model_config = ConfigDict(extra="forbid")

    planner: BackendSettings = Field(default_factory=BackendSettings)
    critic: BackendSettings = Field(default_factory=BackendSettings)
    generator: BackendSettings = Field(default_factory=BackendSettings)
    judge: BackendSettings = Field(default_factory=BackendSettings)
    run: RunSettings = Field(default_factory=RunSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    prices: Prices = Field(default_factory=Prices)

    def create(self, kind: Kind) -> Any:
        """Make the backend of a kind.

        Raises:
            BadInput: the backend is unknown or does not take these settings.
        """
        settings: BackendSettings = getattr(self, kind)
        return create(kind, settings.backend, **(settings.model_extra or {}))

    def build(self, images: ImageStore) -> Builder:
        """The state machine with the models and settings of this profile, uncompiled.

        Raises:
            BadInput: a backend cannot be made.
        """
        return build_graph(
            planner=self.create("planner"),
            critic=self.create("critic"),
            generator=self.create("generator"),
            images=images,
            settings=self.run,
            image_hosts=self.store.image_hosts,
            concurrency={kind: getattr(self, kind).concurrency for kind in ("planner", "critic", "generator")},
        )

    def models(self) -> dict[str, str]:
        """Who is planner, critic and generator."""
        return {kind: getattr(self, kind).title for kind in ("planner", "critic", "generator")}


def ready_profiles() -> dict[str, Path]:
    """The profiles that come with this package, by name."""
    folder = Path(__file__).with_name("profiles")
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def find_profile(path: str | None = None) -> str | None:
    """Absolute path of the profile that `load_profile` reads; None when it gives the defaults."""
    if path is None and not Path(DEFAULT_PROFILE).exists():
        return None
    if path in ready_profiles() and not Path(path).exists():
        return str(ready_profiles()[path])
    return str(Path(path or DEFAULT_PROFILE).absolute())


def load_profile(path: str | None = None) -> Profile:
    """Read a profile.

    Args:
        path: a TOML file, or the name of one that comes with this package; None reads `interleaver.toml` of the working
            directory, and gives the defaults without one.

    Raises:
        BadInput: the file cannot be read, is not TOML, or has a field that is unknown or has a wrong value.
    """
    found = find_profile(path)
    if found is None:
        return Profile()
    name = repr(path or DEFAULT_PROFILE)
    try:
        data = tomllib.loads(Path(found).read_text(encoding="utf-8"))
    except OSError as error:
        ready = f"; ready-made ones are: {', '.join(ready_profiles())}" if isinstance(error, FileNotFoundError) else ""
        raise BadInput(f"the profile {name} cannot be read: {error.strerror}{ready}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"the profile {name} is not valid TOML: {error}") from None
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        raise BadInput(f"the profile {name}: {explain(error, Profile)}") from None
