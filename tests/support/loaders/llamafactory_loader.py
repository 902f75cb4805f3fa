"""Load every dataset of a folder as LLaMA-Factory does for training: rows, pictures, template, tokens, labels.

    python llamafactory_loader.py FOLDER

Runs in the environment that has LLaMA-Factory. Prints a JSON object: dataset -> what was found.
"""

import json
import os
import sys
import tempfile
import types

os.environ.update(
    DISABLE_VERSION_CHECK="1", HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_DATASETS_CACHE=tempfile.mkdtemp()
)
import transformers  # before the stub below, so that its own look for torchaudio finds none

sys.modules["torchaudio"] = types.ModuleType("torchaudio")  # for sounds; the wheel on PyPI needs CUDA
from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.data.loader import _load_single_dataset
from llamafactory.data.parser import get_dataset_list
from llamafactory.hparams import DataArguments, ModelArguments
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

SPECIAL = ["<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]


def tokenizer():
    words = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
    made = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    made.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens({"additional_special_tokens": SPECIAL})
    return made


def load(folder, name):
    arguments = DataArguments(
        template="qwen2_vl", dataset=name, dataset_dir=folder, cutoff_len=100_000, overwrite_cache=True
    )
    model = ModelArguments(model_name_or_path="none")
    training = transformers.Seq2SeqTrainingArguments(output_dir=tempfile.mkdtemp(), use_cpu=True, report_to="none")
    (attributes,) = get_dataset_list([name], folder)
    rows = _load_single_dataset(attributes, model, arguments, training)
    words = tokenizer()
    template = get_template_and_fix_tokenizer(words, arguments)
    processor = types.SimpleNamespace(tokenizer=words, image_processor=Qwen2VLImageProcessorPil())
    made = get_dataset(template, model, arguments, training, "sft", words, processor)["train_dataset"]
    pad = words.convert_tokens_to_ids("<|image_pad|>")
    return {
        "rows": len(rows),
        "prepared": len(made),
        "roles": sorted({turn["role"] for row in rows for turn in row["_prompt"] + row["_response"]}),
        "missing": [path for row in rows for path in row["_images"] or [] if not os.path.isfile(path)],
        "image_tokens": [row["input_ids"].count(pad) for row in made],
        "trained_tokens": [sum(label >= 0 for label in row["labels"]) for row in made],
    }


root = sys.argv[1]
with open(os.path.join(root, "dataset_info.json")) as file:
    names = list(json.load(file))
found = {name: load(root, name) for name in names}
print("\n" + json.dumps(found))
