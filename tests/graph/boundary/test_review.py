"""A person decides: about the plan, and about a step whose attempts are spent."""

import json

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan
from tenacity import wait_none

from interleaver import build_graph, calling
from interleaver.errors import BackendError, BackendUnavailable
from interleaver.graph.boundary.events import read_event
from interleaver.types import Plan, Step

ASK = {"on_exhausted": "ask", "max_attempts": 2}


async def paused(images, *verdicts, context, plan=None, planner=None, request=None, generator=None):
    """A run up to its first question, and a way to answer it."""
    generator = generator or PlainGenerator()
    planner = planner or ScriptedPlanner(plan or drawn_plan(2))
    graph = build_graph(
        planner=planner, critic=ScriptedCritic(*verdicts), generator=generator, images=images
    ).compile(checkpointer=InMemorySaver())  # fmt: skip
    config = {"configurable": {"thread_id": "t"}}

    async def go(value):
        return await graph.ainvoke(value, config, context=context)

    result = await go(request or {"request": "Draw"})
    question = json.loads(json.dumps(result["__interrupt__"][0].value))
    return question, lambda answer: go(Command(resume=answer)), generator, (graph, config, planner)


def asked(result):
    return result["__interrupt__"][0].value


class TestThePlan:
    async def test_the_question_is_json_in_both_forms(self, images):
        question, _, _, (graph, config, _) = await paused(images, context={"review": True})
        assert question["kind"] == "plan_review" and len(question["plan"]["steps"]) == 2
        (request,), (settings,) = question["action_requests"], question["review_configs"]
        assert request["name"] == settings["action_name"] == "review_plan"
        assert request["args"] == {"step 1": "Do 1", "step 2": "Do 2"}
        assert settings["allowed_decisions"] == ["approve", "edit", "reject"]
        (interrupt,) = (await graph.aget_state(config)).interrupts
        assert interrupt.response_schema["properties"]["action"]["enum"] == ["approve", "edit", "reject"]

    @pytest.mark.parametrize("answer", [{"action": "approve"}, {"decisions": [{"type": "approve"}]}])
    async def test_approve(self, images, answer):
        _, go, generator, _ = await paused(images, context={"review": True})
        assert (await go(answer))["status"] == "complete"
        assert [prompt for prompt, _, _ in generator.calls] == ["p1", "p2"]

    async def test_a_whole_new_plan(self, images):
        _, go, _, _ = await paused(images, context={"review": True})
        result = await go({"action": "edit", "plan": drawn_plan(1).model_dump()})
        assert len(result["document"]["steps"]) == 1

    async def test_steps_are_edited_by_number(self, images):
        _, go, generator, _ = await paused(images, context={"review": True})
        edits = [{"number": 2, "instruction": "A boat", "name": "Boat"}, {"number": 1, "prompt": "clearer"}]
        result = await go({"action": "edit", "steps": edits})
        # an instruction is drawn too; a clearer prompt leaves what the critic looks for
        assert [prompt for prompt, _, _ in generator.calls] == ["clearer", "A boat"]
        assert [block["text"] for block in result["document"]["blocks"] if block["type"] == "text"] == [
            "Do 1",
            "A boat",
        ]
        assert result["document"]["steps"][1]["name"] == "Boat"

    async def test_a_field_that_is_null_stays_and_an_empty_prompt_makes_a_step_of_words(self, images):
        _, go, generator, _ = await paused(images, context={"review": True})
        edits = [{"number": 1, "name": None, "instruction": None, "prompt": "clearer"}, {"number": 2, "prompt": ""}]
        result = await go({"action": "edit", "steps": edits})
        assert [prompt for prompt, _, _ in generator.calls] == ["clearer"]
        assert [(step["name"], step["outcome"]) for step in result["document"]["steps"]] == [
            ("S1", "accepted"), ("S2", "text"),
        ]  # fmt: skip

    async def test_the_edit_of_a_front_end(self, images):
        plan = Plan(steps=[*drawn_plan(2).steps, Step(number=3, auxiliary_text="The end.")])
        _, go, generator, _ = await paused(images, context={"review": True}, plan=plan)
        args = {"step 1": "Do 1", "step 2": "Something else", "step 3": "Bye."}
        edit = {"type": "edit", "edited_action": {"name": "review_plan", "args": args}}
        result = await go({"decisions": [edit]})
        assert [prompt for prompt, _, _ in generator.calls] == ["p1", "Something else"]
        assert result["document"]["blocks"][-1]["text"] == "Bye."

    @pytest.mark.parametrize(
        "answer",
        [
            {"action": "reject", "feedback": "shorter, please, as <image>"},
            {"decisions": [{"type": "reject", "message": "shorter, please, as <image>"}]},
        ],
    )
    async def test_reject_plans_again_with_the_feedback(self, images, answer):
        _, go, _, (_, _, planner) = await paused(images, context={"review": True})
        assert "__interrupt__" in await go(answer)
        assert planner.requests[-1].startswith("Draw") and "shorter, please, as [image]" in planner.requests[-1]
        assert (await go({"action": "approve"}))["status"] == "complete"

    async def test_reject_in_a_chat_hears_the_message_again(self, images):
        request = {"messages": [HumanMessage("a boat")]}
        _, go, _, (_, _, planner) = await paused(images, context={"review": True}, request=request)
        await go({"action": "reject", "feedback": "two boats"})
        assert planner.requests == ["a boat", "a boat\n\nAbout the last plan the reader said: two boats"]

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            ("yes", "it is not an object"),
            ({"action": "maybe"}, "action: Input should be 'approve', 'edit' or 'reject' (it is 'maybe')"),
            ({"action": "edit"}, "needs either steps or a whole plan"),
            ({"action": "edit", "steps": [], "plan": {"steps": []}}, "needs either steps or a whole plan"),
            ({"action": "edit", "plan": {"steps": []}}, "the edited plan has no steps"),
            ({"action": "edit", "steps": [{"number": 9, "prompt": "x"}]}, "there is no step 9; the plan has 1, 2"),
            ({"action": "edit", "steps": [{"number": 1, "promt": "x"}]}, "steps.0.promt: unknown field"),
            ({"action": "reject"}, "needs feedback"),
            ({"action": "approve", "plan": {"steps": []}}, "belong to the action edit, not approve"),
            ({"decisions": []}, "decisions must hold exactly one decision"),
            ({"decisions": [{"type": "edit"}]}, "decisions must hold exactly one decision"),
            ({"decisions": [{"type": "edit", "edited_action": {"args": {"step 9": "x"}}}]}, "there is no 'step 9'"),
            ({"decisions": [{"type": "respond", "message": "?"}]}, "action: Input should be"),
        ],
    )
    async def test_an_answer_of_the_wrong_shape_is_asked_again(self, images, answer, said):
        _, go, _, _ = await paused(images, context={"review": True})
        again = asked(await go(answer))
        assert again["error"].startswith("the answer cannot be used: ") and said in again["error"]
        assert (await go({"action": "approve"}))["status"] == "complete"


class TestAStep:
    async def test_the_question_shows_every_attempt(self, images):
        question, _, _, _ = await paused(images, False, False, context=ASK)
        assert question["kind"] == "step_review" and question["step"]["number"] == 1
        assert [attempt["prompt"] for attempt in question["attempts"]] == ["p1", "p1!"]
        assert question["attempts"][0]["link"] == f"sha256:{question['attempts'][0]['image']['sha256']}"
        assert question["attempts"][0]["verdict"]["reasoning"] == "as scripted"
        assert question["action_requests"][0]["args"] == {"attempt": 2, "prompt": "p1!"}

    @pytest.mark.parametrize(
        ("answer", "attempt"),
        [
            ({"action": "pick", "attempt": 1}, 1),
            ({"decisions": [{"type": "approve"}]}, 2),
            ({"decisions": [{"type": "edit", "edited_action": {"name": "review_step", "args": {"attempt": 1}}}]}, 1),
        ],
    )
    async def test_pick_one_of_the_attempts(self, images, answer, attempt):
        question, go, generator, _ = await paused(images, False, False, context=ASK)
        result = await go(answer)
        assert result["status"] == "complete"
        kept = question["attempts"][attempt - 1]["image"]
        assert result["document"]["blocks"][1]["image"] == kept
        assert generator.calls[-1][2] == [kept["sha256"]]  # the next step builds on it
        assert "the reviewer accepted this one" in result["document"]["steps"][0]["reason"]

    @pytest.mark.parametrize(
        "answer",
        [
            {"action": "rewrite", "prompt": "by hand"},
            {"decisions": [{"type": "edit", "edited_action": {"name": "", "args": {"prompt": "by hand"}}}]},
        ],
    )
    async def test_rewrite_the_prompt_and_have_as_many_attempts_again(self, images, answer):
        _, go, generator, _ = await paused(images, False, False, False, False, context=ASK)
        question = asked(await go(answer))
        assert [attempt["prompt"] for attempt in question["attempts"]] == ["p1", "p1!", "by hand", "by hand!"]
        result = await go({"action": "pick", "attempt": 4})
        assert result["status"] == "complete"
        assert [prompt for prompt, _, _ in generator.calls] == ["p1", "p1!", "by hand", "by hand!", "p2"]

    @pytest.mark.parametrize("answer", [{"action": "skip"}, {"decisions": [{"type": "reject"}]}])
    async def test_skip_leaves_the_picture_out_and_goes_on(self, images, answer):
        _, go, generator, _ = await paused(images, False, False, context=ASK)
        result = await go(answer)
        assert [step["outcome"] for step in result["document"]["steps"]] == ["failed", "accepted"]
        assert result["document"]["steps"][0]["reason"] == "skipped by the reviewer"
        assert generator.calls[-1][2] == []

    async def test_stop_ends_the_run_there(self, images):
        _, go, generator, _ = await paused(images, False, False, context=ASK)
        result = await go({"action": "stop"})
        assert result["document"]["reason"] == "stopped by the reviewer at step 1"
        assert [step["outcome"] for step in result["document"]["steps"]] == ["exhausted", None]
        assert len(generator.calls) == 2

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            ({"action": "pick"}, "attempt None has no picture; pick one of 1, 2"),
            ({"action": "pick", "attempt": 7}, "attempt 7 has no picture; pick one of 1, 2"),
            ({"action": "rewrite", "prompt": " "}, "needs a prompt"),
            ({"action": "approve"}, "one of pick, rewrite, skip, stop"),
            ([1], "it is not an object"),
            ({"decisions": [{"type": "edit", "edited_action": {"args": {"promt": "x"}}}]}, "changes neither"),
            ({"decisions": [{"type": "edit", "edited_action": {"args": {}}}]}, "changes neither"),
            ({"decisions": [{"type": "respond", "message": "?"}]}, "action: Input should be"),
        ],
    )
    async def test_an_answer_of_the_wrong_shape_is_asked_again(self, images, answer, said):
        _, go, _, _ = await paused(images, False, False, context=ASK)
        assert said in asked(await go(answer))["error"]
        assert (await go({"action": "pick", "attempt": 1}))["status"] == "complete"

    async def test_a_step_that_cannot_be_drawn(self, images):
        generator = PlainGenerator({0: BackendError("refused by its filter")})
        question, go, _, _ = await paused(images, context=ASK, generator=generator)
        assert question["attempts"][0]["error"] == "refused by its filter" and question["attempts"][0]["link"] is None
        assert question["review_configs"][0]["allowed_decisions"] == ["edit", "reject"]
        assert "pick one of none" in asked(await go({"decisions": [{"type": "approve"}]}))["error"]
        assert (await go({"action": "rewrite", "prompt": "milder"}))["status"] == "complete"
        assert [prompt for prompt, _, _ in generator.calls] == ["p1", "milder", "p2"]

    async def test_a_generator_that_is_away_ends_the_run_all_the_same(self, images, monkeypatch):
        monkeypatch.setattr(calling, "BACKOFF", wait_none())
        generator = PlainGenerator(dict.fromkeys(range(4), BackendUnavailable("gone")))
        graph = build_graph(
            planner=ScriptedPlanner(drawn_plan(1)), critic=ScriptedCritic(), generator=generator, images=images
        ).compile(checkpointer=InMemorySaver())
        result = await graph.ainvoke({"request": "x"}, {"configurable": {"thread_id": "t"}}, context=ASK)
        assert result["document"]["reason"] == "gone"

    async def test_nobody_is_asked_once_the_budget_is_spent(self, images):
        graph = build_graph(
            planner=ScriptedPlanner(drawn_plan(1)), critic=ScriptedCritic(False, False), generator=PlainGenerator(),
            images=images,
        ).compile(checkpointer=InMemorySaver())  # fmt: skip
        context = {**ASK, "max_generator_calls": 2}
        result = await graph.ainvoke({"request": "x"}, {"configurable": {"thread_id": "t"}}, context=context)
        assert result["document"]["steps"][0]["outcome"] == "exhausted"


async def test_reviews_of_both_kinds_in_one_run_stream_the_document(images):
    """Across every pause the blocks since the last plan are the document."""
    graph = build_graph(
        planner=ScriptedPlanner(drawn_plan(2)), critic=ScriptedCritic(False), generator=PlainGenerator(), images=images
    ).compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "t"}}
    answers = [
        {"action": "reject", "feedback": "better"},
        {"action": "edit", "steps": [{"number": 1, "prompt": "q1"}]},
        {"action": "pick", "attempt": 1},
    ]
    context = {"review": True, "on_exhausted": "ask", "max_attempts": 1}
    events, start = [], {"request": "x"}
    for answer in [*answers, None]:
        async for chunk in graph.astream(start, config, context=context, stream_mode="custom"):
            events.append(read_event(chunk))
        start = Command(resume=answer)
    document = (await graph.aget_state(config)).values["document"]
    indexes = [event.index for event in events if event.type == "block_ready"]
    assert indexes == [0, 1, 2, 3]
    last_plan = max(n for n, event in enumerate(events) if event.type == "plan_ready")
    blocks = [event.block.model_dump(mode="json") for event in events[last_plan:] if event.type == "block_ready"]
    assert document["status"] == "complete" and blocks == document["blocks"]
