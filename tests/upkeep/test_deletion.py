"""Runs are deleted with what only they need, while others are at work."""

import asyncio
import os
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan

from interleaver import BadInput, Profile, Runner, build_graph
from interleaver.cli import main
from interleaver.pictures import Picture, white_canvas
from interleaver.store.locks import RunLocked
from interleaver.upkeep import deletion
from interleaver.upkeep.deletion import delete_expired_runs, delete_runs, open_other_users


def plain_runner(folder, profile=None, critic=None):
    """Draws each step in a colour of its own, the same in every run."""
    runner = Runner(profile or Profile(), folder, documents=False)
    runner.builder = build_graph(
        planner=ScriptedPlanner(drawn_plan(2)),
        critic=critic or ScriptedCritic(),
        generator=PlainGenerator(),
        images=runner.runs.images,
    )
    return runner


async def make(runner, run_id, request="Draw it"):
    async for _ in runner.make(request, [], {}, run_id, {}):
        pass
    return runner


def picture_hashes(runner):
    return {Path(file.path).stem for file in runner.runs.images.folder.files()}


def needed_hashes(runner, run_id):
    return {*runner.runs.trace(run_id).images_by_hash()}


def all_files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def without_canvases(runner):
    """The files of a store, without the blank pictures that critics compare first steps with."""
    pictures = {file.path: runner.runs.images.folder.read(file.path) for file in runner.runs.images.folder.files()}
    canvases = {Path(path).name for path, data in pictures.items() if Picture.stored(data).data == blank(data)}
    return [file.path for file in runner.runs.root.files() if Path(file.path).name not in canvases]


def blank(data):
    picture = Picture.stored(data)
    return white_canvas(picture.width, picture.height).data


async def make_cat(folder):
    return await make(Runner(Profile(), folder), "cat", "How to draw a cat step by step?")


async def test_nothing_is_left_of_the_only_run(tmp_path):
    runner = await make_cat(tmp_path)
    result = await delete_runs(runner.runs, ["cat"], [])
    assert result.run_ids == ["cat"] and result.pictures > 3 and not result.kept_pictures
    assert without_canvases(runner) == [] and list(runner.runs.run_ids()) == []


async def test_pictures_that_another_run_needs_stay(tmp_path):
    runner = await make_cat(tmp_path)
    await make(runner, "twin", "How to draw a cat step by step?")
    await make(runner, "house", "How to draw a house step by step?")
    hashes = picture_hashes(runner)
    assert (await delete_runs(runner.runs, ["cat"], [])).pictures == 0
    assert picture_hashes(runner) == hashes
    assert (await delete_runs(runner.runs, ["twin"], [])).pictures > 0
    assert needed_hashes(runner, "house") <= picture_hashes(runner)


async def test_pictures_of_an_unfinished_run_stay(tmp_path):
    runner = await make(plain_runner(tmp_path), "done")
    async with aclosing(runner.make("Draw it", [], {}, "open", {})) as events:
        async for event in events:
            if event.type == "step_ended" and event.step == 0:
                break
    await delete_runs(runner.runs, ["done"], [])
    drawings = [event async for event in runner.make("", [], {}, "open", {}) if event.type == "picture_ready"]
    assert runner.runs.trace("open").status == "complete" and len(drawings) == 1


async def test_a_run_in_progress_keeps_what_it_has_just_stored(tmp_path):
    """Between storing a picture and writing that in a checkpoint."""
    is_stored, go_on = asyncio.Event(), asyncio.Event()

    class Critic(ScriptedCritic):
        async def review(self, *arguments):
            is_stored.set()
            await go_on.wait()
            return await super().review(*arguments)

    runner, other_runner = await make(plain_runner(tmp_path), "done"), plain_runner(tmp_path, critic=Critic())
    at_work = asyncio.create_task(make(other_runner, "at-work"))
    await is_stored.wait()
    hashes = picture_hashes(runner)
    result = await delete_runs(runner.runs, ["done"], [])
    assert result.kept_pictures and "in progress" in result.reason and picture_hashes(runner) == hashes
    go_on.set()
    await at_work
    assert other_runner.runs.trace("at-work").status == "complete"
    assert needed_hashes(other_runner, "at-work") <= picture_hashes(other_runner)


async def test_a_run_that_begins_meanwhile_keeps_its_pictures(tmp_path, monkeypatch):
    runner = await make(plain_runner(tmp_path), "done")
    for file in all_files(tmp_path / ".store/images"):
        os.utime(file, (0, 0))
    delete = type(runner.runs).delete

    async def make_another_and_delete(runs, run_id):
        await make(plain_runner(tmp_path), "new")
        await delete(runs, run_id)

    monkeypatch.setattr(type(runner.runs), "delete", make_another_and_delete)
    await delete_runs(runner.runs, ["done"], [])
    assert needed_hashes(runner, "new") <= picture_hashes(runner)


async def test_a_run_at_work_is_not_deleted(tmp_path):
    runner = await make(plain_runner(tmp_path), "r")
    async with runner.runs.lock("r"):
        with pytest.raises(RunLocked):
            await delete_runs(runner.runs, ["r"], [])
        assert (await delete_runs(runner.runs, ["r"], [], skip_locked=True)).run_ids == []
    assert runner.runs.trace("r").status == "complete"


@pytest.mark.parametrize("name", ["../other", ".store", "", "missing", "/etc"])
async def test_only_runs_are_deleted(tmp_path, name):
    runner = await make(plain_runner(tmp_path / "runs"), "r")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/run.json").write_text("{}")
    files = all_files(tmp_path)
    with pytest.raises(BadInput, match="there is no run"):
        await delete_runs(runner.runs, [name], [])
    assert all_files(tmp_path) == files


@pytest.mark.parametrize("point", range(1, 8))
async def test_an_interrupted_deletion_is_repeated(tmp_path, monkeypatch, point):
    runner = await make_cat(tmp_path)
    folder_type, count = type(runner.runs.root), 0
    remove = folder_type.remove

    class Killed(BaseException):
        pass

    def remove_until_killed(folder, name):
        nonlocal count
        count += 1
        if count == 3 * point:
            raise Killed
        remove(folder, name)

    monkeypatch.setattr(folder_type, "remove", remove_until_killed)
    with pytest.raises(Killed):
        await delete_runs(runner.runs, ["cat"], [])
    monkeypatch.undo()
    if runner.runs.has_run("cat"):
        await delete_runs(runner.runs, ["cat"], [])
    assert not runner.runs.has_run("cat") and not (tmp_path / ".store/checkpoints/cat.sqlite").exists()


async def test_an_unreadable_run_is_deleted_and_pictures_stay(tmp_path):
    runner = plain_runner(tmp_path)
    for name in ("good", "bad"):
        await make(runner, name)
    (tmp_path / "bad/trace.json").write_text("{half")
    result = await delete_runs(runner.runs, ["good"], [])
    assert result.pictures == 0 and "run bad cannot be read" in result.reason
    assert (await delete_runs(runner.runs, ["bad"], [])).run_ids == ["bad"]


async def test_other_users_of_the_image_store_are_asked_for_and_keep_theirs(tmp_path):
    store = {"images": str(tmp_path / "images")}
    profile = Profile.model_validate({"store": store})
    mine = await make(plain_runner(tmp_path / "mine", profile), "r")
    theirs = await make(plain_runner(tmp_path / "theirs", profile), "s")
    await make(plain_runner(tmp_path / "mine", profile), "again")
    assert open_other_users(profile) is None
    result = await delete_runs(mine.runs, ["r"], None)
    assert result.pictures == 0 and "may have other users" in result.reason
    named = Profile.model_validate({"store": store | {"other_users": [str(tmp_path / "theirs")]}})
    assert (await delete_runs(mine.runs, ["again"], open_other_users(named))).pictures == 0
    assert (await delete_runs(theirs.runs, ["s"], open_other_users(profile, not_shared=True))).pictures > 0


async def test_old_runs_expire_as_the_profile_says(tmp_path):
    runner = plain_runner(tmp_path, Profile.model_validate({"store": {"keep_days": 30}}))
    for name, days in (("old", 31), ("new", 29), ("unfinished", 40)):
        await make(runner, name)
        trace = runner.runs.trace(name)
        trace.ended_at = datetime.now(UTC) - timedelta(days=days)
        runner.runs.write_trace(trace)
    runner.runs.reopen("unfinished")  # began today
    result = await delete_expired_runs(runner.profile, runner.runs)
    assert result.run_ids == ["old"] and set(runner.runs.run_ids()) == {"new", "unfinished"}
    assert (await delete_expired_runs(Profile(), runner.runs)).run_ids == []


async def test_a_remote_store_is_emptied_as_well(monkeypatch):
    monkeypatch.setattr(deletion, "CLOCK_SECONDS", -1.0)
    runner = await make(plain_runner("memory://deletion"), "r")
    assert (await delete_runs(runner.runs, ["r"], [])).pictures > 0
    assert without_canvases(runner) == []


def test_the_command_deletes_runs(tmp_path):
    runner = asyncio.run(make_cat(tmp_path / "out"))

    def invoke(*arguments, code=0):
        result = CliRunner().invoke(main, ["runs", "delete", *arguments, "--out", str(tmp_path / "out")])
        assert result.exit_code == code, result.output
        return result.output

    assert "there is no run 'ca'" in invoke("ca", code=2)
    assert "but not both" in invoke(code=2)
    assert "Deleted 0 runs" in invoke("--older-than", "1")
    assert "Deleted 1 run and" in invoke("cat", "cat")
    assert not list(runner.runs.run_ids())
