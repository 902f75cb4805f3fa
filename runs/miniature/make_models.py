"""A tiny planner and a tiny critic with random weights; the critic's eyes are opened on pictures of the sandbox.

python make_models.py --planner-data datasets/planner --critic-data datasets/critic --out models --seed 0
"""

import argparse
from pathlib import Path
from random import Random

from datasets import load_dataset

from interleaver.sandbox.seeing import busy_picture
from interleaver.training.tiny import make_tiny, teach_to_see

PICTURES = 3000


def texts(folder: str) -> list[str]:
    """The prompts and answers of a dataset."""
    rows = load_dataset("parquet", data_files=f"{folder}/data/train-*.parquet", split="train")
    turns = rows.select_columns(["prompt", "completion"])
    return [
        part["text"] or "" for row in turns for turn in row["prompt"] + row["completion"] for part in turn["content"]
    ]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--planner-data", required=True)
    options.add_argument("--critic-data", required=True)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--seed", type=int, default=0)
    told = options.parse_args()
    rng = Random(told.seed)
    samples = [busy_picture(rng) for _ in range(PICTURES)]
    words = ["I see " + " ".join(f"{code} {' '.join(what)}" for *what, code in cells) for _, cells in samples]

    count = make_tiny(texts(told.planner_data), told.out / "planner", vision_layers=2, seed=told.seed)
    print(f"planner: {count:,} parameters")
    count = make_tiny(texts(told.critic_data) + words, told.out / "critic", seed=told.seed)
    seen = teach_to_see(told.out / "critic", samples, seed=told.seed)
    print(f"critic: {count:,} parameters; it names {seen:.1%} of the places in pictures it has not seen")


if __name__ == "__main__":
    main()
