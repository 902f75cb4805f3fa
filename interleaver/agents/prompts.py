"""The prompt templates of planner and critic: the built-in ones, or a set from the user's files."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from interleaver import migrations
from interleaver.errors import BadInput
from interleaver.pictures import Picture
from interleaver.text_files import read_text_file
from interleaver.types import IMAGE_TAG

SHIPPED_SETS = Path(__file__).with_name("prompts")
OFFICIAL = {
    "narrative": "NARRATIVE_PROMPT_JSON",
    "guidance": "GUIDANCE_GLOBAL_PROMPT_JSON",
    "review": "Iterative_T2I_PROMPT_QWEN",
}
"""The constants in the `system.py` of the InterleaveThinker models, by the template that each one replaces."""
OFFICIAL_JUDGE = {
    "semantics": (
        "_context_no_delimit",
        "_prompts_0shot_two_image_edit_rule_ours",
        "_prompts_0shot_tie_rule_SC_ours",
    ),
    "quality": ("_context_no_delimit", "_prompts_0shot_rule_PQ_ours"),
}
"""The constants in the `vie_prompts.py` of the released reward function that make up each prompt of its judge."""
REQUIRED_PLACEHOLDERS = {
    "narrative": ("text_input",),
    "guidance": ("text_input",),
    "review": ("original_instruction", "rewritten_prompt"),
    "revision": ("text_input", "plan"),
}
"""The placeholders that a template must have; without them the model would not see its task."""

PromptPart = str | Picture
_PLACEHOLDER = re.compile(
    r"\{(text_input|instruction|original_instruction|rewritten_prompt|answer_format|plan|problem|source|width|height"
    r"|count|category|topics|language)\}"
)


@dataclass(frozen=True)
class PromptSet:
    """A set of prompt templates.

    Their placeholders: `{text_input}`, the request with its pictures; `{plan}`, the current plan; `{instruction}`, the
    goal of the step; `{original_instruction}`, the prompt in the plan; `{rewritten_prompt}`, the prompt that was used;
    `{answer_format}`, the instructions for the wire format.
    """

    narrative: str
    guidance: str
    review: str
    revision: str


@dataclass(frozen=True)
class JudgePromptSet:
    """The two prompts of a judge, about a change and about the new picture.

    Attributes:
        semantics: prompt with the placeholder `{instruction}` and, in the built-in one, `{original_instruction}` and
            `{answer_format}`.
        quality: prompt about the new picture alone.
        is_official: whether they are those of the released reward function, which asks about the prompt in the plan and
            shows the pictures after the text.
    """

    semantics: str
    quality: str
    is_official: bool


@cache
def template_text(name: str) -> str:
    """Return the built-in template `agents/prompts/<name>.md`."""
    return files("interleaver.agents").joinpath("prompts", f"{name}.md").read_text(encoding="utf-8").strip()


def load_prompts(source: str | None = None) -> PromptSet:
    """Load a set of prompt templates.

    Args:
        source: a folder with any of `narrative.md`, `guidance.md`, `review.md` and `revision.md` (missing ones are
            built in); or a Python file with the constants named in `OFFICIAL`, which is parsed but never executed; or
            the name of a built-in set: *miniature*, with short prompts for tiny models. None for the built-in
            templates.

    Raises:
        BadInput: the source cannot be read, or a template lacks a placeholder.
    """
    defaults = {name: template_text(name) for name in REQUIRED_PLACEHOLDERS}
    if source is None:
        return PromptSet(**defaults)
    path = Path(source).expanduser()
    if not path.exists() and (SHIPPED_SETS / source).is_dir():
        path = SHIPPED_SETS / source
    if path.is_dir():
        paths = {name: migrations.find_template(path, name) for name in REQUIRED_PLACEHOLDERS}
        templates = {name: _read(template).strip() for name, template in paths.items() if template}
        if not templates:
            raise BadInput(
                f"the prompt folder {source!r} has none of: {', '.join(f'{n}.md' for n in REQUIRED_PLACEHOLDERS)}"
            )
    elif path.suffix == ".py":
        templates = _constants(path)
    else:
        ready = ", ".join(sorted(folder.name for folder in SHIPPED_SETS.iterdir() if folder.is_dir()))
        raise BadInput(f"prompts {source!r} is neither a folder nor a .py file nor a built-in set; these are: {ready}")
    for name, template in templates.items():
        for placeholder in REQUIRED_PLACEHOLDERS[name]:
            if f"{{{placeholder}}}" not in template:
                raise BadInput(f"the {name} prompt of {source!r} lacks the placeholder {{{placeholder}}}")
    return PromptSet(**defaults | templates)


def _read(path: Path) -> str:
    try:
        return read_text_file(path)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the prompts {str(path)!r} cannot be read: {error}") from None


def load_judge_prompts(source: str | None = None) -> JudgePromptSet:
    """Load the prompts of a judge.

    Args:
        source: a Python file with the constants named in `OFFICIAL_JUDGE`, which is parsed but never executed; None for
            the built-in prompts.

    Raises:
        BadInput: the file cannot be read, or lacks a constant.
    """
    if source is None:
        return JudgePromptSet(template_text("judge.semantics"), template_text("judge.quality"), is_official=False)
    path = Path(source).expanduser()
    texts = _text_constants(path)
    parts = {}
    for name, constants in OFFICIAL_JUDGE.items():
        missing = [constant for constant in constants if constant not in texts]
        if missing:
            raise BadInput(f"the judge prompts {source!r} have no text constant {missing[0]}")
        parts[name] = "\n".join(texts[constant] for constant in constants).replace("<instruction>", "{instruction}")
    return JudgePromptSet(**parts, is_official=True)


def _constants(path: Path) -> dict[str, str]:
    """Return the values of the `OFFICIAL` constants in a Python file, by template name."""
    texts = _text_constants(path)
    for constant in OFFICIAL.values():
        if constant not in texts:
            raise BadInput(f"the prompts {str(path)!r} have no text constant {constant}")
    return {name: texts[constant] for name, constant in OFFICIAL.items()}


def _text_constants(path: Path) -> dict[str, str]:
    """Return the text constants of a Python file by name, without executing it."""
    try:
        tree = ast.parse(_read(path))
    except (SyntaxError, ValueError) as error:
        raise BadInput(f"the prompts {str(path)!r} are not valid Python: {error}") from None
    values = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return {
        name: value.value
        for name, value in values.items()
        if isinstance(value, ast.Constant) and isinstance(value.value, str)
    }


def fill(template: str, **values: str | Sequence[PromptPart]) -> list[PromptPart]:
    """Fill a template in one pass, so that braces inside a value are left alone.

    Args:
        template: text with placeholders.
        values: text, or a sequence of texts and pictures, by placeholder.

    Returns:
        Texts and pictures in order. An `<image>` tag in a text becomes `[image]`, since a tag must stand for a picture.
    """
    parts: list[PromptPart] = []
    for index, piece in enumerate(_PLACEHOLDER.split(template)):
        value = piece if index % 2 == 0 else values.get(piece, f"{{{piece}}}")
        parts += [value] if isinstance(value, str) else value
    return join_texts([part.replace(IMAGE_TAG, "[image]") if isinstance(part, str) else part for part in parts])


def interleave_pictures(request: str, images: Sequence[Picture]) -> list[PromptPart]:
    """Replace the `<image>` tags of a request by its pictures; without tags, the pictures precede the text."""
    if IMAGE_TAG not in request:
        return [*images, f"\n{request}" if images else request]
    first_text, *later_texts = request.split(IMAGE_TAG)
    parts: list[PromptPart] = [first_text]
    for image, text in zip(images, later_texts, strict=True):
        parts += [image, text]
    return parts


def join_texts(parts: list[PromptPart]) -> list[PromptPart]:
    """Return the parts with adjacent texts joined and empty texts dropped."""
    result: list[PromptPart] = []
    for part in parts:
        if isinstance(part, str) and result and isinstance(result[-1], str):
            result[-1] += part
        elif part:
            result.append(part)
    return result
