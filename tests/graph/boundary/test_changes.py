"""The graph's input `change`: one door for every change of a finished document."""

import base64

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan, noise_picture

from interleaver import BackendError, BackendUnavailable, BadInput, ImageStore, Plan, build_graph, edit_plan
from interleaver.graph.boundary.changes import read_change

CONFIG = {"configurable": {"thread_id": "t"}}


class Revising(ScriptedPlanner):
    """Gives the third step another prompt."""

    async def revise(self, request, images, plan):
        steps = [step.model_copy(update={"prompt": "revised"}) if step.number == 3 else step for step in plan.steps]
        return Plan(steps=steps)


@pytest.fixture
async def thread(images):
    """A thread that has made a document of four steps, whose second step took two attempts."""
    generator = PlainGenerator()
    graph = build_graph(
        planner=Revising(drawn_plan(4)), critic=ScriptedCritic(True, False), generator=generator, images=images
    ).compile(checkpointer=InMemorySaver())
    await graph.ainvoke({"request": "Draw four"}, CONFIG)

    async def change(**fields):
        calls = len(generator.calls)
        result = await graph.ainvoke({"change": fields}, CONFIG)
        prompts = [prompt for prompt, _, _ in generator.calls[calls:]]
        return result, prompts, (await graph.aget_state(CONFIG)).values

    return change, graph, generator


def pictures(result):
    return [block["image"]["sha256"] for block in result["document"]["blocks"] if block["type"] == "image"]


async def test_revise_asks_the_planner(thread):
    change, _, _ = thread
    result, prompts, _ = await change(action="revise", request="the third, please")
    assert result["status"] == "complete" and prompts == ["revised", "p4"]
    assert result["document"]["request"] == "Draw four\n\nThen: the third, please"


@pytest.mark.parametrize("prompt, drawn", [(None, "p3"), ("by night", "by night")])
async def test_redraw_draws_a_step_again_with_another_seed(thread, prompt, drawn):
    change, graph, generator = thread
    before = (await graph.aget_state(CONFIG)).values
    result, prompts, state = await change(action="redraw", step=3, prompt=prompt)
    assert result["status"] == "complete" and prompts == [drawn, "p4"]
    assert list(state["attempts"]) == ["0/1", "1/1", "1/2", "2/1", "2/2", "3/1"]
    assert state["attempts"]["2/1"]["seed"] != state["attempts"]["2/2"]["seed"]
    assert pictures(result)[:2] == pictures(before)[:2] and pictures(result)[2] != pictures(before)[2]
    assert generator.calls[-1][2] == [pictures(result)[2]]


async def test_a_redrawn_step_has_as_many_attempts_as_any(thread, images):
    generator = PlainGenerator()
    graph = build_graph(
        planner=ScriptedPlanner(drawn_plan(1)), critic=ScriptedCritic(*[False] * 9), generator=generator, images=images
    ).compile(checkpointer=InMemorySaver())
    await graph.ainvoke({"request": "x"}, CONFIG, context={"max_attempts": 2})
    await graph.ainvoke({"change": {"action": "redraw", "step": 1}}, CONFIG, context={"max_attempts": 3})
    assert len(generator.calls) == 5
    assert len({seed for _, seed, _ in generator.calls}) == 5


async def test_choose_keeps_another_attempt_and_redraws_what_builds_on_it(thread):
    change, _, generator = thread
    result, prompts, state = await change(action="choose", step=2, attempt=1)
    assert result["status"] == "complete" and prompts == ["p3", "p4"]
    chosen = state["attempts"]["1/1"]["image"]["sha256"]
    assert pictures(result)[1] == chosen == generator.calls[-2][2][0]
    assert list(state["attempts"]) == ["0/1", "1/1", "1/2", "2/1", "3/1"]


async def test_choose_at_the_last_step_draws_nothing(thread):
    change, _, _ = thread
    await change(action="redraw", step=4)
    result, prompts, _ = await change(action="choose", step=4, attempt=1)
    assert result["status"] == "complete" and prompts == []


async def test_replace_draws_from_the_first_difference(thread):
    change, graph, _ = thread
    plan = Plan.model_validate((await graph.aget_state(CONFIG)).values["plan"])
    plan.steps[2].prompt = "another"
    result, prompts, _ = await change(action="replace", plan=plan.model_dump(mode="json"))
    assert result["status"] == "complete" and prompts == ["another", "p4"]


@pytest.mark.parametrize(
    "fields, reason",
    [
        ({"action": "redraw", "step": 9}, "there is no step 9; the document has 1, 2, 3, 4"),
        ({"action": "choose", "step": 2, "attempt": 7}, "step 2 has no attempt 7 with a picture; it has 1, 2"),
        ({"action": "repaint"}, "change.action is 'repaint'"),
        ({"action": "redraw"}, "change.step"),
        ({"action": "redraw", "step": 2, "sede": 3}, "change.sede"),
        ({"action": "revise", "request": " "}, "the request is empty"),
        ({"action": "revise", "request": "x", "images": ["/etc/passwd"]}, "no file is read"),
    ],
)
async def test_a_change_that_cannot_be_made_leaves_the_document_as_it_was(thread, fields, reason):
    change, graph, _ = thread
    before = (await graph.aget_state(CONFIG)).values
    result, prompts, state = await change(**fields)
    assert result["status"] == "failed" and reason in result["document"]["reason"] and prompts == []
    assert (state["plan"], state["results"]) == (before["plan"], before["results"])
    assert pictures(result) == pictures(before)
    again, prompts, _ = await change(action="redraw", step=4)
    assert again["status"] == "complete" and prompts == ["p4"]


async def test_without_a_document_there_is_nothing_to_change(images):
    graph = build_graph(planner=ScriptedPlanner(drawn_plan(1)), images=images).compile()
    result = await graph.ainvoke({"change": {"action": "redraw", "step": 1}})
    assert result["status"] == "failed" and "there is no document to change" in result["document"]["reason"]


async def test_a_document_of_another_thread_is_changed_by_its_messages(images):
    generator = PlainGenerator()
    graph = build_graph(
        planner=Revising(drawn_plan(3)), critic=ScriptedCritic(False), generator=generator, images=images
    ).compile()
    first = await graph.ainvoke({"messages": [HumanMessage("Draw three")]})
    history = {"messages": first["messages"]}
    redrawn = await graph.ainvoke(history | {"change": {"action": "redraw", "step": 3}})
    assert redrawn["status"] == "complete" and len(generator.calls) == 5
    assert generator.calls[4][1] != generator.calls[3][1]  # another seed, though the attempts are not known here
    refused = await graph.ainvoke(history | {"change": {"action": "choose", "step": 1, "attempt": 1}})
    assert "in another thread" in refused["document"]["reason"]


async def test_a_change_takes_precedence_over_messages(thread):
    _, graph, generator = thread
    calls = len(generator.calls)
    change = {"action": "redraw", "step": 4}
    await graph.ainvoke({"messages": [HumanMessage("something else")], "change": change}, CONFIG)
    assert [prompt for prompt, _, _ in generator.calls[calls:]] == ["p4"]


@pytest.mark.parametrize("value", [None, "redraw", 3, [], {}, {"action": None}])
def test_what_is_no_change_is_refused_in_words(value):
    with pytest.raises(BadInput, match="revise, redraw, choose, replace"):
        read_change(value)


async def test_a_step_that_was_not_reached_is_not_drawn_out_of_turn(images):
    generator = PlainGenerator()
    graph = build_graph(
        planner=ScriptedPlanner(drawn_plan(4)), critic=ScriptedCritic(), generator=generator, images=images
    ).compile(checkpointer=InMemorySaver())
    await graph.ainvoke({"request": "x"}, CONFIG, context={"max_generator_calls": 1})
    for change in ({"action": "redraw", "step": 4}, {"action": "choose", "step": 4, "attempt": 1}):
        result = await graph.ainvoke({"change": change}, CONFIG)
        assert "step 4 was not reached; draw step 2 first" in result["document"]["reason"]
    result = await graph.ainvoke({"change": {"action": "redraw", "step": 2}}, CONFIG)
    assert result["status"] == "complete" and len(generator.calls) == 4


async def test_redrawing_again_and_again_has_a_budget_each_time(images):
    graph = build_graph(
        planner=ScriptedPlanner(drawn_plan(2)), critic=ScriptedCritic(), generator=PlainGenerator(), images=images
    ).compile(checkpointer=InMemorySaver())
    context = {"max_generator_calls": 2}
    await graph.ainvoke({"request": "x"}, CONFIG, context=context)
    for _ in range(4):
        result = await graph.ainvoke({"change": {"action": "redraw", "step": 1}}, CONFIG, context=context)
        assert result["status"] == "complete"


@pytest.mark.parametrize("planner", ["cannot revise", "wants a new document"])
async def test_a_change_is_never_taken_for_a_new_document(images, planner):
    class Refusing(ScriptedPlanner):
        async def revise(self, request, images, plan):
            return Plan(steps=[])

    plans = (ScriptedPlanner if planner == "cannot revise" else Refusing)(drawn_plan(2))
    graph = build_graph(
        planner=plans, critic=ScriptedCritic(), generator=PlainGenerator(), images=images
    ).compile(checkpointer=InMemorySaver())  # fmt: skip
    first = await graph.ainvoke({"request": "x"}, CONFIG)
    result = await graph.ainvoke({"change": {"action": "revise", "request": "make it red"}}, CONFIG)
    assert result["status"] == "failed" and pictures(result) == pictures(first)
    chat = await graph.ainvoke({"messages": [HumanMessage("make it red")]}, CONFIG)
    assert chat["status"] == "complete" and chat["document"]["request"] == "make it red"


async def test_a_change_that_was_cut_off_goes_on_and_is_not_made_twice(thread):
    _, graph, generator = thread
    calls, value = len(generator.calls), {"change": {"action": "redraw", "step": 2}}
    result = await graph.ainvoke(value, {**CONFIG, "recursion_limit": 6})
    rounds = 0
    while result["status"] != "complete":
        assert "recursion_limit" in result["document"]["reason"] and rounds < 9
        rounds += 1
        result = await graph.ainvoke(value, {**CONFIG, "recursion_limit": 6})
    assert rounds and [prompt for prompt, _, _ in generator.calls[calls:]] == ["p2", "p3", "p4"]


async def test_the_answer_shows_the_picture_that_was_chosen(thread):
    change, _, _ = thread
    await change(action="redraw", step=4)
    result, _, _ = await change(action="choose", step=4, attempt=1)
    assert [block["type"] for block in result["messages"][-1].content].count("image") == 1


@pytest.mark.parametrize("request_", [None, "", ["a list"]])
async def test_an_input_beside_a_change_does_not_matter(thread, request_):
    _, graph, _ = thread
    value = {"request": request_, "change": {"action": "redraw", "step": 4}}
    result = await graph.ainvoke(value, CONFIG)
    assert result["status"] == "complete" and result["document"]["request"] == "Draw four"


async def test_a_rejected_revision_and_a_planner_that_fails_leave_the_document(images):
    class Failing(Revising):
        async def revise(self, request, images, plan):
            self.requests.append(request)
            if len(self.requests) > 2:
                raise BackendError("out of order")
            return await super().revise(request, images, plan)

    graph = build_graph(
        planner=Failing(drawn_plan(4)), critic=ScriptedCritic(), generator=PlainGenerator(), images=images
    ).compile(checkpointer=InMemorySaver())
    first = await graph.ainvoke({"request": "Draw four"}, CONFIG)
    revise = {"change": {"action": "revise", "request": "the third, please"}}
    await graph.ainvoke(revise, CONFIG, context={"review": True})
    result = await graph.ainvoke(Command(resume={"action": "reject", "feedback": "no"}), CONFIG)
    assert result["status"] == "failed" and pictures(result) == pictures(first)


async def test_an_image_store_that_fails_once_costs_no_document(thread, monkeypatch):
    _, graph, _ = thread
    before = (await graph.aget_state(CONFIG)).values
    block = {"type": "image", "base64": base64.b64encode(noise_picture((400, 300)).data).decode()}

    async def put(self, picture):
        raise BackendUnavailable("the image store is away")

    with monkeypatch.context() as patch:
        patch.setattr(ImageStore, "put", put)
        result = await graph.ainvoke({"messages": [HumanMessage([{"type": "text", "text": "x"}, block])]}, CONFIG)
    assert result["status"] == "failed" and "the image store is away" in result["document"]["reason"]
    assert (await graph.aget_state(CONFIG)).values["results"] == before["results"]


async def test_a_chat_by_messages_alone_survives_a_message_that_cannot_be_used(images):
    graph = build_graph(
        planner=Revising(drawn_plan(3)), critic=ScriptedCritic(), generator=PlainGenerator(), images=images
    ).compile()
    first = await graph.ainvoke({"messages": [HumanMessage("Draw three")]})
    broken = HumanMessage([{"type": "text", "text": "x"}, {"type": "image", "base64": "aGVsbG8="}])
    failed = await graph.ainvoke({"messages": [*first["messages"], broken]})
    assert failed["status"] == "failed"
    result = await graph.ainvoke({"messages": [*failed["messages"], HumanMessage("the third, please")]})
    assert result["status"] == "complete" and pictures(result)[:2] == pictures(first)[:2]


async def test_an_edited_plan_after_a_refused_request(images):
    graph = build_graph(
        planner=ScriptedPlanner(drawn_plan(2)), critic=ScriptedCritic(), generator=PlainGenerator(), images=images
    ).compile(checkpointer=InMemorySaver())
    await graph.ainvoke({"request": " "}, CONFIG)
    state = (await graph.aget_state(CONFIG)).values
    await graph.aupdate_state(CONFIG, edit_plan(state, drawn_plan(2)), as_node="review")
    result = await graph.ainvoke(None, CONFIG)
    assert result["status"] == "complete" and result["document"]["reason"] is None
