"""Supervised fine-tuning of planner and critic."""

from __future__ import annotations

from typing import Any

from interleaver.training.export import finish
from interleaver.training.models import adapters, check_sharding, load_model
from interleaver.training.runs import Run, common_arguments, history_callback, saving_safely


def train(run: Run, resume: bool = False) -> dict[str, float]:
    """Train on answers.

    Args:
        run: what to train, how, on what, and where it is kept.
        resume: go on from the run's newest checkpoint.

    Returns:
        The last loss and, with a validation split, its loss and the share of its answer tokens that are predicted
        right.

    Raises:
        BadInput: model, data or folder cannot be used.
    """
    checkpoint = run.check(resume)
    trainer = make_trainer(run)
    run.begin()
    with saving_safely(run):
        trainer.train(resume_from_checkpoint=checkpoint)
        measured: dict[str, Any] = trainer.evaluate() if run.data.validation is not None else {}
        finish(run, trainer, measured)
    return {name: float(value) for name, value in measured.items() if isinstance(value, int | float)}


def make_trainer(run: Run) -> Any:
    """TRL's trainer for a run."""
    from trl import SFTConfig, SFTTrainer

    from interleaver.agents.processors import load_processor

    arguments = SFTConfig(  # before the model is loaded, which may then be spread over processes at once
        **common_arguments(run),
        per_device_eval_batch_size=run.config.batch,
        max_length=run.config.max_tokens,
        completion_only_loss=True,
    )
    check_sharding(run.config, run.data.mixed)
    columns = ["prompt", "completion", "images"]
    data = run.data
    return SFTTrainer(
        model=load_model(run.config),
        processing_class=load_processor(run.config.model, run.config.image_max_pixels),
        args=arguments,
        train_dataset=data.train.select_columns(columns),
        eval_dataset=data.validation.select_columns(columns) if data.validation is not None else None,
        peft_config=adapters(run.config),
        callbacks=[history_callback(run)],
    )
