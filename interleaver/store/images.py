"""The image store: pictures keyed by the SHA-256 of their bytes, on any fsspec URL."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterator, Sequence

from langgraph.config import get_config

from interleaver.errors import BackendUnavailable, BadInput, redact_password
from interleaver.pictures import EXTENSIONS, Picture, white_canvas
from interleaver.store.folders import Folder, StoredFile
from interleaver.types import ImageRef

DEFAULT_URL = "out/.store/images"
TENANTS = "tenants"
"""Folder of a store with a store of its own for each tenant."""


class LostPicture(BackendUnavailable):
    """The store does not have a picture; drawing or storing it again mends that."""


class DamagedPicture(LostPicture):
    """The store has other bytes in the place of a picture."""


class ImageStore:
    """Content-addressed storage for encoded pictures.

    A picture is written once, under a name derived from its hash, so storing it again only makes it look new, and runs
    may store the same picture concurrently. Readers never see a partially written picture, nor another one: bytes that
    do not have the hash of their name are an error, and storing the picture again mends them.

    Whoever knows a picture's hash can fetch it, so tenants must not share a store. In a run of an authenticated user of
    a LangGraph server, the store is that user's alone: a part of it that no other user's run can name.
    """

    def __init__(self, url: str = DEFAULT_URL, public_url: str | None = None, tenant: str | None = None):
        """Open a store.

        Args:
            url: a local folder, or any URL that fsspec supports (`s3://...`, `gs://...`, `memory://...`).
            public_url: base URL at which the pictures are served over HTTP, as `<public_url>/<sha256>.png`; None if
                they are not served.
            tenant: user whose part of the store this is; None for that of the run that is in progress, or else for the
                part that belongs to no user.
        """
        self.public_url = public_url.rstrip("/") if public_url else None
        self.tenant = tenant
        self._whole = Folder(url, "image store")

    @property
    def folder(self) -> Folder:
        """The folder of the pictures."""
        tenant = self.tenant or _user_of_run()
        if tenant is None:
            return self._whole
        # A digest is a valid and unambiguous name, whatever the user is called, and tells nobody who it is.
        return self._whole / TENANTS / hashlib.sha256(tenant.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def of_tenant(self, tenant: str | None) -> ImageStore:
        """Return the part of the store that belongs to a user; None for the part that belongs to no user."""
        return ImageStore(self._whole.url, self.public_url, tenant)

    def files(self) -> Iterator[StoredFile]:
        """Yield the files of this part of the store."""
        for file in self.folder.files():
            if not file.path.startswith(f"{TENANTS}/"):
                yield file

    @property
    def url(self) -> str:
        """The folder or URL that the store was opened with, without its password."""
        return redact_password(self._whole.url)

    def check(self) -> None:
        """Open the store's filesystem.

        Raises:
            BadInput: the filesystem of the URL is unknown, or its package is not installed.
        """
        self.folder.check()

    def path(self, ref: ImageRef) -> str:
        """Return the path of a picture within the store's filesystem."""
        return self.folder.path(image_file_name(ref))

    def link(self, ref: ImageRef) -> str:
        """Return the link to a picture for use outside: its public URL, or `sha256:<hash>` without a `public_url`."""
        if self.public_url is None:
            return f"sha256:{ref.sha256}"
        return f"{self.public_url}/{ref.sha256}{EXTENSIONS.get(ref.media_type, '')}"

    def parse_link(self, link: str) -> str | None:
        """Return the SHA-256 in a link of this store; None if the text is not such a link."""
        prefix = f"(?:sha256:|{re.escape(self.public_url)}/)" if self.public_url else "sha256:"
        match = re.fullmatch(prefix + r"([0-9a-f]{64})(?:\.[a-z]+)?", link)
        return match[1] if match else None

    async def find(self, sha256: str) -> Picture:
        """Fetch a picture by its hash alone.

        Raises:
            BadInput: the hash is malformed, or the store holds no such picture.
            DamagedPicture: the store has other bytes in its place.
            BackendUnavailable: the store cannot be read.
        """
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise BadInput(f"{sha256[:70]!r} is not a SHA-256; give 64 lower-case hex digits")
        for media_type in EXTENSIONS:
            ref = ImageRef(sha256=sha256, media_type=media_type, width=1, height=1)
            try:
                data = await asyncio.to_thread(self.read, ref)
            except DamagedPicture:
                raise
            except LostPicture:
                continue
            return await asyncio.to_thread(Picture.stored, data)
        raise BadInput(f"picture {sha256[:12]} is not in the image store {self.url}")

    async def holds(self, ref: ImageRef) -> bool:
        """Return whether the store has a picture, undamaged; False if the store cannot be read."""
        try:
            await asyncio.to_thread(self.read, ref)
        except BackendUnavailable:
            return False
        return True

    async def put(self, picture: Picture) -> ImageRef:
        """Store a picture and return its reference.

        Raises:
            BackendUnavailable: the store cannot be written to.
        """
        await asyncio.to_thread(self.write, picture)
        return picture.ref

    async def get(self, ref: ImageRef) -> Picture:
        """Fetch a picture.

        Only the hash of the reference counts, which may come from outside: type and size are read from the bytes.

        Raises:
            LostPicture: the store does not have it.
            DamagedPicture: the store has other bytes in its place, or bytes that are not a picture.
            BackendUnavailable: the store cannot be read.
        """
        data = await asyncio.to_thread(self.read, ref)
        try:
            return Picture.stored(data)
        except BadInput as error:
            raise DamagedPicture(f"picture {ref.sha256[:12]} in the image store {self.url}: {error}") from None

    async def get_before(self, sources: Sequence[ImageRef], after: Picture) -> Picture:
        """Fetch the picture that a step started from.

        Args:
            sources: pictures that the step edited; the last one is the picture it started from.
            after: picture that was drawn.

        Returns:
            The last source. For a step that was drawn from scratch, a white canvas of the size of `after`; it is
            stored as well, since the critic's exchange refers to it.

        Raises:
            BackendUnavailable: the store does not hold the picture, or cannot be used.
        """
        if sources:
            return await self.get(sources[-1])
        canvas = await asyncio.to_thread(white_canvas, after.width, after.height)
        await self.put(canvas)
        return canvas

    def read(self, ref: ImageRef) -> bytes:
        """Return the bytes of a picture without decoding them; raises the same errors as `get`."""
        try:
            data = self.folder.read(image_file_name(ref))
        except FileNotFoundError:
            raise LostPicture(f"picture {ref.sha256[:12]} is not in the image store {self.url}") from None
        except OSError as error:
            raise BackendUnavailable(f"the image store {self.url} cannot be read: {error}") from None
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise DamagedPicture(
                f"picture {ref.sha256[:12]} in the image store {self.url} is damaged: its {len(data):,} bytes are not "
                "those that were stored; interleaver doctor --store finds all such pictures"
            )
        return data

    def files_of(self, sha256: str) -> list[StoredFile]:
        """Return the files that hold a picture; usually one."""
        return [
            file
            for media_type in EXTENSIONS
            if (
                file := self.folder.find(
                    image_file_name(ImageRef(sha256=sha256, media_type=media_type, width=1, height=1))
                )
            )
        ]

    def write(self, picture: Picture) -> None:
        """Store a picture; raises the same errors as `put`."""
        name = image_file_name(picture.ref)
        try:
            if not self.folder.refresh(name, picture.data):
                self.folder.write(name, picture.data)
        except OSError as error:
            raise BackendUnavailable(f"the image store {self.url} cannot be written to: {error}") from None


def _user_of_run() -> str | None:
    """Return the authenticated user of the run in progress; LangGraph's server says who it is, and no client can."""
    try:
        user: str | None = get_config().get("configurable", {}).get("langgraph_auth_user_id")
    except RuntimeError:  # outside of a run
        return None
    return user or None


def image_file_name(ref: ImageRef) -> str:
    """Return the file name of a picture within the store."""
    return f"{ref.sha256[:2]}/{ref.sha256}{EXTENSIONS.get(ref.media_type, '')}"
