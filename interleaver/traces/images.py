"""The image store: pictures under the SHA-256 of their bytes, on any fsspec URL."""

from __future__ import annotations

import asyncio
import re

from interleaver.errors import BackendUnavailable, BadInput, shown
from interleaver.pictures import EXTENSIONS, Picture
from interleaver.traces.folders import Folder
from interleaver.types import ImageRef

DEFAULT_URL = "out/.store/images"


class ImageStore:
    """Content-addressed storage for encoded pictures.

    A picture is written once under a name made of its own hash, so storing it again is free and two runs may store
    the same picture at the same moment. A reader sees the whole picture or none.
    """

    def __init__(self, url: str = DEFAULT_URL, public_url: str | None = None):
        """Open a store.

        Args:
            url: a local folder, or any URL that fsspec knows (`s3://...`, `gs://...`, `memory://...`).
            public_url: where readers can fetch its pictures over HTTP, as `<public_url>/<sha256>.png`; None when
                nothing serves them.
        """
        self.folder = Folder(url, "image store")
        self.public_url = public_url.rstrip("/") if public_url else None

    @property
    def url(self) -> str:
        """The folder or URL that the store was opened with, less a password."""
        return shown(self.folder.url)

    def check(self) -> None:
        """Open the store's filesystem.

        Raises:
            BadInput: the URL names a filesystem that is unknown or not installed.
        """
        self.folder.check()

    def path(self, ref: ImageRef) -> str:
        """Where the bytes of `ref` lie within the store's filesystem."""
        return self.folder.path(name_of(ref))

    def link(self, ref: ImageRef) -> str:
        """How to name a picture to somebody outside: its public address, or `sha256:<hash>` where it has none."""
        if self.public_url is None:
            return f"sha256:{ref.sha256}"
        return f"{self.public_url}/{ref.sha256}{EXTENSIONS.get(ref.media_type, '')}"

    def linked(self, link: str) -> str | None:
        """The SHA-256 that a link of this store names; None for any other text."""
        own = f"(?:sha256:|{re.escape(self.public_url)}/)" if self.public_url else "sha256:"
        match = re.fullmatch(own + r"([0-9a-f]{64})(?:\.[a-z]+)?", link)
        return match[1] if match else None

    async def find(self, sha256: str) -> Picture:
        """Fetch a picture by its hash alone.

        Raises:
            BadInput: the hash is malformed, or the store holds no such picture.
        """
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise BadInput(f"{sha256[:70]!r} is not a SHA-256; give 64 lower-case hex digits")
        for media_type in EXTENSIONS:
            ref = ImageRef(sha256=sha256, media_type=media_type, width=1, height=1)
            try:
                data = await asyncio.to_thread(self.read, ref)
            except BackendUnavailable:
                continue
            return await asyncio.to_thread(Picture.decode, data, f"picture {sha256[:12]}")
        raise BadInput(f"picture {sha256[:12]} is not in the image store {self.url}")

    async def holds(self, ref: ImageRef) -> bool:
        """Whether a picture is there."""
        try:
            return await asyncio.to_thread(self.folder.exists, name_of(ref))
        except OSError:
            return False

    async def put(self, picture: Picture) -> ImageRef:
        """Keep a picture and return its reference.

        Raises:
            BackendUnavailable: the store cannot be written to.
        """
        try:
            await asyncio.to_thread(self._write, picture)
        except OSError as error:
            raise BackendUnavailable(f"the image store {self.url} cannot be written to: {error}") from None
        return picture.ref

    async def get(self, ref: ImageRef) -> Picture:
        """Fetch a picture.

        Raises:
            BackendUnavailable: the store does not hold it, or cannot be read.
        """
        data = await asyncio.to_thread(self.read, ref)
        return Picture(data, ref.media_type, ref.width, ref.height)

    def read(self, ref: ImageRef) -> bytes:
        """The bytes of a picture, unchecked; see `get`."""
        try:
            return self.folder.read(name_of(ref))
        except OSError as error:
            raise BackendUnavailable(
                f"picture {ref.sha256[:12]} is not in the image store {self.url}: {error}"
            ) from None

    def _write(self, picture: Picture) -> None:
        name = name_of(picture.ref)
        if not self.folder.exists(name):
            self.folder.write(name, picture.data)


def name_of(ref: ImageRef) -> str:
    """The file of a picture within its store."""
    return f"{ref.sha256[:2]}/{ref.sha256}{EXTENSIONS.get(ref.media_type, '')}"
