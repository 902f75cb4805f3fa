import base64
import io
import json

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from PIL import Image
from pydantic import SecretStr
from support.fakes import PlainGenerator, ScriptedCritic, plain_picture
from support.image_endpoint import image_reply
from support.scripted_server import Reply, chat_reply, serving

from interleaver import build_graph
from interleaver.agents.answers import parse_verdict
from interleaver.agents.chat import ChatCritic, ChatPlanner
from interleaver.agents.conversation import Ask, ChatModel
from interleaver.agents.exchanges import record_exchanges
from interleaver.agents.schemas import VERDICT_SCHEMA
from interleaver.doctor import examine
from interleaver.errors import BackendError, BackendUnavailable, BadInput, Refusal, UnreadableAnswer
from interleaver.pictures import Picture
from interleaver.registry import create_backend
from interleaver.types import HOSTED_PICTURES, LOCAL_PICTURES, PicturePolicy, Plan, Step

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
STEP = Step(number=1, name="Ears", instruction="Two ears.", prompt="Add two ears.")
PLAN = {
    "reasoning": "one step will do",
    "execution_plan": [
        {"step_number": 1, "step_name": "A", "instruction": "An apple.", "prompt": "An apple.", "auxiliary_text": None}
    ],
}
TAGGED_PLAN = "<think>one</think><answer>{'execution_plan': [{'step_number': 1, 'prompt': 'An apple.'}]}</answer>"
NO = {"reasoning": "one ear only", "previous_step_success": False, "refine_prompt": "Add two ears, one on each side."}
YES = {"reasoning": "both are there", "previous_step_success": True, "refine_prompt": "Add two ears."}


def planner(server, **settings):
    return ChatPlanner(model="m", base_url=f"{server.url}/v1", **{"timeout": 5, **settings})


def critic(server, **settings):
    return ChatCritic(model="m", base_url=f"{server.url}/v1", **{"timeout": 5, **settings})


async def judged(backend):
    return await backend.review(STEP, plain_picture((255, 255, 255)), plain_picture(), "Add two ears now.")


async def test_structured_sends_a_schema_and_reads_the_object():
    with serving(chat_reply(json.dumps(PLAN))) as server:
        plan = await planner(server).plan("an apple", [])
    sent = server.requests[0].json
    assert plan.steps[0].prompt == "An apple." and plan.reasoning == "one step will do"
    assert sent["response_format"]["json_schema"]["schema"]["required"] == ["reasoning", "execution_plan"]
    assert sent["response_format"]["json_schema"]["strict"] is True
    assert [message["role"] for message in sent["messages"]] == ["user"]
    assert "an apple" in sent["messages"][0]["content"][0]["text"]
    assert "max_tokens" not in sent and "temperature" not in sent


async def test_tagged_is_one_user_turn_with_a_token_limit():
    with serving(chat_reply(TAGGED_PLAN)) as server:
        plan = await planner(server, format="tagged", temperature=0).plan("an apple", [])
    sent = server.requests[0].json
    assert plan.reasoning == "one" and plan.steps[0].prompt == "An apple."
    assert sent["max_tokens"] == 4096 and sent["temperature"] == 0 and "response_format" not in sent
    assert "<think>" in sent["messages"][0]["content"][0]["text"]


async def test_a_chat_that_goes_on_shows_the_plan_and_changes_it():
    changed = json.loads(json.dumps(PLAN).replace("An apple.", "A pear."))
    with serving(chat_reply(json.dumps(changed))) as server:
        before = Plan(steps=[Step(number=1, name="A", instruction="An {apple}.", prompt="An apple. <image>")])
        plan = await planner(server).revise("make it a pear", [], before)
    sent = server.requests[0].json["messages"][0]["content"]
    assert plan.steps[0].prompt == "A pear."
    assert len(sent) == 1 and "make it a pear" in sent[0]["text"]
    assert '"instruction": "An {apple}."' in sent[0]["text"] and '"prompt": "An apple. [image]"' in sent[0]["text"]


async def test_an_empty_plan_says_that_the_message_wants_a_document_of_its_own(images):
    replies = [PLAN, {"reasoning": "a new one", "execution_plan": []}, PLAN]
    with serving(*[chat_reply(json.dumps(reply)) for reply in replies]) as server:
        graph = build_graph(
            planner=planner(server), critic=ScriptedCritic(), generator=PlainGenerator(), images=images
        ).compile(checkpointer=InMemorySaver())
        config = {"configurable": {"thread_id": "t"}}
        await graph.ainvoke({"messages": [HumanMessage("an apple")]}, config)
        result = await graph.ainvoke({"messages": [HumanMessage("How to fold a crane?")]}, config)
    assert result["document"]["request"] == "How to fold a crane?"
    state = (await graph.aget_state(config)).values
    assert [len(exchange["messages"]) for exchange in state["plan_exchanges"]] == [1, 1]
    assert "How to fold a crane?" in server.requests[2].json["messages"][0]["content"][0]["text"]


async def test_guided_decoding_leaves_the_reasoning_free():
    with serving(chat_reply(TAGGED_PLAN)) as server:
        await planner(server, format="tagged", guided=True, extra_body={"top_k": 1}).plan("an apple", [])
    sent = server.requests[0].json
    think, answer = json.loads(sent["structured_outputs"]["structural_tag"])["format"]["elements"]
    assert think["content"] == {"type": "any_text"}
    assert answer["content"]["json_schema"]["required"] == ["execution_plan"]
    assert sent["top_k"] == 1


async def test_pictures_stand_where_their_tags_are():
    with serving(chat_reply(json.dumps(PLAN))) as server, record_exchanges() as exchanges:
        pictures = [plain_picture((1, 2, 3)), plain_picture((4, 5, 6))]
        await planner(server).plan("From <image> to <image>, please", pictures)
    content = server.requests[0].json["messages"][0]["content"]
    kinds = [part["type"] for part in content]
    assert kinds == ["text", "image_url", "text", "image_url", "text"]
    assert content[0]["text"].endswith("From ") and content[2]["text"] == " to "
    assert content[1]["image_url"]["url"].startswith("data:image/png;base64,")
    assert "Task A" in content[4]["text"]
    assert exchanges[0].messages[0].content.count("<image>") == 2
    assert exchanges[0].images == [picture.ref for picture in pictures]


async def test_five_pictures_are_shown_small():
    with serving(chat_reply(json.dumps(PLAN))) as server:
        await planner(server).plan("go on", [plain_picture((n, 0, 0), (800, 400)) for n in range(5)])
        await planner(server).plan("go on", [plain_picture((n, 0, 0), (800, 400)) for n in range(4)])
    many, few = (
        [picture_size(part) for part in request.json["messages"][0]["content"] if part["type"] == "image_url"]
        for request in server.requests
    )
    assert many == [(543, 271)] * 5 and few == [(800, 400)] * 4  # an area of 384 * 384 at most


PHOTOGRAPH = plain_picture((9, 0, 0), (3000, 1500))


async def test_pictures_are_sent_as_the_settings_say():
    whole = PicturePolicy()
    with serving(chat_reply(json.dumps(PLAN))) as server:
        for policy in (None, whole, PicturePolicy(max_side=600), PicturePolicy(formats=("image/jpeg",))):
            with record_exchanges() as exchanges:
                await planner(server, pictures=policy).plan("go on", [PHOTOGRAPH])
            assert exchanges[0].pictures == (policy or LOCAL_PICTURES)
    questions = [request.json["messages"][0]["content"] for request in server.requests]
    blocks = [next(part for part in question if part["type"] == "image_url") for question in questions]
    assert [picture_size(block) for block in blocks] == [(2896, 1448), (3000, 1500), (600, 300), (3000, 1500)]
    assert blocks[3]["image_url"]["url"].startswith("data:image/jpeg")


@pytest.mark.parametrize(
    ("url", "policy"),
    [
        (None, HOSTED_PICTURES),
        ("https://openrouter.ai/api/v1", HOSTED_PICTURES),
        ("https://8.8.8.8/v1", HOSTED_PICTURES),
        ("http://127.0.0.1:8000/v1", LOCAL_PICTURES),
        ("http://[::1]:8000/v1", LOCAL_PICTURES),
        ("http://192.168.0.7/v1", LOCAL_PICTURES),
        ("http://gpu-box:8000/v1", LOCAL_PICTURES),
        ("http://planner.internal/v1", LOCAL_PICTURES),
    ],
)
def test_limits_of_pictures_depend_on_where_the_model_is(url, policy):
    assert ChatModel(model="m", base_url=url).picture_policy == policy


async def test_no_model_sees_transparency_as_black():
    glass = Picture.encode(Image.new("RGBA", (8, 8), (0, 0, 0, 0)))
    with serving(chat_reply(json.dumps(NO))) as server:
        await critic(server).review(Step(prompt="a"), glass, glass, "a")
    for block in server.requests[0].json["messages"][0]["content"][:2]:
        sent = base64.b64decode(block["image_url"]["url"].partition(",")[2])
        assert Image.open(io.BytesIO(sent)).convert("RGBA").getpixel((4, 4)) == (255, 255, 255, 255)


def picture_size(part):
    picture = Picture.decode(base64.b64decode(part["image_url"]["url"].partition(",")[2]))
    return picture.width, picture.height


async def test_the_critic_shows_before_and_after_and_both_prompts():
    with serving(chat_reply(json.dumps(NO))) as server, record_exchanges() as exchanges:
        verdict = await judged(critic(server))
    assert not verdict.accepted and verdict.refined_prompt == NO["refine_prompt"]
    first, second, text = server.requests[0].json["messages"][0]["content"]
    assert first["type"] == second["type"] == "image_url" and first != second
    assert all(said in text["text"] for said in ("Two ears.", "Add two ears.", "Add two ears now."))
    assert exchanges[0].messages[0].content.startswith("<image><image>\n")


async def test_what_a_step_says_cannot_pass_for_a_placeholder_or_a_picture():
    step = Step(number=1, instruction="Write {rewritten_prompt} and <image>", prompt="p")
    with serving(chat_reply(json.dumps(YES))) as server, record_exchanges() as exchanges:
        await critic(server).review(step, plain_picture(), plain_picture(), "SECRET")
    text = server.requests[0].json["messages"][0]["content"][2]["text"]
    assert "Write {rewritten_prompt} and [image]" in text
    assert exchanges[0].messages[0].content.count("<image>") == len(exchanges[0].images) == 2


async def test_what_cannot_be_read_is_asked_once_more_with_the_error():
    with serving(chat_reply("I like it."), chat_reply(json.dumps(YES))) as server, record_exchanges() as exchanges:
        assert (await judged(critic(server))).accepted
    again = server.requests[1].json["messages"]
    assert [message["role"] for message in again] == ["user", "assistant", "user"]
    assert again[1]["content"] == "I like it."
    assert "no object with the key 'previous_step_success'" in again[2]["content"][0]["text"]
    assert [exchange.problem for exchange in exchanges] == ["unreadable", None]
    assert (exchanges[1].usage.input_tokens, exchanges[1].usage.output_tokens) == (11, 7)
    assert exchanges[1].seconds > 0


@pytest.mark.parametrize(
    ("reply", "problem", "error", "said"),
    [
        (chat_reply("nope"), "unreadable", UnreadableAnswer, "asked twice"),
        (chat_reply(""), "empty", UnreadableAnswer, "the answer is empty"),
        (chat_reply(None), "empty", UnreadableAnswer, "the answer is empty"),
        (chat_reply(None, reasoning="so be it"), "empty", UnreadableAnswer, "only 8 characters of reasoning"),
        (chat_reply('{"previous_', finish="length"), "truncated", UnreadableAnswer, "raise critic.max_tokens"),
        (chat_reply("so {that}", finish="length"), "truncated", UnreadableAnswer, "raise critic.max_tokens"),
        (chat_reply("", finish="length"), "truncated", UnreadableAnswer, "raise critic.max_tokens"),
        (chat_reply(None, refusal="I can't."), "refusal", Refusal, "refused: I can't."),
        (chat_reply("", finish="content_filter"), "content_filter", Refusal, "content filter"),
    ],
)
async def test_each_way_of_giving_no_answer_has_its_name(reply, problem, error, said):
    with serving(reply) as server, record_exchanges() as exchanges, pytest.raises(error, match=said) as raised:
        await judged(critic(server))
    assert "critic 'm' at http://127.0.0.1" in str(raised.value)
    assert exchanges[-1].problem == problem
    assert len(exchanges) == (1 if error is Refusal else 2)  # declining is final, everything else is asked again


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
async def test_reasoning_in_a_field_of_its_own_is_kept(field):
    bare = json.dumps({key: value for key, value in YES.items() if key != "reasoning"})
    with serving(chat_reply(bare, **{field: "I looked closely"})) as server, record_exchanges() as exchanges:
        assert (await judged(critic(server))).reasoning == "I looked closely"
    assert exchanges[0].reasoning == "I looked closely" and exchanges[0].answer == bare


@pytest.mark.parametrize(
    ("reply", "error", "said"),
    [
        (Reply({"error": {"message": "Bad key sk-hidden"}}, 401), BackendError, "answered 401: the key in MY_KEY was"),
        (Reply({"error": {"message": "no model m"}}, 404), BackendError, "check critic.model and critic.base_url"),
        (Reply({"error": {"message": "bad field"}}, 400), BackendError, "settings of .critic."),
        (Reply({"error": {"message": "later"}}, 503), BackendUnavailable, "has a problem .503."),
        (
            Reply(b"<html>hello</html>", type="text/html"),
            BackendError,
            "text/html instead of JSON; check critic.base_u",
        ),
        (Reply(b""), BackendError, "an empty body; check critic.base_url"),
        (Reply(b"{'not': json"), BackendError, "sent a response that does not match its API"),
        (Reply({"hello": "there"}), BackendError, "sent a response that does not match its API"),
        (Reply({"choices": []}), BackendError, "sent a response that does not match its API"),
        (Reply(silent=True), BackendUnavailable, r"did not answer within 2 s \(critic.timeout\)"),
    ],
)
async def test_what_is_wrong_with_an_endpoint_is_told(reply, error, said, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-hidden")
    with serving(reply) as server:
        with pytest.raises(error, match=said) as raised:
            await judged(critic(server, api_key_env="MY_KEY", timeout=2 if reply.silent else 60))
        assert server.requests[0].headers["authorization"] == "Bearer sk-hidden"
    assert "critic 'm' at http://127.0.0.1" in str(raised.value)
    assert "sk-hidden" not in str(raised.value)


async def test_a_key_with_a_line_end_is_used_without_it(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-hidden\n")
    with serving(chat_reply(json.dumps(YES))) as server:
        assert (await judged(critic(server, api_key_env="MY_KEY"))).accepted
    assert server.requests[0].headers["authorization"] == "Bearer sk-hidden"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"api_key_env": "sk-hidden"}, "api_key_env: give the name of an environment variable"),
        ({"api_key_env": "ODD_KEY"}, "the key in ODD_KEY has characters that are not printable ASCII"),
    ],
)
def test_a_key_that_cannot_be_one_is_told_without_telling_it(settings, said, monkeypatch):
    monkeypatch.setenv("ODD_KEY", "sk-hidden-schlüssel")
    with pytest.raises(BadInput, match=said) as raised:
        create_backend("planner", "chat", model="m", base_url="http://127.0.0.1:1", **settings)
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize(
    "part", ["http://me:hunter2@127.0.0.1:1/v1", "http://127.0.0.1/v1?token=hunter2", "http://a/#hunter2"]
)
def test_an_address_with_what_may_be_secret_is_refused_without_repeating_it(part):
    with pytest.raises(BadInput, match="has a user name, a query or a fragment") as raised:
        create_backend("planner", "chat", model="m", base_url=part)
    assert "hunter" not in str(raised.value)


async def test_the_key_for_openai_goes_to_nobody_else(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-openai")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-hidden")
    with serving(chat_reply(json.dumps(YES))) as server:
        await judged(critic(server))
    assert "sk-for-openai" not in str(server.requests[0].headers) and "org-hidden" not in str(
        server.requests[0].headers
    )


async def test_a_server_that_trickles_is_not_waited_for():
    def trickle(request):
        return Reply(b"{" + b" " * 10_000, trickle=0.1)  # no read of the socket ever takes as long as the time-out

    with serving(trickle) as server:
        with pytest.raises(BackendUnavailable, match="did not answer within 2 s"):
            await judged(critic(server, timeout=2))


async def test_an_error_about_safety_is_not_yet_a_refusal():
    reply = Reply({"error": {"message": "Unknown parameter: enable_safety_checker", "type": "invalid_request"}}, 400)
    with serving(reply) as server:
        with pytest.raises(BackendError, match="settings of .critic."):
            await judged(critic(server))


async def test_a_chat_model_of_the_users_own_is_not_blamed_on_the_profile():
    class Model(GenericFakeChatModel):
        key: SecretStr = SecretStr("sk-hidden")

        def _generate(self, *args, **kwargs):
            error = RuntimeError("invalid key sk-hidden")
            error.status_code = 401
            raise error

    backend = ChatCritic(model=Model(messages=iter([])), format="tagged")
    with pytest.raises(BackendError, match="answered 401") as raised:
        await judged(backend)
    assert "hidden" not in str(raised.value) and "OPENAI" not in str(raised.value)


async def test_an_unreachable_host_is_told():
    with serving(Reply()) as server:
        gone = critic(server)
    with pytest.raises(
        BackendUnavailable, match="cannot be reached .*; check critic.base_url and that the server runs"
    ):
        await judged(gone)


async def test_a_server_that_asks_for_patience_tells_for_how_long():
    with serving(Reply({"error": {"message": "full"}}, 429, headers={"retry-after": "7"})) as server:
        with pytest.raises(BackendUnavailable, match="too busy") as raised:
            await judged(critic(server))
    assert raised.value.retry_after == 7


async def test_any_langchain_chat_model_will_do():
    class Model(GenericFakeChatModel):
        def with_structured_output(self, schema, **kwargs):
            assert schema["title"] == "verdict" and kwargs == {"include_raw": True}
            return self | (lambda message: {"raw": message})

    call = {"name": "verdict", "args": NO, "id": "1"}
    backend = ChatCritic(model=Model(messages=iter([AIMessage("", tool_calls=[call])])))
    assert (await judged(backend)).refined_prompt == NO["refine_prompt"]


async def test_a_run_keeps_every_exchange_in_its_state(images):
    replies = [chat_reply(TAGGED_PLAN), chat_reply("hm"), chat_reply(json.dumps(NO)), chat_reply(json.dumps(YES))]
    with serving(*replies) as server:
        graph = build_graph(
            planner=planner(server, format="tagged"),
            critic=critic(server),
            generator=PlainGenerator(),
            images=images,
        ).compile()
        async for state in graph.astream({"request": "an apple"}, stream_mode="values"):
            pass
    assert state["status"] == "complete"
    assert [exchange["answer"] for exchange in state["plan_exchanges"]] == [TAGGED_PLAN]
    attempts = list(state["attempts"].values())
    assert [len(attempt["exchanges"]) for attempt in attempts] == [2, 1]
    for exchange in attempts[0]["exchanges"]:
        for image in exchange["images"]:
            await images.get(ref(image))
    assert "base64" not in json.dumps({key: value for key, value in state.items() if key != "messages"})


def ref(record):
    from interleaver.types import ImageRef

    return ImageRef.model_validate(record)


async def test_what_models_say_among_themselves_is_not_streamed_to_a_chat(images):
    with serving(chat_reply(TAGGED_PLAN), chat_reply(json.dumps(YES))) as server:
        graph = build_graph(
            planner=planner(server, format="tagged"), critic=critic(server), generator=PlainGenerator(), images=images
        ).compile()
        stream = graph.astream({"request": "an apple"}, stream_mode=["messages", "values"])
        events = [event async for event in stream]
    told = [message for mode, (message, *_) in events if mode == "messages"]
    assert len(told) == 1 and "Step 1" in told[0].text
    assert events[-1][1]["plan_exchanges"][0]["usage"] == {"input_tokens": 11, "output_tokens": 7}
    assert not any(request.json.get("stream") for request in server.requests)


async def test_a_failing_critic_leaves_its_exchanges_too(images):
    with serving(chat_reply("hm")) as server:
        graph = build_graph(critic=critic(server), generator=PlainGenerator(), images=images).compile()
        async for state in graph.astream({"request": "a cat in 1 step"}, stream_mode="values"):
            pass
    (attempt,) = state["attempts"].values()
    assert "asked twice" in attempt["error"]
    assert [exchange["problem"] for exchange in attempt["exchanges"]] == ["unreadable", "unreadable"]


def test_settings_are_checked_by_name_and_type(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(BadInput, match="planner 'gpt-5' needs an API key; set the environment variable OPENAI_API_KEY"):
        create_backend("planner", "chat", model="gpt-5")
    with pytest.raises(BadInput, match="base_url 'localhost:8000' does not begin with http://"):
        create_backend("planner", "chat", model="m", base_url="localhost:8000")
    with pytest.raises(BadInput, match="planner 'chat' needs the field 'model'"):
        create_backend("planner", "chat")
    with pytest.raises(BadInput, match="timeout: .*valid number.*'soon'"):
        create_backend("planner", "chat", model="m", timeout="soon")
    with pytest.raises(BadInput, match="format: .*'tagged' or 'structured'"):
        create_backend("critic", "chat", model="m", format="xml")
    with pytest.raises(BadInput, match="no field 'modle' .did you mean 'model'"):
        create_backend("critic", "chat", modle="m")


async def test_the_doctor_asks_an_endpoint_for_its_models(tmp_path, monkeypatch):
    monkeypatch.setattr("interleaver.doctor.DOORS", {})  # the extras are tried elsewhere
    models = Reply({"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "x"}]})
    with serving(models) as server:
        text = f'model = "m"\nbase_url = "{server.url}/v1"\n'
        member = f'{{ backend = "openai-images", model = "n", base_url = "{server.url}/v1" }}'
        (tmp_path / "p.toml").write_text(
            f'[planner]\nbackend = "chat"\n{text}[critic]\nbackend = "chat"\n{text.replace("/v1", "")}'
            f'[generator]\nbackend = "pool"\nmembers = [{member}]\n'
        )
        checks = {check.name: check for check in await examine(str(tmp_path / "p.toml"), tmp_path / "out")}
        assert checks["planner"].ok and checks["planner"].detail == f"chat: m at {server.url}/v1 answers"
        assert (
            checks["generator"].ok is False and "has no such model; check generator.model" in checks["generator"].detail
        )
    checks = {check.name: check for check in await examine(str(tmp_path / "p.toml"), tmp_path / "out")}
    assert checks["planner"].ok is False and "cannot be reached" in checks["planner"].detail


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply({"object": "list", "data": [{"id": "m:latest", "object": "model"}]}), "m at http://127.0.0.1"),
        (Reply({"error": {"message": "Not Found"}}, 404), "the server lists no models"),
        (Reply({"detail": "Method Not Allowed"}, 405), "the server lists no models"),
    ],
)
async def test_names_with_tags_and_servers_without_a_list_are_well(reply, said):
    with serving(reply) as server:
        assert said in await planner(server).check()


async def test_the_doctor_tries_what_models_can_do(tmp_path, monkeypatch):
    monkeypatch.setattr("interleaver.doctor.DOORS", {})

    def reply(request):
        if request.method == "GET":
            return Reply({"error": {"message": "no"}}, 404)
        if request.path.endswith("/generations") or request.path.endswith("/edits"):
            return image_reply()
        kind = request.json.get("response_format", {}).get("type")
        if kind == "json_schema":
            return Reply({"error": {"message": "response_format json_schema is not supported"}}, 400)
        question = json.dumps(request.json["messages"])
        if "execution_plan" in question:
            step = {"step_number": 1, "instruction": None, "prompt": None, "auxiliary_text": "It is red."}
            return chat_reply(json.dumps({"execution_plan": [step]}))
        return chat_reply(ANSWER)

    with serving(reply) as server:
        table = f'model = "m"\nbase_url = "{server.url}/v1"\n'
        (tmp_path / "p.toml").write_text(
            f'[planner]\nbackend = "chat"\n{table}[critic]\nbackend = "chat"\n{table}'
            f'[generator]\nbackend = "openai-images"\n{table}'
        )
        checks = {check.name: check for check in await examine(str(tmp_path / "p.toml"), tmp_path / "out", deep=True)}
    assert checks["planner (deep)"].detail == "1 step(s); answers as json_object; sees pictures"
    assert checks["critic (deep)"].detail == (
        "rightly accepted red for red; wrongly accepted blue for red; answers as json_object"
    )
    assert checks["generator (deep)"].detail == "draws 64x64 png; returned the picture that it was to edit 64x64"


async def test_the_doctor_says_what_a_model_cannot_do(tmp_path, monkeypatch):
    monkeypatch.setattr("interleaver.doctor.DOORS", {})
    with serving(Reply({"error": {"message": "image input is not supported"}}, 400)) as server:
        (tmp_path / "p.toml").write_text(f'[planner]\nbackend = "chat"\nmodel = "m"\nbase_url = "{server.url}/v1"\n')
        checks = {check.name: check for check in await examine(str(tmp_path / "p.toml"), tmp_path / "out", deep=True)}
    assert not checks["planner (deep)"].ok and "image input is not supported" in checks["planner (deep)"].detail
    assert checks["critic (deep)"].ok and checks["generator (deep)"].ok  # the sandbox's


def events(*chunks):
    """A chat completion as server-sent events."""
    lines = [f"data: {json.dumps({'id': 'x', 'model': 'm', **chunk})}" for chunk in chunks]
    return Reply("\n\n".join([": comment", *lines, "data: [DONE]", ""]).encode(), type="text/event-stream")


def delta(finish=None, **fields):
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


ANSWER = json.dumps(YES)
BARE_YES = json.dumps({"previous_step_success": True, "refine_prompt": ""})
CALL = {"id": "c", "type": "function", "function": {"name": "verdict", "arguments": ANSWER}}
STRAY = {"id": "c", "type": "function", "function": {"name": "search", "arguments": '{"query": "cats"}'}}
BROKEN = {"id": "c", "type": "function", "function": {"name": "verdict", "arguments": f"{ANSWER} trailing"}}


@pytest.mark.parametrize(
    "reply",
    [
        events(delta(role="assistant", content=ANSWER[:9]), delta(content=ANSWER[9:]), delta("stop"), {"usage": None}),
        events(delta(content=ANSWER + "\u2028", finish="stop")),
        chat_reply(None, reasoning_content=ANSWER),
        chat_reply("", reasoning=f"Let me see.\n{ANSWER}"),
        chat_reply(ANSWER, tool_calls=[STRAY]),
        chat_reply(None, tool_calls=[CALL]),
        chat_reply(None, tool_calls=[STRAY, CALL]),
        chat_reply(None, tool_calls=[BROKEN]),
        chat_reply(ANSWER, refusal="I can't."),
        chat_reply(ANSWER, finish="error"),
    ],
)
async def test_an_answer_that_is_there_is_used(reply):
    with serving(reply) as server, record_exchanges() as exchanges:
        verdict = await judged(critic(server))
    assert verdict.accepted
    assert len(server.requests) == 1
    assert parse_verdict(exchanges[0].answer).accepted


@pytest.mark.parametrize(
    "usage",
    [None, {}, "many", {"prompt_tokens": None, "completion_tokens": 3}, {"prompt_tokens": 1.5, "completion_tokens": "7"},
     {"prompt_tokens": -4, "completion_tokens": 1e400}, {"prompt_tokens": [1], "completion_tokens": True}],
)  # fmt: skip
async def test_odd_counts_of_tokens_cost_no_answer(usage):
    reply = chat_reply(ANSWER)
    reply.body["usage"] = usage
    if usage and usage != "many" and usage.get("completion_tokens") == 1e400:
        reply.body = json.dumps(reply.body).replace("Infinity", "1e400").encode()
    with serving(reply) as server, record_exchanges() as exchanges:
        assert (await judged(critic(server))).accepted
    assert exchanges[0].usage.input_tokens >= 0 and exchanges[0].usage.output_tokens >= 0


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply({"error": {"code": 429, "message": "Rate limit exceeded"}}), BackendUnavailable),
        (Reply({"error": {"code": 401, "message": "No auth"}}), BackendError),
        (Reply({"error": {"code": "content_filter", "message": "no"}}), Refusal),
        (events({"error": {"code": 502, "message": "upstream"}}), BackendUnavailable),
    ],
)
async def test_an_error_with_status_200_is_treated_by_its_code(reply, kind):
    with serving(reply) as server, record_exchanges() as exchanges:
        with pytest.raises(BackendError) as raised:
            await judged(critic(server))
    assert type(raised.value) is kind
    assert len(server.requests) == len(exchanges) == 1


async def test_an_error_in_a_choice_is_treated_by_its_code():
    reply = chat_reply("", finish="error")
    reply.body["choices"][0]["error"] = {"code": 502, "message": "Upstream idle timeout"}
    with serving(reply) as server, pytest.raises(BackendUnavailable, match="Upstream idle timeout"):
        await judged(critic(server))


@pytest.mark.parametrize(
    "reply",
    [
        chat_reply("nope"),
        chat_reply(""),
        chat_reply("{", finish="length"),
        Reply({"choices": []}),
        Reply({"choices": 5}),
    ],
)
async def test_no_model_is_told_an_address(reply):
    with serving(reply, chat_reply(ANSWER)) as server:
        assert (await judged(critic(server))).accepted
    for request in server.requests:
        assert "127.0.0.1" not in json.dumps(request.json) and "max_tokens" not in json.dumps(request.json)
    asked_again = len(server.requests[1].json["messages"]) == 3
    assert asked_again == (b"choices" not in json.dumps(reply.body).encode() or "usage" in reply.body)


def without(*formats):
    """An endpoint that refuses some response formats, as several providers word it."""

    def reply(request):
        kind = request.json.get("response_format", {}).get("type")
        if kind in formats:
            return Reply({"error": {"message": f"This response_format type is unavailable now: {kind}"}}, 400)
        return chat_reply(ANSWER)

    return reply


@pytest.mark.parametrize(
    ("refused", "sent"),
    [
        ((), ["json_schema", "json_schema"]),
        (("json_schema",), ["json_schema", "json_object", "json_object"]),
        (("json_schema", "json_object"), ["json_schema", "json_object", None, None]),
    ],
)
async def test_formats_that_an_endpoint_refuses_are_given_up(refused, sent):
    with serving(without(*refused)) as server:
        asker = critic(server)
        for _ in range(2):
            assert (await judged(asker)).accepted
    assert [request.json.get("response_format", {}).get("type") for request in server.requests] == sent


async def test_a_format_of_ones_own_is_sent():
    with serving(chat_reply(ANSWER)) as server:
        await judged(critic(server, extra_body={"response_format": {"type": "json_object"}}))
    assert server.requests[0].json["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize(
    ("message", "settings", "field", "value"),
    [
        ("'max_tokens' is not supported. Use 'max_completion_tokens'.", {"max_tokens": 9}, "max_completion_tokens", 9),
        ("'temperature' does not support 0.5 with this model.", {"temperature": 0.5}, "temperature", None),
    ],
)
async def test_a_parameter_that_is_refused_is_switched_once(message, settings, field, value):
    with serving(Reply({"error": {"message": message}}, 400), chat_reply(ANSWER)) as server:
        assert (await judged(critic(server, **settings))).accepted
    assert server.requests[1].json.get(field) == value
    assert not set(settings) & set(server.requests[1].json)
    with serving(Reply({"error": {"message": message}}, 400)) as server:
        with pytest.raises(BackendError, match="answered 400"):
            await judged(critic(server, **settings))
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("settings", "url", "limit", "formats", "thinking"),
    [
        (
            {"provider": "openrouter"},
            "https://openrouter.ai/api/v1",
            "max_tokens",
            "json_schema",
            {"reasoning": {"enabled": False}},
        ),
        (
            {"provider": "ollama"},
            "http://127.0.0.1:11434/v1",
            "max_tokens",
            "json_schema",
            {"reasoning_effort": "none"},
        ),
        ({"provider": "lmstudio"}, "http://127.0.0.1:1234/v1", "max_tokens", "json_schema", {}),
        (
            {"provider": "dashscope"},
            "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
            "max_tokens",
            "json_object",
            {"enable_thinking": False},
        ),
        (
            {"base_url": "https://api.groq.com/openai/v1"},
            "https://api.groq.com/openai/v1",
            "max_completion_tokens",
            "json_schema",
            {"reasoning_effort": "none"},
        ),
        (
            {"base_url": "https://eu.api.openai.com/v1"},
            "https://eu.api.openai.com/v1",
            "max_completion_tokens",
            "json_schema",
            {"reasoning_effort": "minimal"},
        ),
        (
            {"base_url": "https://x.openai.azure.com/openai/v1/"},
            "https://x.openai.azure.com/openai/v1/",
            "max_completion_tokens",
            "json_schema",
            {"reasoning_effort": "minimal"},
        ),
    ],
)
def test_what_is_known_of_providers(settings, url, limit, formats, thinking, monkeypatch):
    for name in ("OPENROUTER", "DASHSCOPE", "GROQ", "OPENAI", "AZURE_OPENAI"):
        monkeypatch.setenv(f"{name}_API_KEY", f"key of {name}")
    asker = ChatPlanner(model="m", max_tokens=9, thinking=False, **settings)._conversation
    chat = asker._runnable(Ask([], schema=VERDICT_SCHEMA))
    payload = chat.bound._get_request_payload("hi", **chat.kwargs)
    assert (asker.endpoint.base_url, payload[limit]) == (url, 9)
    assert payload["extra_body"]["response_format"]["type"] == formats
    assert thinking.items() <= payload["extra_body"].items()
    assert asker.endpoint.key == "none" if "127.0.0.1" in url else asker.endpoint.key.startswith("key of")


def test_azure_needs_its_address(monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "key")
    with pytest.raises(BadInput, match="base_url is missing"):
        create_backend("planner", "chat", model="m", provider="azure")


async def test_phrases_are_left_out_of_requests():
    with serving(chat_reply(json.dumps(PLAN))) as server:
        await planner(server, omit=[" both visually and textually"]).plan("Explain it both visually and textually.", [])
    assert "Explain it." in json.dumps(server.requests[0].json) and "visually" not in json.dumps(
        server.requests[0].json
    )
