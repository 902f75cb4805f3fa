"""Processors of vision-language models, without their video part.

In `transformers`, the Qwen3-VL processor includes a video processor that needs torchvision. This package never uses
videos, so without torchvision the processor is assembled from just the image processor and the tokenizer.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import transformers
from transformers import ProcessorMixin, Qwen2VLImageProcessorPil

from interleaver.errors import BadInput
from interleaver.weights import check_hub

VIDEO = {
    "video_processor_type": "Qwen3VLVideoProcessor",
    "patch_size": 16,
    "merge_size": 2,
    "temporal_patch_size": 2,
}
"""The video processor settings that servers require beside the weights of Qwen3-VL, although videos are never used."""


class PictureProcessor(transformers.Qwen3VLProcessor):  # type: ignore[misc]
    """The Qwen3-VL processor without its video processor."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None):
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template)

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        """Check the class of an argument, but accept None for the missing video processor."""
        return None if argument is None else super().check_argument_for_proper_class(argument_name, argument)


def load_processor(weights: str | Path, max_pixels: int | None = None) -> ProcessorMixin:
    """Load the processor of a model, with padding on the left as generation needs it.

    Args:
        weights: local folder or Hugging Face Hub id of the model.
        max_pixels: maximum number of pixels per picture, to which larger ones are scaled down; None for the limit in
            the model's own settings.

    Raises:
        BadInput: the processor cannot be loaded.
    """
    check_hub(str(weights))
    try:
        config = transformers.AutoConfig.from_pretrained(weights)
        if find_spec("torchvision") is None and config.model_type == "qwen3_vl":
            processor = PictureProcessor(
                Qwen2VLImageProcessorPil.from_pretrained(weights),
                transformers.AutoTokenizer.from_pretrained(weights),
            )
            processor.chat_template = processor.chat_template or processor.tokenizer.chat_template
        else:
            processor = transformers.AutoProcessor.from_pretrained(weights)
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"the weights {str(weights)!r} have no processor that can be loaded: {error}") from None
    processor.tokenizer.padding_side = "left"
    if max_pixels is not None:
        processor.image_processor.size = {**dict(processor.image_processor.size), "longest_edge": max_pixels}
    return processor


def save_processor(processor: ProcessorMixin, folder: Path) -> None:
    """Save a processor beside a model's weights, with all files that servers require."""
    processor.save_pretrained(folder)
    if isinstance(processor, PictureProcessor):
        config = folder / "processor_config.json"
        config.write_text(
            json.dumps(json.loads(config.read_text()) | {"processor_class": "Qwen3VLProcessor"}, indent=2)
        )
        (folder / "video_preprocessor_config.json").write_text(json.dumps(VIDEO))
