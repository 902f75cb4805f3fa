"""A run ends in a status and a reason, whatever a backend raises or writes and whatever a caller sends."""

import asyncio
import base64
import io
import json

import pytest
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from PIL import Image, PngImagePlugin
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan, plain_picture

from interleaver.agents.chat import ChatCritic, ChatPlanner
from interleaver.errors import BackendError
from interleaver.graph.builder import build_graph
from interleaver.profile import Profile
from interleaver.runner import Runner
from interleaver.store.images import ImageStore
from interleaver.tools import Capabilities
from interleaver.traces.trace import Trace
from interleaver.types import Plan, Step, Verdict

SURROGATE = "a \ud800 b"


class Says(BaseChatModel):
    """A chat model that always says the same."""

    answer: str

    def _generate(self, messages, stop=None, run_manager=None, **options):
        return ChatResult(generations=[ChatGeneration(message=AIMessage(self.answer))])

    @property
    def _llm_type(self):
        return "says"


class Raises:
    """A backend of every kind that raises."""

    capabilities = Capabilities(max_sources=1)

    def __init__(self, error):
        self.error = error

    async def generate(self, *arguments):
        raise self.error

    plan = review = generate


class Writes:
    """A planner and critic whose answers are made when they are asked."""

    def __init__(self, make):
        self.make = make

    async def plan(self, *arguments):
        return self.make()

    async def review(self, *arguments):
        return self.make()


class Panic(BaseException):
    """Like a panic of a library in Rust."""


def drawn(**fields):
    return Step(**{"number": 1, "name": "a", "instruction": "a red star", "prompt": "a red star"} | fields)


async def ended(tmp_path, **backends):
    """Run a document with a store, and return its trace, which is stored and read again."""
    runner = Runner(Profile.model_validate({"run": {"width": 64, "height": 64, "max_attempts": 2}}), tmp_path)
    ready = {"planner": ScriptedPlanner(drawn_plan(1)), "critic": ScriptedCritic(), "generator": PlainGenerator()}
    runner.builder = build_graph(images=runner.runs.images, **(ready | backends))
    record = await runner.begin("a red star", [], {"seed": 1})
    async for _ in runner.work(record):
        pass
    async for _ in runner.work(record):  # and it may be resumed
        pass
    trace = runner.runs.trace(record.run_id)
    assert isinstance(trace, Trace)
    return trace


ERRORS = [
    BackendError(SURROGATE),
    RuntimeError(SURROGATE),
    RuntimeError("a\0b"),
    Panic("boom"),
    SystemExit(3),
    asyncio.CancelledError(),
    MemoryError(),
    RecursionError(),
    StopIteration(),
    StopAsyncIteration(),
    KeyError("k"),
    OSError(28, "No space left on device"),
]


@pytest.mark.parametrize("role", ["planner", "critic", "generator"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_whatever_a_backend_raises(tmp_path, role, error):
    trace = await ended(tmp_path, **{role: Raises(error)})
    expected = {"planner": "failed", "generator": "failed", "critic": "partial"}
    assert trace.status == expected[role]
    reasons = [result.reason for result in trace.results if result]
    assert trace.failure or all(reasons)


async def test_a_cancellation_from_outside_is_no_failure_of_the_backend(tmp_path):
    started = asyncio.Event()

    class Waits(PlainGenerator):
        async def generate(self, *arguments):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(ended(tmp_path, generator=Waits()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


TAGGED_PLAN = (
    '<answer>{"execution_plan": [{"step_name": "NAME", "instruction": "a star", "prompt": "a star"}]}</answer>'
)
VERDICT = '{"reasoning": "NAME", "previous_step_success": true, "refine_prompt": ""}'


@pytest.mark.parametrize("text", [SURROGATE, "a\0b", "\udfff\ud800", "\ud83d\ude00"])
async def test_whatever_a_chat_model_writes(tmp_path, text):
    planner = ChatPlanner(model=Says(answer=TAGGED_PLAN.replace("NAME", text)), format="tagged")
    critic = ChatCritic(model=Says(answer=VERDICT.replace("NAME", text)), format="tagged")
    trace = await ended(tmp_path, planner=planner, critic=critic)
    assert trace.status == "complete"
    unreadable = await ended(tmp_path / "2", planner=ChatPlanner(model=Says(answer=text), format="tagged"))
    assert unreadable.status == "failed" and unreadable.failure


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (lambda: Plan(steps=[drawn(name=SURROGATE)]), "complete"),
        (lambda: Plan(steps=[drawn(name="a\0", prompt="b\0")]), "complete"),
        (lambda: Plan(steps=[drawn(name="n" * 20_001)]), "failed"),
        (lambda: Plan(steps=[drawn(prompt="n" * 5_000_000)]), "failed"),
        (lambda: Plan(steps=[drawn()], reasoning="r" * 200_001), "failed"),
        (lambda: Plan(steps=[Step(number=1, name="t", auxiliary_text="t")] * 1_001), "failed"),
        (lambda: Plan(steps=[drawn()] * 51), "failed"),
        (lambda: Plan(steps=[]), "failed"),
        (lambda: {"steps": []}, "failed"),
    ],
)
async def test_whatever_a_planner_of_ones_own_returns(tmp_path, make, status):
    trace = await ended(tmp_path, planner=Writes(make))
    assert trace.status == status
    if status == "failed" and trace.failure:
        assert "\n" not in trace.failure.reason and len(trace.failure.reason) < 300


@pytest.mark.parametrize(
    "make",
    [
        lambda: Verdict(accepted=False, refined_prompt=SURROGATE, reasoning=SURROGATE),
        lambda: Verdict(accepted=False, refined_prompt="p" * 20_001),
        lambda: None,
    ],
)
async def test_whatever_a_critic_of_ones_own_returns(tmp_path, make):
    assert (await ended(tmp_path, critic=Writes(make))).status == "partial"


def graph(store=None):
    backends = {"planner": ScriptedPlanner(drawn_plan(1)), "critic": ScriptedCritic(), "generator": PlainGenerator()}
    return build_graph(images=store or ImageStore("memory://words"), **backends).compile()


@pytest.mark.parametrize("request_text", [SURROGATE, "a\0b", 5, None, ["a"], "a" * 20_001])
async def test_whatever_is_asked(request_text):
    result = await graph().ainvoke({"request": request_text})
    assert result["status"] == ("complete" if request_text in (SURROGATE, "a\0b") else "failed")
    json.dumps(result["document"]).encode()


@pytest.mark.parametrize(
    "address",
    [
        "data:image/png;base64,\u00e9",
        "data:",
        "data:,",
        "file:///etc/passwd",
        "/etc/passwd",
        "ftp://127.0.0.1/x",
        "http://",
        "sha256:x",
        [1],
        {},
        {"sha256": "../../etc/passwd"},
        None,
        5,
        "\ud800",
    ],
)
async def test_whatever_is_sent_as_a_picture(address):
    result = await graph().ainvoke({"request": "a", "images": [address]})
    assert result["status"] == "failed" and result["document"]["reason"]


async def test_too_many_pictures():
    result = await graph().ainvoke({"request": "a", "images": ["data:,"] * 65})
    assert "at most 64 are allowed" in result["document"]["reason"]


@pytest.mark.parametrize(
    "change",
    [
        {"size": 1e9},
        {"size": float("nan")},
        {"size": -5},
        {"size": "x"},
        {"x": None},
        {"x": float("inf")},
        {"part": ["a"]},
        {"part": "none"},
        {"kind": []},
        {"copies": 10_000},
    ],
)
async def test_a_picture_that_lies_about_its_scene_is_taken_for_its_pixels(change):
    item = {"ident": 1, "kind": "cat", "part": None, "colour": "orange", "x": 0.5, "y": 0.5, "size": 0.4} | change
    copies = item.pop("copies", 1)
    info = PngImagePlugin.PngInfo()
    scene = {"background": "white paper", "items": [item] * copies, "smudges": []}
    info.add_itxt("interleaver-scene", json.dumps(scene), zip=True)
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(buffer, "PNG", pnginfo=info)
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    store = ImageStore("memory://lies")
    result = (
        await build_graph(images=store)
        .compile()
        .ainvoke({"request": "add a red star at the top", "images": [url]}, context={"max_attempts": 1})
    )
    assert result["status"] in ("complete", "partial") and len(result["document"]["blocks"]) == 2


async def test_a_chat_whose_memory_lies_about_a_picture():
    """Only the hash counts; a claimed size of 100,000 pixels would take 40 GB."""
    store = ImageStore("memory://claims")
    ref = (await store.put(plain_picture())).model_dump()
    for claim in (ref, ref | {"sha256": "a" * 64}):
        step = drawn().model_dump()
        result = {"outcome": "accepted", "attempt": 1, "image": claim | {"width": 100_000, "height": 100_000}}
        memory = {
            "request": "a",
            "images": [claim | {"width": 10**5}],
            "plan": {"steps": [step]},
            "results": {"0": result},
        }
        answer = AIMessage("done", name="interleaver", response_metadata={"interleaver": memory})
        backends = {
            "planner": ScriptedPlanner(drawn_plan(1)),
            "critic": ScriptedCritic(),
            "generator": PlainGenerator(),
        }
        graph = build_graph(images=store, **backends).compile()
        change = {"action": "redraw", "step": 1}
        outcome = await graph.ainvoke(
            {"messages": [HumanMessage("a"), answer], "change": change}, context={"max_attempts": 1}
        )
        assert outcome["status"] in ("complete", "partial", "failed")
        assert all(
            block["image"]["width"] < 1000 for block in outcome["document"]["blocks"] if block["type"] == "image"
        )
