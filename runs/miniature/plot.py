"""The curves of the miniature: how the models learned, one line a seed.

python plot.py seed-0 seed-1 seed-2 --out curves.png
"""

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt

SFT = (("planner", "planner, SFT"), ("critic-sight", "critic, pairs of busy pictures"), ("critic-sft", "critic, SFT"))
REWARDS = ("format", "accuracy", "semantics", "quality")
SMOOTH = 10
"""Steps that a point of a GRPO curve is the mean of; single steps are noise."""


def read(run: Path) -> list[dict]:
    """The log of a run; empty if it is not there yet."""
    path = run / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def points(logged: list[dict], name: str) -> tuple[list[int], list[float]]:
    """The steps at which a number was logged, and the number."""
    found = {line["step"]: line[name] for line in logged if name in line}
    return list(found), list(found.values())


def smoothed(values: list[float]) -> list[float]:
    """The mean of each point and those before it."""
    windows = [values[max(0, at + 1 - SMOOTH) : at + 1] for at in range(len(values))]
    return [sum(window) / len(window) for window in windows]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("seeds", nargs="+", type=Path)
    options.add_argument("--out", type=Path, required=True)
    told = options.parse_args()
    figure, axes = plt.subplots(2, 4, figsize=(15, 6.5), layout="constrained")
    for axis, (run, title) in zip(axes[0], SFT, strict=False):
        for number, seed in enumerate(told.seeds):
            logged = read(seed / run)
            axis.plot(*points(logged, "loss"), color=f"C{number}", label=seed.name)
            axis.plot(*points(logged, "eval_loss"), "o", color=f"C{number}", markersize=4)
        axis.set(title=title, xlabel="step", yscale="log")
    axes[0][0].set_ylabel("loss of answer tokens (dots: validation)")
    for axis, name in zip([axes[0][3], *axes[1]], ["", *REWARDS], strict=True):
        for number, seed in enumerate(told.seeds):
            steps, values = points(read(seed / "critic-grpo"), f"rewards/{name}/mean" if name else "reward")
            axis.plot(steps, smoothed(values), color=f"C{number}", label=seed.name)
        axis.set(title=f"critic, GRPO: {name or 'reward'}", xlabel="step")
    axes[1][0].set_ylabel(f"mean of {SMOOTH} steps, 0 to 1")
    axes[0][0].legend()
    figure.savefig(told.out, dpi=110)


if __name__ == "__main__":
    main()
