"""Fuzz every door: whatever comes in, what comes out is a result or an error in words.

    PYTHONPATH=tests python tests/torture/fuzz.py plans --inputs 200000

A door is a function that takes a source of random numbers, makes an input from valid ones and hands it in. It raises
only what the door promises to raise. An input that does anything else is printed with its number, by which it can be
made again; it then becomes a case of a test.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan, plain_picture

from interleaver.errors import BadInput, UnreadableAnswer
from interleaver.pictures import Picture
from interleaver.store.images import ImageStore

RECORDS = Path(__file__).parents[1] / "support/records"
PHOTOGRAPH = Path(__file__).parents[1] / "support/pictures/phone.heic"

STRANGE_TEXTS = [
    "",
    " ",
    "\0",
    "\ud800",
    "\udfff\ud800",
    "é",
    "漢字",
    "\u202e",
    "\u2028",
    "<image>",
    "</answer>",
    "<answer>",
    "```json",
    "{{7*7}}",
    "%s",
    "\x1b[2J",
    "null",
    "None",
    "-1",
    "1e999",
    "9" * 5000,
    "../../etc/passwd",
    "data:,",
    "http://127.0.0.1/",
    "sha256:" + "a" * 64,
    "a" * 30000,
    "\n" * 3000,
    "{" * 300,
    "[" * 3000,
    "<svg>",
    "²",
    "0x10",
    "\\ud800",
    "'",
    '"',
    "`",
]
STRANGE_VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1.5,
    float("nan"),
    float("inf"),
    10**400,
    -(2**63),
    [],
    {},
    [[]],
    {"": None},
    [None],
    {"a": {"a": {}}},
    *STRANGE_TEXTS,
]


def mutate_text(text: str, rng: Random) -> str:
    """Return a text with a few parts removed, repeated, replaced or inserted."""
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        start = rng.randint(0, len(text))
        end = min(len(text), start + rng.choice((0, 1, 2, 5, 20, 200)))
        part = rng.choice(
            (
                "",
                text[start:end] * 2,
                rng.choice(STRANGE_TEXTS),
                chr(rng.randrange(0x300)),
                rng.choice("{}[]\"',:\\<>/"),
            )
        )
        text = text[:start] + part + text[end:]
    return text[:60_000]


def mutate_bytes(data: bytes, rng: Random) -> bytes:
    """Return bytes with a few of them changed, removed, repeated or cut off."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        start = rng.randrange(len(changed) + 1)
        match rng.randrange(5):
            case 0 if start < len(changed):
                changed[start] = rng.randrange(256)
            case 1:
                del changed[start : start + rng.choice((1, 4, 100))]
            case 2:
                changed[start:start] = rng.randbytes(rng.choice((1, 4, 50)))
            case 3:
                changed[start : start + 4] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\1"))
            case 4 if rng.random() < 0.2:
                del changed[start:]
    return bytes(changed)


def mutate_value(value: Any, rng: Random) -> Any:
    """Return a JSON value with one of its parts replaced, removed, added or changed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        changed = dict(value)
        match rng.randrange(10):
            case 0:
                del changed[key]
            case 1:
                changed[rng.choice((key + "s", "x", "type", "action"))] = rng.choice(STRANGE_VALUES)
            case 2:
                changed[key] = rng.choice(STRANGE_VALUES)
            case _:
                changed[key] = mutate_value(value[key], rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.9:
        position = rng.randrange(len(value))
        changed_list = list(value)
        match rng.randrange(8):
            case 0:
                del changed_list[position]
            case 1:
                changed_list.insert(position, rng.choice([*STRANGE_VALUES, value[position]]))
            case 2:
                changed_list = changed_list * rng.choice((2, 50))
            case _:
                changed_list[position] = mutate_value(value[position], rng)
        return changed_list
    if isinstance(value, str) and rng.random() < 0.6:
        return mutate_text(value, rng)
    return rng.choice(STRANGE_VALUES)


Door = Callable[[Random], Any]


def text_door(read: Callable[[str], Any], seeds: list[str]) -> Door:
    """Return a door for texts of models, which may be unreadable."""

    def enter(rng: Random) -> str:
        text = mutate_text(rng.choice(seeds), rng)
        try:
            read(text).model_dump_json() if hasattr(read, "model") else json.dumps(_plain(read(text))).encode()
        except (UnreadableAnswer, BadInput):
            return "refused"
        return "read"

    return enter


def _plain(value: Any) -> Any:
    """Return a result as JSON that files and databases take; raises if it cannot be stored."""
    return json.loads(value.model_dump_json()) if hasattr(value, "model_dump_json") else value


def plans() -> Door:
    from interleaver.agents.answers import parse_plan, parse_revision
    from interleaver.agents.schemas import write_plan
    from interleaver.agents.tagged import plan_answer

    plan = drawn_plan(3)
    python = str(json.loads(write_plan(plan)))
    seeds = [write_plan(plan), plan_answer(plan), python, f"<think>so</think>\n```json\n{write_plan(plan)}\n```"]
    doors = [text_door(parse_plan, seeds), text_door(parse_revision, seeds)]
    return lambda rng: rng.choice(doors)(rng)


def verdicts() -> Door:
    from interleaver.agents.answers import parse_verdict
    from interleaver.agents.tagged import verdict_answer
    from interleaver.types import Verdict

    verdict = Verdict(accepted=False, refined_prompt="A red cat, 3 legs.", reasoning="It isn't red: the cat's blue.")
    tagged = verdict_answer(verdict, "a cat")
    plain = '{"reasoning": "it\\u2019s \\\\frac{1}{2}", "previous_step_success": false, "refine_prompt": "a \\"cat\\""}'
    return text_door(parse_verdict, [tagged, plain, str(json.loads(plain)), f"```\n{plain}\n```"])


def scores() -> Door:
    from interleaver.agents.chat_judge import parse_scores

    return text_door(parse_scores, ['{"score": [7, 8], "reasoning": "fine"}', "{'reasoning': 'x', 'score': [0, 10]}"])


def pictures() -> Door:
    import io

    from PIL import Image

    from interleaver.pictures import decode_data_url

    seeds = [PHOTOGRAPH.read_bytes()]
    for mode, kind, options in (
        ("RGB", "PNG", {}),
        ("P", "PNG", {}),
        ("RGBA", "PNG", {}),
        ("L", "JPEG", {}),
        ("RGB", "JPEG", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
        ("CMYK", "JPEG", {}),
        ("RGB", "WEBP", {}),
        ("RGBA", "WEBP", {"lossless": True}),
        ("P", "GIF", {}),
        ("I;16", "PNG", {}),
        ("RGB", "GIF", {"save_all": True, "append_images": [Image.new("RGB", (9, 9), "red")]}),
        ("RGB", "AVIF", {}),
    ):
        buffer = io.BytesIO()
        Image.new(mode, (9, 9)).save(buffer, kind, **options)
        seeds.append(buffer.getvalue())

    def enter(rng: Random) -> str:
        # HEIC is read in a process of its own, which takes a hundred times as long.
        data = mutate_bytes(seeds[0] if rng.random() < 0.001 else rng.choice(seeds[1:]), rng)
        try:
            if rng.random() < 0.1:
                picture = decode_data_url(mutate_text("data:image/png;base64," + base64.b64encode(data).decode(), rng))
            else:
                picture = Picture.decode(data)
        except BadInput:
            return "refused"
        assert Picture.decode(picture.data).data == picture.data
        return "read"

    return enter


def svg() -> Door:
    from interleaver.tools.svg_rendering import read_drawing

    seeds = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><style>.a{fill:url(#b)}</style>'
        '<g class="a"><path d="M0 0L9 9"/></g></svg>',
        "```svg\n<svg><text x='1'>a &amp; b &copy;</text><image href='photo'/><use href='#a'/></svg>\n```",
        '<!DOCTYPE svg [<!ENTITY a "aaaa"><!ENTITY b SYSTEM "file:///etc/passwd">]><svg>&a;&b;</svg>',
        '<svg><filter id="f"><feImage href="http://127.0.0.1/"/></filter><rect filter="url(#f)" onload="x()"/></svg>',
    ]
    readers = [
        read_drawing,
        lambda text: read_drawing(text, photograph=True),
        lambda text: read_drawing(text, strict=True),
    ]
    doors = [text_door(read, seeds) for read in readers]
    return lambda rng: rng.choice(doors)(rng)


def traces() -> Door:
    from interleaver.traces.trace import Trace, read_trace
    from interleaver.types import Attempt, StepResult, Verdict

    ref = plain_picture().ref
    attempt = Attempt(step=0, attempt=1, prompt="p", seed=1, image=ref, verdict=Verdict(accepted=True))
    trace = Trace(
        run_id="r",
        source="run",
        request="a cat",
        seed=1,
        settings={"seed": 1},
        plan=drawn_plan(2),
        attempts=[attempt],
        results=[StepResult(outcome="accepted", attempt=1, image=ref), None],
        status="partial",
    )
    seed = json.loads(trace.model_dump_json())

    def enter(rng: Random) -> str:
        if rng.random() < 0.3:
            data = mutate_bytes(json.dumps(seed).encode(), rng)
        else:
            data = json.dumps(mutate_value(seed, rng)).encode("utf-8", "surrogatepass")
        result = read_trace(data, "r")
        result.model_dump_json()
        return type(result).__name__

    return enter


def records() -> Door:
    from interleaver.traces.sources.records import RecordSource

    scratch = Path(tempfile.mkdtemp())
    folder = scratch / "klein_data/7normal"
    shutil.copytree(RECORDS / "klein_data/7normal", folder)
    seed = json.loads((folder / "execution_record.json").read_text())
    source = RecordSource(str(scratch), ImageStore("memory://fuzz-records"))

    async def enter(rng: Random) -> str:
        text = json.dumps(mutate_value(seed, rng))
        data = mutate_bytes(text.encode(), rng) if rng.random() < 0.2 else text.encode("utf-8", "surrogatepass")
        (folder / "execution_record.json").write_bytes(data)
        async for result in source.read():
            result.model_dump_json()
            return type(result).__name__
        return "nothing"

    return enter


def prompt_lists() -> Door:
    from interleaver.batch.prompt_list import read_items

    rows = [{"request": "a red circle", "images": ["a.png"], "seed": 3, "tags": {"kind": "x"}}, {"request": "a cat"}]
    path = Path(tempfile.mkdtemp()) / "list.jsonl"

    def enter(rng: Random) -> str:
        changed = mutate_value(rows, rng)
        lines = changed if isinstance(changed, list) and rng.random() < 0.5 else None
        text = "\n".join(map(json.dumps, lines)) if lines is not None else json.dumps(changed)
        data = text.encode("utf-8", "surrogatepass")
        path.write_bytes(mutate_bytes(data, rng) if rng.random() < 0.3 else data)
        try:
            for item in read_items(path, 1):
                item.model_dump_json()
        except BadInput:
            return "refused"
        return "read"

    return enter


def profiles() -> Door:
    from interleaver.profile import load_profile, shipped_profiles

    seeds = [file.read_text() for file in shipped_profiles().values()]
    path = Path(tempfile.mkdtemp()) / "profile.toml"

    def enter(rng: Random) -> str:
        path.write_bytes(mutate_text(rng.choice(seeds), rng).encode("utf-8", "surrogatepass"))
        try:
            load_profile(str(path)).model_dump_json()
        except BadInput:
            return "refused"
        return "read"

    return enter


def reviews() -> Door:
    from interleaver.graph.boundary.changes import read_change
    from interleaver.graph.boundary.review import PlanReview, ReviewedAttempt, StepReview

    plan = drawn_plan(2).numbered()
    attempts = [ReviewedAttempt(attempt=1, prompt="p", image=plain_picture().ref)]
    plan_review, step_review = (
        PlanReview(request="r", plan=plan),
        StepReview(request="r", step=plan.steps[0], attempts=attempts),
    )
    steps = [step.model_dump() for step in plan.steps]
    plan_answers = [
        {"action": "approve"},
        {"action": "reject", "feedback": "shorter"},
        {"action": "edit", "steps": steps},
        {"decisions": [{"type": "edit", "edited_action": {"name": "plan", "args": {"steps": steps}}}]},
        {"decisions": [{"type": "reject", "message": "no"}]},
    ]
    step_answers = [
        {"action": "rewrite", "prompt": "a"},
        {"action": "pick", "attempt": 1},
        {"action": "skip"},
        {"action": "stop"},
        {"decisions": [{"type": "edit", "edited_action": {"name": "step", "args": {"prompt": "b"}}}]},
    ]
    changes = [
        {"action": "revise", "request": "red"},
        {"action": "redraw", "step": 1, "prompt": "x"},
        {"action": "choose", "step": 1, "attempt": 1},
        {"action": "replace", "plan": plan.model_dump()},
    ]

    def enter(rng: Random) -> str:
        try:
            match rng.randrange(3):
                case 0:
                    answer = plan_review.read(mutate_value(rng.choice(plan_answers), rng))
                    if answer.action == "edit":
                        plan_review.apply_edits(answer).model_dump_json()
                case 1:
                    step_review.read(mutate_value(rng.choice(step_answers), rng)).model_dump_json()
                case 2:
                    read_change(mutate_value(rng.choice(changes), rng)).model_dump_json()
        except BadInput:
            return "refused"
        return "read"

    return enter


def _graph(name: str) -> Any:
    from interleaver.graph.builder import build_graph

    builder = build_graph(
        planner=ScriptedPlanner(drawn_plan(2)),
        critic=ScriptedCritic(),
        generator=PlainGenerator(),
        images=ImageStore(f"memory://fuzz-{name}"),
    )
    return builder.compile()


def chats() -> Door:
    """Chat messages with the memory of a document, as any client may send them back."""
    from langchain_core.messages import AIMessage, HumanMessage

    graph = _graph("chats")
    url = "data:image/png;base64," + base64.b64encode(plain_picture().data).decode()
    contents: list[Any] = [
        "a cat",
        [{"type": "text", "text": "like this"}, {"type": "image_url", "image_url": {"url": url}}],
        [{"type": "image", "base64": url.partition(",")[2], "mime_type": "image/png"}, "text"],
        [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
            {"type": "file", "file_id": "x"},
        ],
    ]
    memory: dict[str, Any] = {}

    async def enter(rng: Random) -> str:
        if not memory:
            result = await graph.ainvoke({"messages": [HumanMessage("a cat")]})
            memory.update(result["messages"][-1].response_metadata)
        metadata = mutate_value(memory, rng)
        content = rng.choice(contents)
        if rng.random() < 0.5:
            content = mutate_value(content, rng)
        try:
            answer = AIMessage("done", name="interleaver", response_metadata=metadata)
            messages = [HumanMessage("a cat"), answer, HumanMessage(content)]
        except ValueError:
            return "no message"  # LangChain itself refuses it
        result = await graph.ainvoke({"messages": messages})
        json.dumps(result["document"]).encode()
        return result["status"]

    return enter


def entries() -> Door:
    """The input of the graph: request, pictures and changes."""
    graph = _graph("entries")
    ref = plain_picture().ref.model_dump()
    url = "data:image/png;base64," + base64.b64encode(plain_picture().data).decode()
    seeds = [
        {"request": "a cat"},
        {"request": "<image> as a cat", "images": [url]},
        {"request": "x", "images": [ref]},
        {"request": "x", "images": ["sha256:" + ref["sha256"], {"type": "image_url", "image_url": {"url": url}}]},
        {"request": "x", "change": {"action": "redraw", "step": 1}},
        {"messages": [{"role": "user", "content": "a cat"}]},
        {"messages": [["user", "a cat"]]},
    ]

    async def enter(rng: Random) -> str:
        entry = mutate_value(rng.choice(seeds), rng)
        if not isinstance(entry, dict):
            return "no input"
        entry = {key: value for key, value in entry.items() if key in ("request", "images", "messages", "change")}
        try:
            result = await graph.ainvoke(entry)
        except Exception as error:
            if _is_langgraphs(error):
                return "refused by LangGraph"
            raise
        json.dumps(result["document"]).encode()
        return result["status"]

    return enter


def _is_langgraphs(error: Exception) -> bool:
    """Return whether LangGraph itself, or LangChain, refuses an input as none, or messages as none."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path('interleaver')}/" not in frames[-1].filename.rpartition("site-packages")[2]


class _Service:
    model = "fuzz"

    async def draw(self, requests: Any) -> list[Picture]:
        return [plain_picture((request.seed % 256, 0, 0)) for request in requests]


def images_server() -> Door:
    import httpx

    from interleaver.serving.images_server import create_app

    app = create_app(_Service())
    data_url = "data:image/png;base64," + base64.b64encode(plain_picture().data).decode()
    generation = {"prompt": "a cat", "n": 1, "size": "64x64", "seed": 3, "response_format": "b64_json"}
    edit = {"prompt": "red", "image": data_url, "seed": 1, "width": 64, "height": 64}
    form = {"prompt": "red", "size": "64x64", "seed": "3"}

    async def enter(rng: Random) -> str:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        headers = {"content-type": "application/json"}
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            match rng.randrange(3):
                case 0 | 1 as number:
                    path, seed = ("/v1/images/generations", generation) if number else ("/edit", edit)
                    body = json.dumps(mutate_value(seed, rng)).encode("utf-8", "surrogatepass")
                    body = mutate_bytes(body, rng) if rng.random() < 0.3 else body
                    response = await client.post(path, content=body, headers=headers)
                case _:
                    fields = {
                        key: mutate_text(value, rng)[:2000].encode("utf-8", "replace") for key, value in form.items()
                    }
                    files = [("image[]", ("a.png", mutate_bytes(plain_picture().data, rng)))]
                    request = client.build_request("POST", "/v1/images/edits", data=fields, files=files)
                    body = request.read()
                    body = mutate_bytes(body, rng) if rng.random() < 0.3 else body
                    headers = {"content-type": request.headers["content-type"]}
                    response = await client.post("/v1/images/edits", content=body, headers=headers)
        assert response.status_code < 500, (response.status_code, response.text[:300])
        response.json()
        return str(response.status_code)

    return enter


def mcp() -> Door:
    from interleaver.adapters.mcp import create_server
    from interleaver.adapters.mcp_sdk import ToolError
    from interleaver.profile import Profile
    from interleaver.runner import Runner

    runner = Runner(Profile.model_validate({"run": {"width": 64, "height": 64, "max_attempts": 1}}), tempfile.mkdtemp())
    runner.builder = _graph_builder(runner)
    server = create_server(runner)
    run_id: list[str] = []

    async def enter(rng: Random) -> str:
        if not run_id:
            record = await runner.begin("a cat", [], {"seed": 1})
            async for _ in runner.work(record):
                pass
            run_id.append(record.run_id)
        calls = [
            ("illustrate", {"request": "a cat", "images": [], "seed": 1}),
            ("revise", {"run_id": run_id[0], "step": 1}),
            ("get_document", {"run_id": run_id[0]}),
            ("get_picture", {"sha256": "a" * 64}),
            ("list_runs", {}),
            ("resume_run", {"run_id": run_id[0]}),
            ("cancel_run", {"run_id": run_id[0]}),
        ]
        weights = [1, 1, 6, 6, 1, 1, 6]  # the others begin runs
        tool, arguments = rng.choices(calls, weights)[0]
        changed = mutate_value(arguments, rng)
        try:
            await server.call_tool(tool, changed if isinstance(changed, dict) else {})
        except ToolError:
            return "refused"
        return "answered"

    return enter


def _graph_builder(runner: Any) -> Any:
    from interleaver.graph.builder import build_graph

    return build_graph(
        planner=ScriptedPlanner(drawn_plan(1)),
        critic=ScriptedCritic(),
        generator=PlainGenerator(),
        images=runner.runs.images,
    )


DOORS: dict[str, Callable[[], Door]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        plans,
        verdicts,
        scores,
        pictures,
        svg,
        traces,
        records,
        prompt_lists,
        profiles,
        reviews,
        chats,
        entries,
        images_server,
        mcp,
    )
}
"""Every door by name; a door that makes runs takes longer."""


async def fuzz(door: str, inputs: int, seed: int = 0, first: int = 0, show: int = 5) -> tuple[Counter[str], list[str]]:
    """Hand inputs to a door.

    Args:
        door: name of the door.
        inputs: number of inputs.
        seed: selects the inputs.
        first: number of the first input, to go on where a former part ended.
        show: number of crashes to describe.

    Returns:
        How often each outcome came, and a paragraph for each crash.
    """
    enter = DOORS[door]()
    outcomes: Counter[str] = Counter()
    crashes: list[str] = []
    for number in range(first, first + inputs):
        try:
            result = enter(Random(f"{seed}/{door}/{number}"))
            outcomes[await result if isinstance(result, Awaitable) else result] += 1
        except (KeyboardInterrupt, asyncio.CancelledError):
            raise
        except BaseException as error:
            outcomes["crashed"] += 1
            if len(crashes) < show:
                crashes.append(f"{door} {seed}/{number}: {type(error).__name__}: {error!s:.200}\n{_place(error)}")
    return outcomes, crashes


def _place(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "interleaver" in frame.filename][-3:]
    return "\n".join(f"    {Path(frame.filename).name}:{frame.lineno} {frame.line}" for frame in frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("doors", nargs="*", choices=[*DOORS, []], help="doors to fuzz; all by default")
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    crashed = False
    for door in arguments.doors or DOORS:
        start = time.monotonic()
        outcomes, crashes = asyncio.run(fuzz(door, arguments.inputs, arguments.seed, arguments.first))
        rate = arguments.inputs / (time.monotonic() - start)
        print(f"{door:14} {arguments.inputs:,} inputs, {rate:,.0f}/s: {dict(outcomes.most_common())}", flush=True)
        for crash in crashes:
            print(crash, flush=True)
        crashed |= bool(crashes)
    sys.exit(crashed)


if __name__ == "__main__":
    main()
