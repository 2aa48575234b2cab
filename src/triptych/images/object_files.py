"""`ImageFiles` whose images are in an object store.

An image is read from the store once: what is stored or read stays as a copy in a bounded directory, from which the
least recently used are removed. Without copies, an image that every request of a chain refers to would be read for each
of them, and the outputs of a step would be read again for the next one.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from triptych.core import errors
from triptych.core.clock import Clock
from triptych.core.models import Image
from triptych.images.files import Fetch, ImageFiles
from triptych.images.naming import CACHE, key_of
from triptych.images.objects import Objects, ObjectsPlace

CACHE_BYTES = 1_000_000_000
KEPT_SHARE = 0.8
"""How full the directory of copies is after the oldest are removed."""


def open_files(home: Path, fetch: Fetch, place: ObjectsPlace | None, clock: Clock) -> ImageFiles:
    """Return the images of an installation: in the object store at `place`, without one in files below `home`.

    Raises: `errors.BadRequest` for a place that is no object store.
    """
    return ObjectFiles(home, fetch, Objects(place, clock)) if place else ImageFiles(home, fetch)


class ObjectFiles(ImageFiles):
    """The images in an object store, and those that were stored below `home` before it was used."""

    def __init__(self, home: Path, fetch: Fetch, stored: Objects, cache_bytes: int = CACHE_BYTES) -> None:
        super().__init__(home, fetch)
        self._objects = stored
        self._cache_dir = self.images_dir / CACHE
        self._cache_bytes = cache_bytes
        self._cached_bytes: int | None = None
        self._shrinking = threading.Lock()

    def _keep(self, image: Image, data: bytes) -> Path | None:
        try:
            self._objects.put(_key(image), data, image.mime_type)
        except errors.Outage as error:
            raise errors.NotStored(error.message, for_operator=error.for_operator) from error
        self._copy(image, data)
        return None

    def reach(self) -> None:
        self._objects.get("readyz")  # there is none; an answer is enough

    def touch(self, image: Image) -> bool:
        return super().touch(image) if image.path else self._objects.is_known(_key(image))

    def confirm(self, images: Iterable[Image]) -> None:
        for image in images:
            if image.pruned_at and not image.path:
                key = _key(image)
                self._objects.forget(key)
                if not self._objects.facts(key):
                    raise errors.NotStored(f"{image.handle} was pruned at this moment; make the same call again.")

    def bytes_of(self, image: Image) -> bytes:
        if image.path:
            return super().bytes_of(image)
        if copy := self._copied(image):
            with suppress(OSError):
                return copy.read_bytes()
        data = self._objects.get(_key(image))
        if data is None:
            raise errors.Outage(
                f"{image.handle} is not in the object store, or not shown there yet: try again in some seconds. If it "
                "stays away, upload or make it again."
            )
        if hashlib.sha256(data).hexdigest() != image.sha256:
            raise errors.Outage(f"The object store returned {image.handle} cut off or damaged; try again.")
        self._copy(image, data)
        return data

    def local_file(self, image: Image) -> Path:
        if image.path:
            return image.path
        if not self._copied(image):
            self.bytes_of(image)
        if copy := self._copied(image):
            return copy
        found = f"{image.handle} cannot be copied"
        raise errors.Outage(
            f"{found}; is the server's disk full?", for_operator=f"{found} to {self._cache_dir}; is the disk full?"
        )

    def signed_url(self, image: Image) -> tuple[str, datetime] | None:
        return None if image.path else self._objects.signed_url(_key(image))

    def sha256_in(self, url: str) -> str | None:
        return self._objects.sha256_in(url)

    # -- copies

    def _copied(self, image: Image) -> Path | None:
        """Return the copy of an image, which then counts as used now; None without one."""
        path = self._cache_dir / Path(_key(image)).name
        with suppress(OSError):
            if path.stat().st_size == image.bytes:
                with suppress(OSError):  # the file belongs to another user
                    os.utime(path)
                return path
        return None

    def _copy(self, image: Image, data: bytes) -> None:
        """Keep a copy of an image, if the disk takes it."""
        with suppress(OSError), self._shrinking:
            self._write_whole(self._cache_dir / Path(_key(image)).name, data)
            if self._cached_bytes is None:
                self._cached_bytes = sum(facts.st_size for _, facts in self._copies())
            else:
                self._cached_bytes += len(data)
            if self._cached_bytes > self._cache_bytes:
                self._shrink()

    def _shrink(self) -> None:
        """Remove the copies that were not used for the longest time."""
        copies = sorted(self._copies(), key=lambda copy: copy[1].st_mtime)
        left = sum(facts.st_size for _, facts in copies)
        for path, facts in copies:
            if left <= self._cache_bytes * KEPT_SHARE:
                break
            with suppress(OSError):  # open in another program on Windows
                path.unlink()
                left -= facts.st_size
        self._cached_bytes = left

    def _copies(self) -> list[tuple[Path, os.stat_result]]:
        copies = []
        for path in self._cache_dir.iterdir():
            with suppress(FileNotFoundError):  # another process removed it
                copies.append((path, path.stat()))
        return copies


def _key(image: Image) -> str:
    return key_of(image.sha256, image.mime_type)
