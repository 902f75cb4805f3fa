"""One writer a run, where the operating system keeps no locks."""

import asyncio
import json
import time

import pytest

from interleaver.traces import locks
from interleaver.traces.folders import Folder
from interleaver.traces.locks import Taken, hold


@pytest.fixture
def folder(request):
    return Folder(f"memory://locks-{request.node.name}")


async def test_whoever_holds_a_run_keeps_others_off_until_the_end(folder):
    async with hold(folder, "r"):
        with pytest.raises(Taken, match="run r is being worked on by another process"):
            async with hold(folder, "r"):
                pass
        async with hold(folder, "other"):
            pass
    async with hold(folder, "r"):
        pass
    assert not list(folder.files())


async def test_an_owner_may_take_its_own_run_again(folder):
    async with hold(folder, "r", "me"):
        async with hold(folder, "r", "me"):
            pass


async def test_a_lease_of_somebody_who_died_expires(folder, monkeypatch):
    folder.write("r.json", json.dumps({"owner": "dead", "at": time.time() - 50}).encode())
    with pytest.raises(Taken):
        async with hold(folder, "r"):
            pass
    folder.write("r.json", json.dumps({"owner": "dead", "at": time.time() - 61}).encode())
    async with hold(folder, "r"):
        pass


async def test_a_lease_is_renewed_as_long_as_it_is_held(folder, monkeypatch):
    monkeypatch.setattr(locks, "RENEW", 0.05)
    monkeypatch.setattr(locks, "EXPIRE", 1.0)
    async with hold(folder, "r"):
        for _ in range(3):
            await asyncio.sleep(0.5)
            with pytest.raises(Taken):
                async with hold(folder, "r"):
                    pass


async def test_of_two_who_come_at_once_one_gets_it(folder):
    inside = 0

    async def come():
        nonlocal inside
        try:
            async with hold(folder, "r"):
                inside += 1
                await asyncio.sleep(0.5)
        except Taken:
            return "taken"
        return "held"

    assert sorted(await asyncio.gather(*[come() for _ in range(5)])) == ["held"] + ["taken"] * 4
    assert inside == 1


@pytest.mark.parametrize("claim", [b"", b"{half", b'"text"', b"{}"])
async def test_a_damaged_lease_is_no_lease(folder, claim):
    folder.write("r.json", claim)
    async with hold(folder, "r"):
        pass


async def test_who_loses_a_lease_stops_working_and_leaves_the_new_one_alone(folder, monkeypatch):
    monkeypatch.setattr(locks, "RENEW", 0.05)

    async def work():
        async with hold(folder, "r"):
            await asyncio.sleep(5)

    task = asyncio.create_task(work())
    await asyncio.sleep(0.4)
    while not task.done():
        folder.write("r.json", json.dumps({"owner": "another", "at": time.time()}).encode())
        await asyncio.sleep(0.01)
    with pytest.raises(Taken):
        await task
    assert json.loads(folder.read("r.json"))["owner"] == "another"
