"""Models as training begins with them: loaded, frozen where they are to stay, with adapters if wanted."""

from __future__ import annotations

from typing import Any

from interleaver.errors import BadInput
from interleaver.extras import need
from interleaver.training.config import TrainConfig

PROJECTORS = ("visual.merger", "visual.deepstack_merger_list")
"""What leads from vision to language in Qwen3-VL, by the names of its weights."""
VISION = "visual."
LANGUAGE = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""The weights that get adapters."""


def load_model(config: TrainConfig) -> Any:
    """The model, in the precision it is trained in, with its frozen parts frozen.

    Raises:
        BadInput: it cannot be loaded, or is of an architecture that does not see pictures.
    """
    need("torch", "train")
    import transformers

    try:
        found = transformers.AutoConfig.from_pretrained(config.model)
    except (OSError, ValueError) as error:
        raise BadInput(f"model {config.model!r} cannot be loaded: {str(error).splitlines()[0]}") from None
    if type(found) not in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise BadInput(
            f"model {config.model!r} is a {found.model_type}, which does not see pictures; "
            "planner and critic need a model for images and text, such as Qwen/Qwen3-VL-8B-Instruct"
        )
    try:
        model, told = transformers.AutoModelForImageTextToText.from_pretrained(
            config.model, dtype=_dtype(config), output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise BadInput(f"model {config.model!r} cannot be loaded: {str(error).splitlines()[0]}") from None
    if told["missing_keys"]:
        some = ", ".join(sorted(told["missing_keys"])[:3])
        raise BadInput(
            f"model {config.model!r} is a checkpoint of another architecture than its config.json says: "
            f"it lacks {len(told['missing_keys'])} weights, such as {some}"
        )
    _freeze(model, config)
    return model


def _dtype(config: TrainConfig) -> Any:
    """The type of the weights: those that are trained stay in float32, whatever is computed in bf16."""
    import torch

    return torch.bfloat16 if uses_bf16(config) and config.method == "lora" else torch.float32


def uses_bf16(config: TrainConfig) -> bool:
    """Whether training is in bf16."""
    import torch

    if config.precision == "auto":
        return bool(torch.cuda.is_available() and torch.cuda.is_bf16_supported())
    return config.precision == "bf16"


def _freeze(model: Any, config: TrainConfig) -> None:
    """Freeze the vision tower and the projector, as the configuration says."""
    found = {"freeze_projector": False, "freeze_vision": False}
    for name, weight in model.named_parameters():
        if any(part in name for part in PROJECTORS):
            weight.requires_grad_(not config.freeze_projector)
            found["freeze_projector"] = True
        elif VISION in name:
            weight.requires_grad_(not config.freeze_vision)
            found["freeze_vision"] = True
    for field, there in found.items():
        if getattr(config, field) and not there:
            raise BadInput(
                f"{field} cannot be done for {config.model!r}, whose weights have other names than Qwen-VL's; "
                f"set {field} = false, or train adapters on its language model"
            )


def check_sharding(config: TrainConfig, mixed: bool) -> None:
    """See to it that what is asked for works where the weights are spread over processes.

    Args:
        config: the settings.
        mixed: whether some rows have pictures and others have none.

    Raises:
        BadInput: it does not.
    """
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    kind = PartialState().distributed_type
    if kind in (DistributedType.FSDP, DistributedType.DEEPSPEED) and config.method == "lora":
        raise BadInput(
            'method = "lora" is for whole models on each device: launch it by one-gpu, without fsdp2 or zero3'
        )
    if kind is DistributedType.DEEPSPEED and mixed:
        raise BadInput(
            "some rows have pictures and others have none; under zero3 processes that see no picture would wait for "
            "ever for those that do: launch it by fsdp2"
        )


def adapters(config: TrainConfig) -> Any:
    """The LoRA configuration; None for full fine-tuning."""
    if config.method == "full":
        return None
    from peft import LoraConfig

    lora = config.lora
    return LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=LANGUAGE, task_type="CAUSAL_LM"
    )
