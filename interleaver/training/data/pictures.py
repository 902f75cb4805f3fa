"""Reading and validating the pictures of rows."""

from __future__ import annotations

import io
from collections import OrderedDict

from interleaver.errors import BackendUnavailable
from interleaver.pictures import MAX_PIXELS, MEDIA_TYPES, Picture, apply_policy, white_canvas
from interleaver.store.images import DamagedPicture, ImageStore
from interleaver.training.data.rows import canvas_ref
from interleaver.types import ImageRef, PicturePolicy

CACHE_SIZE = 20_000
"""Maximum number of pictures whose validation result is cached; the steps of a run share pictures."""


class RowPictures:
    """Reads and validates the pictures of one trace source."""

    def __init__(self, images: ImageStore):
        self._images = images
        self._problems: OrderedDict[str, str | None] = OrderedDict()

    def read(self, ref: ImageRef) -> bytes:
        """Return the bytes of a picture.

        Raises:
            BackendUnavailable: the picture is not in the store and is not a blank canvas.
        """
        try:
            return self._images.read(ref)
        except BackendUnavailable:
            if ref != canvas_ref(ref.width, ref.height):
                raise
            return white_canvas(ref.width, ref.height).data  # may be missing: only chat critics refer to it

    def picture(self, ref: ImageRef, policy: PicturePolicy | None) -> Picture:
        """Return a picture as it was sent to the model.

        Raises:
            BackendUnavailable: as for `read`.
        """
        picture = Picture(self.read(ref), ref.media_type, ref.width, ref.height)
        return apply_policy(picture, policy) if policy else picture

    def problem(self, ref: ImageRef) -> str | None:
        """Return why a picture cannot be used; None if it can."""
        if ref.sha256 not in self._problems:
            self._problems[ref.sha256] = self._look(ref)
            if len(self._problems) > CACHE_SIZE:
                self._problems.popitem(last=False)
        return self._problems[ref.sha256]

    def _look(self, ref: ImageRef) -> str | None:
        from PIL import Image

        if ref.width * ref.height > MAX_PIXELS:
            return "picture with too many pixels"
        try:
            data = self.read(ref)
        except DamagedPicture:
            return "damaged picture (its bytes are not those of its hash)"
        except BackendUnavailable:
            return "missing picture"
        try:
            with Image.open(io.BytesIO(data), formats=[*MEDIA_TYPES, "GIF"]) as image:
                sizes_match = (image.width, image.height) == (ref.width, ref.height)
                image.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return "not a picture"
        return None if sizes_match else "picture size differs from its reference"
