"""What every training run shares: the folder it writes, the trainer's common arguments, what is told and kept."""

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

from interleaver.errors import BadInput
from interleaver.training.config import Task, TrainConfig
from interleaver.training.datasets import Data
from interleaver.training.models import uses_bf16

STATE = "training.json"
"""Beside the weights: everything that they depend on."""
PATIENCE = 6 * 3600
"""Seconds that processes wait for each other; one of them may be waiting for a slow endpoint."""
HISTORY = "history.jsonl"
"""Every line that the trainer logged."""


@dataclass
class Run:
    """A training run on disk.

    Attributes:
        task: what is trained.
        config: how.
        data: on what.
        out: its folder; checkpoints lie in `checkpoints/`, the finished model in `model/`.
    """

    task: Task
    config: TrainConfig
    data: Data
    out: Path

    @property
    def model(self) -> Path:
        """Where the finished model goes."""
        return self.out / "model"

    @property
    def checkpoints(self) -> Path:
        """Where the trainer keeps what it needs to go on."""
        return self.out / "checkpoints"

    def described(self) -> dict[str, Any]:
        """Everything that the weights depend on."""
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
        """Look at the folder; nothing is written.

        Args:
            resume: go on from its newest checkpoint.

        Returns:
            The checkpoint to go on from; None to begin anew.

        Raises:
            BadInput: the folder has a run that is not to be resumed, or one of other settings or data.
        """
        last = self.last_checkpoint()
        state = self.out / STATE
        if not resume and (last or self.model.exists()):
            raise BadInput(f"--out {str(self.out)!r} has a training run already; give another folder, or --resume")
        if last and state.exists():
            self._check_same(json.loads(state.read_text(encoding="utf-8")))
        return last

    def begin(self) -> None:
        """Set up the folder."""
        if is_main():
            self.out.mkdir(parents=True, exist_ok=True)
            told = json.dumps(self.described(), indent=2, ensure_ascii=False)
            (self.out / STATE).write_text(told, encoding="utf-8")

    def last_checkpoint(self) -> str | None:
        """The newest checkpoint that is whole: the trainer writes its state last."""
        found = sorted(self.checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        whole = [path for path in found if (path / "trainer_state.json").exists()]
        return str(whole[-1]) if whole else None

    def _check_same(self, before: dict[str, Any]) -> None:
        """A run goes on with what it began with; only how long it takes and what it tells may change."""
        free = {"epochs", "max_steps", "evaluate_every", "save_every", "keep", "log_every", "report_to", "workers"}
        free |= {"vllm", "scoring"}  # where the work is done, and how much of it may fail
        now = self.described()
        for name, value in now["config"].items():
            if name not in free and before["config"].get(name) != value:
                raise BadInput(
                    f"{name} was {before['config'].get(name)!r} when this run began and is {value!r} now; "
                    "a run is resumed with the settings it began with"
                )
        if (before["task"], before["data"]["fingerprint"]) != (now["task"], now["data"]["fingerprint"]):
            raise BadInput(
                f"this run began as {before['task']} on data {before['data']['fingerprint'][:12]}; "
                f"it cannot go on as {now['task']} on data {now['data']['fingerprint'][:12]}"
            )


def is_main() -> bool:
    """Whether this process is the first of its run, the one that writes."""
    return int(os.environ.get("RANK", "0")) == 0


def common_arguments(run: Run) -> dict[str, Any]:
    """The arguments that SFT and GRPO share, as `transformers.TrainingArguments` names them."""
    config = run.config
    import torch

    for name in config.report_to:
        if find_spec(name) is None:
            raise BadInput(f"report_to names {name}, which is not installed; pip install {name}")
    evaluate = config.evaluate_every and run.data.validation is not None
    return {
        "output_dir": str(run.checkpoints),
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
        "ddp_timeout": PATIENCE,
    }


def history_callback(run: Run) -> Any:
    """Writes every line of the log to a file, from the first process alone."""
    from transformers import TrainerCallback

    class History(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if state.is_world_process_zero and logs:
                said = {name: value for name, value in logs.items() if _is_number(value)}
                with (run.out / HISTORY).open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"step": state.global_step, **said}) + "\n")

    return History()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


@contextmanager
def saving_safely(run: Run) -> Iterator[None]:
    """Say what survives when the disk is full; a checkpoint is only removed when the next one is whole.

    Raises:
        BadInput: there is no space left.
    """
    try:
        yield
    except Exception as error:  # the writers of weights have errors of their own
        if not _is_full(error):
            raise
        last = run.last_checkpoint()
        rest = f"{last} is whole: free some space and go on with --resume" if last else "nothing was saved yet"
        raise BadInput(f"the disk of {str(run.out)!r} is full; {rest}") from None


def _is_full(error: Exception) -> bool:
    """Whether something could not be written for want of space."""
    if "PytorchStreamWriter failed" in str(error) or "unexpected pos" in str(error):  # torch tells no more than that
        return True
    return any(
        (isinstance(error, OSError) and error.errno == number) or f"os error {number})" in str(error)
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    )
