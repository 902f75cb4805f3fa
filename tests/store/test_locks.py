"""One writer a run, where the operating system keeps no locks."""

import asyncio
import json
import time

import pytest

from interleaver.errors import BadInput
from interleaver.store import locks
from interleaver.store.folders import Folder
from interleaver.store.locks import RunLocked, hold_lock
from interleaver.traces.runs import RunStore


@pytest.fixture
def folder(request):
    return Folder(f"memory://locks-{request.node.name}")


async def test_whoever_holds_a_run_keeps_others_off_until_the_end(folder):
    async with hold_lock(folder, "r"):
        with pytest.raises(RunLocked, match="run r is being worked on by another process"):
            async with hold_lock(folder, "r"):
                pass
        async with hold_lock(folder, "other"):
            pass
    async with hold_lock(folder, "r"):
        pass
    assert not list(folder.files())


async def test_an_owner_may_take_its_own_run_again(folder):
    async with hold_lock(folder, "r", "me"):
        async with hold_lock(folder, "r", "me"):
            pass


@pytest.fixture
def quick(monkeypatch):
    """Leases that are renewed and expire within a second."""
    monkeypatch.setattr(locks, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(locks, "EXPIRE_SECONDS", 0.8)
    monkeypatch.setattr(locks, "WATCH_SECONDS", 0.05)


@pytest.mark.parametrize("claim", [
    {"owner": "dead", "renewal": "1"},
    {"owner": "dead", "at": time.time() + 3600},  # of a former version, on a machine whose clock is ahead
])  # fmt: skip
async def test_a_lease_of_somebody_who_died_expires(folder, quick, claim):
    folder.write("r.json", json.dumps(claim).encode())
    async with hold_lock(folder, "r"):
        assert json.loads(folder.read("r.json"))["owner"] != "dead"


async def test_clocks_do_not_matter(folder, quick, monkeypatch):
    """A living holder keeps its lease, whatever the clock of somebody else says."""
    async with hold_lock(folder, "r"):
        for jump in (-1e6, 3600, 1e9):
            real = time.time
            monkeypatch.setattr(time, "time", lambda real=real, jump=jump: real() + jump)
            with pytest.raises(RunLocked):
                async with hold_lock(folder, "r"):
                    pass
            monkeypatch.setattr(time, "time", real)


async def test_a_holder_that_cannot_renew_stops_before_others_may_take_over(folder, quick, monkeypatch):
    write, is_down = Folder.write, asyncio.Event()

    def maybe_write(self, name, data):
        if is_down.is_set():
            raise OSError("the store is away")
        write(self, name, data)

    monkeypatch.setattr(Folder, "write", maybe_write)
    started = 0.0
    with pytest.raises(RunLocked, match="could not be renewed in time: the store is away"):
        async with hold_lock(folder, "r"):
            is_down.set()
            started = time.monotonic()
            await asyncio.Event().wait()
    assert time.monotonic() - started < 30  # it ended by itself
    is_down.clear()


async def test_a_lease_is_renewed_as_long_as_it_is_held(folder, quick, monkeypatch):
    times, renewed = set(), asyncio.Event()
    write = Folder.write

    def record(folder, name, data):
        write(folder, name, data)
        times.add(json.loads(data)["renewal"])
        if len(times) == 3:
            loop.call_soon_threadsafe(renewed.set)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(Folder, "write", record)
    async with hold_lock(folder, "r"):
        await renewed.wait()
        with pytest.raises(RunLocked):
            async with hold_lock(folder, "r"):
                pass


async def test_of_several_who_come_at_once_one_gets_it(folder, monkeypatch):
    monkeypatch.setattr(locks, "SETTLE_SECONDS", 1.0)
    refused, all_refused = [], asyncio.Event()

    async def come():
        try:
            async with hold_lock(folder, "r"):
                await all_refused.wait()
        except RunLocked:
            refused.append(1)
            if len(refused) == 4:
                all_refused.set()
            return "taken"
        return "held"

    assert sorted(await asyncio.gather(*[come() for _ in range(5)])) == ["held"] + ["taken"] * 4


@pytest.mark.parametrize("claim", [b"", b"{half", b'"text"', b"{}"])
async def test_a_damaged_lease_is_no_lease(folder, claim):
    folder.write("r.json", claim)
    async with hold_lock(folder, "r"):
        pass


async def test_who_loses_a_lease_stops_working_and_leaves_the_new_one_alone(folder, monkeypatch):
    monkeypatch.setattr(locks, "RENEW_SECONDS", 0.05)

    holding = asyncio.Event()

    async def work():
        async with hold_lock(folder, "r"):
            holding.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await holding.wait()
    while not task.done():
        folder.write("r.json", json.dumps({"owner": "another", "renewal": "1"}).encode())
        await asyncio.sleep(0.01)
    with pytest.raises(RunLocked):
        await task
    assert json.loads(folder.read("r.json"))["owner"] == "another"


@pytest.mark.parametrize("url", ["{tmp}", "memory://held"])
async def test_a_run_is_held_by_one_process(tmp_path, url):
    store, other = RunStore(url.format(tmp=tmp_path)), RunStore(url.format(tmp=tmp_path))
    store.prepare()
    async with store.lock("r"):
        with pytest.raises(BadInput, match="another process"):
            async with other.lock("r"):
                pass
    async with other.lock("r"):
        pass
