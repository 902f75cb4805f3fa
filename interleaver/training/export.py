"""Writing finished models: merged weights that can be served directly, LoRA adapters and a model card."""

from __future__ import annotations

import json
import shutil
from typing import Any

from interleaver.rendering.templates import render_template
from interleaver.training.jobs import HISTORY_FILE, JOB_FILE, TrainingJob


def write_finished_model(job: TrainingJob, trainer: Any, metrics: dict[str, Any]) -> None:
    """Write the finished model: merged weights with processor and model card, and the LoRA adapters if there are any.

    Must be called in every process; the main process writes. The folder is renamed to its final name once it is
    complete.

    Args:
        job: training job that the model belongs to.
        trainer: trainer that holds the trained model.
        metrics: metrics on the validation split after training.
    """
    from interleaver.agents.hf_processors import load_processor, save_processor

    scratch = job.out / ".model"
    trainer.accelerator.wait_for_everyone()
    state = trainer.accelerator.get_state_dict(trainer.deepspeed or trainer.model)
    if not trainer.accelerator.is_main_process:
        return
    shutil.rmtree(scratch, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    if job.config.method == "lora":
        model.save_pretrained(scratch / "adapter", state_dict=state)
        model = model.merge_and_unload()
        state = None
    model.save_pretrained(scratch, state_dict=state)
    save_processor(load_processor(job.config.model, job.config.image_max_pixels), scratch)
    description = job.describe() | {"measured": {name: value for name, value in metrics.items() if _is_reported(name)}}
    (scratch / JOB_FILE).write_text(json.dumps(description, indent=2, ensure_ascii=False), encoding="utf-8")
    (scratch / "README.md").write_text(_card(description, _history(job)), encoding="utf-8")
    shutil.rmtree(job.model, ignore_errors=True)
    scratch.rename(job.model)


def _is_reported(name: str) -> bool:
    return not name.endswith(("_runtime", "per_second"))


def _history(job: TrainingJob) -> list[dict[str, float]]:
    lines = (
        (job.out / HISTORY_FILE).read_text(encoding="utf-8").splitlines() if (job.out / HISTORY_FILE).exists() else []
    )
    return [json.loads(line) for line in lines]


def _card(description: dict[str, Any], history: list[dict[str, float]]) -> str:
    return render_template("interleaver.training", "model_card.md", job=description, history=history)
