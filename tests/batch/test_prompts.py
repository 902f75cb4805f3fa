"""Prompt lists from a taxonomy."""

import json
from collections import Counter

import pytest
from click.testing import CliRunner
from support.scripted_server import Reply, chat_reply, serving

from interleaver.batch.prompt_list import PromptRow
from interleaver.batch.prompts import Sampler, Taxonomy, load_taxonomy, shipped_taxonomies
from interleaver.cli import main
from interleaver.errors import BadInput
from interleaver.profile import BackendSettings
from interleaver.sandbox.planner import SandboxPlanner


def invoke(*arguments, code=0):
    result = CliRunner().invoke(main, ["prompts", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def test_the_general_taxonomy_is_broad():
    taxonomy = load_taxonomy("general")
    parts = [sub.name for category in taxonomy.category for sub in category.sub]
    assert len(taxonomy.category) >= 8 and len(parts) >= 75 and len(taxonomy.languages) >= 5
    assert len(set(parts)) == len(parts)
    topics = [topic for category in taxonomy.category for sub in category.sub for topic in sub.topics]
    assert len(set(topics)) == len(topics) > 1000


def test_a_list_is_diverse_tagged_and_repeatable(tmp_path):
    for name in ("a", "b"):
        arguments = ["--count", 500, "--language", "en", "--language", "de", "--out", tmp_path / f"{name}.jsonl"]
        said = invoke("sample", *arguments).stderr
    assert "500 requests in 20 categories, 169 sub-categories" in said
    assert (tmp_path / "a.jsonl").read_text() == (tmp_path / "b.jsonl").read_text()
    rows = [PromptRow.model_validate_json(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert len({row.request for row in rows}) == 500
    assert not any("{" in row.request or "<image>" in row.request for row in rows)
    categories = Counter(row.tags["category"] for row in rows)
    assert max(categories.values()) - min(categories.values()) <= 3
    languages = Counter((row.tags["category"], row.tags["language"]) for row in rows)
    assert len(languages) == 40
    assert all(("Deutsch" in row.request) == (row.tags["language"] == "de") for row in rows)


def test_the_sandbox_can_draw_its_own_taxonomy():
    import asyncio

    rows = list(Sampler(load_taxonomy("sandbox"), seed=3).by_templates(150))
    assert len(rows) == 150

    async def plan():
        return [await SandboxPlanner().plan(row.request, []) for row in rows]

    assert all(plan.steps for plan in asyncio.run(plan()))


def test_a_taxonomy_that_is_used_up_says_so(tmp_path):
    (tmp_path / "t.toml").write_text(
        '[[category]]\nname = "c"\ntemplates = ["Draw {topic}."]\n[[category.sub]]\nname = "s"\n'
        'topics = ["a castle on a hill", "A  Castle on a Hill", "the deep sea"]\n'
    )
    result = invoke("sample", "--taxonomy", tmp_path / "t.toml", "--count", 10, code=3)
    assert [json.loads(line)["request"] for line in sorted(result.stdout.splitlines())] and "No more requests" in (
        result.stderr
    )
    assert len(result.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--language", "xx"], "no language 'xx'; it has: en, de"),
        (["--category", "cookin"], r"no category 'cookin' (did you mean 'cooking'?)"),
        (
            ["--taxonomy", "none.toml"],
            "there is no taxonomy 'none.toml'; give a file or one of: general, miniature, sandbox",
        ),
        (["--model"], "planner.backend is 'sandbox'; it must be 'chat'"),
    ],
)
def test_wrong_choices_are_told(arguments, said):
    assert said in invoke("sample", *arguments, code=2).stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[category]", "cannot be read"),
        ('[[category]]\nname = "c"\ntemplates = []\nsub = []\n', "category.0.templates"),
        (
            '[slots]\nsize = ["big"]\n[[category]]\nname = "c"\ntemplates = ["a {sise} {topic}"]\n'
            '[[category.sub]]\nname = "s"\ntopics = ["x"]\n',
            r"uses \{sise\}, which is not a slot \(did you mean 'size'\?\)",
        ),
    ],
)
def test_a_broken_taxonomy_is_told(tmp_path, text, said):
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(BadInput, match=said):
        load_taxonomy(str(tmp_path / "t.toml"))


def test_a_taxonomy_can_be_printed_and_changed(tmp_path):
    text = invoke("taxonomy", "sandbox").stdout
    assert text == shipped_taxonomies()["sandbox"].read_text()
    (tmp_path / "mine.toml").write_text(text.replace('"lessons"', '"my_lessons"'))
    assert "my_lessons" in invoke("sample", "--taxonomy", tmp_path / "mine.toml", "--count", 5).stdout


@pytest.mark.allow_hosts(["127.0.0.1"])
async def test_a_chat_model_writes_requests_that_differ():
    taxonomy = Taxonomy.model_validate(
        {"category": [{"name": "c", "templates": ["{topic}"], "sub": [{"name": "s", "topics": ["kites"]}]}]}
    )
    answers = [
        {"requests": ["How does a kite fly?", "how does a kite  fly?", "Build a <image> kite"]},
        {"requests": ["A story about a lost kite in the wind", " "]},
    ]
    replies = [chat_reply(json.dumps(answer)) for answer in answers]
    with serving(*replies) as server:
        planner = BackendSettings.model_validate(
            {"backend": "chat", "model": "m", "base_url": f"{server.url}/v1", "format": "tagged", "concurrency": 1}
        )
        rows = [row async for row in Sampler(taxonomy).by_model(3, planner)]
        asked = server.requests[0].json["messages"][0]["content"]
    assert [row.request for row in rows] == [
        "How does a kite fly?", "Build a  kite", "A story about a lost kite in the wind",
    ]  # fmt: skip
    assert "kites" in str(asked) and "c (s)" in str(asked)
    assert all(row.tags == {"category": "c", "subcategory": "s", "language": "en"} for row in rows)


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_what_was_written_before_a_model_fails_is_kept(tmp_path):
    good = chat_reply(json.dumps({"requests": ["How does a kite fly?"]}))
    with serving(good, good, Reply({"error": {"message": "no"}}, 400)) as server:
        (tmp_path / "p.toml").write_text(f'[planner]\nbackend = "chat"\nmodel = "m"\nbase_url = "{server.url}/v1"\n')
        arguments = ["--model", "--profile", tmp_path / "p.toml", "--count", 50, "--out", tmp_path / "x.jsonl"]
        said = invoke("sample", *arguments, code=3).stderr
    assert "answered 400" in said
    assert len((tmp_path / "x.jsonl").read_text().splitlines()) == 1


def test_an_older_list_stays_when_nothing_can_be_drawn(tmp_path):
    (tmp_path / "p.jsonl").write_text("precious")
    invoke("sample", "--model", "--out", tmp_path / "p.jsonl", code=2)
    assert [file.name for file in tmp_path.iterdir()] == ["p.jsonl"]
    assert (tmp_path / "p.jsonl").read_text() == "precious"


@pytest.mark.parametrize(
    ("slots", "template", "said"),
    [('a = ["{b}"]', "{a} {topic}", "must not contain slots"), ('a = ["x"]', "{a {topic}", None)],
)
def test_odd_braces_end(tmp_path, slots, template, said):
    (tmp_path / "t.toml").write_text(
        f'[slots]\n{slots}\n[[category]]\nname = "c"\ntemplates = ["{template}"]\n[[category.sub]]\nname = "s"\n'
        'topics = ["y"]\n'
    )
    if said:
        assert said in invoke("sample", "--taxonomy", tmp_path / "t.toml", code=2).stderr
    else:
        assert "{a y" in invoke("sample", "--taxonomy", tmp_path / "t.toml", "--count", 1).stdout
