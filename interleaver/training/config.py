"""Settings of a training job, read from a TOML or YAML file.

Top-level fields apply to every task; a table named after a task applies to that task only:

model = "Qwen/Qwen3-VL-8B-Instruct"     # every task
precision = "bf16"

[sft-critic]                            # this task only
learning_rate = 2e-5
epochs = 2
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interleaver.choices import FormatRule, TrainingTask
from interleaver.errors import BadInput, did_you_mean, explain
from interleaver.text_files import read_text_file

TASKS: tuple[TrainingTask, ...] = get_args(TrainingTask)


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Lora(_Settings):
    """LoRA hyperparameters, as in `peft.LoraConfig`."""

    rank: int = Field(64, ge=1)
    alpha: int = Field(128, ge=1)
    dropout: float = Field(0.05, ge=0, lt=1)


class Vllm(_Settings):
    """How answers are sampled in GRPO.

    Attributes:
        mode: *off* samples with the trainer's own model, *colocate* with vLLM on the trainer's devices, *server* with
            a server started by `trl vllm-serve`.
        base_url: URL of the server, in server mode.
        memory: fraction of the device memory that vLLM reserves in colocate mode, up to 1.
        tensor_parallel: tensor-parallel size (number of devices per model) in colocate mode.
    """

    mode: Literal["off", "colocate", "server"] = "off"
    base_url: str = "http://127.0.0.1:8000"
    memory: float = Field(0.3, gt=0, le=1)
    tensor_parallel: int = Field(1, ge=1)


class Scoring(_Settings):
    """How answers are scored in GRPO.

    Attributes:
        profile: profile whose generator redraws steps and whose judge scores them; None for `interleaver.toml`, or
            the sandbox if there is no such file. The profile's `concurrency` limits simultaneous calls.
        draws: number of times that a step is drawn with each prompt of the critic, with seeds 0, 1, ...; the scores
            are averaged. 1 in the paper; more drawings reduce the noise of the reward, at a higher cost.
        format: which answers of a critic count as well-formed: *strict* those that this package reads without mending,
            *official* those that the released reward function takes.
        deadline: timeout of one drawing or one judge call, in seconds.
        max_failed: failure rate over the last 200 scoring tasks, 0 to 1, above which training stops.
    """

    profile: str | None = None
    draws: int = Field(1, ge=1)
    format: FormatRule = "strict"
    deadline: float = Field(70.0, gt=0)
    max_failed: float = Field(0.5, ge=0, le=1)


class TrainConfig(_Settings):
    """The settings of one training task.

    Attributes:
        model: initial model: a folder, a name on the Hugging Face Hub, or `interleaver:NAME` for one of this package's.
        method: *full* trains all weights that are not frozen, *lora* trains LoRA adapters.
        lora: LoRA hyperparameters, used by the method *lora*.
        freeze_vision: whether the vision tower is frozen.
        freeze_projector: whether the projector from the vision tower to the language model is frozen.
        precision: *auto* is bf16 on a GPU that supports it, else float32.
        gradient_checkpointing: whether activations are recomputed in the backward pass, which saves memory and costs a
            second forward pass.
        image_max_pixels: maximum number of pixels per picture, above which it is downscaled; None for the default of
            the model's processor.
        max_tokens: maximum length of a row in tokens, pictures included: of prompt and answer together in SFT, of the
            prompt in GRPO; longer rows are left out.
        epochs: number of passes over the data; ignored if `max_steps` is set.
        max_steps: number of optimizer steps; None to train for `epochs`.
        batch: batch size per device: rows in SFT, sampled answers in GRPO.
        accumulate: gradient accumulation steps.
        learning_rate: peak learning rate.
        schedule: learning rate schedule after the warm-up.
        warmup: length of the warm-up as a fraction of all optimizer steps.
        weight_decay: weight decay of AdamW.
        evaluate_every: number of optimizer steps between evaluations on the validation split; 0 for none.
        save_every: number of optimizer steps between trainer checkpoints.
        keep: number of most recent trainer checkpoints to keep.
        log_every: number of optimizer steps between log lines.
        report_to: experiment trackers to report to, in addition to the log file.
        workers: number of data loader worker processes per device.
        seed: random seed for weights, data order and sampling.
        samples: number of answers sampled per prompt (group size) in GRPO.
        temperature: sampling temperature of these answers.
        kl: coefficient of the KL divergence from the initial model in GRPO (low-variance estimator).
        max_answer: maximum length of a sampled answer in GRPO, in tokens.
        vllm: how answers are sampled in GRPO.
        scoring: how answers are scored in GRPO.
    """

    model: str = "Qwen/Qwen3-VL-8B-Instruct"
    method: Literal["full", "lora"] = "full"
    lora: Lora = Field(default_factory=Lora)
    freeze_vision: bool = True
    freeze_projector: bool = True
    precision: Literal["auto", "bf16", "float32"] = "auto"
    gradient_checkpointing: bool = True
    image_max_pixels: int | None = Field(None, ge=1024)
    max_tokens: int = Field(16384, ge=1)
    epochs: float = Field(1.0, gt=0)
    max_steps: int | None = Field(None, ge=1)
    batch: int = Field(1, ge=1)
    accumulate: int = Field(8, ge=1)
    learning_rate: float = Field(2e-5, gt=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = Field(0.1, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    evaluate_every: int = Field(200, ge=0)
    save_every: int = Field(200, ge=1)
    keep: int = Field(2, ge=1)
    log_every: int = Field(10, ge=1)
    report_to: list[Literal["tensorboard", "wandb"]] = Field(default_factory=list)
    workers: int = Field(0, ge=0)
    seed: int = Field(0, ge=0)
    samples: int = Field(8, ge=2)
    temperature: float = Field(1.0, gt=0)
    kl: float = Field(0.01, ge=0)
    max_answer: int = Field(4096, ge=1)
    vllm: Vllm = Field(default_factory=Vllm)
    scoring: Scoring = Field(default_factory=Scoring)


def shipped_configs() -> dict[str, Path]:
    """Return the files of the configurations that come with this package, by name."""
    folder = Path(__file__).with_name("presets")
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def load_config(source: str | None, task: TrainingTask, changes: dict[str, Any] | None = None) -> TrainConfig:
    """Read the settings of a task.

    Args:
        source: TOML or YAML file, or the name of a configuration that comes with this package; None for the defaults.
        task: task whose table is applied over the top-level fields.
        changes: values that override the file's, by field name; a dot addresses a nested field ("lora.rank").

    Raises:
        BadInput: the file cannot be read, or a field is unknown or has an invalid value.
    """
    file_settings = _read(source) if source else {}
    common = {key: value for key, value in file_settings.items() if key not in TASKS}
    task_settings = _merge(common, file_settings.get(task) or {})
    for name, value in (changes or {}).items():
        part, _, field = name.rpartition(".")
        task_settings = _merge(task_settings, {part: {field: value}} if part else {field: value})
    try:
        return TrainConfig.model_validate(task_settings)
    except ValidationError as error:
        raise BadInput(f"the configuration {source or 'given'!r}: {explain(error, TrainConfig)}") from None


def _read(source: str) -> dict[str, Any]:
    path = Path(source) if Path(source).exists() else shipped_configs().get(source, Path(source))
    try:
        text = read_text_file(path)
        if path.suffix in (".yaml", ".yml"):
            import yaml

            settings = yaml.safe_load(text) or {}
        else:
            settings = tomllib.loads(text)
    except FileNotFoundError:
        hint = did_you_mean(source, shipped_configs())
        ready = ", ".join(shipped_configs())
        raise BadInput(f"there is no configuration {source!r}{hint}; give a file or one of: {ready}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the configuration {source!r} cannot be read: {error}") from None
    except Exception as error:  # the errors of the two parsers have no common base class
        raise BadInput(f"the configuration {source!r} is not valid: {error}") from None
    if not isinstance(settings, dict):
        raise BadInput(
            f"the configuration {source!r} is a {type(settings).__name__}; its top level must be a mapping of fields"
        )
    return settings


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merge two settings dictionaries recursively; values of `above` win."""
    result = dict(below)
    for key, value in above.items():
        inner = result.get(key)
        result[key] = _merge(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return result
