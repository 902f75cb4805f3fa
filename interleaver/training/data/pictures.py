"""The pictures of rows: fetched, and checked before they are trusted."""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict

from interleaver.errors import BackendUnavailable
from interleaver.pictures import MAX_PIXELS, MEDIA_TYPES, white_canvas
from interleaver.traces.images import ImageStore
from interleaver.training.data.rows import canvas
from interleaver.types import ImageRef

REMEMBERED = 20_000
"""Pictures whose check is remembered; the steps of a run share theirs."""


class Pictures:
    """The pictures of one source."""

    def __init__(self, images: ImageStore):
        self._images = images
        self._checked: OrderedDict[str, str | None] = OrderedDict()

    def read(self, ref: ImageRef) -> bytes:
        """The bytes of a picture.

        Raises:
            BackendUnavailable: the store lacks it.
        """
        try:
            return self._images.read(ref)
        except BackendUnavailable:
            if ref != canvas(ref.width, ref.height):
                raise
            return white_canvas(ref.width, ref.height).data  # no rule-based critic refers to it, so it may be gone

    def problem(self, ref: ImageRef) -> str | None:
        """What is wrong with a picture: None, or a reason not to use it."""
        if ref.sha256 not in self._checked:
            self._checked[ref.sha256] = self._look(ref)
            if len(self._checked) > REMEMBERED:
                self._checked.popitem(last=False)
        return self._checked[ref.sha256]

    def _look(self, ref: ImageRef) -> str | None:
        from PIL import Image

        if ref.width * ref.height > MAX_PIXELS:
            return "picture of too many pixels"
        try:
            data = self.read(ref)
        except BackendUnavailable:
            return "missing picture"
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            return "damaged picture (its bytes are not those of its hash)"
        try:
            with Image.open(io.BytesIO(data), formats=list(MEDIA_TYPES)) as image:
                same = (image.width, image.height) == (ref.width, ref.height)
                image.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return "not a picture"
        return None if same else "picture of another size than its reference says"
