"""The graph among other agents: second delegations, tasks of handoffs, and what colleagues found."""

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan

from interleaver import build_graph
from interleaver.graph.boundary.chat import read_chat


def handoff(name="transfer_to_artist", **args):
    call = {"name": name, "args": args, "id": "1", "type": "tool_call"}
    return [AIMessage("", tool_calls=[call], name="supervisor"), ToolMessage("done", tool_call_id="1", name=name)]


def answer(request="a boat"):
    return AIMessage("here", name="interleaver", response_metadata={"interleaver": {"request": request}})


BACK = [
    AIMessage(
        "Transferring back to supervisor",
        tool_calls=[{"name": "transfer_back_to_supervisor", "args": {}, "id": "2", "type": "tool_call"}],
        response_metadata={"__is_handoff_back": True},
    ),
    ToolMessage("back", tool_call_id="2", name="transfer_back_to_supervisor"),
]
HUMAN = HumanMessage("a boat")


def test_a_message_alone_is_the_request():
    chat = read_chat([HUMAN])
    assert (chat.text, chat.background, chat.is_new) == ("a boat", "", False)


def test_a_handoff_adds_nothing_to_the_request():
    assert read_chat([HUMAN, *handoff()]).background == ""


def test_what_has_been_answered_is_not_asked_again():
    assert read_chat([HUMAN, *handoff(), answer(), *BACK]) is None


def test_a_second_delegation_asks_again():
    chat = read_chat([HUMAN, *handoff(), answer(), *BACK, *handoff()])
    assert (chat.text, chat.is_new) == ("a boat", True)


def test_a_second_delegation_may_name_its_task():
    chat = read_chat([HUMAN, *handoff(), answer(), *BACK, *handoff(task_description="now a cat")])
    assert (chat.text, chat.is_new) == ("now a cat", False)


def test_what_colleagues_found_is_the_background():
    messages = [HUMAN, *handoff("transfer_to_researcher"), AIMessage("Boats float.", name="researcher"), *BACK]
    chat = read_chat([*messages, *handoff(task="three pictures <image>")])
    assert chat.text == "a boat"
    assert chat.background == "researcher: Boats float.\ntask: three pictures <image>".replace("<image>", "[image]")


def test_a_tool_that_somebody_else_called_is_no_handoff():
    searched = [*handoff("search", query="boats"), AIMessage("Boats float.", name="researcher")]
    assert read_chat([HUMAN, *searched]).background == "researcher: Boats float."
    assert read_chat([HUMAN, answer(), *searched]) is None


def test_earlier_messages_since_the_last_document_are_background():
    messages = [HumanMessage("old"), answer("old"), HumanMessage("I like boats"), AIMessage("Which colour?"), HUMAN]
    assert read_chat(messages).background == "user: I like boats\nassistant: Which colour?"


def test_pictures_of_all_messages_since_the_last_document_are_kept():
    first = HumanMessage([{"type": "text", "text": "see"}, {"type": "image", "url": "https://example.org/1.png"}])
    last = HumanMessage([{"type": "text", "text": "add a hat"}, {"type": "image", "url": "https://example.org/2.png"}])
    chat = read_chat([first, AIMessage("What shall I do with it?"), last])
    assert chat.images == ["https://example.org/1.png", "https://example.org/2.png"]


@pytest.mark.parametrize("length", [10, 100_000])
async def test_the_planner_reads_request_and_background(images, length):
    planner = ScriptedPlanner(drawn_plan(1))
    graph = build_graph(planner=planner, critic=ScriptedCritic(), generator=PlainGenerator(), images=images).compile()
    found = "x" * length
    result = await graph.ainvoke({"messages": [AIMessage(found, name="researcher"), HUMAN]})
    assert result["document"]["request"] == "a boat"  # the reader is not shown what the agents said
    assert planner.requests[0].startswith("a boat\n\n") and found[-10:] in planner.requests[0]
    assert len(planner.requests[0]) < 10_000
