"""The settings of a training run: one TOML or YAML file, of which each task takes its part.

model = "Qwen/Qwen3-VL-8B-Instruct"     # for every task
precision = "bf16"

[sft-critic]                            # for this one
learning_rate = 2e-5
epochs = 2
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from interleaver.errors import BadInput, did_you_mean, explain

Task = Literal["sft-planner", "sft-critic", "grpo-critic", "grpo-planner"]
TASKS: tuple[Task, ...] = get_args(Task)


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Lora(_Settings):
    """Adapters in place of all weights."""

    rank: int = Field(64, ge=1)
    alpha: int = Field(128, ge=1)
    dropout: float = Field(0.05, ge=0, lt=1)


class Vllm(_Settings):
    """Who samples the answers in GRPO.

    Attributes:
        mode: *off* for the trainer itself, *colocate* for vLLM on the trainer's own devices, *server* for one that
            `trl vllm-serve` started.
        base_url: of the server.
        memory: share of a device's memory that vLLM takes in colocate mode.
        tensor_parallel: devices that a model is spread over in colocate mode.
    """

    mode: Literal["off", "colocate", "server"] = "off"
    base_url: str = "http://127.0.0.1:8000"
    memory: float = Field(0.3, gt=0, le=1)
    tensor_parallel: int = Field(1, ge=1)


class Scoring(_Settings):
    """How answers are scored in GRPO.

    Attributes:
        profile: a profile whose generator draws again and whose judge scores; None for `interleaver.toml`, and the
            sandbox where there is none. The `concurrency` there is how many calls are made at a time.
        draws: how often a step is drawn with each critic's prompt, with seeds 0, 1, ...; the score is the mean. One in
            the paper; more say more about a prompt, and cost more.
        deadline: seconds that one drawing or one judgement may take.
        max_failed: training stops when more than this share of the last 200 pieces of work gave no score.
    """

    profile: str | None = None
    draws: int = Field(1, ge=1)
    deadline: float = Field(70.0, gt=0)
    max_failed: float = Field(0.5, ge=0, le=1)


class TrainConfig(_Settings):
    """The settings of one task.

    Attributes:
        model: a folder or the name of a model on the hub: where training begins.
        method: *full* trains all weights that are not frozen, *lora* adapters.
        freeze_vision: leave the vision tower as it is.
        freeze_projector: leave what leads from vision to language as it is.
        precision: *auto* is bf16 on a GPU that has it, else float32.
        gradient_checkpointing: save memory, at the price of a second forward pass.
        image_max_pixels: larger pictures are made smaller; None leaves it to the model's processor.
        max_tokens: of prompt and answer together, in SFT; what is longer loses its end.
        epochs: passes over the data; `max_steps` overrides it.
        max_steps: optimizer steps.
        batch: rows a device and step.
        accumulate: steps whose gradients make one update.
        learning_rate: at its highest.
        schedule: of the learning rate, after the warm-up.
        warmup: share of all steps.
        weight_decay: of AdamW.
        evaluate_every: optimizer steps from one evaluation on the validation split to the next; 0 for none.
        save_every: optimizer steps from one checkpoint to the next.
        keep: how many checkpoints are kept.
        log_every: optimizer steps from one line of the log to the next.
        report_to: besides the log file.
        workers: processes that prepare batches.
        seed: of everything that is random.
        samples: answers a prompt, in GRPO; `batch` counts answers there.
        temperature: of these answers.
        kl: weight of the divergence from the model that training began with, in its low-variance form.
        max_answer: tokens of an answer that is sampled.
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


def ready_configs() -> dict[str, Path]:
    """The configurations that come with this package, by name."""
    folder = Path(__file__).with_name("presets")
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def load_config(source: str | None, task: Task, changes: dict[str, Any] | None = None) -> TrainConfig:
    """Read the settings of a task.

    Args:
        source: a TOML or YAML file, or the name of one that comes with this package; None for the defaults.
        task: whose part counts, beside what stands for all.
        changes: fields that override the file's, by name; a dot leads into a part ("lora.rank").

    Raises:
        BadInput: the file cannot be read, or a field is unknown or has a wrong value.
    """
    told = _read(source) if source else {}
    common = {key: value for key, value in told.items() if key not in TASKS}
    merged = _merged(common, told.get(task) or {})
    for name, value in (changes or {}).items():
        part, _, field = name.rpartition(".")
        merged = _merged(merged, {part: {field: value}} if part else {field: value})
    try:
        return TrainConfig.model_validate(merged)
    except ValidationError as error:
        raise BadInput(f"the configuration {source or 'given'!r}: {explain(error, TrainConfig)}") from None


def _read(source: str) -> dict[str, Any]:
    path = Path(source) if Path(source).exists() else ready_configs().get(source, Path(source))
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix in (".yaml", ".yml"):
            import yaml

            told = yaml.safe_load(text) or {}
        else:
            told = tomllib.loads(text)
    except FileNotFoundError:
        hint = did_you_mean(source, ready_configs())
        ready = ", ".join(ready_configs())
        raise BadInput(f"there is no configuration {source!r}{hint}; give a file or one of: {ready}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the configuration {source!r} cannot be read: {error}") from None
    except Exception as error:  # whatever the two parsers raise
        raise BadInput(f"the configuration {source!r} is not valid: {error}") from None
    if not isinstance(told, dict):
        raise BadInput(f"the configuration {source!r} is a {type(told).__name__}; it must have fields")
    return told


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Two sets of fields as one; the second wins, field by field within parts."""
    result = dict(below)
    for key, value in above.items():
        inner = result.get(key)
        result[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return result
