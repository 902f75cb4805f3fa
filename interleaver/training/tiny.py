"""Tiny planners and critics, made from scratch: the architecture of Qwen3-VL at a few million parameters.

They stand for checkpoints of 8 billion wherever a whole training run must fit a laptop: the classes, the chat format,
the tokenizer's kind and the files on disk are the real ones, so whatever trains or serves Qwen3-VL trains and serves
these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from interleaver.errors import BadInput
from interleaver.extras import need

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
"""A conversation as Qwen's own template writes it, where there are neither tools nor a system turn."""
SIGHT_RATE = 2e-3
PATCH = 16
MERGE = 2
"""Pixels of a patch, and patches of a token along each side: a token covers 32x32 pixels, as in Qwen3-VL."""


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
    """Make a checkpoint with random weights.

    Args:
        texts: what the tokenizer learns its words from: the prompts and answers of the training data.
        folder: where the checkpoint goes.
        width: of the residual stream, of text and of vision; a multiple of 32.
        layers: of the language model.
        vision_layers: of the vision tower.
        pixels: the most that a picture is shown at; larger ones are made smaller.
        vocabulary: the most tokens; 256 bytes and the special tokens are always among them.
        seed: of the weights.

    Returns:
        The number of parameters.
    """
    need("torch", "train")
    import torch
    import transformers

    from interleaver.agents.processors import PictureProcessor, save_processor

    tokenizer = _tokenizer(texts, vocabulary)
    torch.manual_seed(seed)
    model = transformers.Qwen3VLForConditionalGeneration(_config(tokenizer, width, layers, vision_layers))
    # As large as what a patch contributes.
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
    """Align the vision tower of a tiny model with its words, as the pretraining of a large one has done long before.

    Each token of a picture learns to point to the words for what is in it, among all words that occur. Only then does
    a language model find anything in the pictures within a thousand steps.

    Args:
        folder: of the checkpoint, which is changed.
        samples: RGB pictures, and the words for each of their tokens, in reading order. The words are single tokens.
        steps: of training.
        batch: pictures a step.
        seed: of their order.

    Returns:
        The share of picture tokens of the last tenth of the samples, which are held out, whose words are all right.

    Raises:
        BadInput: a word is no single token of the model.
    """
    need("torch", "train")
    import torch
    import transformers

    from interleaver.agents.processors import load_processor

    processor = load_processor(folder)
    model = transformers.Qwen3VLForConditionalGeneration.from_pretrained(folder)
    words = sorted({word for _, cells in samples for cell in cells for word in cell})
    rows = torch.tensor([_single_token(processor.tokenizer, word) for word in words])
    pixels = [processor.image_processor(images=[image], return_tensors="pt") for image, _ in samples]
    wanted = [torch.tensor([[float(word in cell) for word in words] for cell in cells]) for _, cells in samples]
    table = model.get_input_embeddings().weight
    optimizer = torch.optim.AdamW([*model.model.visual.parameters(), table], lr=SIGHT_RATE, weight_decay=0.01)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, 30, steps)

    def logits(chosen: list[int]) -> Any:
        patches = torch.cat([pixels[n]["pixel_values"] for n in chosen])
        seen = model.model.visual(patches, grid_thw=torch.cat([pixels[n]["image_grid_thw"] for n in chosen]))
        directions = torch.nn.functional.normalize(seen.pooler_output, dim=-1)
        return 16 * directions @ torch.nn.functional.normalize(table[rows], dim=-1).T - 4

    held_out = max(1, len(samples) // 10)
    random = Random(seed)
    for _ in range(steps):
        chosen = random.sample(range(len(samples) - held_out), min(batch, len(samples) - held_out))
        target = torch.cat([wanted[n] for n in chosen])
        torch.nn.functional.binary_cross_entropy_with_logits(logits(chosen), target).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    last = list(range(len(samples) - held_out, len(samples)))
    with torch.inference_mode():
        right = ((logits(last) > 0) == (torch.cat([wanted[n] for n in last]) > 0)).all(dim=-1)
    model.save_pretrained(folder)
    return float(right.float().mean())


def _single_token(tokenizer: Any, word: str) -> int:
    tokens = tokenizer.encode(f" {word}")
    if len(tokens) != 1:
        raise BadInput(
            f"{word!r} is {len(tokens)} tokens of this model; it must be one, so let the tokenizer see it more"
        )
    return int(tokens[0])


def _tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """Byte-level BPE with Qwen's way of splitting words."""
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
    learned = json.loads(tokenizer.to_str())["model"]
    made = transformers.Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(merge) for merge in learned["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    made.add_special_tokens({"additional_special_tokens": list(SPECIAL[1:])})
    made.chat_template = TEMPLATE
    return made


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
