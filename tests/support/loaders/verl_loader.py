"""Load a file as verl does for reinforcement learning; run it in the dataset's folder.

    python verl_loader.py FILE

Runs in the environment that has verl. Prints a JSON object: how many rows, what each shows, what the batch has.
"""

import json
import os
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_DATASETS_CACHE=tempfile.mkdtemp())
from omegaconf import OmegaConf
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn

words = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>")),
    unk_token="<unk>", eos_token="</s>", pad_token="<pad>",
)  # fmt: skip
words.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()


class Processor:
    """Only its presence matters here: verl then puts the pictures where their tags are."""

    tokenizer = words


settings = OmegaConf.create(
    {
        "prompt_key": "prompt", "image_key": "images", "max_prompt_length": 4096, "truncation": "error",
        "filter_overlong_prompts": False, "return_raw_chat": True, "cache_dir": tempfile.mkdtemp(),
    }
)  # fmt: skip
dataset = RLHFDataset(data_files=[sys.argv[1]], tokenizer=words, config=settings, processor=Processor(), max_samples=-1)
rows = [dataset[index] for index in range(len(dataset))]
pictures = []
for row in rows:
    paths = [part["image"] for part in row["raw_prompt"][0]["content"] if part["type"] == "image"]
    for path in paths:
        with Image.open(path) as picture:
            picture.load()
    pictures.append(len(paths))
batch = collate_fn(rows)
truths = [row["reward_model"]["ground_truth"] for row in rows]
print("\n" + json.dumps({"rows": len(rows), "pictures": pictures, "truths": truths, "batch": sorted(batch)}))
