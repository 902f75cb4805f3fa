"""What each part of a pipeline is worth: the sandbox bench with one thing changed at a time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from interleaver.config import BackendSettings, Profile, load_profile
from interleaver.evals.bench import Bench, Made, bench, check, processes

ATTEMPTS = (1, 2, 3, 4, 5)
LETTER = 16
"""Height of a label in the plot, in pixels."""
NAMED = 3
"""Variants that one label names."""
Json = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """A pipeline with one thing changed.

    Attributes:
        part: what is changed.
        name: to what.
        profile: the whole of it.
    """

    part: str
    name: str
    profile: Profile


def variants(base: Profile, critics: Mapping[str, str], generators: Mapping[str, str]) -> Iterator[Variant]:
    """The pipelines to compare; the first is the one that the others differ from.

    Args:
        base: the whole pipeline.
        critics: further profiles, by name, of which the critic is taken; for instance after SFT and after GRPO.
        generators: likewise the generator.
    """
    yield Variant("as it is", "", base)
    yield Variant("planner", "off", base.model_copy(update={"planner": BackendSettings(backend="one-step")}))
    yield Variant("critic", "off", base.model_copy(update={"critic": BackendSettings(backend="accept")}))
    for part, given in (("critic", critics), ("generator", generators)):
        for name, path in given.items():
            yield Variant(part, name, base.model_copy(update={part: getattr(load_profile(path), part)}))
    for attempts in ATTEMPTS:
        yield Variant("attempts", str(attempts), _run(base, max_attempts=attempts))
    for references in ("last", "all"):
        yield Variant("references", references, _run(base, references=references))
    for exhausted in ("keep_last", "keep_best"):
        yield Variant("on_exhausted", exhausted, _run(base, on_exhausted=exhausted))


def _run(base: Profile, **settings: Any) -> Profile:
    return base.model_copy(update={"run": base.run.model_copy(update=settings)})


async def measure(
    chosen: list[Variant], cases: int, seed: int, world: str, progress: Callable[[Made], None]
) -> AsyncIterator[Json]:
    """Run the bench with one variant after another; those whose profile is the same are run once.

    Yields all that is known after each.

    Args:
        chosen: the variants.
        cases: how many requests.
        seed: of the requests.
        world: see `bench`.
        progress: is told of every document.
    """
    for variant in chosen:
        check(variant.profile)
    done: dict[str, Bench] = {}
    rows: list[Json] = []
    with processes() as pool:
        for variant in chosen:
            key = variant.profile.model_dump_json()
            if key not in done:
                done[key] = await bench(variant.profile, cases, seed, world=world, pool=pool, progress=progress)
            found = done[key]
            rows.append(
                {
                    "part": variant.part,
                    "name": variant.name,
                    "score": asdict(found.score),
                    "drawings": found.drawings,
                    "models": variant.profile.models(),
                }
            )
            yield {"cases": cases, "seed": seed, "world": world, "variants": rows}


def runs_needed(chosen: list[Variant]) -> int:
    """How many times the bench will be run."""
    return len({variant.profile.model_dump_json() for variant in chosen})


def markdown(found: Json) -> str:
    """The table in Markdown."""
    text = [
        "| what is changed | to | score (95 % interval) | generator calls a document |",
        "|---|---|---|---|",
    ]
    for row in found["variants"]:
        score = row["score"]
        told = f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"
        text.append(f"| {row['part']} | {row['name']} | {told} | {row['drawings']:.2f} |")
    return "\n".join([*text, "", f"{found['cases']} requests of the {found['world']} world (seed {found['seed']})."])


@dataclass(frozen=True)
class Plot:
    """Where things stand in the plot, in pixels.

    Attributes:
        most: generator calls at the right edge.
        floor: the score at the bottom.
    """

    most: float
    floor: float

    @classmethod
    def of(cls, found: Json) -> Plot:
        """The plot that holds all variants."""
        rows = found["variants"]
        lowest = min(row["score"]["low"] for row in rows)
        return cls(1.08 * max(1.0, *(row["drawings"] for row in rows)), min(0.9, int(lowest * 10) / 10))

    def x(self, drawings: float) -> float:
        """Across."""
        return round(60 + 480 * drawings / self.most, 1)

    def y(self, score: float) -> float:
        """Down."""
        return round(330 - 300 * (score - self.floor) / (1 - self.floor), 1)

    def labels(self, found: Json) -> list[tuple[float, float, float, str]]:
        """Beside the plot, from above: where a point is, how far down its label stands, and what is there."""
        names: dict[tuple[float, float], list[str]] = {}
        for row in found["variants"]:
            place = (self.x(row["drawings"]), self.y(row["score"]["value"]))
            names.setdefault(place, []).append(f"{row['part']} {row['name']}".strip())
        placed: list[tuple[float, float, float, str]] = []
        for (x, y), told in sorted(names.items(), key=lambda one: one[0][1]):
            down = max(y, placed[-1][2] + LETTER if placed else 0)
            placed.append((x, y, down, ", ".join(told[:NAMED]) + (" ..." if len(told) > NAMED else "")))
        return placed


def write(found: Json, folder: Path) -> None:
    """Write `ablations.json`, `ablations.md` and `ablations.html` with the plot of score against generator calls."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ablations.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    (folder / "ablations.md").write_text(markdown(found) + "\n", encoding="utf-8")
    environment = Environment(
        loader=PackageLoader("interleaver.evals"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("ablations.html").render(found=found, plot=Plot.of(found))
    (folder / "ablations.html").write_text(page, encoding="utf-8")
