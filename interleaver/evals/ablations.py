"""Ablations of a pipeline: run the sandbox bench with one setting changed at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from interleaver.choices import AblationPart, SandboxLevel
from interleaver.evals.sandbox_bench import (
    BenchResult,
    CaseResult,
    check_profile,
    run_bench,
    start_processes,
)
from interleaver.evals.scores import Score, format_interval
from interleaver.migrations import FORMAT
from interleaver.profile import BackendSettings, Profile, load_profile
from interleaver.rendering.templates import render_template

ATTEMPTS = (1, 2, 3, 4, 5)
LABEL_HEIGHT = 16
"""Height of a label in the plot, in pixels."""
NAMES_PER_LABEL = 3
"""Maximum number of variants named in one label of the plot."""


@dataclass(frozen=True)
class Variant:
    """A pipeline that differs from the base in one setting.

    Attributes:
        part: part of the pipeline that is changed; "as it is" for the base.
        name: value or name that the part is changed to; "" for the base.
        profile: complete profile of the variant.
    """

    part: AblationPart | Literal["as it is"]
    name: str
    profile: Profile


class VariantResult(BaseModel):
    """The results of a variant.

    Attributes:
        part: part of the pipeline that is changed.
        name: value or name that the part is changed to.
        score: mean score over the cases, 0 to 1.
        drawings: mean number of generator calls per document.
        models: names of the planner, critic and generator models.
    """

    part: str
    name: str
    score: Score
    drawings: float
    models: dict[str, str]

    @property
    def label(self) -> str:
        """Label of the variant in the plot: its part and its name."""
        return f"{self.part} {self.name}".strip()


class Ablations(BaseModel):
    """The results of all variants measured so far; the schema of `ablations.json`."""

    format: int = FORMAT
    cases: int
    seed: int
    world: SandboxLevel
    variants: list[VariantResult]


def variants(base: Profile, critics: Mapping[str, str], generators: Mapping[str, str]) -> Iterator[Variant]:
    """Yield the pipelines to compare, the unchanged base first.

    Args:
        base: profile that every variant changes in one setting.
        critics: paths of profiles whose critic is tried in the base, by name; for instance after SFT and after GRPO.
        generators: paths of profiles whose generator is tried in the base, by name.
    """
    yield Variant("as it is", "", base)
    yield Variant("planner", "off", base.model_copy(update={"planner": BackendSettings(backend="one-step")}))
    yield Variant("critic", "off", base.model_copy(update={"critic": BackendSettings(backend="accept")}))
    other_profiles: dict[AblationPart, Mapping[str, str]] = {"critic": critics, "generator": generators}
    for part, profiles in other_profiles.items():
        for name, path in profiles.items():
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
    variants: list[Variant], cases: int, seed: int, world: SandboxLevel, progress: Callable[[CaseResult], None]
) -> AsyncGenerator[Ablations]:
    """Run the bench for each variant in turn; variants with equal profiles share one run of the bench.

    Yields all results so far after each variant.

    Args:
        variants: variants to measure.
        cases: number of requests.
        seed: seed of the requests.
        world: how much of the sandbox world the requests use.
        progress: progress callback, called after every document.
    """
    for variant in variants:
        check_profile(variant.profile)
    results: dict[str, BenchResult] = {}
    ablations = Ablations(cases=cases, seed=seed, world=world, variants=[])
    with start_processes() as pool:
        for variant in variants:
            key = variant.profile.model_dump_json()
            if key not in results:
                results[key] = await run_bench(variant.profile, cases, seed, world=world, pool=pool, progress=progress)
            result = results[key]
            ablations.variants.append(
                VariantResult(
                    part=variant.part,
                    name=variant.name,
                    score=result.score,
                    drawings=result.drawings,
                    models=variant.profile.models(),
                )
            )
            yield ablations


def runs_needed(variants: list[Variant]) -> int:
    """Return how many times `measure` runs the bench: the number of distinct profiles."""
    return len({variant.profile.model_dump_json() for variant in variants})


def markdown(ablations: Ablations) -> str:
    """Format the results as a Markdown table."""
    text_lines = [
        "| changed | to | score (95 % interval) | generator calls per document |",
        "|---|---|---|---|",
    ]
    for row in ablations.variants:
        text_lines.append(f"| {row.part} | {row.name} | {format_interval(row.score)} | {row.drawings:.2f} |")
    return "\n".join(
        [
            *text_lines,
            "",
            f"{ablations.cases} requests in the {ablations.world} sandbox world (seed {ablations.seed}).",
        ]
    )


@dataclass(frozen=True)
class Plot:
    """The coordinate system of the plot of scores against generator calls.

    Attributes:
        max_drawings: generator calls per document at the right edge.
        min_score: score at the bottom edge.
    """

    max_drawings: float
    min_score: float

    @classmethod
    def fit(cls, ablations: Ablations) -> Plot:
        """Return a plot whose axes cover all variants."""
        rows = ablations.variants
        lowest = min(row.score.low or 0.0 for row in rows)
        return cls(1.08 * max(1.0, *(row.drawings for row in rows)), min(0.9, int(lowest * 10) / 10))

    def x(self, drawings: float) -> float:
        """Return the horizontal position of a number of generator calls, in pixels."""
        return round(60 + 480 * drawings / self.max_drawings, 1)

    def y(self, score: float) -> float:
        """Return the vertical position of a score, in pixels from the top."""
        return round(330 - 300 * (score - self.min_score) / (1 - self.min_score), 1)

    def labels(self, ablations: Ablations) -> list[tuple[float, float, float, str]]:
        """Return the labels beside the plot, from top to bottom, one for each distinct point.

        Returns:
            For each label, the x and y of its point, the y of the label, and the names of the variants at the point.
        """
        names: dict[tuple[float, float], list[str]] = {}
        for row in ablations.variants:
            place = (self.x(row.drawings), self.y(row.score.value or 0.0))
            names.setdefault(place, []).append(row.label)
        labels: list[tuple[float, float, float, str]] = []
        for (x, y), variant_names in sorted(names.items(), key=lambda entry: entry[0][1]):
            label_y = max(y, labels[-1][2] + LABEL_HEIGHT if labels else 0)
            more = " ..." if len(variant_names) > NAMES_PER_LABEL else ""
            labels.append((x, y, label_y, ", ".join(variant_names[:NAMES_PER_LABEL]) + more))
        return labels


def write(ablations: Ablations, folder: Path) -> None:
    """Write `ablations.json`, `ablations.md` and `ablations.html` with the plot of score against generator calls."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ablations.json").write_text(ablations.model_dump_json(indent=1), encoding="utf-8")
    (folder / "ablations.md").write_text(markdown(ablations) + "\n", encoding="utf-8")
    page = render_template("interleaver.evals", "ablations.html", ablations=ablations, plot=Plot.fit(ablations))
    (folder / "ablations.html").write_text(page, encoding="utf-8")
