"""Pack a trained planner and critic as the pair that ships with the package: bfloat16 weights, results in the README.

python pack.py seed-0 --table table.md --out interleaver/weights
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
import transformers

PAIR = {"miniature-planner": "planner", "miniature-critic": "critic-grpo"}


def pack(run: Path, folder: Path, table: str) -> None:
    """Write the weights of a training job as bfloat16, which `local` and vLLM load directly, with a README."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run / "model", folder)
    model = transformers.AutoModelForImageTextToText.from_pretrained(run / "model", dtype=torch.bfloat16)
    model.save_pretrained(folder)
    card = (folder / "README.md").read_text().rstrip()
    worth = f"## What it is worth\n\n{table.strip()}\n\nThis is the pair of {run.parent.name.replace('-', ' ')}.\n"
    (folder / "README.md").write_text(f"{card}\n\n{worth}")
    trained = json.loads((run / "training.json").read_text())
    print(f"{folder.name}: {trained['task']}, {sum(f.stat().st_size for f in folder.iterdir()) / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seed", type=Path)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    for name, run in PAIR.items():
        pack(options.seed / run, options.out / name, options.table.read_text())


if __name__ == "__main__":
    main()
