"""Loading models for training, freezing parts of them and configuring LoRA adapters."""

from __future__ import annotations

from typing import Any

from interleaver.errors import BadInput
from interleaver.extras import require_extra
from interleaver.training.config import TrainConfig
from interleaver.weights import check_hub

PROJECTORS = ("visual.merger", "visual.deepstack_merger_list")
"""Name parts of the weights of Qwen3-VL's projector, which maps vision features into the language model."""
VISION = "visual."
LANGUAGE = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""Regular expression for the modules that get LoRA adapters."""


def load_model(config: TrainConfig) -> Any:
    """Load the model for training, with the frozen parts excluded from gradients.

    Raises:
        BadInput: the model cannot be loaded, is not a vision-language model, or lacks a part that is to be frozen.
    """
    import transformers

    check_model(config)
    try:
        model, loading_info = transformers.AutoModelForImageTextToText.from_pretrained(
            config.model, dtype=_dtype(config), output_loading_info=True, use_safetensors=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise BadInput(f"model {config.model!r} cannot be loaded: {str(error).splitlines()[0]}") from None
    if loading_info["missing_keys"]:
        examples = ", ".join(sorted(loading_info["missing_keys"])[:3])
        raise BadInput(
            f"model {config.model!r} has weights that do not match its config.json: "
            f"{len(loading_info['missing_keys'])} weights are missing, such as {examples}"
        )
    _freeze(model, config)
    return model


def check_model(config: TrainConfig) -> None:
    """Check, before any weights are read, that a model is there and can read pictures.

    Raises:
        BadInput: the model cannot be loaded, or is not a vision-language model.
    """
    require_extra("torch", "train")
    import transformers

    check_hub(config.model)
    try:
        model_config = transformers.AutoConfig.from_pretrained(config.model)
    except (OSError, ValueError) as error:
        raise BadInput(f"model {config.model!r} cannot be loaded: {str(error).splitlines()[0]}") from None
    if type(model_config) not in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise BadInput(
            f"model {config.model!r} is a {model_config.model_type} model, which cannot read pictures; "
            "planner and critic need a vision-language model, such as Qwen/Qwen3-VL-8B-Instruct"
        )


def _dtype(config: TrainConfig) -> Any:
    """Return the dtype to load the weights in.

    Weights that are trained stay in float32, even when computing in bf16; the frozen base model of LoRA may be bf16.
    """
    import torch

    return torch.bfloat16 if uses_bf16(config) and config.method == "lora" else torch.float32


def uses_bf16(config: TrainConfig) -> bool:
    """Return whether training computes in bf16."""
    import torch

    if config.precision == "auto":
        return bool(torch.cuda.is_available() and torch.cuda.is_bf16_supported())
    return config.precision == "bf16"


def _freeze(model: Any, config: TrainConfig) -> None:
    """Freeze the vision tower and the projector if the configuration says so.

    Raises:
        BadInput: a part that is to be frozen is not found among the model's weights.
    """
    frozen_parts = {"freeze_projector": False, "freeze_vision": False}
    for name, weight in model.named_parameters():
        if any(part in name for part in PROJECTORS):
            weight.requires_grad_(not config.freeze_projector)
            frozen_parts["freeze_projector"] = True
        elif VISION in name:
            weight.requires_grad_(not config.freeze_vision)
            frozen_parts["freeze_vision"] = True
    for field, is_found in frozen_parts.items():
        if getattr(config, field) and not is_found:
            raise BadInput(
                f"{field} = true is not supported for {config.model!r}, whose weights are not named like Qwen-VL's; "
                f'set {field} = false (method = "lora" trains only the language model)'
            )


def check_sharding(config: TrainConfig, has_mixed_rows: bool) -> None:
    """Check that the settings and the data work with the way the launcher shards the weights.

    Args:
        config: settings of the task.
        has_mixed_rows: whether some rows have pictures and others have none.

    Raises:
        BadInput: LoRA with sharded weights, or mixed rows with DeepSpeed.
    """
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    kind = PartialState().distributed_type
    if kind in (DistributedType.FSDP, DistributedType.DEEPSPEED) and config.method == "lora":
        raise BadInput('method = "lora" needs the whole model on each device: use --launch one-gpu, not fsdp2 or zero3')
    if kind is DistributedType.DEEPSPEED and has_mixed_rows:
        raise BadInput(
            "some rows have pictures and others have none; under zero3, processes with a picture and processes "
            "without one would wait for each other forever: use --launch fsdp2"
        )


def adapters(config: TrainConfig) -> Any:
    """Return the PEFT configuration of the LoRA adapters; None for full fine-tuning."""
    if config.method == "full":
        return None
    from peft import LoraConfig

    lora = config.lora
    return LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=LANGUAGE, task_type="CAUSAL_LM"
    )
