"""What is accepted as a picture and what becomes of it."""

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo
from support.fakes import plain_picture

from interleaver.errors import BadInput
from interleaver.pictures import Picture, apply_policy, flatten
from interleaver.sandbox.world import Scene, SceneItem, paint
from interleaver.tools.svg_rendering import read_drawing, render_drawing
from interleaver.types import PicturePolicy


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


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def opened(picture):
    image = Image.open(io.BytesIO(picture.data))
    image.load()
    return image


def drawing(mode="RGB", size=(90, 60)):
    """Red on the left, green on the right, so that it can be told which way up it is."""
    image = Image.new("RGB", size, (30, 140, 60))
    image.paste((200, 30, 30), (0, 0, size[0] // 2, size[1]))
    return image.convert(mode)


def tagged(**others):
    exif = Image.Exif()
    exif[0x010F] = "secret maker"
    for name, value in others.items():
        exif[{"orientation": 0x0112}[name]] = value
    return exif


def other_profile():
    """A colour profile whose red and green are exchanged: what a profile that is ignored looks like."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = {profile[n : n + 4]: n for n in range(132, 132 + 12 * int.from_bytes(profile[128:132], "big"), 12)}
    red, green = (int.from_bytes(profile[tags[name] + 4 : tags[name] + 8], "big") for name in (b"rXYZ", b"gXYZ"))
    swapped = bytearray(profile)
    swapped[red : red + 20], swapped[green : green + 20] = profile[green : green + 20], profile[red : red + 20]
    return bytes(swapped).replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))


def sixteen_bits():
    samples = np.full((60, 90, 3), 30 * 257, dtype=">u2")
    lines = b"".join(b"\0" + row.tobytes() for row in samples)
    head = struct.pack(">IIBBBBB", 90, 60, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


OTHER = Image.new("RGB", (90, 60), "blue")
STILLS = {
    "jpeg": encoded(drawing(), "JPEG", exif=tagged(), comment=b"secret"),
    "progressive": encoded(drawing(), "JPEG", progressive=True, exif=tagged()),
    "restarts": encoded(drawing(), "JPEG", restart_marker_blocks=1, exif=tagged()),
    "grey jpeg": encoded(drawing("L"), "JPEG", exif=tagged()),
    "cmyk": encoded(drawing("CMYK"), "JPEG", exif=tagged()),
    "several jpegs": encoded(drawing(), "MPO", save_all=True, append_images=[OTHER], exif=tagged()),
    "png": encoded(drawing(), exif=tagged(), pnginfo=PngInfo()),
    "palette": encoded(drawing("P"), exif=tagged()),
    "one bit": encoded(drawing("1"), exif=tagged()),
    "grey and alpha": encoded(drawing("LA"), exif=tagged()),
    "alpha": encoded(drawing("RGBA"), exif=tagged()),
    "16 bits": sixteen_bits(),
    "16 bits of grey": encoded(Image.new("I;16", (90, 60), 30 * 257)),
    "moving png": encoded(drawing(), save_all=True, append_images=[OTHER]),
    "gif": encoded(drawing("P"), "GIF"),
    "moving gif": encoded(drawing("P"), "GIF", save_all=True, append_images=[OTHER]),
    "webp": encoded(drawing(), "WEBP", exif=tagged().tobytes(), lossless=True),
    "webp with alpha": encoded(drawing("RGBA"), "WEBP", exif=tagged().tobytes()),
    "moving webp": encoded(drawing(), "WEBP", save_all=True, append_images=[OTHER]),
    "avif": encoded(drawing(), "AVIF", exif=tagged()),
    "heic": (Path(__file__).parent / "support/pictures/phone.heic").read_bytes(),
    "bytes after the end": encoded(drawing()) + b"secret",
    "jpeg and bytes after the end": encoded(drawing(), "JPEG") + b"secret",
    "webp and bytes after the end": encoded(drawing(), "WEBP") + b"secret",
}


@pytest.mark.parametrize("name", STILLS)
def test_every_kind_becomes_one_still_plain_picture(name):
    picture = Picture.decode(STILLS[name])
    image = opened(picture)
    assert getattr(image, "n_frames", 1) == 1
    assert image.mode in ("L", "LA", "RGB", "RGBA")
    assert (image.width, image.height) == (picture.width, picture.height)
    assert image.get_format_mimetype() == picture.media_type
    assert b"secret" not in picture.data
    assert not image.getexif()
    assert not image.info.get("icc_profile")
    assert Picture.decode(picture.data) == picture
    if not name.startswith(("16", "grey", "one", "heic")):
        red, green = (flatten(image).getpixel((x, 30)) for x in (20, 70))
        assert np.allclose(red, (200, 30, 30), atol=40)
        assert np.allclose(green, (30, 140, 60), atol=40)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_what_is_plain_already_is_not_compressed_again(kind):
    plain = Picture.decode(encoded(drawing(), kind))
    tagged_file = encoded(drawing(), kind, exif=tagged())
    assert opened(Picture.decode(tagged_file)).tobytes() == opened(plain).tobytes()
    assert Picture.decode(encoded(drawing(), "PNG")).data == encoded(drawing(), "PNG")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_photograph_is_turned_upright(kind, orientation):
    sideways = ImageOps.exif_transpose(drawing())
    data = encoded(sideways, kind, exif=tagged(orientation=orientation))
    image = opened(Picture.decode(data))
    assert image.size == ((60, 90) if orientation > 4 else (90, 60))
    with Image.open(io.BytesIO(data)) as given:
        upright = ImageOps.exif_transpose(given).convert("RGB")
    assert ImageChops.difference(image, upright).convert("L").getextrema()[1] < 40


def test_a_turned_photograph_stays_as_large_as_it_was():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (150, 200, 3), dtype=np.uint8)).resize((800, 600))
    data = encoded(noise, "JPEG", quality=92, exif=tagged(orientation=6))
    picture = Picture.decode(data)
    assert picture.media_type == "image/jpeg"
    assert len(picture.data) < 1.1 * len(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_colour_profiles_are_applied(kind):
    red = Image.new("RGB", (16, 16), (250, 20, 20))
    image = opened(Picture.decode(encoded(red, kind, icc_profile=other_profile())))
    assert image.getpixel((8, 8))[1] > image.getpixel((8, 8))[0]
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.allclose(
        opened(Picture.decode(encoded(red, kind, icc_profile=srgb))).getpixel((8, 8)), (250, 20, 20), atol=9
    )
    assert Picture.decode(encoded(red, kind, icc_profile=b"no profile"))


def test_a_picture_of_a_phone_is_scaled_down_only_as_far_as_needed():
    picture = Picture.decode(encoded(Image.new("RGB", (8064, 6048), "teal"), "JPEG"))
    assert picture.media_type == "image/jpeg"
    assert 39_900_000 < picture.width * picture.height <= 40_000_000
    assert abs(picture.width / picture.height - 8064 / 6048) < 0.001


def test_without_the_decoder_heic_is_named(monkeypatch):
    monkeypatch.setattr("interleaver.heif.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"start.heic is a HEIC picture.*interleaver\[heic\]"):
        Picture.decode(STILLS["heic"], "start.heic")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of damaged metadata
@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "avif", "gif", "several jpegs"])
def test_damaged_files_are_refused_in_words(name):
    data = STILLS[name]
    for cut in range(4, len(data), max(len(data) // 40, 1)):
        changed = data[:cut] + bytes([data[cut] ^ 0xFF]) + data[cut + 1 :]
        for damaged in (data[:cut], changed):
            try:
                picture = Picture.decode(damaged)
            except BadInput:
                continue
            assert Picture.decode(picture.data) == picture


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(data=st.binary(max_size=60), name=st.sampled_from(sorted(set(STILLS) - {"heic"})), at=st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_normalising_again_changes_nothing(data, name, at):
    file = STILLS[name]
    place = int(at * len(file))
    try:
        picture = Picture.decode(file[:place] + data + file[place + len(data) :])
    except BadInput:
        return
    assert Picture.decode(picture.data) == picture


def cat():
    return paint(Scene(items=(SceneItem(0, "cat", None, "orange", 0.5, 0.5, 0.8),)), 128, 128)


def test_a_drawing_of_the_sandbox_keeps_what_it_says_only_if_it_is_true():
    picture = cat()
    assert Picture.decode(picture.data) == picture
    false = Image.new("RGB", (128, 128), "white")
    notes = PngInfo()
    notes.add_itxt("interleaver-scene", opened(picture).text["interleaver-scene"])
    notes.add_text("Comment", "secret")
    assert Picture.decode(encoded(false, pnginfo=notes)).data == encoded(false)
    broken = PngInfo()
    broken.add_itxt("interleaver-scene", '{"background": "plain", "items": [{"kind": 5}], "smudges": [[1e400, "x"]]}')
    assert Picture.decode(encoded(false, pnginfo=broken)).data == encoded(false)


async def test_a_vector_drawing_keeps_what_it_says_only_if_it_is_true():
    circle = read_drawing(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 90 60"><circle r="20" fill="red"/></svg>'
    )
    picture = await render_drawing(circle, None, 90, 60)
    assert Picture.decode(picture.data) == picture
    notes = PngInfo()
    notes.add_itxt("svg", circle)
    assert Picture.decode(encoded(drawing(), pnginfo=notes)).data == encoded(drawing())


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
    with pytest.raises(BadInput, match="9000x9000 pixels; at most 80 megapixels"):
        Picture.decode(buffer.getvalue())


@pytest.mark.parametrize(
    ("policy", "size"),
    [
        (PicturePolicy(), (900, 600)),
        (PicturePolicy(max_side=300), (300, 200)),
        (PicturePolicy(max_pixels=60_000), (300, 200)),
        (PicturePolicy(many_pixels=384 * 384).among(4), (900, 600)),
        (PicturePolicy(many_pixels=384 * 384).among(5), (470, 313)),
        (PicturePolicy().among(5), (900, 600)),
    ],
)
def test_a_policy_scales_pictures_down(policy, size):
    picture = Picture.encode(drawing(size=(900, 600)))
    result = apply_policy(picture, policy)
    assert (result.width, result.height) == opened(result).size == size
    assert result is picture if size == (900, 600) else result.media_type == "image/png"


def test_a_policy_bounds_bytes_and_formats_and_shows_no_transparency():
    noise = Picture.encode(Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)))
    small = apply_policy(noise, PicturePolicy(max_bytes=40_000))
    assert (small.media_type, len(small.data) <= 40_000) == ("image/jpeg", True)
    webp = Picture.encode(drawing(), "WEBP")
    assert apply_policy(webp, PicturePolicy(formats=("image/png", "image/jpeg"))).media_type == "image/jpeg"
    glass = Picture.encode(Image.new("RGBA", (8, 8), (0, 0, 0, 0)))
    assert opened(apply_policy(glass, PicturePolicy())).getpixel((4, 4)) == (255, 255, 255)
    assert apply_policy(cat(), PicturePolicy()) == cat()  # so it can still be edited


def test_a_damaged_heic_picture_does_not_end_the_process():
    data = STILLS["heic"]
    for cut in (30, 150, 300, 500):  # libheif breaks off at some of these
        for damaged in (data[:cut], data[:cut] + b"\xff\xff\xff" + data[cut + 3 :]):
            with contextlib.suppress(BadInput):
                assert Picture.decode(damaged).media_type == "image/jpeg"
