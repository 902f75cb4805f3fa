import multiprocessing
import os
import threading
from datetime import UTC, datetime

import fsspec
import pytest
from support.fakes import PlainGenerator, ScriptedCritic, ScriptedPlanner, drawn_plan, plain_picture

from interleaver import build_graph
from interleaver.errors import BackendUnavailable, BadInput
from interleaver.pictures import Picture
from interleaver.store.images import ImageStore
from interleaver.types import ImageRef


@pytest.mark.parametrize("url", ["{tmp}/images", "memory://store", "file://{tmp}/other"])
async def test_a_picture_comes_back_as_it_was(tmp_path, url):
    store = ImageStore(url.format(tmp=tmp_path))
    picture = plain_picture((1, 2, 3), (40, 30))
    ref = await store.put(picture)
    assert ref == picture.ref and (ref.width, ref.height, ref.media_type) == (40, 30, "image/png")
    assert (await store.get(ref)).data == picture.data
    assert await store.put(picture) == ref


async def test_a_missing_picture_is_told(tmp_path):
    with pytest.raises(BackendUnavailable, match="is not in the image store"):
        await ImageStore(str(tmp_path)).get(plain_picture().ref)


async def test_a_store_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BackendUnavailable, match="cannot be written to"):
        await ImageStore(str(tmp_path / "file")).put(plain_picture())


def test_an_unknown_kind_of_store_is_told():
    with pytest.raises(BadInput, match="image store 'nonsense://x'"):
        ImageStore("nonsense://x").path(plain_picture().ref)


async def test_a_store_on_another_filesystem_holds_one_file_a_picture():
    store = ImageStore("memory://single")
    for _ in range(3):
        await store.put(plain_picture())
    assert len(fsspec.filesystem("memory").find("/single")) == 1


def _write_many(folder: str, data: bytes) -> None:
    import asyncio

    async def write() -> None:
        picture = Picture.decode(data)
        for _ in range(50):
            await ImageStore(folder).put(picture)

    asyncio.run(write())


def test_processes_may_write_the_same_picture_at_once(tmp_path):
    """A reader never sees half a picture, and no draft is left behind."""
    picture = plain_picture((9, 9, 9), (512, 512))
    folder = tmp_path / "images"
    path = ImageStore(str(folder)).path(picture.ref)
    torn, done = [], threading.Event()

    def watch():
        while not done.is_set():
            try:
                with open(path, "rb") as file:
                    data = file.read()
            except FileNotFoundError:
                continue
            if data != picture.data:
                torn.append(len(data))

    watcher = threading.Thread(target=watch)
    watcher.start()
    workers = [
        multiprocessing.get_context("spawn").Process(target=_write_many, args=(str(folder), picture.data))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    done.set()
    watcher.join()
    assert all(worker.exitcode == 0 for worker in workers)
    assert torn == []
    assert [file.name for file in folder.rglob("*") if file.is_file()] == [f"{picture.ref.sha256}.png"]


@pytest.mark.parametrize("damage", ["empty", "half", "swapped", "longer", "one bit"])
async def test_another_picture_is_never_shown_and_storing_it_again_mends_it(tmp_path, damage):
    store = ImageStore(str(tmp_path))
    picture, other = plain_picture((1, 2, 3), (40, 30)), plain_picture((9, 2, 3), (40, 30))
    ref = await store.put(picture)
    data = picture.data
    flipped = data[:60] + bytes([data[60] ^ 1]) + data[61:]
    contents = {"empty": b"", "half": data[:50], "swapped": other.data, "longer": data + b"x", "one bit": flipped}
    path = tmp_path / ref.sha256[:2] / f"{ref.sha256}.png"
    path.write_bytes(contents[damage])
    for read in (store.get(ref), store.find(ref.sha256)):
        with pytest.raises((BackendUnavailable, BadInput), match=r"damaged|is not in the image store"):
            await read
    await store.put(picture)
    assert (await store.get(ref)).data == data


async def test_only_the_hash_of_a_reference_counts(tmp_path):
    store = ImageStore(str(tmp_path))
    ref = await store.put(plain_picture((1, 2, 3), (40, 30)))
    picture = await store.get(ref.model_copy(update={"width": 100_000, "height": 100_000}))
    assert (picture.width, picture.height) == (40, 30)
    with pytest.raises(BackendUnavailable):
        await store.get(ref.model_copy(update={"media_type": "image/x"}))


@pytest.mark.parametrize("url", ["{tmp}/images", "memory://fresh"])
async def test_storing_a_picture_again_makes_it_look_new(tmp_path, url, monkeypatch):
    """So no cleaning by age removes a picture that a run has just drawn again."""
    store = ImageStore(url.format(tmp=tmp_path))
    ref = await store.put(plain_picture())
    (file,) = store.folder.files()
    if store.folder.local:
        os.utime(store.path(ref), (1e9, 1e9))
    else:
        fsspec.filesystem("memory").store[store.path(ref)].created = datetime.fromtimestamp(1e9, UTC)
    (aged,) = store.folder.files()
    assert aged.changed_at == 1e9
    await store.put(plain_picture())
    (renewed,) = store.folder.files()
    assert renewed.changed_at >= file.changed_at - 2


@pytest.fixture(params=["{tmp}", "memory://tenants"])
def whole_store(request, tmp_path):
    return ImageStore(request.param.format(tmp=tmp_path / "images"))


async def test_the_parts_of_two_tenants_have_nothing_in_common(whole_store):
    alice, bob, nobody = (whole_store.of_tenant(name) for name in ("alice", "bob", None))
    picture = plain_picture((1, 2, 3))
    await alice.put(picture)
    assert await alice.get(picture.ref) == picture == await alice.find(picture.ref.sha256)
    for other in (bob, nobody, whole_store):
        assert not await other.holds(picture.ref) and list(other.files()) == []
        with pytest.raises(BackendUnavailable, match="is not in the image store"):
            await other.get(picture.ref)
        with pytest.raises(BadInput, match="is not in the image store"):
            await other.find(picture.ref.sha256)
    await bob.put(picture)
    assert len(list(alice.files())) == len(list(bob.files())) == 1
    assert alice.path(picture.ref) != bob.path(picture.ref)
    assert "alice" not in alice.path(picture.ref)


@pytest.mark.parametrize("name", ["..", "../..", "a/b", "a\0b", "A", "a", "é", "x" * 5000, "tenants", "\ud800"])
async def test_any_name_of_a_user_has_a_part_of_its_own(whole_store, name):
    picture = plain_picture((1, 2, 3))
    await whole_store.of_tenant(name).put(picture)
    assert await whole_store.of_tenant(name).holds(picture.ref)
    for other in ("b", f"{name} ", name.swapcase() + "."):
        assert not await whole_store.of_tenant(other).holds(picture.ref)
    assert not await whole_store.holds(picture.ref)


async def test_a_run_of_a_user_has_the_store_of_that_user(whole_store):
    graph = build_graph(
        planner=ScriptedPlanner(drawn_plan(1)), critic=ScriptedCritic(), generator=PlainGenerator(), images=whole_store
    ).compile()
    config = {"configurable": {"langgraph_auth_user_id": "alice"}}
    result = await graph.ainvoke({"request": "Draw it"}, config)
    image = next(block["image"] for block in result["document"]["blocks"] if block["type"] == "image")
    assert (
        await whole_store.of_tenant("alice").holds(ImageRef.model_validate(image)) and list(whole_store.files()) == []
    )
    inputs = {"request": "<image> Go on", "images": [image]}
    assert (await graph.ainvoke(inputs, config))["status"] == "complete"
    foreign = await graph.ainvoke(inputs, {"configurable": {"langgraph_auth_user_id": "bob"}})
    assert foreign["status"] == "failed" and (await graph.ainvoke(inputs))["status"] == "failed"
