"""What is installed, what is configured, and what can be reached."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from pydantic import BaseModel

from interleaver.config import DEFAULT_PROFILE, Profile, load_profile
from interleaver.errors import InterleaverError
from interleaver.pictures import white_canvas
from interleaver.registry import Kind


class Check(BaseModel):
    """One finding. `ok` is None for what is merely not there."""

    name: str
    ok: bool | None
    said: str


async def examine(profile: str | None, out: str | None) -> list[Check]:
    """Examine this installation with a profile; all that is left behind is a blank picture in the store."""
    checks = [Check(name="python", ok=True, said=platform.python_version()), *_packages()]
    try:
        loaded = load_profile(profile)
    except InterleaverError as error:
        return [*checks, Check(name="profile", ok=False, said=str(error))]
    checks.append(Check(name="profile", ok=True, said=profile or f"{DEFAULT_PROFILE} where there is one"))
    kinds: tuple[Kind, ...] = ("planner", "critic", "generator")
    checks += [await _backend(loaded, kind) for kind in kinds]
    return [*checks, *await _stores(loaded, out)]


def _packages() -> list[Check]:
    """The packages this one needs, and those of its extras."""
    checks: dict[str, Check] = {}  # by name, since several extras may bring the same package
    for text in requires("interleaver") or []:
        requirement = Requirement(text)
        marker = str(requirement.marker or "")
        extra = marker.partition("extra == ")[2].strip("\"'")
        if extra == "dev" or requirement.name == "interleaver":
            continue
        try:
            found, ok = version(requirement.name), True
            if not requirement.specifier.contains(found, prereleases=True):
                found, ok = f"{found}, but {requirement.specifier} is needed", False
            checks[requirement.name] = Check(name=requirement.name, ok=ok, said=found)
        except PackageNotFoundError:
            hint = (
                f'not installed; pip install "interleaver[{extra}]"' if extra else "missing; install interleaver again"
            )
            checks[requirement.name] = Check(name=requirement.name, ok=None if extra else False, said=hint)
    return list(checks.values())


async def _backend(profile: Profile, kind: Kind) -> Check:
    """Make a backend, and have it checked where it offers that: an endpoint is then asked for its models."""
    name = getattr(profile, kind).backend
    try:
        backend = profile.create(kind)
        said = await backend.check() if hasattr(backend, "check") else ""
    except InterleaverError as error:
        return Check(name=kind, ok=False, said=str(error))
    return Check(name=kind, ok=True, said=f"{name}: {said}" if said else name)


async def _stores(profile: Profile, out: str | None) -> list[Check]:
    store = profile.store.open(out)
    try:
        store.prepare()
        folder = Check(name="runs", ok=True, said=f"{store.root.url} can be written to")
    except InterleaverError as error:
        return [Check(name="runs", ok=False, said=str(error))]
    try:
        ref = await store.images.put(white_canvas(8, 8))
        await store.images.get(ref)
    except (InterleaverError, OSError) as error:
        return [folder, Check(name="images", ok=False, said=f"{store.images.url}: {error}")]
    return [folder, Check(name="images", ok=True, said=f"{store.images.url} can be written to and read")]
