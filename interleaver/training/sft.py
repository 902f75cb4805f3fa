"""Supervised fine-tuning (SFT) of planners and critics."""

from __future__ import annotations

from typing import Any

from interleaver.training.export import write_finished_model
from interleaver.training.jobs import TrainingJob, common_arguments, explain_full_disk, history_callback
from interleaver.training.models import adapters, check_sharding, load_model


def train(job: TrainingJob, resume: bool = False) -> dict[str, float]:
    """Train a planner or a critic with SFT and write the finished model.

    Args:
        job: training job.
        resume: whether to resume from the job's newest trainer checkpoint.

    Returns:
        Metrics on the validation split after training, such as the loss and the accuracy of the answer tokens; empty
        if there is no such split.

    Raises:
        BadInput: the model, data or output folder cannot be used.
    """
    checkpoint = job.check(resume)
    trainer = make_trainer(job)
    job.begin()
    with explain_full_disk(job):
        trainer.train(resume_from_checkpoint=checkpoint)
        metrics: dict[str, Any] = trainer.evaluate() if job.data.validation is not None else {}
        write_finished_model(job, trainer, metrics)
    return {name: float(value) for name, value in metrics.items() if isinstance(value, int | float)}


def make_trainer(job: TrainingJob) -> Any:
    """Return the TRL trainer for a job."""
    from trl import SFTConfig, SFTTrainer

    from interleaver.agents.hf_processors import load_processor

    arguments = SFTConfig(  # created before the model, so that the weights can be sharded while loading
        **common_arguments(job),
        per_device_eval_batch_size=job.config.batch,
        max_length=job.config.max_tokens,
        completion_only_loss=True,
    )
    check_sharding(job.config, job.data.has_mixed_rows)
    columns = ["prompt", "completion", "images"]
    data = job.data
    return SFTTrainer(
        model=load_model(job.config),
        processing_class=load_processor(job.config.model, job.config.image_max_pixels),
        args=arguments,
        train_dataset=data.train.select_columns(columns),
        eval_dataset=data.validation.select_columns(columns) if data.validation is not None else None,
        peft_config=adapters(job.config),
        callbacks=[history_callback(job)],
    )
