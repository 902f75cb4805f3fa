"""Plot the training curves of the miniature models, one line per seed.

python plot.py seed-0 seed-1 seed-2 --out curves.png
"""

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt

SFT = (("planner", "planner, SFT"), ("critic-sight", "critic, pairs of busy pictures"), ("critic-sft", "critic, SFT"))
REWARDS = ("format", "accuracy", "semantics", "quality")
SMOOTH = 10
"""Number of steps averaged for each point of a GRPO curve; single steps are too noisy."""


def read(run: Path) -> list[dict]:
    """Return the log of a training job; empty if it does not exist yet."""
    path = run / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def points(logged: list[dict], name: str) -> tuple[list[int], list[float]]:
    """Return the steps at which a value was logged, and the values."""
    values = {line["step"]: line[name] for line in logged if name in line}
    return list(values), list(values.values())


def smoothed(values: list[float]) -> list[float]:
    """Return the moving average over the last `SMOOTH` values."""
    windows = [values[max(0, at + 1 - SMOOTH) : at + 1] for at in range(len(values))]
    return [sum(window) / len(window) for window in windows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seeds", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    figure, axes = plt.subplots(2, 4, figsize=(15, 6.5), layout="constrained")
    for axis, (run, title) in zip(axes[0], SFT, strict=False):
        for number, seed in enumerate(options.seeds):
            logged = read(seed / run)
            axis.plot(*points(logged, "loss"), color=f"C{number}", label=seed.name)
            axis.plot(*points(logged, "eval_loss"), "o", color=f"C{number}", markersize=4)
        axis.set(title=title, xlabel="step", yscale="log")
    axes[0][0].set_ylabel("loss of answer tokens (dots: validation)")
    for axis, name in zip([axes[0][3], *axes[1]], ["", *REWARDS], strict=True):
        for number, seed in enumerate(options.seeds):
            steps, values = points(read(seed / "critic-grpo"), f"rewards/{name}/mean" if name else "reward")
            axis.plot(steps, smoothed(values), color=f"C{number}", label=seed.name)
        axis.set(title=f"critic, GRPO: {name or 'reward'}", xlabel="step")
    axes[1][0].set_ylabel(f"mean of {SMOOTH} steps, 0 to 1")
    axes[0][0].legend()
    figure.savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
