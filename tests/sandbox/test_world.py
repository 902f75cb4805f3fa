import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from interleaver.pictures import Picture
from interleaver.sandbox.primer import backgrounds, subjects
from interleaver.sandbox.world import (
    COLOURS,
    PLACES,
    SIZES,
    Scene,
    SceneItem,
    paint,
    place_centre,
    rasterise,
    row_of,
    scene_behind,
    scene_over,
    subject_markup,
)


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(picture.data)).convert("RGB")).astype(int)


def test_the_primer_is_large_and_complete():
    drawn = [subject for subject in subjects().values() if not subject.is_shape]
    assert len(drawn) >= 40
    assert {"cat", "house", "snowman", "rocket", "flower", "robot"} <= set(subjects())
    assert {"circle", "ellipse", "rectangle", "triangle", "line", "star"} <= set(subjects())
    assert len(backgrounds()) >= 8
    for subject in drawn:
        assert subject.colour in COLOURS
        assert subject.habitat in ("ground", "sky", "water", "any")
        assert subject.setting is None or subject.setting in backgrounds()
        assert all(len(part.text) > 15 for part in subject.parts), subject.name
    names = [name for subject in subjects().values() for name in (*subject.names, subject.plural)]
    doubled = {name for name in names if names.count(name) > 1}
    assert doubled <= {"fish"}  # its own plural


@pytest.mark.parametrize("kind", sorted(subjects()))
def test_every_part_shows(kind):
    for part in subjects()[kind].parts:
        data = rasterise(subject_markup(kind, (part.name,), "#ff00ff", 50, 50, 96), 100, 100)
        alpha = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))[..., 3]
        assert (alpha > 64).sum() > 10, part.name
        assert alpha[0].max() == 0 and alpha[:, 0].max() == 0  # it stays in its box


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (300, 200)])
def test_rendering_has_any_size_and_keeps_circles_round(size):
    scene = Scene(items=(SceneItem(1, "circle", None, "red", 0.5, 0.5, 0.6),))
    picture = paint(scene, *size)
    assert (picture.width, picture.height) == size
    red = np.abs(pixels(picture) - (0xE0, 0x39, 0x3E)).max(axis=2) < 60
    rows, columns = np.nonzero(red)
    assert abs((rows.max() - rows.min()) - (columns.max() - columns.min())) <= 2


def test_rendering_is_anti_aliased_and_repeatable():
    scene = Scene(items=(SceneItem(1, "circle", None, "black", 0.5, 0.5, 0.6),))
    assert paint(scene, 128, 128).data == paint(scene, 128, 128).data
    assert len(np.unique(pixels(paint(scene, 128, 128)).reshape(-1, 3), axis=0)) > 10


def test_a_picture_carries_its_scene():
    scene = Scene("a night sky", (SceneItem(3, "cat", "ears", "blue", 0.4, 0.6, 0.3),), ((0.1, 0.2, 0.05),))
    assert scene_behind(paint(scene, 96, 96)) == scene


def test_a_picture_from_elsewhere_is_kept_under_what_is_drawn():
    noise = np.random.default_rng(0).integers(0, 255, (80, 120, 3)).astype("uint8")
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    photo = Picture.decode(buffer.getvalue())
    assert scene_behind(photo) is None
    scene = replace(scene_over(photo), items=(SceneItem(1, "star", None, "yellow", 0.5, 0.5, 0.3),))
    first = paint(scene, 120, 80)
    again = scene_behind(first)
    assert again == scene  # the photograph survives a second edit
    assert (pixels(first)[:10] == noise[:10]).all()


def test_a_forged_scene_is_no_scene():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    plain = paint(Scene(), 64, 64).data
    text = b'interleaver-scene\x00{"background":"a lie","items":[],"smudges":[]}'
    forged = plain[:33] + chunk(b"tEXt", text) + plain[33:]
    Picture.decode(forged)
    assert scene_behind(Picture(forged, "image/png", 64, 64)) in (None, Scene())


@pytest.mark.parametrize("size", SIZES.values())
def test_everything_stays_on_the_canvas(size):
    for place in PLACES:
        x, y = place_centre(place, size, size)
        assert size / 2 <= x <= 1 - size / 2 and size / 2 <= y <= 1 - size / 2


@pytest.mark.parametrize("count", range(1, 7))
def test_things_in_a_row_do_not_touch(count):
    offsets = row_of(count, SIZES["tiny"])
    assert len(set(offsets)) == count
    for number, (x, y) in enumerate(offsets):
        for other_x, other_y in offsets[number + 1 :]:
            assert max(abs(x - other_x), abs(y - other_y)) > SIZES["tiny"] * 1.2
