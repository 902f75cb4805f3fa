"""The prompts of planner and critic: this package's own, or a set from the user's files."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from interleaver.errors import BadInput
from interleaver.pictures import Picture

IMAGE_TAG = "<image>"
READY = Path(__file__).with_name("prompts")
OFFICIAL = {
    "narrative": "NARRATIVE_PROMPT_JSON",
    "guidance": "GUIDANCE_GLOBAL_PROMPT_JSON",
    "judging": "Iterative_T2I_PROMPT_QWEN",
}
"""The constants in the `system.py` of the InterleaveThinker checkpoints, by the template that each stands for."""
NEEDED = {
    "narrative": ("text_input",),
    "guidance": ("text_input",),
    "judging": ("original_instruction", "rewritten_prompt"),
    "revising": ("text_input", "plan"),
}
"""The placeholders that a template must have; without them the model would not be told what to do."""

Part = str | Picture
_PLACEHOLDER = re.compile(
    r"\{(text_input|instruction|original_instruction|rewritten_prompt|answer_format|plan|problem|source|width|height"
    r"|count|category|topics|language)\}"
)


@dataclass(frozen=True)
class PromptSet:
    """The templates.

    Their placeholders: `{text_input}`, the request with its pictures; `{plan}`, the plan so far; `{instruction}`, what
    the step should achieve; `{original_instruction}`, the prompt that the plan gave; `{rewritten_prompt}`, the prompt
    that was used; `{answer_format}`, how to answer in the wire format.
    """

    narrative: str
    guidance: str
    judging: str
    revising: str


@cache
def text_of(name: str) -> str:
    """A template of this package: the file `name` in `agents/prompts`."""
    return files("interleaver.agents").joinpath("prompts", f"{name}.md").read_text(encoding="utf-8").strip()


def load_prompts(source: str | None = None) -> PromptSet:
    """The templates to use.

    Args:
        source: a folder with any of `narrative.md`, `guidance.md`, `judging.md` and `revising.md`, the others being
            this package's own; or a Python file with the constants named in `OFFICIAL`, which is read as syntax and
            never executed; or the name of a set that comes with this package: *miniature*, a few words for tiny models.
            None: this package's own.

    Raises:
        BadInput: the source cannot be read, or a template lacks a placeholder.
    """
    own = {name: text_of(name) for name in NEEDED}
    if source is None:
        return PromptSet(**own)
    path = Path(source).expanduser()
    if not path.exists() and (READY / source).is_dir():
        path = READY / source
    if path.is_dir():
        found = {name: _read(path / f"{name}.md").strip() for name in NEEDED if (path / f"{name}.md").exists()}
        if not found:
            raise BadInput(f"the folder of prompts {source!r} has none of: {', '.join(f'{n}.md' for n in NEEDED)}")
    elif path.suffix == ".py":
        found = _constants(path)
    else:
        ready = ", ".join(sorted(folder.name for folder in READY.iterdir() if folder.is_dir()))
        raise BadInput(f"prompts {source!r} is neither a folder nor a .py file, nor one of: {ready}")
    for name, template in found.items():
        for placeholder in NEEDED[name]:
            if f"{{{placeholder}}}" not in template:
                raise BadInput(f"the {name} prompt of {source!r} lacks the placeholder {{{placeholder}}}")
    return PromptSet(**own | found)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the prompts {str(path)!r} cannot be read: {error}") from None


def _constants(path: Path) -> dict[str, str]:
    """The official constants of a Python file."""
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
    found = {}
    for name, constant in OFFICIAL.items():
        value = values.get(constant)
        if not (isinstance(value, ast.Constant) and isinstance(value.value, str)):
            raise BadInput(f"the prompts {str(path)!r} have no text constant {constant}")
        found[name] = value.value
    return found


def fill(template: str, **values: str | Sequence[Part]) -> list[Part]:
    """Fill a template in one pass, so that braces within a value mean nothing.

    Args:
        template: text with placeholders.
        values: text, or text and pictures, for each placeholder.

    Returns:
        Text and pictures in order; an `<image>` tag in the text is defused, since only a picture may stand there.
    """
    parts: list[Part] = []
    for index, piece in enumerate(_PLACEHOLDER.split(template)):
        value = piece if index % 2 == 0 else values.get(piece, f"{{{piece}}}")
        parts += [value] if isinstance(value, str) else value
    return joined([part.replace(IMAGE_TAG, "[image]") if isinstance(part, str) else part for part in parts])


def with_pictures(request: str, images: Sequence[Picture]) -> list[Part]:
    """A request with its pictures where their `<image>` tags stand; in front of it where it has no tags."""
    if IMAGE_TAG not in request:
        return [*images, f"\n{request}" if images else request]
    first, *rest = request.split(IMAGE_TAG)
    parts: list[Part] = [first]
    for image, text in zip(images, rest, strict=True):
        parts += [image, text]
    return parts


def joined(parts: list[Part]) -> list[Part]:
    """The same with neighbouring texts as one."""
    result: list[Part] = []
    for part in parts:
        if isinstance(part, str) and result and isinstance(result[-1], str):
            result[-1] += part
        elif part:
            result.append(part)
    return result
