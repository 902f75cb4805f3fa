"""Tiny planners and critics with random weights: the architecture of Qwen3-VL at a few million parameters.

They replace models of 8 billion parameters where a whole training job must run on a laptop. The model classes, the chat
template, the type of tokenizer and the files on disk are those of Qwen3-VL, so the same code trains and serves both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from interleaver.errors import BadInput
from interleaver.extras import require_extra

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] in ('image', 'image_url') %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Chat template that gives the same text as Qwen's own for conversations without tools or a system turn."""
SIGHT_RATE = 2e-3
PATCH = 16
MERGE = 2
"""`PATCH` is the side of a patch in pixels, `MERGE` the side of a token in patches.

A token covers 32x32 pixels, as in Qwen3-VL.
"""


def make_tiny(
    texts: Iterable[str],
    folder: Path,
    *,
    width: int = 128,
    layers: int = 4,
    vision_layers: int = 4,
    pixels: int = 96 * 96,
    vocabulary: int = 1024,
    seed: int = 0,
) -> int:
    """Create a model with random weights, and its processor.

    Args:
        texts: texts to train the tokenizer on, such as the prompts and answers of the training data.
        folder: folder to write the model to.
        width: hidden size of the language model and of the vision tower; a multiple of 32.
        layers: number of layers of the language model.
        vision_layers: number of layers of the vision tower.
        pixels: maximum number of pixels per picture, above which it is downscaled.
        vocabulary: maximum number of tokens, including the 256 bytes and the special tokens.
        seed: seed of the random weights.

    Returns:
        The number of parameters.
    """
    require_extra("torch", "train")
    import torch
    import transformers

    from interleaver.agents.hf_processors import PictureProcessor, save_processor

    tokenizer = _tokenizer(texts, vocabulary)
    torch.manual_seed(seed)
    model = transformers.Qwen3VLForConditionalGeneration(_config(tokenizer, width, layers, vision_layers))
    # Initialize the position embeddings at the scale of the patch embeddings.
    torch.nn.init.normal_(model.model.visual.pos_embed.weight, std=1.0)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=end, pad_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>")
    )
    model.save_pretrained(folder)
    pictures = transformers.Qwen2VLImageProcessorPil(
        patch_size=PATCH, merge_size=MERGE, temporal_patch_size=2, min_pixels=(PATCH * MERGE) ** 2, max_pixels=pixels
    )
    save_processor(PictureProcessor(pictures, tokenizer, chat_template=TEMPLATE), folder)
    return int(sum(weight.numel() for weight in model.parameters()))


def teach_to_see(
    folder: Path, samples: Sequence[tuple[Any, list[list[str]]]], *, steps: int = 300, batch: int = 32, seed: int = 0
) -> float:
    """Align the vision tower of a tiny model with its word embeddings, which large models learn in pretraining.

    Each picture token is trained to predict which of all the words in the samples describe its part of the picture.
    Without this step, the language model learns next to nothing from pictures within a thousand steps.

    Args:
        folder: folder of the model, which is overwritten.
        samples: RGB pictures, each with the list of words for each of its tokens, in reading order. Every word must
            be a single token of the model.
        steps: number of optimizer steps.
        batch: number of pictures per step.
        seed: seed of the order of the pictures.

    Returns:
        The accuracy on the last tenth of the samples, which is held out: the share of picture tokens, 0 to 1, for
        which all words are predicted correctly.

    Raises:
        BadInput: a word is not a single token of the model.
    """
    require_extra("torch", "train")
    import torch
    import transformers

    from interleaver.agents.hf_processors import load_processor

    processor = load_processor(folder)
    model = transformers.Qwen3VLForConditionalGeneration.from_pretrained(folder, use_safetensors=True)
    words = sorted({word for _, cells in samples for cell in cells for word in cell})
    rows = torch.tensor([_single_token(processor.tokenizer, word) for word in words])
    pixels = [processor.image_processor(images=[image], return_tensors="pt") for image, _ in samples]
    targets = [torch.tensor([[float(word in cell) for word in words] for cell in cells]) for _, cells in samples]
    table = model.get_input_embeddings().weight
    optimizer = torch.optim.AdamW([*model.model.visual.parameters(), table], lr=SIGHT_RATE, weight_decay=0.01)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, 30, steps)

    def logits(indices: list[int]) -> Any:
        patches = torch.cat([pixels[n]["pixel_values"] for n in indices])
        vision_output = model.model.visual(patches, grid_thw=torch.cat([pixels[n]["image_grid_thw"] for n in indices]))
        directions = torch.nn.functional.normalize(vision_output.pooler_output, dim=-1)
        return 16 * directions @ torch.nn.functional.normalize(table[rows], dim=-1).T - 4

    held_out = max(1, len(samples) // 10)
    random = Random(seed)
    for _ in range(steps):
        indices = random.sample(range(len(samples) - held_out), min(batch, len(samples) - held_out))
        target = torch.cat([targets[n] for n in indices])
        torch.nn.functional.binary_cross_entropy_with_logits(logits(indices), target).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    last = list(range(len(samples) - held_out, len(samples)))
    with torch.inference_mode():
        right = ((logits(last) > 0) == (torch.cat([targets[n] for n in last]) > 0)).all(dim=-1)
    model.save_pretrained(folder)
    return float(right.float().mean())


def _single_token(tokenizer: Any, word: str) -> int:
    tokens = tokenizer.encode(f" {word}")
    if len(tokens) != 1:
        raise BadInput(
            f"{word!r} is split into {len(tokens)} tokens by this model's tokenizer but must be one; "
            "add it more often to the texts that the tokenizer is trained on"
        )
    return int(tokens[0])


def _tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """Train a byte-level BPE tokenizer and return it as a Qwen tokenizer."""
    import json

    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    model_data = json.loads(tokenizer.to_str())["model"]
    qwen_tokenizer = transformers.Qwen2Tokenizer(
        vocab=model_data["vocab"],
        merges=[tuple(merge) for merge in model_data["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    qwen_tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL[1:])})
    qwen_tokenizer.chat_template = TEMPLATE
    return qwen_tokenizer


def _config(tokenizer: Any, width: int, layers: int, vision_layers: int) -> Any:
    import transformers

    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    heads = width // 32
    return transformers.Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "intermediate_size": 3 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "head_dim": 32,
            "max_position_embeddings": 2048,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
            "bos_token_id": end,
            "eos_token_id": end,
        },
        vision_config={
            "depth": vision_layers,
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_heads": heads,
            "out_hidden_size": width,
            "num_position_embeddings": 36,
            "deepstack_visual_indexes": [vision_layers // 2 - 1],
        },
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=end,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
