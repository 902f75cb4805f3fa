"""Finished models: weights that servers take as they are, adapters, and the card that says where they come from."""

from __future__ import annotations

import json
import shutil
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from interleaver.training.runs import HISTORY, STATE, Run

METRICS = "metrics.json"


def finish(run: Run, trainer: Any, measured: dict[str, Any]) -> None:
    """Write the finished model: merged weights with processor and card, and the adapters if there are any.

    The folder appears when everything in it is written.

    Args:
        run: the run.
        trainer: that trained it.
        measured: at the end, on the validation split.
    """
    from interleaver.agents.processors import load_processor, save_processor

    scratch = run.out / ".model"
    trainer.accelerator.wait_for_everyone()
    state = trainer.accelerator.get_state_dict(trainer.deepspeed or trainer.model)
    if not trainer.accelerator.is_main_process:
        return
    shutil.rmtree(scratch, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    if run.config.method == "lora":
        model.save_pretrained(scratch / "adapter", state_dict=state)
        model = model.merge_and_unload()
        state = None
    model.save_pretrained(scratch, state_dict=state)
    save_processor(load_processor(run.config.model, run.config.image_max_pixels), scratch)
    described = run.described() | {"measured": {name: value for name, value in measured.items() if _told(name)}}
    (scratch / STATE).write_text(json.dumps(described, indent=2, ensure_ascii=False), encoding="utf-8")
    (scratch / "README.md").write_text(_card(described, _history(run)), encoding="utf-8")
    shutil.rmtree(run.model, ignore_errors=True)
    scratch.rename(run.model)


def _told(name: str) -> bool:
    return not name.endswith(("_runtime", "per_second"))


def _history(run: Run) -> list[dict[str, float]]:
    lines = (run.out / HISTORY).read_text(encoding="utf-8").splitlines() if (run.out / HISTORY).exists() else []
    return [json.loads(line) for line in lines]


def _card(described: dict[str, Any], history: list[dict[str, float]]) -> str:
    environment = Environment(
        loader=PackageLoader("interleaver.training"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("model_card.md").render(run=described, history=history)
