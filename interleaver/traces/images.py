"""The image store: pictures under the SHA-256 of their bytes, on any fsspec URL."""

from __future__ import annotations

import asyncio
import os
import re
import uuid
from functools import cached_property
from typing import Any

from interleaver.errors import BackendUnavailable, BadInput
from interleaver.pictures import EXTENSIONS, Picture
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
        self.url = url
        self.public_url = public_url.rstrip("/") if public_url else None

    @cached_property
    def _place(self) -> tuple[Any, str]:
        import fsspec

        try:
            filesystem, root = fsspec.core.url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise BadInput(f"the image store {self.url!r} cannot be opened: {error}") from None
        return filesystem, root.rstrip("/")

    def check(self) -> None:
        """Open the store's filesystem.

        Raises:
            BadInput: the URL names a filesystem that is unknown or not installed.
        """
        _ = self._place

    def path(self, ref: ImageRef) -> str:
        """Where the bytes of `ref` lie within the store's filesystem."""
        root = self._place[1]
        return f"{root}/{ref.sha256[:2]}/{ref.sha256}{EXTENSIONS.get(ref.media_type, '')}"

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
                data = await asyncio.to_thread(self._read, ref)
            except BackendUnavailable:
                continue
            return await asyncio.to_thread(Picture.decode, data, f"picture {sha256[:12]}")
        raise BadInput(f"picture {sha256[:12]} is not in the image store {self.url}")

    async def holds(self, ref: ImageRef) -> bool:
        """Whether a picture is there."""
        try:
            return bool(await asyncio.to_thread(lambda: self._place[0].exists(self.path(ref))))
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
        data = await asyncio.to_thread(self._read, ref)
        return Picture(data, ref.media_type, ref.width, ref.height)

    def _read(self, ref: ImageRef) -> bytes:
        try:
            data: bytes = self._place[0].cat_file(self.path(ref))
        except OSError as error:
            raise BackendUnavailable(
                f"picture {ref.sha256[:12]} is not in the image store {self.url}: {error}"
            ) from None
        return data

    def _write(self, picture: Picture) -> None:
        from fsspec.implementations.local import LocalFileSystem

        filesystem, path, data = self._place[0], self.path(picture.ref), picture.data
        if filesystem.exists(path):
            return
        if isinstance(filesystem, LocalFileSystem):
            # Object stores publish a whole object at once; a local file needs the rename to do so.
            os.makedirs(os.path.dirname(path), exist_ok=True)
            draft = f"{path}.{uuid.uuid4().hex}"
            with open(draft, "wb") as file:
                file.write(data)
            os.replace(draft, path)
        else:
            filesystem.pipe_file(path, data)
