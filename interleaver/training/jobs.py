"""What all training jobs share: the output folder, the trainer arguments, the log and resuming."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from interleaver.choices import TrainingTask
from interleaver.errors import BadInput
from interleaver.training.config import TrainConfig
from interleaver.training.datasets import TrainingData
from interleaver.training.models import uses_bf16

JOB_FILE = "training.json"
"""Name of the file that records everything the weights depend on: settings, data and package versions."""
WAIT_SECONDS = 6 * 3600
"""Timeout of distributed operations in seconds; long, since one process may be waiting for a slow endpoint."""
HISTORY_FILE = "history.jsonl"
"""Name of the file with the metrics that the trainer logged, one JSON object per line."""


@dataclass
class TrainingJob:
    """A training job and its output folder.

    Attributes:
        task: task to train.
        config: settings of the task.
        data: dataset to train on.
        out: output folder, with trainer checkpoints in `checkpoints/` and the finished model in `model/`.
    """

    task: TrainingTask
    config: TrainConfig
    data: TrainingData
    out: Path

    @property
    def model(self) -> Path:
        """Folder of the finished model."""
        return self.out / "model"

    @property
    def checkpoints(self) -> Path:
        """Folder of the trainer checkpoints, from which training can be resumed."""
        return self.out / "checkpoints"

    def describe(self) -> dict[str, Any]:
        """Return everything that the weights depend on, as it is written to `training.json`."""
        packages = {
            name: version(name) for name in ("interleaver", "torch", "transformers", "trl", "accelerate", "peft")
        }
        return {
            "task": self.task,
            "config": self.config.model_dump(),
            "data": {
                "fingerprint": self.data.fingerprint,
                "kind": self.data.card["kind"],
                "splits": self.data.card["splits"],
                "sources": self.data.card["sources"],
                "models": self.data.card["models"],
            },
            "processes": int(os.environ.get("WORLD_SIZE", "1")),
            "packages": packages,
        }

    def check(self, resume: bool) -> str | None:
        """Check that the output folder can be used for this job, without writing anything.

        Args:
            resume: whether to resume from the newest trainer checkpoint in the folder.

        Returns:
            The path of the trainer checkpoint to resume from; None to start from the beginning.

        Raises:
            BadInput: the folder already contains a training job and `resume` is not set, or the job to resume was
                started with other settings or data.
        """
        last = self.last_checkpoint()
        state = self.out / JOB_FILE
        if not resume and (last or self.model.exists()):
            raise BadInput(
                f"--out {str(self.out)!r} already contains a training job; give another folder, or add --resume"
            )
        if last and state.exists():
            self._check_same(json.loads(state.read_text(encoding="utf-8")))
        return last

    def begin(self) -> None:
        """Create the output folder and write `training.json`, in the main process only."""
        if is_main():
            self.out.mkdir(parents=True, exist_ok=True)
            description = json.dumps(self.describe(), indent=2, ensure_ascii=False)
            (self.out / JOB_FILE).write_text(description, encoding="utf-8")

    def last_checkpoint(self) -> str | None:
        """Return the path of the newest complete trainer checkpoint; None if there is none.

        A checkpoint is complete if it has a `trainer_state.json`, which the trainer writes last.
        """
        checkpoints = sorted(self.checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        complete_checkpoints = [path for path in checkpoints if (path / "trainer_state.json").exists()]
        return str(complete_checkpoints[-1]) if complete_checkpoints else None

    def _check_same(self, saved_job: dict[str, Any]) -> None:
        """Check that a resumed job has its original task, data and settings.

        Settings for the length of training, evaluation, saving, logging, data loading, vLLM and scoring may change.
        """
        free_fields = {
            "epochs",
            "max_steps",
            "evaluate_every",
            "save_every",
            "keep",
            "log_every",
            "report_to",
            "workers",
        }
        free_fields |= {"vllm", "scoring"}  # where answers are sampled and scored, timeouts and failure limits
        current = self.describe()
        for name, value in current["config"].items():
            if name not in free_fields and saved_job["config"].get(name) != value:
                raise BadInput(
                    f"{name} was {saved_job['config'].get(name)!r} when this training job was started and is "
                    f"{value!r} now; resume it with its original settings, or give another --out"
                )
        if (saved_job["task"], saved_job["data"]["fingerprint"]) != (current["task"], current["data"]["fingerprint"]):
            raise BadInput(
                f"this training job was started as {saved_job['task']} on data "
                f"{saved_job['data']['fingerprint'][:12]} and cannot be resumed as {current['task']} on data "
                f"{current['data']['fingerprint'][:12]}; give its original task and --data, or another --out"
            )


def is_main() -> bool:
    """Return whether this is the main process (rank 0), which writes the files of the job."""
    return int(os.environ.get("RANK", "0")) == 0


def common_arguments(job: TrainingJob) -> dict[str, Any]:
    """Return the arguments that SFT and GRPO share, by their names in `transformers.TrainingArguments`.

    Raises:
        BadInput: a package named in `report_to` is not installed.
    """
    config = job.config
    import torch

    for name in config.report_to:
        if find_spec(name) is None:
            raise BadInput(f"report_to lists {name!r}, which is not installed; pip install {name}")
    evaluate = config.evaluate_every and job.data.validation is not None
    return {
        "output_dir": str(job.checkpoints),
        "per_device_train_batch_size": config.batch,
        "gradient_accumulation_steps": config.accumulate,
        "num_train_epochs": config.epochs,
        "max_steps": config.max_steps or -1,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": {"constant": "constant_with_warmup"}.get(config.schedule, config.schedule),
        "warmup_steps": config.warmup,
        "weight_decay": config.weight_decay,
        "bf16": uses_bf16(config),
        "use_cpu": not torch.cuda.is_available(),
        "activation_checkpointing": config.gradient_checkpointing,
        "activation_checkpointing_kwargs": {"use_reentrant": False} if config.gradient_checkpointing else None,
        "eval_strategy": "steps" if evaluate else "no",
        "eval_steps": config.evaluate_every or None,
        "save_steps": config.save_every,
        "save_total_limit": config.keep,
        "logging_steps": config.log_every,
        "logging_first_step": True,
        "report_to": config.report_to or "none",
        "dataloader_num_workers": config.workers,
        "seed": config.seed,
        "data_seed": config.seed,
        "ddp_timeout": WAIT_SECONDS,
    }


def history_callback(job: TrainingJob) -> Any:
    """Return a trainer callback that appends the logged metrics to `history.jsonl`, in the main process only."""
    from transformers import TrainerCallback

    class History(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if state.is_world_process_zero and logs:
                metrics = {name: value for name, value in logs.items() if _is_number(value)}
                with (job.out / HISTORY_FILE).open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"step": state.global_step, **metrics}) + "\n")

    return History()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


@contextmanager
def explain_full_disk(job: TrainingJob) -> Iterator[None]:
    """Translate the errors of a full disk into a message that names the newest complete trainer checkpoint.

    An older checkpoint is removed only after the next one is complete, so there is always one to resume from once
    the first has been saved.

    Raises:
        BadInput: there is no space left on the disk.
    """
    try:
        yield
    except Exception as error:  # torch and safetensors raise their own errors instead of OSError
        if not _is_full(error):
            raise
        last = job.last_checkpoint()
        advice = f"{last} is complete: free some space and continue with --resume" if last else "nothing was saved yet"
        raise BadInput(f"the disk with {str(job.out)!r} is full; {advice}") from None


def _is_full(error: Exception) -> bool:
    """Return whether an error means that there is no space left, a quota is exceeded or a file is too large."""
    if "PytorchStreamWriter failed" in str(error) or "unexpected pos" in str(error):  # torch gives no errno
        return True
    return any(
        (isinstance(error, OSError) and error.errno == number) or f"os error {number})" in str(error)
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    )
