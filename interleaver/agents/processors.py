"""Processors of models that see pictures, without the half that is for videos.

`transformers` gives Qwen3-VL a video processor that needs torchvision. Nothing here shows a video, so where torchvision
is missing the processor is put together from the other two parts.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import transformers
from transformers import ProcessorMixin, Qwen2VLImageProcessorPil

from interleaver.errors import BadInput

VIDEO = {
    "video_processor_type": "Qwen3VLVideoProcessor",
    "patch_size": 16,
    "merge_size": 2,
    "temporal_patch_size": 2,
}
"""What servers insist on finding beside a checkpoint of Qwen3-VL, though no video is ever shown."""


class PictureProcessor(transformers.Qwen3VLProcessor):  # type: ignore[misc]
    """Qwen3-VL's processor for texts and pictures only."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None):
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template)

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        """Accept that there is no video processor."""
        return None if argument is None else super().check_argument_for_proper_class(argument_name, argument)


def load_processor(checkpoint: str | Path, max_pixels: int | None = None) -> ProcessorMixin:
    """The processor of a checkpoint, its tokenizer padding on the left as generation needs it.

    Args:
        checkpoint: a folder, or the name of a model on the hub.
        max_pixels: the most that a picture is shown at; None leaves what the checkpoint says.

    Raises:
        BadInput: there is none.
    """
    try:
        config = transformers.AutoConfig.from_pretrained(checkpoint)
        if find_spec("torchvision") is None and config.model_type == "qwen3_vl":
            processor = PictureProcessor(
                Qwen2VLImageProcessorPil.from_pretrained(checkpoint),
                transformers.AutoTokenizer.from_pretrained(checkpoint),
            )
            processor.chat_template = processor.chat_template or processor.tokenizer.chat_template
        else:
            processor = transformers.AutoProcessor.from_pretrained(checkpoint)
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"the checkpoint {str(checkpoint)!r} has no processor that can be loaded: {error}") from None
    processor.tokenizer.padding_side = "left"
    if max_pixels is not None:
        processor.image_processor.size = {**dict(processor.image_processor.size), "longest_edge": max_pixels}
    return processor


def save_processor(processor: ProcessorMixin, folder: Path) -> None:
    """Write a processor beside a model's weights, as servers expect it."""
    processor.save_pretrained(folder)
    if isinstance(processor, PictureProcessor):
        config = folder / "processor_config.json"
        config.write_text(
            json.dumps(json.loads(config.read_text()) | {"processor_class": "Qwen3VLProcessor"}, indent=2)
        )
        (folder / "video_preprocessor_config.json").write_text(json.dumps(VIDEO))
