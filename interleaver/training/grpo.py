"""GRPO of critic and planner: sampled answers, scored by drawing with them and judging the pictures."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

from interleaver.agents.answers import parse_plan
from interleaver.config import Profile, load_profile
from interleaver.errors import BackendError, BadInput, UnreadableAnswer
from interleaver.pictures import Picture
from interleaver.training import rewards
from interleaver.training.config import Scoring
from interleaver.training.export import finish
from interleaver.training.models import adapters, check_sharding, load_model
from interleaver.training.runs import Run, common_arguments, history_callback, saving_safely
from interleaver.training.scoring import Redraw, Scorer
from interleaver.types import Judgement, Plan

log = logging.getLogger(__name__)
Reward = Callable[..., Awaitable[list[float]]]
"""As TRL calls it: lists of prompts, completions and every column, and gives one number for each completion."""
Originals = Callable[[str, int], list[Picture]]
"""Gives the pictures of a row, by split and number."""
AT_A_TIME = 8
REMEMBERED = 512
"""Pictures that are kept decoded."""


def train(run: Run, resume: bool = False) -> dict[str, float]:
    """Train on rewards.

    Args:
        run: what to train, how, on what, and where it is kept.
        resume: go on from the run's newest checkpoint.

    Returns:
        What was measured on the validation split at the end, if there is one.

    Raises:
        BadInput: model, data, profile or folder cannot be used.
        BackendError: drawing or judging failed too often; the last state was saved.
    """
    check_batch(run)
    profile = load_profile(run.config.scoring.profile)
    scorer = make_scorer(profile, run.config.scoring)
    guard = _guard(scorer, run.config.scoring.max_failed)
    checkpoint = run.check(resume)
    trainer = make_trainer(run, scorer, (profile.run.width, profile.run.height))
    run.begin()
    trainer.add_callback(guard)
    with saving_safely(run):
        trainer.train(resume_from_checkpoint=checkpoint)
        if guard.reason:
            raise BackendError(f"{guard.reason}; the state was saved, mend it and go on with --resume")
        measured: dict[str, Any] = trainer.evaluate() if run.data.validation is not None else {}
        finish(run, trainer, measured)
    return {name: float(value) for name, value in measured.items() if isinstance(value, int | float)}


def make_trainer(run: Run, scorer: Scorer, size: tuple[int, int]) -> Any:
    """TRL's trainer for a run.

    Args:
        run: the run.
        scorer: draws and judges for the rewards.
        size: of pictures that are drawn anew.
    """
    from trl import GRPOTrainer

    from interleaver.agents.processors import load_processor

    functions, weights = make_rewards(run, scorer, size)
    arguments = _arguments(run, weights)  # before the model is loaded, which may then be spread over processes at once
    check_sharding(run.config, run.data.mixed)
    return GRPOTrainer(
        model=load_model(run.config),
        processing_class=load_processor(run.config.model, run.config.image_max_pixels),
        args=arguments,
        reward_funcs=functions,
        train_dataset=_numbered(run.data.train, "train"),
        eval_dataset=_numbered(run.data.validation, "validation") if run.data.validation is not None else None,
        peft_config=adapters(run.config),
        callbacks=[history_callback(run)],
    )


def check_batch(run: Run) -> None:
    """See to it that a batch holds whole groups of answers.

    Raises:
        BadInput: it does not.
    """
    from accelerate import PartialState

    config = run.config
    answers = config.batch * config.accumulate * PartialState().num_processes
    if answers % config.samples:
        raise BadInput(
            f"batch x accumulate x processes is {answers} answers a step, which {config.samples} samples a prompt do "
            "not divide; change batch, accumulate or samples"
        )


def make_scorer(profile: Profile, scoring: Scoring) -> Scorer:
    """The scorer that a profile describes: its generator draws, its judge judges.

    What the profile allows at a time is shared among the processes of the run.

    Raises:
        BadInput: a backend cannot be made.
    """
    from accelerate import PartialState

    processes = PartialState().num_processes
    return Scorer(
        profile.create("generator"),
        profile.create("judge"),
        drawings=max(1, (profile.generator.concurrency or AT_A_TIME) // processes),
        judgements=max(1, (profile.judge.concurrency or AT_A_TIME) // processes),
        deadline=scoring.deadline,
        give_up=scoring.max_failed,
    )


def make_rewards(run: Run, scorer: Scorer, size: tuple[int, int]) -> tuple[list[Reward], list[float]]:
    """The reward functions of a task by name, and their weights."""
    if run.task == "grpo-critic":
        return critic_rewards(scorer, _originals(run), run.config.scoring.draws), list(rewards.CRITIC_WEIGHTS.values())
    return planner_rewards(scorer, _originals(run), size), list(rewards.PLANNER_WEIGHTS.values())


def critic_rewards(scorer: Scorer, originals: Originals, draws: int = 1) -> list[Reward]:
    """Format, accuracy, semantics and quality; the last two share their drawings and judgements.

    Args:
        scorer: draws again and judges.
        originals: the pictures of a row, by split and number, as they were drawn.
        draws: how often a step is drawn with each prompt.
    """

    async def redrawn(row: dict[str, Any], completion: str) -> list[Judgement]:
        if row["success"]:
            return []  # nothing is drawn where nothing was wrong
        before, after = await asyncio.to_thread(originals, row["split"], row["row"])
        work = Redraw(
            before=before,
            blank=await asyncio.to_thread(is_white, before),
            instruction=row["instruction"],
            origin_prompt=row["origin_prompt"],
            prompt=rewards.refined_prompt(completion, row["rewritten_prompt"]),
            size=(after.width, after.height),
        )
        found = await asyncio.gather(*(scorer.redraw(replace(work, seed=seed)) for seed in range(draws)))
        return [one for one in found if one]

    shared = _Shared(scorer, redrawn)

    async def format(completions: list[Any], **columns: Any) -> list[float]:
        return [rewards.verdict_format(text_of(completion)) for completion in completions]

    async def accuracy(completions: list[Any], success: list[bool], **columns: Any) -> list[float]:
        pairs = zip(completions, success, strict=True)
        return [rewards.accuracy(text_of(completion), truth) for completion, truth in pairs]

    async def semantics(completions: list[Any], **columns: Any) -> list[float]:
        pairs = zip(columns["semantics"], await shared.scores(completions, columns), strict=True)
        return [rewards.improvement(before, _mean([one.semantics for one in after])) for before, after in pairs]

    async def quality(completions: list[Any], **columns: Any) -> list[float]:
        pairs = zip(columns["quality"], await shared.scores(completions, columns), strict=True)
        return [rewards.improvement(before, _mean([one.quality for one in after])) for before, after in pairs]

    return [format, accuracy, semantics, quality]


def planner_rewards(scorer: Scorer, originals: Originals, size: tuple[int, int]) -> list[Reward]:
    """Format, step count and document.

    Args:
        scorer: draws plans and judges the last picture.
        originals: the pictures of a request, by split and number.
        size: of pictures that are drawn anew.
    """

    async def drawn(row: dict[str, Any], completion: str) -> list[Judgement]:
        plan = read_plan(completion)
        if plan is None:
            return []
        pictures = await asyncio.to_thread(originals, row["split"], row["row"])
        found = await scorer.document(row["request"], plan, pictures, size)
        return [found] if found else []

    shared = _Shared(scorer, drawn)

    async def format(completions: list[Any], **columns: Any) -> list[float]:
        return [rewards.plan_format(text_of(completion)) for completion in completions]

    async def steps(completions: list[Any], planned: list[int], **columns: Any) -> list[float]:
        pairs = zip(completions, planned, strict=True)
        return [rewards.step_count(text_of(completion), count) for completion, count in pairs]

    async def document(completions: list[Any], **columns: Any) -> list[float]:
        pairs = zip(completions, await shared.scores(completions, columns), strict=True)
        return [rewards.document_worth(text_of(said), _mean([one.overall for one in found])) for said, found in pairs]

    return [format, steps, document]


class _Shared:
    """The judgements of a batch, made once for all reward functions that need them."""

    def __init__(self, scorer: Scorer, judge: Callable[[dict[str, Any], str], Awaitable[list[Judgement]]]):
        self._scorer = scorer
        self._judge = judge
        self._batch: list[Any] | None = None
        self._task: asyncio.Task[list[list[Judgement]]] | None = None

    async def scores(self, completions: list[Any], columns: dict[str, Any]) -> list[list[Judgement]]:
        """The judgements of each answer of a batch, if there are any. TRL hands every function the same list."""
        if self._task is None or self._batch is not completions:
            self._batch, self._task = completions, asyncio.ensure_future(self._all(completions, columns))
        return await self._task

    async def _all(self, completions: list[Any], columns: dict[str, Any]) -> list[list[Judgement]]:
        lists = {name: values for name, values in columns.items() if isinstance(values, list)}
        rows = [{name: values[number] for name, values in lists.items()} for number in range(len(completions))]
        pairs = zip(rows, completions, strict=True)
        found = await asyncio.gather(*(self._judge(row, text_of(completion)) for row, completion in pairs))
        _tell(self._scorer, columns["log_metric"])
        return list(found)


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def text_of(completion: Any) -> str:
    """The text of an answer, as TRL hands it over: a conversation of one turn, or the text itself."""
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)


def read_plan(completion: str) -> Plan | None:
    """The plan of an answer; None when there is none."""
    try:
        return parse_plan(completion)
    except UnreadableAnswer:
        return None


def is_white(picture: Picture) -> bool:
    """Whether a picture is nothing but a white page."""
    from PIL import Image

    with Image.open(io.BytesIO(picture.data)) as image:
        return all(low == 255 for low, _ in image.convert("RGB").getextrema())  # type: ignore[misc]


def _tell(scorer: Scorer, log_metric: Callable[[str, float], None]) -> None:
    """Hand the scorer's counts to the trainer's log."""
    counts = scorer.take_counts()
    log_metric("scoring/done", counts.done)
    log_metric("scoring/cached", counts.cached)
    log_metric("scoring/failed", counts.failed.total())
    log_metric("scoring/failing_share", scorer.failing)
    for name, seconds in (("judge", counts.judge_seconds), ("draw", counts.draw_seconds)):
        if seconds:
            log_metric(f"scoring/{name}_seconds", sum(seconds) / len(seconds))
            log_metric(f"scoring/{name}_seconds_max", max(seconds))


def _originals(run: Run) -> Originals:
    """Reads the pictures of rows byte for byte; decoding and encoding again would lose what they carry."""
    from datasets import Image, List

    plain = {
        split: rows.cast_column("images", List(Image(decode=False))).select_columns(["images"])
        for split, rows in (("train", run.data.train), ("validation", run.data.validation))
        if rows is not None
    }

    @lru_cache(maxsize=REMEMBERED)
    def read(split: str, number: int) -> list[Picture]:
        return [Picture.decode(image["bytes"]) for image in plain[split][number]["images"]]

    return read


def _numbered(rows: Any, split: str) -> Any:
    """The rows with their split and number, by which the rewards find their pictures; without reference answers."""

    def add(row: dict[str, Any], number: int) -> dict[str, Any]:
        told: dict[str, Any] = {"split": split, "row": number}
        if "completion" in row:
            plan = read_plan("".join(part["text"] or "" for part in row["completion"][0]["content"]))
            told["planned"] = len(plan.steps) if plan else 1
        return told

    texts = rows.select_columns([name for name in rows.column_names if name != "images"])
    numbered = texts.map(add, with_indices=True, remove_columns=[n for n in ("completion",) if n in rows.column_names])
    from datasets import concatenate_datasets

    return concatenate_datasets([numbered, rows.select_columns(["images"])], axis=1)


def _arguments(run: Run, weights: list[float]) -> Any:
    from trl import GRPOConfig

    config = run.config
    return GRPOConfig(
        **common_arguments(run),
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


def _guard(scorer: Scorer, most: float) -> Any:
    """Stops training when too much of the scoring fails, on all processes at once."""
    from transformers import TrainerCallback

    class Guard(TrainerCallback):  # type: ignore[misc]
        reason: str | None = None

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            failing = _most_of_all(scorer.failing)
            if failing > most:
                self.reason = f"{failing:.0%} of the last drawings and judgements failed, more than scoring.max_failed"
                control.should_training_stop = control.should_save = True

    return Guard()


def _most_of_all(value: float) -> float:
    """The highest of a number over all processes."""
    import torch
    from accelerate import PartialState

    state = PartialState()
    if state.num_processes == 1:
        return value
    shared = torch.tensor(value, device=state.device)
    torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX)
    return float(shared)
