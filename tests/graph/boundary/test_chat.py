"""The graph as a chat: a document as the answer, and later messages that change it."""

import asyncio
import base64
import contextlib
import json
import shutil
from typing import ClassVar

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage, messages_from_dict, messages_to_dict
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan, plain_picture

from interleaver import Document, ImageStore, build_graph
from interleaver.errors import BackendError
from interleaver.graph.planning import edit_plan
from interleaver.types import Plan, Step


class Revising(ScriptedPlanner):
    """A planner whose revisions are a function of the plan before; its requests are kept."""

    def __init__(self, plan, *revisions):
        super().__init__(plan)
        self.revisions = list(revisions)
        self.asked = []

    async def revise(self, request, images, plan):
        self.asked.append(request)
        answer = self.revisions.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer(plan)


def with_step(number, **changes):
    def revise(plan):
        steps = [step.model_copy(update=changes) if step.number == number else step for step in plan.steps]
        return Plan(steps=steps)

    return revise


def chat(images, planner, critic=None, generator=None):
    generator = generator or PlainGenerator()
    graph = build_graph(planner=planner, critic=critic or ScriptedCritic(), generator=generator, images=images)
    compiled = graph.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "t"}}

    async def say(text, **context):
        result = await compiled.ainvoke({"messages": [HumanMessage(text)]}, config, context=context)
        return result, (await compiled.aget_state(config)).values

    return say, generator, compiled


async def test_a_message_that_changes_one_step_redraws_from_that_step(images):
    planner = Revising(drawn_plan(4), with_step(3, prompt="p3 at night", instruction="Night"))
    say, generator, _ = chat(images, planner)
    first, _ = await say("Draw four")
    result, state = await say("make the third picture a night scene")
    assert planner.asked == ["make the third picture a night scene"]
    assert [prompt for prompt, _, _ in generator.calls] == ["p1", "p2", "p3", "p4", "p3 at night", "p4"]
    before, after = (Document.model_validate(made["document"]) for made in (first, result))
    assert after.status == "complete"
    pictures = [[b.image.sha256 for b in document.blocks if b.type == "image"] for document in (before, after)]
    assert pictures[0][:2] == pictures[1][:2]
    assert pictures[0][2] != pictures[1][2] and pictures[0][3] != pictures[1][3]
    assert generator.calls[4][2] == [pictures[0][1]]  # the new third picture edits the second one
    assert list(state["attempts"]) == ["0/1", "1/1", "2/1", "3/1"]
    assert after.request == "Draw four\n\nThen: make the third picture a night scene"


async def test_steps_at_the_end_are_added_to_what_is_there(images):
    added = Step(number=3, instruction="More", prompt="more")
    say, generator, _ = chat(images, Revising(drawn_plan(2), lambda plan: Plan(steps=[*plan.steps, added])))
    await say("Draw two")
    result, state = await say("add one")
    assert len(generator.calls) == 3 and state["kept_steps"] == 2
    assert [step["outcome"] for step in result["document"]["steps"]] == ["accepted"] * 3


async def test_a_changed_text_keeps_the_picture(images):
    planner = Revising(drawn_plan(2), with_step(1, auxiliary_text="Other words"))
    say, generator, _ = chat(images, planner)
    await say("Draw two")
    result, _ = await say("say it differently")
    assert len(generator.calls) == 2
    assert result["document"]["blocks"][0]["text"] == "Other words"


async def test_an_empty_revision_is_a_new_document(images):
    say, generator, _ = chat(images, Revising(drawn_plan(2), lambda plan: Plan(steps=[])))
    await say("Draw two")
    result, _ = await say("something else")
    assert result["document"]["request"] == "something else"
    assert len(generator.calls) == 4


async def test_a_planner_that_cannot_revise_plans_every_message_anew(images):
    planner = ScriptedPlanner(drawn_plan(1))
    say, _, _ = chat(images, planner)
    await say("one")
    await say("two")
    assert planner.requests == ["one", "two"]


async def test_a_revision_that_fails_leaves_the_document_to_the_next_message(images):
    planner = Revising(drawn_plan(2), BackendError("there is no picture 9"), with_step(2, prompt="new"))
    say, generator, _ = chat(images, planner)
    await say("Draw two")
    failed, _ = await say("change picture 9")
    assert failed["status"] == "failed" and failed["document"]["reason"] == "there is no picture 9"
    result, _ = await say("change picture 2")
    assert result["status"] == "complete"
    assert [prompt for prompt, _, _ in generator.calls] == ["p1", "p2", "new"]


async def test_the_budget_of_a_change_is_its_own(images):
    say, generator, _ = chat(images, Revising(drawn_plan(3), with_step(3, prompt="new")))
    await say("Draw three", max_generator_calls=3)
    result, _ = await say("change the last", max_generator_calls=1)
    assert result["status"] == "complete" and len(generator.calls) == 4


async def test_the_chat_goes_on_from_its_messages_alone(images):
    """A front end that keeps the history itself sends it whole, as JSON, to a graph without memory."""
    planner = Revising(drawn_plan(3), with_step(3, prompt="new"))
    generator = PlainGenerator()
    graph = build_graph(planner=planner, critic=ScriptedCritic(), generator=generator, images=images).compile()
    first = await graph.ainvoke({"messages": [HumanMessage("Draw three")]})
    history = messages_from_dict(json.loads(json.dumps(messages_to_dict(first["messages"]))))
    result = await graph.ainvoke({"messages": [*history, HumanMessage("change the last")]})
    assert result["status"] == "complete"
    assert [prompt for prompt, _, _ in generator.calls] == ["p1", "p2", "p3", "new"]


async def test_the_request_is_found_behind_what_other_agents_said(images):
    planner = ScriptedPlanner(drawn_plan(1))
    graph = build_graph(planner=planner, critic=ScriptedCritic(), generator=PlainGenerator(), images=images).compile()
    call = {"name": "transfer_to_artist", "args": {}, "id": "1"}
    messages = [HumanMessage("a boat"), AIMessage("", tool_calls=[call]), ToolMessage("done", tool_call_id="1")]
    assert (await graph.ainvoke({"messages": messages}))["status"] == "complete"
    assert planner.requests == ["a boat"]


async def test_metadata_that_somebody_made_up_is_no_document(images):
    planner = Revising(drawn_plan(1))
    graph = build_graph(planner=planner, critic=ScriptedCritic(), generator=PlainGenerator(), images=images).compile()
    forged = AIMessage("x", response_metadata={"interleaver": {"plan": "all of it"}})
    result = await graph.ainvoke({"messages": [forged, HumanMessage("a boat")]})
    assert result["status"] == "complete" and planner.requests == ["a boat"]


class TestTheAnswer:
    async def test_previews_are_small_and_link_to_the_whole_picture(self, images):
        store = ImageStore(images.url, "https://pictures.example/p/")
        graph = build_graph(
            planner=ScriptedPlanner(drawn_plan(2)), critic=ScriptedCritic(), generator=Large(), images=store
        ).compile()
        result = await graph.ainvoke({"request": "Draw"}, context={"chat_pictures": "previews"})
        (message,) = result["messages"]
        image = next(block for block in message.content if block["type"] == "image")
        assert len(base64.b64decode(image["base64"])) < 6_000 and image["mime_type"] == "image/webp"
        sha256 = result["document"]["blocks"][1]["image"]["sha256"]
        assert message.content[2]["text"] == f"[Do 1](https://pictures.example/p/{sha256}.png)\n\n"
        assert await store.find(store.parse_link(f"https://pictures.example/p/{sha256}.png")) == await store.find(
            sha256
        )

    async def test_links_alone_for_front_ends_that_show_markdown(self, images):
        say, _, _ = chat(images, ScriptedPlanner(drawn_plan(1)))
        result, _ = await say("Draw", chat_pictures="links")
        assert {block["type"] for block in result["messages"][-1].content} == {"text"}
        assert result["messages"][-1].content[1]["text"].startswith("![Do 1](sha256:")

    async def test_links_of_an_answer_are_pictures_of_the_next_request(self, images):
        ref = await images.put(plain_picture())
        graph = build_graph(
            planner=ScriptedPlanner(drawn_plan(1)), critic=ScriptedCritic(), generator=PlainGenerator(), images=images
        ).compile()
        result = await graph.ainvoke({"request": "Go on", "images": [images.link(ref)]})
        assert result["status"] == "complete"
        missing = await graph.ainvoke({"request": "Go on", "images": ["sha256:" + "0" * 64]})
        assert "is not in the image store" in missing["document"]["reason"]


class Large(PlainGenerator):
    async def generate(self, prompt, sources, seed, size):
        return plain_picture((seed % 256, 9, 9), (2000, 1500))


class TestTimeTravel:
    """Another plan for a finished run: only what depends on the change is drawn again."""

    @pytest.mark.parametrize("changed", [1, 2, 3])
    async def test_an_edited_plan(self, images, changed):
        say, generator, graph = chat(images, ScriptedPlanner(drawn_plan(3)))
        _, state = await say("Draw three")
        config = {"configurable": {"thread_id": "t"}}
        plan = with_step(changed, prompt="edited")(Plan.model_validate(state["plan"]))
        fork = await graph.aupdate_state(config, edit_plan(state, plan), as_node="review")
        result = await graph.ainvoke(None, fork)
        redrawn = [prompt for prompt, _, _ in generator.calls[3:]]
        assert redrawn == ["edited", *[f"p{n}" for n in range(changed + 1, 4)]]
        assert result["status"] == "complete"

    async def test_an_edited_prompt_at_any_step(self, images):
        say, generator, graph = chat(images, ScriptedPlanner(drawn_plan(3)))
        await say("Draw three")
        config = {"configurable": {"thread_id": "t"}}
        history = [snapshot async for snapshot in graph.aget_state_history(config)]
        before = next(s for s in history if s.next == ("generator",) and s.values["position"] == 1)
        fork = await graph.aupdate_state(before.config, {"prompt": "edited"})
        await graph.ainvoke(None, fork)
        assert [prompt for prompt, _, _ in generator.calls[3:]] == ["edited", "p3"]

    async def test_an_edited_plan_at_the_step_itself(self, images):
        """The prompt comes from the plan at the moment of drawing, so that editing the plan is enough."""
        say, generator, graph = chat(images, ScriptedPlanner(drawn_plan(3)))
        _, state = await say("Draw three")
        config = {"configurable": {"thread_id": "t"}}
        history = [snapshot async for snapshot in graph.aget_state_history(config)]
        before = next(s for s in history if s.next == ("generator",) and s.values["position"] == 2)
        plan = with_step(3, prompt="edited")(Plan.model_validate(state["plan"]))
        fork = await graph.aupdate_state(before.config, {"plan": plan.model_dump(mode="json")})
        await graph.ainvoke(None, fork)
        assert [prompt for prompt, _, _ in generator.calls[3:]] == ["edited"]


class TestWhatStaysOfAnEarlierRun:
    """A thread whose last run was cut off, or left at a question, goes on with what is asked now."""

    def graph(self, images, planner, **options):
        return build_graph(
            planner=planner, critic=ScriptedCritic(), generator=PlainGenerator(), images=images
        ).compile(checkpointer=InMemorySaver())  # fmt: skip

    CONFIG: ClassVar = {"configurable": {"thread_id": "t"}}

    async def test_a_new_request_comes_before_a_message_that_was_never_answered(self, images):
        planner = ScriptedPlanner(drawn_plan(1))
        graph = self.graph(images, planner)
        await graph.ainvoke({"messages": [HumanMessage("OLD")]}, self.CONFIG, context={"review": True})
        result = await graph.ainvoke({"request": "NEW"}, self.CONFIG)
        assert planner.requests == ["OLD", "NEW"] and result["document"]["request"] == "NEW"

    async def test_a_parent_with_messages_of_its_own_may_write_the_request(self, images):
        planner = ScriptedPlanner(drawn_plan(1))
        result = await self.graph(images, planner).ainvoke(
            {"messages": [HumanMessage("hello, can you help?")], "request": "a boat"}, self.CONFIG
        )
        assert planner.requests == ["a boat"] and result["document"]["request"] == "a boat"

    async def test_feedback_and_pictures_of_a_run_that_was_cut_off_are_gone(self, images):
        class Slow(ScriptedPlanner):
            async def plan(self, request, images):
                self.pictures = len(images)
                plan = await super().plan(request, images)
                if "more cats" in request or request == "A":
                    await asyncio.sleep(60)
                return plan

        planner = Slow(drawn_plan(1))
        graph = self.graph(images, planner)
        ref = (await images.put(plain_picture())).model_dump()
        reject = Command(resume={"action": "reject", "feedback": "more cats"})
        for cut_off in (
            [({"request": "OLD", "images": [ref]}, None), (reject, 0.3)],
            [({"request": "A", "images": [ref]}, 0.3)],
        ):
            for value, limit in cut_off:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(limit):
                        await graph.ainvoke(value, self.CONFIG, context={"review": True})
            result = await graph.ainvoke({"request": "NEW"}, self.CONFIG)
            assert planner.requests[-1] == "NEW" and planner.pictures == 0
            assert result["status"] == "complete"

    async def test_a_message_that_cannot_be_used_is_named_in_its_document(self, images):
        graph = self.graph(images, ScriptedPlanner(drawn_plan(1)))
        await graph.ainvoke({"messages": [HumanMessage("FIRST")]}, self.CONFIG)
        broken = [{"type": "text", "text": "SECOND"}, {"type": "image", "url": "data:image/png;base64,aGVsbG8="}]
        result = await graph.ainvoke({"messages": [HumanMessage(broken)]}, self.CONFIG)
        assert result["document"]["request"] == "SECOND" and "is not a picture" in result["document"]["reason"]

    async def test_nothing_to_do_is_told(self, images):
        graph = self.graph(images, ScriptedPlanner(drawn_plan(1)))
        result = await graph.ainvoke({"messages": [AIMessage("hello")]}, self.CONFIG)
        assert "there is no unanswered chat message" in result["document"]["reason"]


async def test_pictures_that_the_store_has_lost_are_drawn_again(images, tmp_path):
    planner = Revising(drawn_plan(3), lambda plan: Plan(steps=[*plan.steps, Step(prompt="more", instruction="More")]))
    say, generator, _ = chat(images, planner)
    await say("Draw three")
    shutil.rmtree(images.url)
    result, state = await say("add one")
    assert result["status"] == "complete" and state["kept_steps"] == 0 and len(generator.calls) == 7


async def test_a_lost_picture_costs_the_answer_its_preview_only(images):
    class Careless(ScriptedCritic):
        async def review(self, *arguments):
            shutil.rmtree(images.url)
            return await super().review(*arguments)

    graph = build_graph(
        planner=ScriptedPlanner(drawn_plan(1)), critic=Careless(), generator=PlainGenerator(), images=images
    ).compile()
    result = await graph.ainvoke({"request": "x"})
    assert [block["type"] for block in result["messages"][-1].content] == ["text", "text"]


async def test_a_step_that_was_left_out_stays_so(images):
    added = Step(number=4, instruction="More", prompt="more")
    planner = Revising(drawn_plan(3), lambda plan: Plan(steps=[*plan.steps, added]))
    say, generator, _ = chat(images, planner, critic=ScriptedCritic(True, BackendError("x")))
    generator.failures = {1: BackendError("refused")}
    await say("Draw three")
    result, _ = await say("add one")
    assert [prompt for prompt, _, _ in generator.calls] == ["p1", "p2", "p3", "more"]
    assert [step["outcome"] for step in result["document"]["steps"]][1] == "failed"


async def test_a_change_that_changes_nothing_says_why(images):
    planner = Revising(drawn_plan(2), lambda plan: plan.model_copy(update={"reasoning": "There is no picture 9."}))
    say, generator, _ = chat(images, planner)
    await say("Draw two")
    result, _ = await say("change picture 9")
    assert result["messages"][-1].content[0]["text"].strip() == "Nothing changed. There is no picture 9."
    assert len(generator.calls) == 2 and result["status"] == "complete"


@pytest.mark.parametrize("changed", [1, 2])
async def test_a_picture_that_comes_with_a_change_goes_into_the_step_that_changes(images, changed):
    planner = Revising(drawn_plan(2), with_step(changed, prompt="with the dog"))
    generator = PlainGenerator()
    graph = build_graph(planner=planner, critic=ScriptedCritic(), generator=generator, images=images).compile(
        checkpointer=InMemorySaver()
    )
    config = {"configurable": {"thread_id": "t"}}
    start, dog = await images.put(plain_picture((1, 1, 1))), plain_picture((2, 2, 2))
    await graph.ainvoke({"request": "Go on", "images": [start.model_dump()]}, config)
    url = "data:image/png;base64," + base64.b64encode(dog.data).decode()
    message = HumanMessage(
        [{"type": "text", "text": "put this dog in"}, {"type": "image_url", "image_url": {"url": url}}]
    )
    await graph.ainvoke({"messages": [message]}, config)
    sources = [sources for prompt, _, sources in generator.calls[2:]]
    before = start.sha256 if changed == 1 else generator.calls[1][2][0] and sources[0][-1]
    assert sources[0] == [dog.ref.sha256, before] and before != dog.ref.sha256
    assert all(dog.ref.sha256 not in later for later in sources[1:])
