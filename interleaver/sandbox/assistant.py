"""A rule-based chat model: it passes the user's message to a tool and answers with the tool's result.

It makes it possible to run agents of any kind in the sandbox, without a language model.
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
    """A `BaseChatModel` that calls the first tool with a `request` parameter, or else the first handoff tool."""

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
        """Bind tools to the model; `tool_choice` is ignored."""
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
    later_messages = messages[last + 1 :]
    results = [message for message in later_messages if _is_result(message)]
    if results:
        return AIMessage(str(results[-1].text))
    called_tools = {
        call["name"] for message in later_messages if isinstance(message, AIMessage) for call in message.tool_calls
    }
    for tool in sorted(tools, key=lambda tool: "request" not in tool["parameters"]["properties"]):
        tool_arguments = tool["parameters"]["properties"]
        if tool["name"] not in called_tools and (
            "request" in tool_arguments or tool["name"].startswith("transfer_to_")
        ):
            arguments = {"request": str(messages[last].text)} if "request" in tool_arguments else {}
            return AIMessage("", tool_calls=[{"name": tool["name"], "args": arguments, "id": str(uuid4())}])
    return AIMessage("I have no tool for that.")


def _is_result(message: BaseMessage) -> bool:
    """Return whether a message carries a result, rather than announcing a handoff to another agent."""
    if isinstance(message, ToolMessage):
        return not str(message.name).startswith("transfer_")
    return isinstance(message, AIMessage) and bool(message.text) and not message.tool_calls
