"""GRPO training of critics and planners: sampled answers are scored by drawing with them and judging the pictures."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Any

from interleaver.agents.answers import parse_plan
from interleaver.choices import FormatRule
from interleaver.errors import BackendError, BadInput, UnreadableAnswer
from interleaver.pictures import Picture
from interleaver.profile import Profile, load_profile
from interleaver.runner import make_backend
from interleaver.training import rewards
from interleaver.training.config import Scoring
from interleaver.training.export import write_finished_model
from interleaver.training.jobs import TrainingJob, common_arguments, explain_full_disk, history_callback
from interleaver.training.models import adapters, check_sharding, load_model
from interleaver.training.scoring import Redraw, Scorer
from interleaver.types import Json, Plan, Scores

log = logging.getLogger(__name__)
RewardFunction = Callable[..., Awaitable[list[float]]]
"""A reward function of TRL: takes lists of prompts, completions and all columns; returns a reward per completion."""
ReadPictures = Callable[[str, int], list[Picture]]
"""Returns the pictures of a row, given its split and row number."""
DEFAULT_CONCURRENCY = 8
PICTURE_CACHE_SIZE = 512
"""Maximum number of rows whose pictures are cached."""


def train(job: TrainingJob, resume: bool = False) -> dict[str, float]:
    """Train a critic or a planner with GRPO and write the finished model.

    Args:
        job: training job.
        resume: whether to resume from the job's newest trainer checkpoint.

    Returns:
        Metrics on the validation split after training; empty if there is no such split.

    Raises:
        BadInput: the model, data, profile or output folder cannot be used.
        BackendError: too many scoring tasks failed; the training state was saved.
    """
    check_batch(job)
    profile = load_profile(job.config.scoring.profile)
    scorer = make_scorer(profile, job.config.scoring)
    guard = _guard(scorer, job.config.scoring.max_failed)
    checkpoint = job.check(resume)
    trainer = make_trainer(job, scorer, (profile.run.width, profile.run.height))
    job.begin()
    trainer.add_callback(guard)
    with explain_full_disk(job):
        trainer.train(resume_from_checkpoint=checkpoint)
        if guard.reason:
            raise BackendError(
                f"{guard.reason}; the training state was saved: fix the cause and continue with --resume"
            )
        metrics: dict[str, Any] = trainer.evaluate() if job.data.validation is not None else {}
        write_finished_model(job, trainer, metrics)
    return {name: float(value) for name, value in metrics.items() if isinstance(value, int | float)}


def make_trainer(job: TrainingJob, scorer: Scorer, size: tuple[int, int]) -> Any:
    """Return the TRL trainer for a job.

    Args:
        job: training job.
        scorer: scorer that the reward functions use.
        size: width and height in pixels of pictures that are drawn without a source picture.
    """
    from trl import GRPOTrainer

    from interleaver.agents.hf_processors import load_processor

    functions, weights = make_rewards(job, scorer, size)
    arguments = _arguments(job, weights)  # created before the model, so that the weights can be sharded while loading
    check_sharding(job.config, job.data.has_mixed_rows)
    return GRPOTrainer(
        model=load_model(job.config),
        processing_class=load_processor(job.config.model, job.config.image_max_pixels),
        args=arguments,
        reward_funcs=functions,
        train_dataset=_number_rows(job.data.train, "train"),
        eval_dataset=_number_rows(job.data.validation, "validation") if job.data.validation is not None else None,
        peft_config=adapters(job.config),
        callbacks=[history_callback(job)],
    )


def check_batch(job: TrainingJob) -> None:
    """Check that a global batch holds whole groups of answers.

    Raises:
        BadInput: the number of answers per optimizer step is not a multiple of `samples`.
    """
    from accelerate import PartialState

    config = job.config
    answers = config.batch * config.accumulate * PartialState().num_processes
    if answers % config.samples:
        raise BadInput(
            f"batch x accumulate x processes = {answers} answers per step is not a multiple of "
            f"samples = {config.samples}; change batch, accumulate or samples"
        )


def make_scorer(profile: Profile, scoring: Scoring) -> Scorer:
    """Return a scorer with the generator and the judge of a profile.

    The profile's `concurrency` is divided among the processes of the training job.

    Raises:
        BadInput: a backend cannot be created.
    """
    from accelerate import PartialState

    processes = PartialState().num_processes
    return Scorer(
        make_backend(profile, "generator"),
        make_backend(profile, "judge"),
        drawings=max(1, (profile.generator.concurrency or DEFAULT_CONCURRENCY) // processes),
        judgements=max(1, (profile.judge.concurrency or DEFAULT_CONCURRENCY) // processes),
        deadline=scoring.deadline,
        give_up=scoring.max_failed,
    )


def make_rewards(job: TrainingJob, scorer: Scorer, size: tuple[int, int]) -> tuple[list[RewardFunction], list[float]]:
    """Return the reward functions of the job's task, and their weights in the same order."""
    if job.task == "grpo-critic":
        scoring = job.config.scoring
        functions = critic_rewards(scorer, _picture_reader(job), scoring.draws, scoring.format)
        return functions, list(rewards.CRITIC_WEIGHTS.values())
    return planner_rewards(scorer, _picture_reader(job), size), list(rewards.PLANNER_WEIGHTS.values())


def critic_rewards(
    scorer: Scorer, read_pictures: ReadPictures, draws: int = 1, rule: FormatRule = "strict"
) -> list[RewardFunction]:
    """Return the parts of `rewards.critic_reward` as reward functions: format, accuracy, semantics and quality.

    Args:
        scorer: scorer that redraws steps and has the pictures scored.
        read_pictures: reader of the two pictures of a row, before and after the step.
        draws: number of times that a step is drawn with each prompt; the scores are averaged.
        rule: which answers count as well-formed, see `Scoring.format`.
    """

    async def reward(row: Json, completion: str) -> rewards.CriticReward:
        scores = [] if row["success"] else await redraw(row, completion)  # a successful step is not redrawn
        return rewards.critic_reward(
            completion,
            success=row["success"],
            semantics_before=row["semantics"],
            quality_before=row["quality"],
            semantics_after=_mean([score.semantics for score in scores]),
            quality_after=_mean([score.quality for score in scores]),
            rule=rule,
        )

    async def redraw(row: Json, completion: str) -> list[Scores]:
        before, after = await asyncio.to_thread(read_pictures, row["split"], row["row"])
        task = Redraw(
            before=before,
            blank=await asyncio.to_thread(is_white, before),
            instruction=row["instruction"],
            origin_prompt=row["origin_prompt"],
            prompt=rewards.refined_prompt(completion, row["rewritten_prompt"], rule),
            size=(after.width, after.height),
        )
        scores = await asyncio.gather(*(scorer.redraw(replace(task, seed=seed)) for seed in range(draws)))
        return [score for score in scores if score]

    return _reward_functions(_BatchRewards(scorer, reward), rewards.CRITIC_WEIGHTS)


def planner_rewards(scorer: Scorer, read_pictures: ReadPictures, size: tuple[int, int]) -> list[RewardFunction]:
    """Return the parts of `rewards.planner_reward` as reward functions: format, steps and document.

    Args:
        scorer: scorer that draws plans and has the last picture scored.
        read_pictures: reader of the pictures of a row's request.
        size: width and height in pixels of pictures that are drawn without a source picture.
    """

    async def reward(row: Json, completion: str) -> rewards.PlannerReward:
        plan = read_plan(completion)
        scores = None
        if plan:
            pictures = await asyncio.to_thread(read_pictures, row["split"], row["row"])
            scores = await scorer.document(row["request"], plan, pictures, size)
        document = scores.overall if scores else None
        return rewards.planner_reward(completion, steps=row["planned_count"], document=document)

    return _reward_functions(_BatchRewards(scorer, reward), rewards.PLANNER_WEIGHTS)


def _reward_functions(batch_rewards: _BatchRewards, names: Iterable[str]) -> list[RewardFunction]:
    """Return one reward function per part of the reward, so that TRL logs each part under its own name."""

    def part(name: str) -> RewardFunction:
        async def reward_part(completions: list[Any], **columns: Any) -> list[float]:
            return [getattr(reward, name) for reward in await batch_rewards.of(completions, columns)]

        reward_part.__name__ = name
        return reward_part

    return [part(name) for name in names]


class _BatchRewards:
    """The rewards of a batch, computed once for all reward functions."""

    def __init__(self, scorer: Scorer, reward: Callable[[Json, str], Awaitable[Any]]):
        self._scorer = scorer
        self._reward = reward
        self._batch: list[Any] | None = None
        self._task: asyncio.Task[list[Any]] | None = None

    async def of(self, completions: list[Any], columns: Json) -> list[Any]:
        """Return the reward of each completion.

        TRL passes the same list object to every reward function, so its identity tells whether the batch is new.
        """
        if self._task is None or self._batch is not completions:
            self._batch, self._task = completions, asyncio.ensure_future(self._compute(completions, columns))
        return await self._task

    async def _compute(self, completions: list[Any], columns: Json) -> list[Any]:
        lists = {name: values for name, values in columns.items() if isinstance(values, list)}
        rows = [{name: values[number] for name, values in lists.items()} for number in range(len(completions))]
        texts = [completion_text(completion) for completion in completions]
        batch = await asyncio.gather(*(self._reward(row, text) for row, text in zip(rows, texts, strict=True)))
        _log_counts(self._scorer, columns["log_metric"])
        return list(batch)


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def completion_text(completion: Any) -> str:
    """Return the text of a completion, which TRL passes either as a string or as a list with one assistant turn."""
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)


def read_plan(completion: str) -> Plan | None:
    """Return the plan in an answer; None if it cannot be parsed."""
    try:
        return parse_plan(completion)
    except UnreadableAnswer:
        return None


def is_white(picture: Picture) -> bool:
    """Return whether all pixels of a picture are white."""
    from PIL import Image

    with Image.open(io.BytesIO(picture.data)) as image:
        return all(low == 255 for low, _ in image.convert("RGB").getextrema())  # type: ignore[misc]


def _log_counts(scorer: Scorer, log_metric: Callable[[str, float], None]) -> None:
    """Log the scorer's counts since the last call as trainer metrics."""
    counts = scorer.take_counts()
    log_metric("scoring/done", counts.done_count)
    log_metric("scoring/cached", counts.cached_count)
    log_metric("scoring/failed", counts.failed.total())
    log_metric("scoring/failing_share", scorer.failing)
    for name, seconds in (("judge", counts.judge_seconds), ("draw", counts.draw_seconds)):
        if seconds:
            log_metric(f"scoring/{name}_seconds", sum(seconds) / len(seconds))
            log_metric(f"scoring/{name}_seconds_max", max(seconds))


def _picture_reader(job: TrainingJob) -> ReadPictures:
    """Return a cached reader of the pictures of rows.

    It returns the original bytes, since re-encoding would lose the metadata embedded in the files.
    """
    from datasets import Image, List

    undecoded_rows = {
        split: rows.cast_column("images", List(Image(decode=False))).select_columns(["images"])
        for split, rows in (("train", job.data.train), ("validation", job.data.validation))
        if rows is not None
    }

    @lru_cache(maxsize=PICTURE_CACHE_SIZE)
    def read(split: str, number: int) -> list[Picture]:
        return [Picture.stored(image["bytes"]) for image in undecoded_rows[split][number]["images"]]

    return read


def _number_rows(rows: Any, split: str) -> Any:
    """Return the rows without reference answers, and with the columns that the reward functions need.

    These are the split and the number of each row, which identify its pictures, and for planners the number of steps
    in the reference plan.
    """

    def add(row: dict[str, Any], number: int) -> dict[str, Any]:
        columns: dict[str, Any] = {"split": split, "row": number}
        if "completion" in row:
            plan = read_plan("".join(part["text"] or "" for part in row["completion"][0]["content"]))
            columns["planned_count"] = len(plan.steps) if plan else 1
        return columns

    texts = rows.select_columns([name for name in rows.column_names if name != "images"])
    numbered_rows = texts.map(
        add, with_indices=True, remove_columns=[n for n in ("completion",) if n in rows.column_names]
    )
    from datasets import concatenate_datasets

    return concatenate_datasets([numbered_rows, rows.select_columns(["images"])], axis=1)


def _arguments(job: TrainingJob, weights: list[float]) -> Any:
    from trl import GRPOConfig

    config = job.config
    return GRPOConfig(
        **common_arguments(job),
        per_device_eval_batch_size=config.samples * max(1, config.batch // config.samples),
        num_generations=config.samples,
        steps_per_generation=config.accumulate,
        max_completion_length=config.max_answer,
        temperature=config.temperature,
        beta=config.kl,
        reward_weights=weights,
        use_vllm=config.vllm.mode != "off",
        vllm_mode="server" if config.vllm.mode == "server" else "colocate",
        vllm_server_base_url=config.vllm.base_url if config.vllm.mode == "server" else None,
        vllm_gpu_memory_utilization=config.vllm.memory,
        vllm_tensor_parallel_size=config.vllm.tensor_parallel,
        vllm_max_model_length=config.max_tokens + config.max_answer,
    )


def _guard(scorer: Scorer, limit: float) -> Any:
    """Return a trainer callback that stops training in all processes once the failure rate of scoring is too high."""
    from transformers import TrainerCallback

    class Guard(TrainerCallback):  # type: ignore[misc]
        reason: str | None = None

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            failing = _maximum_over_processes(scorer.failing)
            if failing > limit:
                self.reason = (
                    f"{failing:.0%} of the last scoring tasks failed, more than scoring.max_failed = {limit:g}"
                )
                control.should_training_stop = control.should_save = True

    return Guard()


def _maximum_over_processes(value: float) -> float:
    """Return the maximum of a value over all processes."""
    import torch
    from accelerate import PartialState

    state = PartialState()
    if state.num_processes == 1:
        return value
    tensor = torch.tensor(value, device=state.device)
    torch.distributed.all_reduce(tensor, op=torch.distributed.ReduceOp.MAX)
    return float(tensor)
