"""The judge's prompts: this package's own words, or a benchmark's own file, which is read and never executed."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from interleaver.errors import BadInput
from interleaver.evals.benchmarks.base import Question

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
OFFICIAL: Mapping[str, tuple[str, str]] = {
    # UEval's ueval_eval.py, where a rubric follows its context
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
"""The constants of the benchmarks' own scripts, and what follows them, by the template that they stand for."""
OFFICIAL_FILES: Mapping[str, str] = {
    "comm.texts": "task_1.json",
    "comm.pictures": "document_completeness_image_coherence_task2.json",
    "comm.pictures.expected": "texts_to_image_descriptions_task2.json",
    "comm.document": "document_completeness_image_coherence.json",
    "comm.document.expected": "texts_to_image_descriptions.json",
    "comm.fidelity": "descriptions_gt_images_consistency.json",
}
"""The files of CoMM's own prompts, which the judge is told as its system message, by the template they stand for."""
RENAMED = {"Prompt": "prompt", "Explanation": "explanation", "rubric_item": "rubric"}
"""What the benchmarks' scripts call a placeholder, where it is not our name."""


@dataclass(frozen=True)
class Template:
    """A prompt of the judge.

    Attributes:
        text: with `{placeholders}`.
        system: what the judge is told before it.
    """

    text: str
    system: str = ""

    def fill(self, question: Question) -> str:
        """The prompt of a question."""
        return _PLACEHOLDER.sub(lambda found: question.fields.get(found[1], found[0]), self.text)


class Prompts:
    """The templates of a benchmark, by name."""

    def __init__(self, source: Path | None = None):
        """Choose the templates.

        Args:
            source: a folder with files named like this package's (`evals/prompts`) or like CoMM's, those missing being
                this package's; or the script of the benchmark that holds its prompts: ueval_eval.py, RISEBench's
                utils.py, WISE's gpt_eval.py or vllm_eval.py. None: this package's own.

        Raises:
            BadInput: it cannot be read.
        """
        self.source = source
        self._constants: dict[str, Template] = {}
        self._known: dict[str, Template] = {}
        if source is None:
            return
        if source.is_dir():
            own = {entry.name for entry in files("interleaver.evals").joinpath("prompts").iterdir()}
            known = own | set(OFFICIAL_FILES.values())
            if not known & {file.name for file in source.iterdir()}:
                raise BadInput(f"the folder of judge's prompts {str(source)!r} has none of: {', '.join(sorted(known))}")
            return
        try:
            self._constants = _constants(ast.parse(source.read_text(encoding="utf-8")))
        except (OSError, SyntaxError, ValueError) as error:
            raise BadInput(f"the judge's prompts {str(source)!r} cannot be read: {error}") from None

    def of(self, name: str) -> Template:
        """A template.

        Raises:
            BadInput: the benchmark's own script has no such prompt.
        """
        if name not in self._known:
            self._known[name] = self._find(name)
        return self._known[name]

    def _find(self, name: str) -> Template:
        if self.source is None:
            return Template(_own(name))
        if self.source.is_dir():
            file, official = self.source / f"{name}.md", self.source / OFFICIAL_FILES.get(name, "")
            if official.is_file():
                return Template("", system=official.read_text(encoding="utf-8"))
            return Template(file.read_text(encoding="utf-8").strip() if file.exists() else _own(name))
        if name.startswith("wise"):
            found = next((one for one in self._constants.values() if "{explanation}" in one.text), None)
        else:
            first, second = OFFICIAL.get(name, ("", ""))
            found = self._constants.get(first)
            if found and second:
                rubric = self._constants.get(second, Template("{rubric}"))
                found = Template(
                    f"{found.text}\n\n{rubric.text}", self._constants.get("SYSTEM_INSTRUCTION", found).text
                )
        if found is None:
            wanted = OFFICIAL.get(name, ("prompt that we can read",))[0]
            raise BadInput(f"the judge's prompts {str(self.source)!r} have no {wanted}, which {name} needs")
        return found


def _own(name: str) -> str:
    return files("interleaver.evals").joinpath("prompts", f"{name}.md").read_text(encoding="utf-8").strip()


def _constants(module: ast.Module) -> dict[str, Template]:
    """The texts of a script by the name that they are assigned to; f-strings by their line, with their system text."""
    found: dict[str, Template] = {}
    system = ""
    for node in ast.walk(module):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            text = _text(node.value)
            if text is not None:
                found[node.targets[0].id] = Template(text)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("You are"):
            system = system or node.value
    for node in ast.walk(module):
        if isinstance(node, ast.JoinedStr) and "{explanation}" in (text := _text(node) or ""):
            found[f"line {node.lineno}"] = Template(text, system)
    return found


def _text(node: ast.expr) -> str | None:
    """A text, also one that is stripped where it stands, with its placeholders as ours."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "strip":
        inner = _text(node.func.value)
        return inner.strip() if inner is not None else None
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"<<(\w+)>>|\{(\w+)\}", lambda found: _placeholder(found[1] or found[2]), node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_piece(value) for value in node.values)
    return None


def _piece(value: ast.expr) -> str:
    """A piece of an f-string: its words, or the last name of what is put in, such as prompt_data['Prompt']."""
    if isinstance(value, ast.Constant):
        return str(value.value)
    names = [one.value for one in ast.walk(value) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    names = names or [one.id for one in ast.walk(value) if isinstance(one, ast.Name)]
    return _placeholder(names[0])


def _placeholder(name: str) -> str:
    return f"{{{RENAMED.get(name, name)}}}"
