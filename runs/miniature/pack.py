"""Pack a trained planner and critic as the pair that comes with the package: half the bytes, and the table beside them.

python pack.py seed-0 --table table.md --out interleaver/checkpoints
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
import transformers

PAIR = {"miniature-planner": "planner", "miniature-critic": "critic-grpo"}


def pack(run: Path, folder: Path, table: str) -> None:
    """Write the weights of a run as bfloat16, which `local` and vLLM read as they are, and what made them."""
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
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("seed", type=Path)
    options.add_argument("--table", type=Path, required=True)
    options.add_argument("--out", type=Path, required=True)
    told = options.parse_args()
    for name, run in PAIR.items():
        pack(told.seed / run, told.out / name, told.table.read_text())


if __name__ == "__main__":
    main()
