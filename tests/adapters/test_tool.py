"""The graph as a tool, in the hands of the agents that people build."""

import importlib.util
import json
from pathlib import Path

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolCall, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command
from langgraph_supervisor import create_supervisor
from langgraph_swarm import create_handoff_tool, create_swarm
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan, plain_picture
from support.scripted_server import Reply, serving

from interleaver import Document, as_tool, build_graph
from interleaver.errors import BadInput
from interleaver.graph.boundary.events import read_event
from interleaver.graph.context import RunSettings
from interleaver.sandbox.assistant import SandboxAssistant
from interleaver.types import Plan, Step

SAID = {"messages": [HumanMessage("a boat")]}
CONFIG = {"configurable": {"thread_id": "t"}}


def tool_of(images, *verdicts, plan=None, **options):
    planner = plan if hasattr(plan, "plan") else ScriptedPlanner(plan or drawn_plan(2))
    return as_tool(
        planner=planner, critic=ScriptedCritic(*verdicts), generator=PlainGenerator(), images=images, **options
    )


class TestAlone:
    async def test_a_short_text_for_the_model_and_the_document_as_artifact(self, images):
        call = ToolCall(name="illustrate", args={"request": "a boat"}, id="1", type="tool_call")
        message = await tool_of(images).ainvoke(call)
        assert isinstance(message, ToolMessage)
        document = Document.model_validate(json.loads(json.dumps(message.artifact)))
        first = document.blocks[1].image
        assert message.content.splitlines()[:2] == [
            "Complete: 2 steps, 2 pictures.", f"1. S1 [picture](sha256:{first.sha256})",
        ]  # fmt: skip
        assert (await images.get(first)).width == 64

    def test_called_synchronously(self, images):
        assert tool_of(images).invoke({"request": "a boat"}).startswith("Complete: 2 steps")

    async def test_called_synchronously_within_a_running_loop(self, images):
        assert tool_of(images).invoke({"request": "a boat"}).startswith("Complete: 2 steps")

    async def test_previews_for_models_that_look_at_tool_results(self, images):
        content = await tool_of(images, previews=True).ainvoke({"request": "a boat"})
        assert [block["type"] for block in content] == ["text", "image", "image"]
        assert content[1]["mime_type"] == "image/webp"

    async def test_progress_in_plain_langchain(self, images):
        events = [event async for event in tool_of(images).astream_events({"request": "a boat"})]
        told = [event["data"]["type"] for event in events if event["event"] == "on_custom_event"]
        assert told[0] == "plan_ready" and told[-1] == "document_ready" and told.count("picture_ready") == 2

    async def test_pictures_to_start_from(self, images):
        ref = await images.put(plain_picture())
        text = await tool_of(images).ainvoke({"request": "Go on", "images": [images.link(ref)]})
        assert text.startswith("Complete")

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"request": " "}, "the request is empty"),
            ({"request": "x", "images": ["/etc/passwd"]}, "no file is read"),
            ({"request": "x", "images": ["http://192.168.0.1/x.png"]}, "is a private address"),
        ],
    )
    async def test_bad_input_is_told_to_the_model(self, images, arguments, said):
        text = await tool_of(images).ainvoke(arguments)
        assert text.startswith("Failed: 0 steps") and said in text

    async def test_a_question_that_nobody_could_answer_is_refused(self, images):
        tool = tool_of(images, settings=RunSettings(review=True))
        with pytest.raises(BadInput, match="only a LangGraph run with a checkpointer can wait"):
            await tool.ainvoke({"request": "x"})

    async def test_a_long_document_is_not_cut_off_by_langchains_limit_of_supersteps(self, images):
        text = await tool_of(images, plan=drawn_plan(30)).ainvoke({"request": "x"}, {"recursion_limit": 25})
        assert text.startswith("Complete: 30 steps")

    async def test_a_failed_step_is_named(self, images):
        plan = Plan(steps=[Step(number=1, name="Words", auxiliary_text="Hello"), *drawn_plan(1).steps])
        text = await tool_of(images, False, plan=plan, settings=RunSettings(max_attempts=1)).ainvoke({"request": "x"})
        assert "Partial: 2 steps, 1 pictures.\nReason: step 2 exhausted\n1. Words\n2. S1 [picture]" in text


class TestInAnAgent:
    @pytest.mark.parametrize("subgraphs", [False, True])
    async def test_the_agents_stream_shows_each_event_once(self, images, subgraphs):
        agent = create_agent(SandboxAssistant(), [tool_of(images)])
        events, last = [], None
        async for *_, mode, chunk in agent.astream(SAID, stream_mode=["custom", "values"], subgraphs=subgraphs):
            if mode == "custom":
                events.append(read_event(chunk).type)
            elif "messages" in chunk and "document" not in chunk:
                last = chunk["messages"]
        assert events.count("plan_ready") == events.count("document_ready") == 1
        assert events.count("block_ready") == 4
        assert last[-1].text.startswith("Complete: 2 steps") and last[-2].artifact["status"] == "complete"

    async def test_questions_inside_the_tool_reach_the_caller_of_the_agent(self, images):
        generator = PlainGenerator()
        tool = as_tool(
            planner=ScriptedPlanner(drawn_plan(2)), critic=ScriptedCritic(False), generator=generator, images=images,
            settings=RunSettings(review=True, on_exhausted="ask", max_attempts=1),
        )  # fmt: skip
        agent = create_agent(SandboxAssistant(), [tool], checkpointer=InMemorySaver())
        asked = []
        result = await agent.ainvoke(SAID, CONFIG)
        for answer in ({"action": "nonsense"}, {"action": "approve"}, {"action": "pick", "attempt": 1}):
            asked.append(result["__interrupt__"][0].value)
            result = await agent.ainvoke(Command(resume=answer), CONFIG)
        assert [question["kind"] for question in asked] == ["plan_review", "plan_review", "step_review"]
        assert "cannot be used" in asked[1]["error"]
        assert result["messages"][-1].text.startswith("Complete: 2 steps")
        assert len(generator.calls) == 2  # no answer made anything happen twice

    async def test_two_calls_at_once_ask_two_questions(self, images):
        class Eager(SandboxAssistant):
            def _generate(self, messages, stop=None, run_manager=None, **kwargs):
                made = super()._generate(messages, stop, run_manager, **kwargs)
                message = made.generations[0].message
                if message.tool_calls:
                    message.tool_calls.append({**message.tool_calls[0], "id": "second"})
                return made

        tool = tool_of(images, settings=RunSettings(review=True))
        agent = create_agent(Eager(), [tool], checkpointer=InMemorySaver())
        result = await agent.ainvoke(SAID, CONFIG)
        first, second = result["__interrupt__"]
        answers = {
            first.id: {"action": "approve"},
            second.id: {"action": "edit", "plan": drawn_plan(1).model_dump()},
        }
        result = await agent.ainvoke(Command(resume=answers), CONFIG)
        told = [message.text.splitlines()[0] for message in result["messages"] if isinstance(message, ToolMessage)]
        assert told == ["Complete: 2 steps, 2 pictures.", "Complete: 1 steps, 1 pictures."]

    @pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
    @pytest.mark.parametrize("output_mode", ["last_message", "full_history"])
    async def test_a_member_of_a_supervisors_team(self, images, output_mode):
        member = build_graph(
            planner=ScriptedPlanner(drawn_plan(2)), critic=ScriptedCritic(), generator=PlainGenerator(), images=images
        ).compile(name="illustrator")
        team = create_supervisor([member], model=SandboxAssistant(), output_mode=output_mode).compile(
            checkpointer=InMemorySaver()
        )
        result = await team.ainvoke(SAID, CONFIG)
        told = next(message for message in result["messages"] if message.name == "interleaver")
        assert [block["type"] for block in told.content] == ["text", "image", "text"] * 2
        assert result["messages"][-1].name == "supervisor" and "Do 2" in result["messages"][-1].text

    async def test_in_a_swarm(self, images):
        model = SandboxAssistant()
        first = create_agent(model, [create_handoff_tool(agent_name="artist")], name="receptionist")
        artist = create_agent(model, [tool_of(images)], name="artist")
        swarm = create_swarm([first, artist], default_active_agent="receptionist").compile(InMemorySaver())
        result = await swarm.ainvoke(SAID, CONFIG)
        assert result["active_agent"] == "artist"
        assert result["messages"][-1].text.startswith("Complete: 2 steps")


def calls_of(*requests):
    calls = [{"name": "illustrate", "args": {"request": r}, "id": r, "type": "tool_call"} for r in requests]
    return {"messages": [HumanMessage("x"), AIMessage("", tool_calls=calls)]}


def tool_node(tool, saver=None):
    builder = StateGraph(MessagesState)
    builder.add_node("tools", ToolNode([tool]))
    builder.add_edge(START, "tools")
    return builder.compile(checkpointer=saver)


class TestInAToolNode:
    """A node that executes all calls of a turn itself."""

    @pytest.mark.parametrize("synchronously", [True, False])
    async def test_reviewed_calls_come_back_under_their_own_ids(self, images, synchronously):
        requests = ["a boat", "a cat", "a house", "a tree"]
        for _ in range(3):
            graph = tool_node(tool_of(images, settings=RunSettings(review=True)), InMemorySaver())

            async def run(value, graph=graph):
                return graph.invoke(value, CONFIG) if synchronously else await graph.ainvoke(value, CONFIG)

            result = await run(calls_of(*requests))
            while "__interrupt__" in result:
                answers = {question.id: {"action": "approve"} for question in result["__interrupt__"]}
                result = await run(Command(resume=answers))
            told = [message for message in result["messages"] if isinstance(message, ToolMessage)]
            assert [message.artifact["request"] for message in told] == requests
            assert [message.tool_call_id for message in told] == requests

    @pytest.mark.parametrize("review, namespaces", [(False, {""}), (True, None)])
    async def test_who_asks_nobody_leaves_no_checkpoints_of_its_own(self, images, review, namespaces):
        saver = InMemorySaver()
        graph = tool_node(tool_of(images, settings=RunSettings(review=review)), saver)
        await graph.ainvoke(calls_of("a boat"), CONFIG)
        kept = {checkpoint.config["configurable"]["checkpoint_ns"] for checkpoint in saver.list(None)}
        assert kept == namespaces if namespaces else len(kept) == 2

    async def test_a_tool_that_asks_refuses_where_nobody_could_resume(self, images):
        graph = tool_node(tool_of(images, settings=RunSettings(on_exhausted="ask")))
        with pytest.raises(BadInput, match="compile the agent with a checkpointer"):
            await graph.ainvoke(calls_of("a boat"))

    async def test_a_document_of_an_earlier_turn_is_changed(self, images):
        class Revising(ScriptedPlanner):
            async def revise(self, request, images, plan):
                self.requests.append(request)
                return Plan(steps=[*plan.steps[:-1], plan.steps[-1].model_copy(update={"prompt": request})])

        planner = Revising(drawn_plan(2))
        graph = tool_node(tool_of(images, plan=planner), InMemorySaver())
        first = (await graph.ainvoke(calls_of("a boat"), CONFIG))["messages"][-1]
        name = first.text.rpartition(" ")[2]
        call = {"name": "illustrate", "args": {"request": "at night", "document": name}, "id": "2", "type": "tool_call"}
        second = (await graph.ainvoke({"messages": [AIMessage("", tool_calls=[call])]}, CONFIG))["messages"][-1]
        assert planner.requests == ["a boat", "at night"]
        assert second.artifact["request"] == "a boat\n\nThen: at night"
        assert second.artifact["blocks"][1] == first.artifact["blocks"][1]
        assert second.artifact["blocks"][3] != first.artifact["blocks"][3]
        call = {**call, "args": {"request": "x", "document": "nothing"}, "id": "3"}
        refused = (await graph.ainvoke({"messages": [AIMessage("", tool_calls=[call])]}, CONFIG))["messages"][-1]
        assert f"there is no document 'nothing' in this conversation; it has {name}" in refused.text

    async def test_its_settings_win_over_the_context_of_the_agent(self, images):
        builder = StateGraph(MessagesState, context_schema=dict)
        builder.add_node("tools", ToolNode([tool_of(images, settings=RunSettings(seed=5))]))
        builder.add_edge(START, "tools")
        context = {"seed": 7, "planner": "openai:gpt-5", "review": True}
        graph = builder.compile(checkpointer=InMemorySaver())
        result = await graph.ainvoke(calls_of("a boat"), CONFIG, context=context)
        assert "__interrupt__" in result
        result = await graph.ainvoke(Command(resume={"action": "approve"}), CONFIG, context=context)
        assert result["messages"][-1].artifact["seed"] == 5

    async def test_progress_in_astream_events(self, images):
        agent = create_agent(SandboxAssistant(), [tool_of(images)])
        events = [event async for event in agent.astream_events(SAID, version="v2")]
        custom = [event["data"]["type"] for event in events if event["event"] == "on_custom_event"]
        assert custom[0] == "plan_ready" and custom[-1] == "document_ready"
        assert custom.count("picture_ready") == 2


@pytest.mark.allow_hosts(["127.0.0.1"])
async def test_in_the_openai_agents_sdk(images, monkeypatch):
    """The SDK's own client and runner, over HTTP; the model behind it is scripted."""
    from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
    from openai import AsyncOpenAI

    set_tracing_disabled(True)
    spec = importlib.util.spec_from_file_location("adapter", Path("examples/openai_agents.py"))
    adapter = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(adapter)

    def completion(message):
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return Reply(
            {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
        )

    function = {"name": "illustrate", "arguments": json.dumps({"request": "a boat"})}
    call = {"content": None, "tool_calls": [{"id": "c1", "type": "function", "function": function}]}
    with serving(completion(call), completion({"content": "Here you are."})) as server:
        client = AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none")
        model = OpenAIChatCompletionsModel("m", client)
        agent = Agent("Artist", tools=[adapter.function_tool_of(tool_of(images))], model=model,
                      model_settings=ModelSettings(temperature=0))  # fmt: skip
        result = await Runner.run(agent, "a boat")
        await client.close()
    assert result.final_output == "Here you are."
    offered, told = server.requests[0].json["tools"][0], server.requests[1].json["messages"][-1]
    assert offered["function"]["parameters"]["required"] == ["request"]
    assert told["role"] == "tool" and told["content"].startswith("Complete: 2 steps, 2 pictures.")
