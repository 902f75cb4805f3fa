import re

from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner

from interleaver import Document, build_graph
from interleaver.errors import BackendError
from interleaver.graph.state import attempts_of
from interleaver.rendering.document import write_document
from interleaver.store.folders import Folder
from interleaver.types import Plan, Step

EVIL = '<script>alert("x")</script> & [link](javascript:x)'


async def written(tmp_path, images):
    plan = Plan(steps=[
        Step(number=1, name=EVIL, auxiliary_text=EVIL, instruction=EVIL, prompt=EVIL),
        Step(number=1, name="../../etc/passwd", instruction="two", prompt="b"),
        Step(number=1, name="Words", auxiliary_text="Only words."),
        Step(number=1, name="Four", instruction="four", prompt="c"),
    ])  # fmt: skip
    graph = build_graph(
        planner=ScriptedPlanner(plan), critic=ScriptedCritic(False, True, False, False),
        generator=PlainGenerator({4: BackendError("refused")}), images=images,
    ).compile()  # fmt: skip
    state = await graph.ainvoke({"request": EVIL}, context={"max_attempts": 2}, output_keys=[
        "document", "attempts", "results", "plan", "settings", "request"
    ])  # fmt: skip
    document = Document.model_validate(state["document"])
    folder = tmp_path / "run"
    await write_document(Folder(folder), "run-1", document, attempts_of(state), images)
    return folder, document


async def test_the_page_is_self_contained_safe_and_honest(tmp_path, images):
    folder, _ = await written(tmp_path, images)
    page = (folder / "document.html").read_text()
    assert "<script" not in page and "&lt;script&gt;" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert page.count("<figure>") == 2
    assert "accepted none of the attempts" in page
    assert "No picture could be drawn for this step. (refused)" in page
    assert "This document is not complete." in page


async def test_json_and_pictures_agree(tmp_path, images):
    import hashlib
    import json

    folder, document = await written(tmp_path, images)
    content = json.loads((folder / "document.json").read_text())
    assert content["run_id"] == "run-1" and content["status"] == document.status == "partial"
    assert [step["outcome"] for step in content["steps"]] == ["accepted", "exhausted", "text", "failed"]
    assert [len(step["attempts"]) for step in content["steps"]] == [2, 2, 0, 1]
    shown = [block for block in content["blocks"] if block["type"] == "image"]
    assert [block["path"] for block in shown] == ["pictures/step-01.png", "pictures/step-02.png"]
    for entry in [*shown, *(a for step in content["steps"] for a in step["attempts"] if a["path"])]:
        assert hashlib.sha256((folder / entry["path"]).read_bytes()).hexdigest() == entry["sha256"]
    assert content["steps"][0]["attempts"][0]["accepted"] is False
    assert content["steps"][3]["attempts"][0]["error"] == "refused"


async def test_markdown_shows_every_picture(tmp_path, images):
    folder, _ = await written(tmp_path, images)
    text = (folder / "document.md").read_text()
    assert re.findall(r"\]\((pictures/[^)]+)\)", text) == ["pictures/step-01.png", "pictures/step-02.png"]
    assert "Only words." in text


async def test_writing_again_gives_the_same_bytes(tmp_path, images):
    one, _ = await written(tmp_path / "a", images)
    two, _ = await written(tmp_path / "b", images)
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    assert all((one / file).read_bytes() == (two / file).read_bytes() for file in files)
