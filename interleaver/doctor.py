"""Diagnostics for `interleaver doctor`: what is installed and works, what is configured and reachable."""

from __future__ import annotations

import asyncio
import platform
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from packaging.requirements import Requirement
from pydantic import BaseModel

from interleaver.calling import call
from interleaver.errors import InterleaverError
from interleaver.pictures import Picture, white_canvas
from interleaver.profile import DEFAULT_PROFILE, Profile, load_profile
from interleaver.registry import BackendKind
from interleaver.runner import make_backend, open_run_store
from interleaver.types import Plan, Step, Verdict
from interleaver.upkeep.inspection import inspect_store, mend_run

DOORS = {
    "openai": "import openai, httpx2, interleaver.agents.openai_compatible",
    "gemini": "import google.genai, interleaver.tools.gemini_images",
    "diffusers": "import accelerate, diffusers, peft, torch, transformers",
    "local": "import torch, interleaver.agents.hf_processors",
    "serve": "import uvicorn, python_multipart, interleaver.serving.images_server",
    "ray": "import ray.serve",
    "vllm": "import vllm",
    "mcp": "from interleaver import Profile, Runner; from interleaver.adapters.mcp import create_server; "
    "create_server(Runner(Profile(), 'memory://doctor'))",
    "postgres": "import psycopg, langgraph.checkpoint.postgres.aio",
    "data": "import datasets, datasketch, pyarrow.parquet",
    "train": "import accelerate, matplotlib, peft, torch, trl, yaml",
    "evals": "import pycocoevalcap.cider.cider, skimage.metrics, torch, torchmetrics.image.fid",
    "studio": "import langgraph_cli.cli",
    "heic": "import pi_heif",
}
"""What is executed to see whether an extra works, as a program of its own."""
CIRCLE = "Draw a large red circle in the middle."
TRIAL_SIZE = (256, 256)
"""Width and height in pixels of the pictures that models are shown on trial."""
DOOR_SECONDS = 180
"""Time that the program of an extra may take, in seconds; importing a deep learning stack from a slow disk is long."""


class Check(BaseModel):
    """The result of one check.

    Attributes:
        name: name of the package, backend or store that was checked.
        ok: whether the check passed; None for an optional package that is not installed.
        detail: what was found, or what is wrong and how to fix it.
    """

    name: str
    ok: bool | None
    detail: str


async def examine(profile: str | None, out: str | None, deep: bool = False) -> list[Check]:
    """Check this installation and a profile.

    To test the image store, a blank picture is written to it and stays there.

    Args:
        profile: path or name of the profile, see `load_profile`; None for the default.
        out: folder or URL of the runs; None for the profile's.
        deep: whether to also ask planner, critic and generator for something, which may cost money.
    """
    packages = _packages()
    checks = [Check(name="python", ok=True, detail=platform.python_version()), *packages, *await _extras(packages)]
    try:
        loaded_profile = load_profile(profile)
    except InterleaverError as error:
        return [*checks, Check(name="profile", ok=False, detail=str(error))]
    checks.append(Check(name="profile", ok=True, detail=profile or f"{DEFAULT_PROFILE} if it exists, else defaults"))
    kinds: tuple[BackendKind, ...] = ("planner", "critic", "generator")
    checks += [await _backend(loaded_profile, kind) for kind in kinds]
    if deep:
        checks += await try_backends(loaded_profile)
    return [*checks, *await _stores(loaded_profile, out)]


def _packages() -> list[Check]:
    """Check the packages that this one requires, including those of its extras."""
    checks: dict[str, Check] = {}  # by name, since several extras may require the same package
    for text in requires("interleaver") or []:
        requirement = Requirement(text)
        extra = _extra_of(requirement)
        if extra in ("dev", "integration") or requirement.name == "interleaver":
            continue
        try:
            installed_version, ok = version(requirement.name), True
            if not requirement.specifier.contains(installed_version, prereleases=True):
                installed_version, ok = f"{installed_version}, but {requirement.specifier} is needed", False
            checks[requirement.name] = Check(name=requirement.name, ok=ok, detail=installed_version)
        except PackageNotFoundError:
            hint = f'not installed; pip install "interleaver[{extra}]"' if extra else "missing; reinstall interleaver"
            checks[requirement.name] = Check(name=requirement.name, ok=None if extra else False, detail=hint)
    return list(checks.values())


async def _extras(packages: list[Check]) -> list[Check]:
    """Try the extras whose packages are all installed in a version that fits; two at a time."""
    usable = {check.name for check in packages if check.ok}
    needed: dict[str, set[str]] = {}
    for text in requires("interleaver") or []:
        requirement = Requirement(text)
        needed.setdefault(_extra_of(requirement), set()).add(requirement.name)
    names = [name for name in DOORS if needed.get(name, set()) - {"interleaver"} <= usable]
    slots = asyncio.Semaphore(2)
    return await asyncio.gather(*(_extra(name, slots) for name in names))


async def _extra(name: str, slots: asyncio.Semaphore) -> Check:
    """Run the program of an extra, in a process of its own, since a broken package may take the process with it."""
    async with slots:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", DOORS[name], stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        try:
            _, errors = await asyncio.wait_for(process.communicate(), DOOR_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
            return Check(name=f"extra {name}", ok=False, detail=f"it did not answer within {DOOR_SECONDS} s")
    if process.returncode == 0:
        return Check(name=f"extra {name}", ok=True, detail="works")
    lines = errors.decode(errors="replace").strip().splitlines()
    reason = lines[-1] if lines else f"exit code {process.returncode}"
    return Check(name=f"extra {name}", ok=False, detail=f'{reason}; pip install --upgrade "interleaver[{name}]"')


def _extra_of(requirement: Requirement) -> str:
    """Return the extra that a requirement belongs to; "" if it belongs to none."""
    return str(requirement.marker or "").partition("extra == ")[2].strip("\"'")


async def _backend(profile: Profile, kind: BackendKind) -> Check:
    """Create a backend and run its own check if it has one; an endpoint is asked for its models."""
    name = getattr(profile, kind).backend
    try:
        backend = make_backend(profile, kind)
        answer = await backend.check() if hasattr(backend, "check") else ""
    except InterleaverError as error:
        return Check(name=kind, ok=False, detail=str(error))
    return Check(name=kind, ok=True, detail=f"{name}: {answer}" if answer else name)


async def _stores(profile: Profile, out: str | None) -> list[Check]:
    store = open_run_store(profile, out)
    try:
        store.prepare()
        folder = Check(name="runs", ok=True, detail=f"{store.root.url} is writable")
    except InterleaverError as error:
        return [Check(name="runs", ok=False, detail=str(error))]
    try:
        ref = await store.images.put(white_canvas(8, 8))
        await store.images.get(ref)
    except (InterleaverError, OSError) as error:
        return [folder, Check(name="images", ok=False, detail=f"{store.images.url}: {error}")]
    return [folder, Check(name="images", ok=True, detail=f"{store.images.url} is readable and writable")]


async def examine_store(profile: str | None, out: str | None, mend: bool = False) -> list[Check]:
    """Read every run and picture of a run store, and report what is damaged or missing.

    Args:
        profile: path or name of the profile, see `load_profile`; None for the default.
        out: folder or URL of the runs; None for the profile's.
        mend: whether to put lost pictures back or draw them again, with the models of `profile` or else of each run.

    Raises:
        BadInput: the profile cannot be used, or the store cannot be opened.
        BackendUnavailable: the store cannot be read.
    """
    loaded_profile = load_profile(profile)
    store = open_run_store(loaded_profile, out)
    inspection = await inspect_store(store)
    lost, damaged = inspection.lost_pictures, inspection.damaged_files
    runs = f"{inspection.runs:,} runs in {store.root.url}"
    pictures = f"{inspection.pictures:,} in {store.images.url}"
    checks = [
        Check(name="runs", ok=True, detail=runs),
        Check(name="pictures", ok=not damaged, detail=pictures + "".join(f"; {path} is damaged" for path in damaged)),
    ]
    if inspection.leftovers:
        detail = f"{inspection.leftovers:,}; interleaver traces gc --delete removes them"
        checks.append(Check(name="partial files", ok=None, detail=detail))
    checks += [Check(name=name, ok=False, detail=reason) for name, reason in inspection.unreadable_runs.items()]
    for run_id, refs in lost.items():
        count = f"{len(refs):,} lost picture{'s' * (len(refs) != 1)}"
        if not mend:
            checks.append(Check(name=run_id, ok=False, detail=f"{count}; --mend puts them back or draws them again"))
            continue
        outcome = await mend_run(store, run_id, refs, loaded_profile if profile else None)
        checks.append(Check(name=run_id, ok="still lost" not in outcome, detail=f"{count}: {outcome}"))
    return checks


async def try_backends(profile: Profile) -> list[Check]:
    """Ask planner, critic and generator for something small, and report what each can do.

    The planner is asked about a picture, the critic about a right and a wrong one, and the generator for a picture and
    for an edit, if it can edit.
    """
    trials: dict[BackendKind, Callable[[Any], Awaitable[str]]] = {
        "planner": _try_planner,
        "critic": _try_critic,
        "generator": partial(_try_generator, size=(profile.run.width, profile.run.height)),
    }
    checks = []
    for kind, trial in trials.items():
        try:
            checks.append(Check(name=f"{kind} (deep)", ok=True, detail=await trial(make_backend(profile, kind))))
        except InterleaverError as error:
            checks.append(Check(name=f"{kind} (deep)", ok=False, detail=str(error)))
    return checks


async def _try_planner(planner: Any) -> str:
    picture = _circle("red")
    plan = await call(
        planner, lambda: planner.plan("Say which colour the circle in this picture has: <image>", [picture]), Plan
    )
    words = " ".join(f"{step.text} {step.prompt or ''}" for step in plan.steps).lower()
    sight = "sees pictures" if "red" in words else "did not name the colour of a red circle"
    return f"{len(plan.steps)} step(s){_wire_format(planner)}; {sight}"


async def _try_critic(critic: Any) -> str:
    step = Step(number=1, instruction=CIRCLE, prompt=CIRCLE)
    before = white_canvas(*TRIAL_SIZE)
    answers = []
    for colour, is_right in (("red", True), ("blue", False)):
        review = partial(critic.review, step, before, _circle(colour), CIRCLE)
        verdict = await call(critic, review, Verdict)
        answers.append(f"{'rightly' if verdict.accepted is is_right else 'wrongly'} {verdict.label} {colour} for red")
    return f"{'; '.join(answers)}{_wire_format(critic)}"


async def _try_generator(generator: Any, size: tuple[int, int]) -> str:
    picture = await call(generator, lambda: generator.generate(CIRCLE, [], 0, size), Picture)
    draws = f"draws {picture.width}x{picture.height} {picture.media_type.removeprefix('image/')}"
    if not generator.capabilities.max_sources:
        return f"{draws}; cannot edit"
    edit = "Make the circle blue."
    edited = await call(generator, lambda: generator.generate(edit, [picture], 1, size), Picture)
    change = "edits" if edited.data != picture.data else "returned the picture that it was to edit"
    return f"{draws}; {change} {edited.width}x{edited.height}"


def _wire_format(agent: Any) -> str:
    """Return how a chat model was asked for its answer; "" for other backends."""
    conversation = getattr(agent, "conversation", None)
    if conversation is None:
        return ""
    return f"; answers as {conversation.response_format if agent.format == 'structured' else agent.format}"


def _circle(colour: str) -> Picture:
    """Return a picture of what `CIRCLE` asks for, in some colour."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", TRIAL_SIZE, "white")
    ImageDraw.Draw(image).ellipse((48, 48, 208, 208), fill=colour)
    return Picture.encode(image)
