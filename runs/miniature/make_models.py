"""A tiny planner and a tiny critic with random weights, and pictures on which the critic first learns to see.

python make_models.py --planner-data datasets/planner --critic-data datasets/critic --out models --seed 0

The critic's vision tower is aligned with its words here. `OUT/sight-data` is a dataset of pairs of busy pictures and of
what is to be seen in them, for a first round of fine-tuning; a large model has had such lessons long before.
"""

import argparse
import io
import json
from pathlib import Path
from random import Random

from datasets import Dataset, List, load_dataset
from datasets import Image as ImageFeature
from PIL import Image

from interleaver.sandbox.seeing import busy_pair
from interleaver.training.tiny import make_tiny, teach_to_see

QUESTION = [{"type": "image", "text": None}, {"type": "image", "text": None}, {"type": "text", "text": "\nCompare."}]


def texts(folder: str) -> list[str]:
    """The prompts and answers of a dataset."""
    rows = load_dataset("parquet", data_files=f"{folder}/data/train-*.parquet", split="train")
    turns = rows.select_columns(["prompt", "completion"])
    return [
        part["text"] or "" for row in turns for turn in row["prompt"] + row["completion"] for part in turn["content"]
    ]


def write_sight_data(pairs: list, like: Path, folder: Path) -> None:
    """A dataset as `interleaver data critic-sft` writes it."""
    rows = [
        {
            "prompt": [{"role": "user", "content": QUESTION}],
            "completion": [{"role": "assistant", "content": [{"type": "text", "text": told}]}],
            "images": [{"bytes": picture.data, "path": None} for picture in (before, after)],
        }
        for before, after, told, _ in pairs
    ]
    card = json.loads((like / "dataset.json").read_text())
    card |= {
        "sources": ["interleaver.sandbox.seeing"],
        "models": {},
        "fingerprint": "made by make_models.py",
        "splits": {"train": {"rows": len(rows), "requests": len(rows)}},
        "groups": {"train": {"accepted": len(rows) // 2, "rejected: none": len(rows) - len(rows) // 2}},
    }
    (folder / "data").mkdir(parents=True)
    dataset = Dataset.from_list(rows).cast_column("images", List(ImageFeature()))
    dataset.to_parquet(folder / "data" / "train-00000.parquet")
    (folder / "dataset.json").write_text(json.dumps(card))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--planner-data", required=True)
    options.add_argument("--critic-data", required=True)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--pairs", type=int, default=4000, help="of busy pictures")
    options.add_argument("--steps", type=int, default=300, help="of learning to see")
    told = options.parse_args()
    rng = Random(told.seed)
    pairs = [busy_pair(rng) for _ in range(told.pairs)]
    write_sight_data(pairs, Path(told.critic_data), told.out / "sight-data")

    count = make_tiny(texts(told.planner_data), told.out / "planner", vision_layers=2, seed=told.seed)
    print(f"planner: {count:,} parameters")
    words = [text for *_, text, _ in pairs]
    count = make_tiny(texts(told.critic_data) + words, told.out / "critic", seed=told.seed)
    samples = [(Image.open(io.BytesIO(after.data)).convert("RGB"), cells) for _, after, _, cells in pairs]
    seen = teach_to_see(told.out / "critic", samples, steps=told.steps, seed=told.seed)
    print(f"critic: {count:,} parameters; it names {seen:.1%} of the places in pictures it has not seen")


if __name__ == "__main__":
    main()
