"""Runs of the whole graph with scripted models: what a plan, a verdict or a failure leads to."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import ValidationError
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan, plain_picture
from tenacity import wait_none

from interleaver import Document, ImageStore, build_graph, calling
from interleaver.errors import BackendError, BackendUnavailable, UnreadableAnswer
from interleaver.types import Plan, Step, Verdict


async def run(plan, *verdicts, images, failures=None, context=None, request="Draw", generator=None):
    generator = generator or PlainGenerator(failures)
    planner = plan if hasattr(plan, "plan") else ScriptedPlanner(plan)
    graph = build_graph(planner=planner, critic=ScriptedCritic(*verdicts), generator=generator, images=images).compile(
        checkpointer=InMemorySaver()
    )
    config = {"configurable": {"thread_id": "t"}, "recursion_limit": 10_000}
    inputs = request if isinstance(request, dict) else {"request": request}
    result = await graph.ainvoke(inputs, config, context=context or {})
    state = (await graph.aget_state(config)).values
    return Document.model_validate(result["document"]), state, generator


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(calling, "BACKOFF", wait_none())


def outcomes(document):
    return [step.outcome for step in document.steps]


async def test_accepted_at_once(images):
    document, state, generator = await run(drawn_plan(3), images=images)
    assert document.status == "complete"
    assert outcomes(document) == ["accepted"] * 3
    assert [block.type for block in document.blocks] == ["text", "image"] * 3
    assert len(generator.calls) == 3
    assert list(state["attempts"]) == ["0/1", "1/1", "2/1"]


async def test_each_step_edits_the_last_accepted_picture(images):
    _, state, generator = await run(drawn_plan(3), True, False, images=images)
    kept = [state["results"][str(n)]["image"]["sha256"] for n in range(3)]
    assert [sources for _, _, sources in generator.calls] == [[], [kept[0]], [kept[0]], [kept[1]]]


async def test_reference_policy_all_gives_every_picture_so_far(images):
    start = await images.put(plain_picture((1, 2, 3)))
    _, _, generator = await run(
        drawn_plan(3), images=images, context={"references": "all"},
        request={"request": "Go on", "images": [start.model_dump()]},
    )  # fmt: skip
    assert [len(sources) for _, _, sources in generator.calls] == [1, 2, 3]
    assert generator.calls[2][2][0] == start.sha256


async def test_rejected_is_drawn_again_with_the_refined_prompt_and_another_seed(images):
    document, state, generator = await run(drawn_plan(1), False, False, images=images)
    assert [prompt for prompt, _, _ in generator.calls] == ["p1", "p1!", "p1!!"]
    assert len({seed for _, seed, _ in generator.calls}) == 3
    assert document.status == "complete"
    assert [record["verdict"]["accepted"] for record in state["attempts"].values()] == [False, False, True]


async def test_empty_refined_prompt_repeats_the_last_one(images):
    _, _, generator = await run(drawn_plan(1), Verdict(accepted=False), images=images)
    assert [prompt for prompt, _, _ in generator.calls] == ["p1", "p1"]


async def test_exhausted_is_marked_and_the_run_goes_on(images):
    document, state, _ = await run(drawn_plan(2), False, False, images=images, context={"max_attempts": 2})
    assert outcomes(document) == ["exhausted", "accepted"]
    assert document.status == "partial"
    assert "step 1 exhausted" in document.reason
    assert len(state["attempts"]) == 3


async def test_keep_best_keeps_the_attempt_with_the_highest_score(images):
    script = [Verdict(accepted=False, score=score) for score in (0.2, 0.9, 0.4)]
    context = {"max_attempts": 3, "on_exhausted": "keep_best"}
    _, state, _ = await run(drawn_plan(1), *script, images=images, context=context)
    assert state["results"]["0"]["attempt"] == 2
    assert state["results"]["0"]["image"] == state["attempts"]["0/2"]["image"]


async def test_stop_on_exhausted_ends_the_run_there(images):
    context = {"max_attempts": 1, "on_exhausted": "stop"}
    document, _, generator = await run(drawn_plan(3), True, False, images=images, context=context)
    assert outcomes(document) == ["accepted", "exhausted", None]
    assert document.status == "partial" and "on_exhausted is stop" in document.reason
    assert len(generator.calls) == 2


@pytest.mark.parametrize("error", [UnreadableAnswer("prose"), BackendUnavailable("503"), RuntimeError("bug")])
async def test_a_critic_that_gives_no_verdict_leaves_the_step_unverified(images, error):
    document, state, _ = await run(drawn_plan(2), error, error, error, error, images=images)
    assert outcomes(document)[0] == "unverified"
    assert document.status == "partial"
    assert str(error) in document.steps[0].reason
    assert state["results"]["0"]["image"]


async def test_a_step_that_cannot_be_drawn_fails_alone(images):
    document, _, generator = await run(drawn_plan(3), images=images, failures={1: BackendError("refused")})
    assert outcomes(document) == ["accepted", "failed", "accepted"]
    assert document.status == "partial"
    assert document.steps[1].reason == "refused"
    assert len(generator.calls) == 3


async def test_a_failure_after_a_rejection_keeps_the_rejected_picture(images):
    document, state, _ = await run(drawn_plan(1), False, images=images, failures={1: BackendError("refused")})
    assert outcomes(document) == ["exhausted"]
    assert state["results"]["0"]["attempt"] == 1


async def test_an_unreachable_generator_is_retried_then_ends_the_run(images):
    gone = BackendUnavailable("connection refused")
    document, _, generator = await run(drawn_plan(3), images=images, failures=dict.fromkeys(range(1, 9), gone))
    assert outcomes(document) == ["accepted", "failed", None]
    assert document.reason == "connection refused"
    assert len(generator.calls) == 1 + 4


async def test_a_generator_that_recovers_loses_nothing(images):
    document, _, generator = await run(drawn_plan(1), images=images, failures={0: BackendUnavailable("busy")})
    assert document.status == "complete"
    assert len(generator.calls) == 2


@pytest.mark.parametrize("error", [BackendError("unknown subject"), ValueError("not JSON")])
async def test_a_planner_that_fails_gives_a_failed_document_with_the_reason(images, error):
    document, _, _ = await run(ScriptedPlanner(error), images=images)
    assert document.status == "failed"
    assert str(error) in document.reason
    assert document.blocks == []


async def test_an_unreachable_generator_at_the_first_step_fails_the_run(images):
    gone = BackendUnavailable("connection refused")
    document, _, _ = await run(drawn_plan(2), images=images, failures=dict.fromkeys(range(9), gone))
    assert (document.status, document.reason) == ("failed", "connection refused")


@pytest.mark.parametrize("answer", [None, {"steps": []}, "a plan"])
async def test_an_answer_of_the_wrong_type_is_an_error_of_the_backend(images, answer):
    document, _, _ = await run(ScriptedPlanner(answer), images=images)
    assert document.status == "failed" and "instead of a Plan" in document.reason
    document, _, _ = await run(drawn_plan(1), images=images, generator=Answering(answer))
    assert document.status == "failed" and "instead of a Picture" in document.steps[0].reason


class Answering(PlainGenerator):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    async def generate(self, *args):
        return self.answer


async def test_a_plan_without_steps_fails_clearly(images):
    document, _, _ = await run(Plan(steps=[]), images=images)
    assert (document.status, document.reason) == ("failed", "the plan has no steps")


async def test_text_steps_are_never_drawn(images):
    plan = Plan(steps=[
        Step(number=1, auxiliary_text="Words."),
        Step(number=2, instruction="Do", prompt="p"),
        Step(number=3, instruction="Only words here", prompt="  "),
    ])  # fmt: skip
    document, _, generator = await run(plan, images=images)
    assert outcomes(document) == ["text", "accepted", "text"]
    assert document.status == "complete"
    assert len(generator.calls) == 1
    assert [block.text for block in document.blocks if block.type == "text"] == ["Words.", "Do", "Only words here"]


async def test_the_order_of_the_plan_decides_not_its_numbers(images):
    plan = Plan(steps=[Step(number=n, prompt=f"p{i}") for i, n in enumerate((3, 3, -7, 1))])
    document, _, generator = await run(plan, images=images)
    assert [prompt for prompt, _, _ in generator.calls] == ["p0", "p1", "p2", "p3"]
    assert [step.number for step in document.steps] == [3, 4, 5, 6]


async def test_missing_numbers_are_filled(images):
    document, _, _ = await run(Plan(steps=[Step(prompt="a"), Step(prompt="b")]), images=images)
    assert [step.number for step in document.steps] == [1, 2]


async def test_five_attempts_on_every_step_of_a_long_plan(images):
    document, state, generator = await run(drawn_plan(8), *[False] * 40, images=images)
    assert outcomes(document) == ["exhausted"] * 8
    assert len(generator.calls) == len(state["attempts"]) == 40


async def test_budget_of_generator_calls(images):
    document, _, generator = await run(drawn_plan(5), images=images, context={"max_generator_calls": 2})
    assert outcomes(document) == ["accepted", "accepted", None, None, None]
    assert document.reason == "the budget of 2 generator calls is spent"
    assert len(generator.calls) == 2


async def test_budget_of_seconds(images, monkeypatch):
    async def take_a_second(watch, work):
        watch.seconds += 1
        return await work

    monkeypatch.setattr(calling.Stopwatch, "time", take_a_second)
    document, _, _ = await run(drawn_plan(5), images=images, context={"max_seconds": 5})
    assert outcomes(document) == ["accepted", "accepted", None, None, None]
    assert "seconds is spent" in document.reason


async def test_a_budget_spent_on_the_last_step_is_no_failure(images):
    document, _, _ = await run(drawn_plan(2), images=images, context={"max_generator_calls": 2})
    assert document.status == "complete"


async def test_chat_messages_are_a_request(images):
    planner = ScriptedPlanner(drawn_plan(1))
    image = {"type": "image", "base64": __import__("base64").b64encode(plain_picture().data).decode(),
             "mime_type": "image/png"}  # fmt: skip
    message = HumanMessage(content=[{"type": "text", "text": "Go on"}, image])
    document, state, generator = await run(planner, images=images, request={"messages": [message]})
    assert planner.requests == ["Go on"]
    assert document.request == "Go on"
    assert generator.calls[0][2] == [plain_picture().ref.sha256]
    assert state["messages"][-1].type == "ai"


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"request": "  "}, "the request is empty"),
        ({"request": 5}, "the request is a int; give a string"),
        ({"request": "x" * 30_000}, "at most 20,000"),
        ({"request": "what is <image>?"}, "1 <image> tag(s) but 0 picture(s)"),
        ({"request": "Go on", "images": ["/etc/passwd"]}, "no file is read"),
        ({"request": "Go on", "images": ["http://10.0.0.1/x.png"]}, "is a private address"),
        ({"request": "Go on", "images": ["data:image/png;base64,!!!"]}, "not valid base64"),
        ({"request": "Go on", "images": ["data:image/png;base64,aGVsbG8="]}, "is not a picture"),
        ({"request": "Go on", "images": [{"sha": 1}]}, "neither an ImageRef"),
    ],
)
async def test_bad_input_ends_in_a_failed_document_that_says_so(images, request_, said):
    document, _, generator = await run(drawn_plan(1), images=images, request=request_)
    assert document.status == "failed"
    assert said in document.reason
    assert not generator.calls


async def test_settings_that_do_not_fit_raise_before_anything_is_done(images):
    planner = ScriptedPlanner(drawn_plan(1))
    with pytest.raises(ValidationError, match="max_attempts"):
        await run(planner, images=images, context={"max_attempts": 0})
    assert planner.requests == []


async def test_an_unknown_backend_name_is_told_with_the_choices(images):
    graph = build_graph(images=images).compile()
    result = await graph.ainvoke({"request": "a cat"}, context={"planner": "sandbx"})
    assert result["status"] == "failed"
    assert "'sandbx' is unknown; choose one of: chat, local, one-step, sandbox" in result["document"]["reason"]


async def test_a_second_request_on_the_same_thread_starts_afresh(images):
    graph = build_graph(
        planner=ScriptedPlanner(drawn_plan(2)), critic=ScriptedCritic(), generator=PlainGenerator(), images=images
    ).compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "t"}}
    start = await images.put(plain_picture())
    await graph.ainvoke({"request": "one", "images": [start.model_dump()]}, config)
    result = await graph.ainvoke({"request": "two"}, config)
    assert result["document"]["request"] == "two"
    assert (await graph.aget_state(config)).values["attempts"]["0/1"]["sources"] == []
    paused = await graph.ainvoke({"request": "three"}, config, context={"review": True})
    assert (paused["status"], paused["document"]) == ("running", {})
    await graph.ainvoke(Command(resume={"action": "approve"}), config, context={"review": True})
    assert len((await graph.aget_state(config)).values["attempts"]) == 2


steps = st.builds(
    Step,
    number=st.integers(-5, 60),
    name=st.text(max_size=5),
    instruction=st.none() | st.text(max_size=10),
    prompt=st.none() | st.text(max_size=10),
    auxiliary_text=st.none() | st.text(max_size=10),
)
verdicts = st.sampled_from([True, False, UnreadableAnswer("?")])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plan=st.lists(steps, max_size=12).map(lambda steps: Plan(steps=steps)),
    script=st.lists(verdicts, max_size=40),
    failing=st.sets(st.integers(0, 30), max_size=4),
    attempts=st.integers(1, 5),
)
async def test_every_run_ends_within_bounds(plan, script, failing, attempts):
    """Any plan with any verdicts and failures ends, in a number of supersteps bounded by plan and attempts."""
    generator = PlainGenerator({call: BackendError("no") for call in failing})
    graph = build_graph(
        planner=ScriptedPlanner(plan), critic=ScriptedCritic(*script), generator=generator,
        images=ImageStore("memory://property"),
    ).compile()  # fmt: skip
    drawn = sum(step.draws for step in plan.steps)
    # planner, compose; accept for each step; at most generator, critic, refine for each attempt
    bound = 2 + len(plan.steps) + 3 * attempts * drawn
    supersteps = 0
    async for _ in graph.astream(
        {"request": "x"}, {"recursion_limit": bound + 1}, context={"max_attempts": attempts}, stream_mode="updates"
    ):
        supersteps += 1
    assert supersteps <= bound
    assert len(generator.calls) <= attempts * drawn


class TestLookahead:
    async def test_the_document_is_the_same_and_discarded_drafts_are_kept(self, images):
        script = [False, True, True, False, False, True]
        plan = Plan(steps=[*drawn_plan(2).steps, Step(number=3, auxiliary_text="Words."), *drawn_plan(3).steps])
        plain, _, one = await run(plan, *script, images=images, generator=Repeatable())
        ahead, state, two = await run(plan, *script, images=images, generator=Repeatable(), context={"lookahead": True})
        assert ahead == plain
        assert [call for call in two.calls if call in one.calls] and len(two.calls) > len(one.calls)
        discarded = [draft for draft in state["drafts"].values() if draft.get("discarded")]
        assert len(discarded) == len(two.calls) - len(one.calls)
        assert "which was not accepted" in discarded[0]["discarded"]

    async def test_critic_and_generator_work_at_the_same_time(self, images):
        working, most = set(), 0

        async def busy(name):
            nonlocal most
            working.add(name)
            most = max(most, len(working))
            await asyncio.sleep(0.02)
            working.discard(name)

        class Generator(Repeatable):
            async def generate(self, *args):
                await busy("generator")
                return await super().generate(*args)

        class Critic(ScriptedCritic):
            async def review(self, *args):
                await busy("critic")
                return await super().review(*args)

        graph = build_graph(
            planner=ScriptedPlanner(drawn_plan(3)), critic=Critic(), generator=Generator(), images=images
        ).compile()
        await graph.ainvoke({"request": "x"}, context={"lookahead": True})
        assert most == 2

    async def test_discarded_drafts_count_towards_the_budget(self, images):
        context = {"lookahead": True, "max_generator_calls": 4}
        document, _, generator = await run(
            drawn_plan(6), *[False] * 30, images=images, generator=Repeatable(), context=context
        )
        assert len(generator.calls) <= 4
        assert document.status == "partial"

    async def test_a_draft_that_fails_is_drawn_again_in_its_turn(self, images):
        document, _, _ = await run(
            drawn_plan(2), images=images, failures={1: BackendError("too early")}, context={"lookahead": True}
        )
        assert document.status == "complete"


class Repeatable(PlainGenerator):
    """The same call gives the same picture, whenever it is made."""

    async def generate(self, prompt, sources, seed, size):
        self.calls.append((prompt, seed, [source.ref.sha256 for source in sources]))
        return plain_picture((seed % 256, seed // 256 % 256, seed // 65536 % 256))


async def test_a_plan_that_is_too_long_is_not_carried_out(images):
    document, _, generator = await run(drawn_plan(51), images=images)
    assert document.status == "failed" and not generator.calls
    assert "51 pictures; ask for at most 50, or raise max_steps" in document.reason
    document, _, generator = await run(drawn_plan(51), images=images, context={"max_steps": 51})
    assert document.status == "complete" and len(generator.calls) == 51


async def test_texts_do_not_count_towards_the_length_of_a_plan(images):
    plan = Plan(steps=[*drawn_plan(2).steps, *(Step(instruction="words") for _ in range(60))])
    document, _, _ = await run(plan, images=images, context={"max_steps": 2})
    assert document.status == "complete"


@pytest.mark.parametrize(("steps", "attempts"), [(1, 1), (3, 5), (2, 1), (4, 20)])
async def test_the_default_budget_has_room_for_every_attempt_of_every_step(images, steps, attempts):
    verdicts = [False] * steps * attempts
    document, _, generator = await run(drawn_plan(steps), *verdicts, images=images, context={"max_attempts": attempts})
    assert len(generator.calls) == steps * attempts
    assert "budget" not in document.reason
