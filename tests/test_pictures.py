"""What is accepted as a picture and what becomes of it."""

import io

import pytest
from PIL import Image
from support.fakes import plain_picture

from interleaver.errors import BadInput
from interleaver.pictures import Picture, flatten


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
