"""`interleaver train`: train planners and critics on datasets."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import click

from interleaver.choices import TrainingTask
from interleaver.cli.common import one_line_errors
from interleaver.errors import BadInput


@click.command()
@click.argument("task", type=click.Choice(get_args(TrainingTask)))
@click.option("--data", "folder", required=True, metavar="DIR", help="Dataset made by `interleaver data`.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Output folder of the training job."
)
@click.option(
    "--config",
    metavar="FILE|NAME",
    help="Training configuration: a TOML or YAML file, or a built-in one (qwen3-vl-8b, qwen3-vl-8b-lora, "
    "interleavethinker-released).",
)
@click.option(
    "--model", metavar="DIR|NAME", help="Folder or hub id of the model to start from; overrides the configuration."
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Override a field of the configuration, such as lora.rank=16; can be repeated.",
)
@click.option("--resume", is_flag=True, help="Resume from the newest trainer checkpoint in --out.")
@click.option(
    "--launch",
    metavar="FILE|NAME",
    help="Start the training job with `accelerate launch`: an Accelerate configuration file, or a built-in one "
    "(one-gpu, fsdp2, zero3, ...).",
)
@click.option(
    "--processes",
    type=click.IntRange(1),
    help="With --launch: number of processes [default: num_processes of the Accelerate configuration].",
)
@click.option(
    "--machine-rank",
    type=click.IntRange(0),
    help="With --launch on several machines: rank of this machine; the main machine has rank 0.",
)
@click.option(
    "--main-address", metavar="HOST", help="With --launch on several machines: address of the main machine (rank 0)."
)
@one_line_errors
def train(**options: Any) -> None:
    """Train a planner or a critic.

    \b
    interleaver train sft-critic --config qwen3-vl-8b --data datasets/critic --out training/critic --launch fsdp2
    interleaver train grpo-critic --config qwen3-vl-8b --model training/critic/model --data datasets/rl --out out/rl
    interleaver train sft-planner --data datasets/planner --out training/planner --model Qwen/Qwen3-VL-2B-Instruct
    """  # fmt: skip
    _train(TrainOptions(**options))


@dataclass(frozen=True)
class TrainOptions:
    """The options of `interleaver train`."""

    task: TrainingTask
    folder: str
    out: Path
    config: str | None
    model: str | None
    changes: tuple[str, ...]
    resume: bool
    launch: str | None
    processes: int | None
    machine_rank: int | None
    main_address: str | None


def _train(options: TrainOptions) -> None:
    from interleaver.extras import require_extra

    require_extra("trl", "train")
    if options.launch:
        _launch(options.launch, options)
    from interleaver.training.config import load_config
    from interleaver.training.datasets import load_data
    from interleaver.training.jobs import TrainingJob, is_main
    from interleaver.training.preflight import check_rows
    from interleaver.weights import find_weights

    task = options.task
    overrides = dict(_change(change) for change in options.changes)
    overrides |= {"model": options.model} if options.model else {}
    config = load_config(options.config, task, overrides)
    config = config.model_copy(update={"model": find_weights(config.model)})
    job = TrainingJob(task, config, load_data(options.folder, task), options.out)
    if task.startswith("sft"):
        from interleaver.training.sft import train as start
    else:
        from interleaver.training.grpo import train as start
    preflight = check_rows(job.data, config, task)
    if is_main():
        click.echo(f"{preflight}.", err=True)
    metrics = start(replace(job, data=preflight.data), options.resume)
    if is_main():
        for name, value in metrics.items():
            click.echo(f"{name:<28} {value:.4g}")
        click.echo(f"The model is in {job.model}; `interleaver serve {task.partition('-')[2]} {job.model}` serves it")


def _change(text: str) -> tuple[str, Any]:
    """Parse FIELD=VALUE; the value is parsed as JSON, or kept as text if it is not valid JSON."""
    name, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"--set is {text!r}; give FIELD=VALUE, for example --set lora.rank=16")
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value


def _launch(name: str, options: TrainOptions) -> None:
    """Replace this process with `accelerate launch` running the same command."""
    from interleaver.training.launchers import find_launcher

    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(find_launcher(name))]
    for option, value in (
        ("--num_processes", options.processes),
        ("--machine_rank", options.machine_rank),
        ("--main_process_ip", options.main_address),
    ):
        command += [option, str(value)] if value is not None else []
    arguments = _without(sys.argv[1:], "--launch", "--processes", "--machine-rank", "--main-address")
    os.execv(sys.executable, [*command, "-m", "interleaver.cli", *arguments])


def _without(arguments: list[str], *options: str) -> list[str]:
    """Return the arguments without the given options and their values."""
    remaining: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in options:
            skip = True
        elif not argument.startswith(tuple(f"{option}=" for option in options)):
            remaining.append(argument)
    return remaining
