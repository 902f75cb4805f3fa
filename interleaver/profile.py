"""The profile: which models to use and how, in one TOML file. `interleaver.runner` runs documents with it.

    [planner]                    # [critic], [generator] and [judge] have the same fields
    backend = "sandbox"          # a registered name; the other fields are the backend's own settings
    concurrency = 8              # maximum number of concurrent calls; no limit by default

    [run]                        # the fields of `RunSettings`
    max_attempts = 3

    [store]
    out = "out"                  # folder or fsspec URL of the runs
    checkpoints = "postgresql://user@host/database"   # SQLite beside the runs by default
    images = "s3://bucket/runs"  # folder or fsspec URL of the image store; a folder below `out` by default
    public_url = "https://..."   # base URL at which the pictures are served, if they are
    image_hosts = ["files.lan"]  # private hosts from which the pictures of a request may be fetched
    other_users = ["http://localhost:2024"]   # trace sources that keep their pictures in the same image store
    keep_days = 30               # age at which runs are deleted; they are kept for ever by default

    [prices]                     # in any currency, to report what runs cost
    planner = {input = 0.3, output = 2.5}   # per million tokens; also for critic, generator and judge
    picture = 0.04               # per drawing

A profile must not contain secrets: backends read their keys from environment variables.
"""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from interleaver import migrations
from interleaver.errors import BadInput, explain
from interleaver.graph.context import RunSettings
from interleaver.store.postgres import check_address
from interleaver.text_files import read_text_file
from interleaver.types import Exchange

DEFAULT_PROFILE = "interleaver.toml"


class BackendSettings(BaseModel):
    """The settings of one model: its backend, its maximum number of concurrent calls, and the backend's own fields."""

    model_config = ConfigDict(extra="allow")

    backend: str = "sandbox"
    concurrency: int | None = Field(None, ge=1)

    @property
    def title(self) -> str:
        """The name of the backend and its model, for example "chat gpt-5"."""
        extra = self.model_extra or {}
        model = extra.get("model") or extra.get("preset")
        return f"{self.backend} {model}" if isinstance(model, str) else self.backend


class StoreSettings(BaseModel):
    """Where runs, checkpoints and pictures are kept, and from where pictures may be fetched."""

    model_config = ConfigDict(extra="forbid")

    out: str = "out"
    images: str | None = None
    checkpoints: Annotated[str, AfterValidator(check_address)] | None = None
    public_url: str | None = None
    image_hosts: list[str] = Field(default_factory=list)
    other_users: list[str] | None = None
    keep_days: float | None = Field(None, gt=0)


class TokenPrices(BaseModel):
    """Prices of a million input and output tokens of a model."""

    model_config = ConfigDict(extra="forbid")

    input: float = Field(0.0, ge=0)
    output: float = Field(0.0, ge=0)


class Prices(BaseModel):
    """Prices of model calls and drawings, in any currency."""

    model_config = ConfigDict(extra="forbid")

    planner: TokenPrices = Field(default_factory=TokenPrices)
    critic: TokenPrices = Field(default_factory=TokenPrices)
    generator: TokenPrices = Field(default_factory=TokenPrices)
    judge: TokenPrices = Field(default_factory=TokenPrices)
    picture: float = Field(0.0, ge=0)

    def of(self, exchanges: Iterable[Exchange], drawings: int) -> float:
        """Return the total cost of model calls and drawings.

        Args:
            exchanges: the model calls.
            drawings: number of pictures drawn.
        """
        tokens = 0.0
        for exchange in exchanges:
            price: TokenPrices = getattr(self, exchange.role)
            tokens += exchange.usage.input_tokens * price.input + exchange.usage.output_tokens * price.output
        return tokens / 1e6 + drawings * self.picture


class Profile(BaseModel):
    """The content of a profile; with the defaults everything runs in the sandbox, without any model."""

    model_config = ConfigDict(extra="forbid")

    planner: BackendSettings = Field(default_factory=BackendSettings)
    critic: BackendSettings = Field(default_factory=BackendSettings)
    generator: BackendSettings = Field(default_factory=BackendSettings)
    judge: BackendSettings = Field(default_factory=BackendSettings)
    run: RunSettings = Field(default_factory=RunSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    prices: Prices = Field(default_factory=Prices)

    _source: str | None = PrivateAttr(None)

    @property
    def source(self) -> str | None:
        """The absolute path of the file that the profile was read from; None for the defaults."""
        return self._source

    def with_source(self, source: str | None) -> Profile:
        """Return a copy of the profile with another `source`."""
        profile = self.model_copy()
        profile._source = source
        return profile

    def models(self) -> dict[str, str]:
        """Return the `title` of planner, critic and generator, by kind."""
        return {kind: getattr(self, kind).title for kind in ("planner", "critic", "generator")}


def shipped_profiles() -> dict[str, Path]:
    """Return the files of the profiles that come with this package, by name."""
    folder = Path(__file__).with_name("profiles")
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def _find_profile(path: str | None) -> str | None:
    """Return the absolute path of the profile that `load_profile` reads; None if it falls back to the defaults."""
    if path is None and not Path(DEFAULT_PROFILE).exists():
        return None
    if path in shipped_profiles() and not Path(path).exists():
        return str(shipped_profiles()[path])
    return str(Path(path or DEFAULT_PROFILE).absolute())


def load_recorded_profile(path: str | None) -> Profile:
    """Read the profile that a run was begun with.

    A run's folder may come from a stranger, whose profile could send environment variables anywhere. So only profiles
    that come with this package, or lie below the working directory, are read.

    Args:
        path: the profile that the run names; None for the defaults.

    Raises:
        BadInput: the profile lies elsewhere, or cannot be used.
    """
    is_shipped = path is None or path in map(str, shipped_profiles().values())
    if path is not None and not is_shipped and not Path(path).resolve().is_relative_to(Path.cwd().resolve()):
        raise BadInput(
            f"the run names the profile {path!r}, which is not below the working directory; if you trust it, add "
            f"--profile {shlex.quote(path)}, else give another one"
        )
    return load_profile(path)


def load_profile(path: str | None = None) -> Profile:
    """Read a profile.

    Args:
        path: a TOML file, or the name of a profile that comes with this package; None reads `interleaver.toml` in the
            working directory if it exists, and returns the defaults otherwise.

    Returns:
        The profile, whose `source` is the file.

    Raises:
        BadInput: the file cannot be read, is not valid TOML, or has an unknown field or an invalid value.
    """
    profile_path = _find_profile(path)
    if profile_path is None:
        return Profile()
    name = repr(path or DEFAULT_PROFILE)
    try:
        data = tomllib.loads(read_text_file(Path(profile_path)))
    except OSError as error:
        ready = (
            f"; profiles that come with the package: {', '.join(shipped_profiles())}"
            if isinstance(error, FileNotFoundError)
            else ""
        )
        raise BadInput(f"the profile {name} cannot be read: {error.strerror}{ready}") from None
    except (ValueError, RecursionError) as error:  # what is no TOML, nested too deeply, or a number of 4,300 digits
        raise BadInput(f"the profile {name} is not valid TOML: {error}") from None
    try:
        return Profile.model_validate(migrations.migrate_profile(data)).with_source(profile_path)
    except ValidationError as error:
        raise BadInput(f"the profile {name}: {explain(error, Profile)}") from None
