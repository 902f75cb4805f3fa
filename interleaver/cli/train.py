"""`interleaver train`: from datasets to trained planners and critics."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from interleaver.cli.common import clear_errors
from interleaver.errors import BadInput

TASKS = ["sft-planner", "sft-critic", "grpo-critic", "grpo-planner"]


@click.command()
@click.argument("task", type=click.Choice(TASKS))
@click.option("--data", "folder", required=True, metavar="DIR", help="A dataset of `interleaver data`.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Where the run is kept.")
@click.option("--config", metavar="FILE|NAME", help="TOML or YAML, or a ready one: qwen3-vl-8b, qwen3-vl-8b-lora.")
@click.option("--model", metavar="DIR|NAME", help="Where training begins; overrides the configuration.")
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE", help="Override a field (lora.rank=16).")
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint in --out.")
@click.option("--launch", metavar="FILE|NAME", help="Start it by `accelerate launch`: one-gpu, fsdp2, zero3, ...")
@click.option("--processes", type=click.IntRange(1), help="How many, with --launch [default: what it says].")
@click.option("--machine-rank", type=click.IntRange(0), help="Which machine this is, with --launch on several.")
@click.option("--main-address", metavar="HOST", help="Of the first machine, with --launch on several.")
@clear_errors
def train(
    task: Any,
    folder: str,
    out: Path,
    config: str | None,
    model: str | None,
    changes: tuple[str, ...],
    resume: bool,
    launch: str | None,
    processes: int | None,
    machine_rank: int | None,
    main_address: str | None,
) -> None:
    """Train a planner or a critic.

    \b
    interleaver train sft-critic --config qwen3-vl-8b --data datasets/critic --out training/critic --launch fsdp2
    interleaver train grpo-critic --config qwen3-vl-8b --model training/critic/model --data datasets/rl --out out/rl
    interleaver train sft-planner --data datasets/planner --out training/planner --model Qwen/Qwen3-VL-2B-Instruct
    """  # fmt: skip
    from interleaver.extras import need

    need("trl", "train")
    if launch:
        _launch(launch, processes, machine_rank, main_address)
    from interleaver.training.config import load_config
    from interleaver.training.datasets import load_data
    from interleaver.training.runs import Run, is_main

    told = dict(_change(change) for change in changes) | ({"model": model} if model else {})
    run = Run(task, load_config(config, task, told), load_data(folder, task), out)
    if task.startswith("sft"):
        from interleaver.training.sft import train as start
    else:
        from interleaver.training.grpo import train as start
    measured = start(run, resume)
    if is_main():
        for name, value in measured.items():
            click.echo(f"{name:<28} {value:.4g}")
        click.echo(f"The model is in {run.model}; `interleaver serve {task.partition('-')[2]} {run.model}` serves it")


def _change(text: str) -> tuple[str, Any]:
    """A field and its value; numbers, booleans and lists as in JSON, anything else as text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"--set {text!r} is no FIELD=VALUE")
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value


def _launch(name: str, processes: int | None, machine_rank: int | None, main_address: str | None) -> None:
    """Replace this process by `accelerate launch` of the same command."""
    from interleaver.training.launchers import find_launcher

    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(find_launcher(name))]
    for option, value in (
        ("--num_processes", processes),
        ("--machine_rank", machine_rank),
        ("--main_process_ip", main_address),
    ):
        command += [option, str(value)] if value is not None else []
    arguments = _without(sys.argv[1:], "--launch", "--processes", "--machine-rank", "--main-address")
    os.execv(sys.executable, [*command, "-m", "interleaver.cli", *arguments])


def _without(arguments: list[str], *options: str) -> list[str]:
    """The arguments less some options and their values."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in options:
            skip = True
        elif not argument.startswith(tuple(f"{option}=" for option in options)):
            kept.append(argument)
    return kept
