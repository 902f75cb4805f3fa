"""A chat model without weights: it hands every wish to its tool and passes on what the tool says.

It lets agents of every kind run in the sandbox, where no language model is at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool


class SandboxAssistant(BaseChatModel):
    """A `BaseChatModel` that calls the first tool with a `request`, or else hands over to the first other agent."""

    @property
    def _llm_type(self) -> str:
        return "sandbox-assistant"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Give the model its tools; which one it must call (`tool_choice`) is its own affair."""
        return self.bind(tools=[convert_to_openai_tool(tool)["function"] for tool in tools])

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        message = _reply(messages, kwargs.get("tools", []))
        return ChatResult(generations=[ChatGeneration(message=message)])


def _reply(messages: list[BaseMessage], tools: list[dict[str, Any]]) -> AIMessage:
    last = max(number for number, message in enumerate(messages) if isinstance(message, HumanMessage))
    since = messages[last + 1 :]
    told = [message for message in since if _tells(message)]
    if told:
        return AIMessage(str(told[-1].text))
    asked = {call["name"] for message in since if isinstance(message, AIMessage) for call in message.tool_calls}
    for tool in sorted(tools, key=lambda tool: "request" not in tool["parameters"]["properties"]):
        takes = tool["parameters"]["properties"]
        if tool["name"] not in asked and ("request" in takes or tool["name"].startswith("transfer_to_")):
            arguments = {"request": str(messages[last].text)} if "request" in takes else {}
            return AIMessage("", tool_calls=[{"name": tool["name"], "args": arguments, "id": str(uuid4())}])
    return AIMessage("I have no tool for that.")


def _tells(message: BaseMessage) -> bool:
    """Whether a message brings a result, and is no note about who takes over."""
    if isinstance(message, ToolMessage):
        return not str(message.name).startswith("transfer_")
    return isinstance(message, AIMessage) and bool(message.text) and not message.tool_calls
