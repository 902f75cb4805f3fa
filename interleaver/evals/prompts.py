"""The judge prompts: those of this package, or those in a benchmark's own script, which is parsed, never executed."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from interleaver.errors import BadInput
from interleaver.evals.benchmarks.base import Question
from interleaver.text_files import read_text_file

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
OFFICIAL_CONSTANTS: Mapping[str, tuple[str, str]] = {
    # UEval's ueval_eval.py, where the prompt of a rubric is appended to the prompt of its context
    "ueval.text": ("TEXT_TEMPLATE", "TEXT_RUBRIC_TEMPLATE"),
    "ueval.image.open": ("IMAGE_TEMPLATE_OPEN", "IMAGE_RUBRIC_TEMPLATE"),
    "ueval.image.closed": ("IMAGE_TEMPLATE_CLOSED", "IMAGE_RUBRIC_TEMPLATE"),
    # RISEBench's utils.py
    "risebench.change.consistency": ("prompt_consist", ""),
    "risebench.change.reasoning": ("prompt_reasoning", ""),
    "risebench.change.reasoning.shown": ("prompt_reasoning_w_input", ""),
    "risebench.change.plausibility": ("prompt_generation", ""),
    "risebench.spatial.consistency": ("prompt_spatial_cons", ""),
    "risebench.spatial.reasoning": ("prompt_spatial_ref", ""),
    "risebench.spatial.reasoning.shown": ("prompt_spatial_ref_w_input", ""),
    "risebench.spatial.image": ("prompt_spatial_ref_img", ""),
    "risebench.spatial.plausibility": ("prompt_spatial_qual", ""),
    "risebench.logical.consistency": ("prompt_logical_cons", ""),
    "risebench.logical.consistency.text": ("prompt_logical_cons_ans", ""),
    "risebench.logical.text": ("prompt_logical_txt", ""),
    "risebench.logical.image": ("prompt_logical_img", ""),
    "risebench.logical.image.alone": ("prompt_logical_img_wo_q", ""),
}
"""The constants in the benchmarks' own scripts by template name: the prompt, and the one appended to it if any."""
OFFICIAL_FILES: Mapping[str, str] = {
    "comm.texts": "task_1.json",
    "comm.pictures": "document_completeness_image_coherence_task2.json",
    "comm.pictures.expected": "texts_to_image_descriptions_task2.json",
    "comm.document": "document_completeness_image_coherence.json",
    "comm.document.expected": "texts_to_image_descriptions.json",
    "comm.fidelity": "descriptions_gt_images_consistency.json",
}
"""The files of CoMM's own prompts, which are sent as the judge's system message, by template name."""
RENAMED_PLACEHOLDERS = {"Prompt": "prompt", "Explanation": "explanation", "rubric_item": "rubric"}
"""Placeholder names of the benchmarks' scripts that differ from this package's, with this package's names."""


@dataclass(frozen=True)
class JudgePrompt:
    """A prompt template for the judge.

    Attributes:
        text: template of the user message, with `{placeholders}`.
        system: system message; "" sends none.
    """

    text: str
    system: str = ""

    def fill(self, question: Question) -> str:
        """Return the text with its placeholders replaced by the question's fields; unknown placeholders are kept."""
        return _PLACEHOLDER.sub(lambda match: question.fields.get(match[1], match[0]), self.text)


class JudgePrompts:
    """The judge's prompt templates, by name."""

    def __init__(self, source: Path | None = None):
        """Set up the templates.

        Args:
            source: where the templates come from: a folder with files named as in `evals/prompts` or as in CoMM's
                repository (missing files are taken from this package), or the benchmark's own script that contains
                its prompts (UEval's ueval_eval.py, RISEBench's utils.py, WISE's gpt_eval.py or vllm_eval.py). None
                uses the templates of this package.

        Raises:
            BadInput: the source cannot be read, or the folder contains no prompt file.
        """
        self.source = source
        self._constants: dict[str, JudgePrompt] = {}
        self._loaded_prompts: dict[str, JudgePrompt] = {}
        if source is None:
            return
        if source.is_dir():
            shipped_names = {entry.name for entry in files("interleaver.evals").joinpath("prompts").iterdir()}
            known_names = shipped_names | set(OFFICIAL_FILES.values())
            if not known_names & {file.name for file in source.iterdir()}:
                raise BadInput(
                    f"the folder of judge prompts {str(source)!r} has none of: {', '.join(sorted(known_names))}"
                )
            return
        try:
            self._constants = _constants(ast.parse(read_text_file(source)))
        except (OSError, SyntaxError, ValueError) as error:
            raise BadInput(f"the judge prompts {str(source)!r} cannot be read: {error}") from None

    def load(self, name: str) -> JudgePrompt:
        """Return a template by name.

        Raises:
            BadInput: the benchmark's own script does not contain the prompt.
        """
        if name not in self._loaded_prompts:
            self._loaded_prompts[name] = self._find(name)
        return self._loaded_prompts[name]

    def _find(self, name: str) -> JudgePrompt:
        if self.source is None:
            return JudgePrompt(_shipped_prompt(name))
        if self.source.is_dir():
            file, official = self.source / f"{name}.md", self.source / OFFICIAL_FILES.get(name, "")
            if official.is_file():
                return JudgePrompt("", system=read_text_file(official))
            return JudgePrompt(read_text_file(file).strip() if file.exists() else _shipped_prompt(name))
        if name.startswith("wise"):
            prompt = next((constant for constant in self._constants.values() if "{explanation}" in constant.text), None)
        else:
            first, second = OFFICIAL_CONSTANTS.get(name, ("", ""))
            prompt = self._constants.get(first)
            if prompt and second:
                rubric = self._constants.get(second, JudgePrompt("{rubric}"))
                prompt = JudgePrompt(
                    f"{prompt.text}\n\n{rubric.text}", self._constants.get("SYSTEM_INSTRUCTION", prompt).text
                )
        if prompt is None:
            constant_name = OFFICIAL_CONSTANTS.get(name, ("prompt in a known format",))[0]
            raise BadInput(f"the judge prompts {str(self.source)!r} have no {constant_name}, which {name} needs")
        return prompt


def _shipped_prompt(name: str) -> str:
    return files("interleaver.evals").joinpath("prompts", f"{name}.md").read_text(encoding="utf-8").strip()


def _constants(module: ast.Module) -> dict[str, JudgePrompt]:
    """Return the prompts of a script: string constants by variable name, WISE's f-strings by line number.

    WISE's f-strings get the first string that starts with "You are" as their system message.
    """
    prompts: dict[str, JudgePrompt] = {}
    system = ""
    for node in ast.walk(module):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            text = _text(node.value)
            if text is not None:
                prompts[node.targets[0].id] = JudgePrompt(text)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("You are"):
            system = system or node.value
    for node in ast.walk(module):
        if isinstance(node, ast.JoinedStr) and "{explanation}" in (text := _text(node) or ""):
            prompts[f"line {node.lineno}"] = JudgePrompt(text, system)
    return prompts


def _text(node: ast.expr) -> str | None:
    """Return the value of a string expression with this package's placeholders; None for any other expression.

    Plain strings, f-strings and calls of `.strip()` on them are understood.
    """
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "strip":
        inner = _text(node.func.value)
        return inner.strip() if inner is not None else None
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"<<(\w+)>>|\{(\w+)\}", lambda match: _placeholder(match[1] or match[2]), node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_fstring_piece(value) for value in node.values)
    return None


def _fstring_piece(value: ast.expr) -> str:
    """Return a piece of an f-string: its text, or a placeholder named after the key or the variable that it inserts.

    For example, `prompt_data['Prompt']` gives `{prompt}`.
    """
    if isinstance(value, ast.Constant):
        return str(value.value)
    names = [node.value for node in ast.walk(value) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    names = names or [node.id for node in ast.walk(value) if isinstance(node, ast.Name)]
    return _placeholder(names[0])


def _placeholder(name: str) -> str:
    return f"{{{RENAMED_PLACEHOLDERS.get(name, name)}}}"
