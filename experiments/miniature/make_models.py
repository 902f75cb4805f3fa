"""Make a tiny planner and a tiny critic from random weights, and a dataset on which the critic first learns to see.

python make_models.py --planner-data datasets/planner --critic-data datasets/critic --out models --seed 0

This script also aligns the critic's vision tower with its vocabulary. `OUT/sight-data` is a dataset of pairs of busy
pictures with their descriptions, for a first round of fine-tuning; large models learn this in their pretraining.
"""

import argparse
import io
import json
from pathlib import Path
from random import Random

from datasets import Dataset, List, load_dataset
from datasets import Image as ImageFeature
from PIL import Image

from interleaver.sandbox.sight_samples import busy_pair
from interleaver.training.tiny import make_tiny, teach_to_see

QUESTION = [{"type": "image", "text": None}, {"type": "image", "text": None}, {"type": "text", "text": "\nCompare."}]


def texts(folder: str) -> list[str]:
    """Return the texts of the prompts and completions of a dataset."""
    rows = load_dataset("parquet", data_files=f"{folder}/data/train-*.parquet", split="train")
    turns = rows.select_columns(["prompt", "completion"])
    return [
        part["text"] or "" for row in turns for turn in row["prompt"] + row["completion"] for part in turn["content"]
    ]


def write_sight_data(pairs: list, like: Path, folder: Path) -> None:
    """Write the pairs as a dataset, in the dataset format of `interleaver data critic-sft`."""
    rows = [
        {
            "prompt": [{"role": "user", "content": QUESTION}],
            "completion": [{"role": "assistant", "content": [{"type": "text", "text": description}]}],
            "images": [{"bytes": picture.data, "path": None} for picture in (before, after)],
        }
        for before, after, description, _ in pairs
    ]
    card = json.loads((like / "dataset.json").read_text())
    card |= {
        "sources": ["interleaver.sandbox.sight_samples"],
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--planner-data", required=True)
    parser.add_argument("--critic-data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=4000, help="number of pairs of busy pictures")
    parser.add_argument("--steps", type=int, default=300, help="optimizer steps of the alignment of the vision tower")
    options = parser.parse_args()
    rng = Random(options.seed)
    pairs = [busy_pair(rng) for _ in range(options.pairs)]
    write_sight_data(pairs, Path(options.critic_data), options.out / "sight-data")

    count = make_tiny(texts(options.planner_data), options.out / "planner", vision_layers=2, seed=options.seed)
    print(f"planner: {count:,} parameters")
    words = [text for *_, text, _ in pairs]
    count = make_tiny(texts(options.critic_data) + words, options.out / "critic", seed=options.seed)
    samples = [(Image.open(io.BytesIO(after.data)).convert("RGB"), cells) for _, after, _, cells in pairs]
    seen = teach_to_see(options.out / "critic", samples, steps=options.steps, seed=options.seed)
    print(f"critic: {count:,} parameters; it names {seen:.1%} of the places in held-out pictures correctly")


if __name__ == "__main__":
    main()
