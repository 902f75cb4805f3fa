import io
import multiprocessing
import threading

import fsspec
import pytest
from conftest import plain_picture
from PIL import Image

from interleaver.errors import BackendUnavailable, BadInput
from interleaver.pictures import Picture, flatten
from interleaver.traces.images import ImageStore
from interleaver.traces.runs import RunStore


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


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is not a picture"),
        (b"hello", "is not a picture"),
        (b"GIF89a", "is not a picture|is a damaged picture"),
        (plain_picture(size=(300, 300)).data[:-40], "is a damaged picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a picture"),
    ],
)
def test_what_is_no_picture_is_refused(data, said):
    with pytest.raises(BadInput, match=said):
        Picture.decode(data, "start.png")


def encoded(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def test_a_turned_photograph_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Picture.decode(encoded(Image.new("RGB", (60, 30)), format="JPEG", exif=exif))
    assert (picture.width, picture.height) == (30, 60)
    with Image.open(io.BytesIO(picture.data)) as image:
        assert image.size == (30, 60)


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (Image.new("RGBA", (8, 8), (0, 0, 0, 0)), (255, 255, 255)),
        (Image.new("LA", (8, 8), (90, 255)), (90, 90, 90)),
        (Image.new("I;16", (8, 8), 128 * 256), (128, 128, 128)),
        (Image.new("P", (8, 8), 0), (0, 0, 0)),
    ],
)
def test_every_kind_of_picture_is_flattened_to_what_it_looks_like(image, colour):
    assert flatten(image).getpixel((4, 4)) == colour


def test_too_many_pixels_are_refused_before_they_are_decoded():
    buffer = io.BytesIO()
    Image.new("1", (9000, 9000)).save(buffer, "PNG")
    with pytest.raises(BadInput, match="9000x9000 pixels; at most 40 megapixels"):
        Picture.decode(buffer.getvalue())


def test_runs_are_listed_newest_first_and_unfinished_ones_too(tmp_path):
    store = RunStore(tmp_path)
    store.prepare()
    context = {"seed": 3}
    first, second = (store.begin(request, [], context, None) for request in ("one", "two: a cat?"))
    assert [run.run_id for run in store.summaries()] == [second.run_id, first.run_id]
    assert store.summaries()[0].status == "unfinished"
    assert second.run_id.split("-", 2)[2].startswith("two-a-cat-")
    assert store.record(first.run_id) == first


@pytest.mark.parametrize("run_id", ["nope", "../x", "", "."])
def test_a_run_that_does_not_exist_is_told(tmp_path, run_id):
    store = RunStore(tmp_path)
    with pytest.raises(BadInput, match="there is no run"):
        store.record(run_id)


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
