"""Changes of a finished document: the graph's input `change`, which chats, tools, MCP and the command line fill."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from interleaver.errors import BadInput
from interleaver.types import Plan, ShortText, Text


class _Change(BaseModel):
    model_config = ConfigDict(extra="forbid", defer_build=True)


class ReviseChange(_Change):
    """Have the planner change the plan as a person asks in words."""

    action: Literal["revise"] = "revise"
    request: Text = Field(description='What to change, for example "make the third picture a night scene".')
    images: list[Any] = Field(
        default_factory=list, description="Pictures that belong to the request, as in the graph's input `images`."
    )


class RedrawChange(_Change):
    """Draw the picture of a step again, with further attempts."""

    action: Literal["redraw"] = "redraw"
    step: int = Field(description="Number of the step, as shown to readers.")
    prompt: ShortText | None = Field(
        None, description="Prompt of the first of these attempts; that of the plan by default."
    )


class ChooseChange(_Change):
    """Keep the picture of another attempt at a step."""

    action: Literal["choose"] = "choose"
    step: int = Field(description="Number of the step, as shown to readers.")
    attempt: int = Field(description="Number of the attempt whose picture to keep, from 1.")


class ReplaceChange(_Change):
    """Replace the plan; steps before the first difference keep their pictures."""

    action: Literal["replace"] = "replace"
    plan: Plan


Change = ReviseChange | RedrawChange | ChooseChange | ReplaceChange
_CHANGE: TypeAdapter[Change] = TypeAdapter(
    Annotated[Change, Field(discriminator="action")], config=ConfigDict(defer_build=True)
)
_ACTIONS = {"revise": ReviseChange, "redraw": RedrawChange, "choose": ChooseChange, "replace": ReplaceChange}


def read_change(value: Any) -> Change:
    """Return the input `change` as a model.

    Raises:
        BadInput: it is not one of the four changes.
    """
    if isinstance(value, BaseModel):
        value = value.model_dump()
    action = value.get("action") if isinstance(value, dict) else None
    if not isinstance(action, str) or action not in _ACTIONS:
        actions = ", ".join(_ACTIONS)
        raise BadInput(f"change.action is {action!r}; give an object whose action is one of {actions}")
    try:
        return _CHANGE.validate_python(value)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"][1:])
        raise BadInput(f"change.{field}: {problem['msg']} (action {action!r})") from None
