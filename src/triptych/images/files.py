"""Image files stored under their sha256, and the one way in for bytes from outside.

Rules: an image is stored when its bytes, decoded to the last pixel, are on disk under their sha256, written atomically.
Bytes from outside are a path, a `file://` or `https://` URL or a `data:` URI, and come in through `import_image` alone:
paths as in `allowed_paths`, URLs through `ProviderClient.fetch`. All are decoded in full and cleaned of metadata before
they are stored. `save` writes copies and never overwrites.

Must not know: the database.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote_to_bytes

import anyio
import anyio.from_thread
import anyio.to_thread

from triptych.core import errors, private_files, systems
from triptych.core.models import Image
from triptych.images import writing
from triptych.images.allowed_paths import (
    FILE_LIMIT_BYTES,
    allowed_path,
    is_inside,
    locate,
    missing_path,
    outside_error,
    quoted_path,
    read_once,
    require_unmoved,
)
from triptych.images.naming import safe_name, suffix_of

PART_LIFETIME_S = 30.0
"""A temporary file older than this is stale: no write takes this long."""
ARCHIVE_LIFETIME_S = 3600.0
"""The same for an archive: it may wait for the next call that goes on with it."""


Fetch = Callable[[str], Awaitable[bytes]]
MayUse = Callable[[str], Awaitable[bool]]
"""Whether a caller may read the stored image with this sha256; with "", any stored image."""

MayReplace = Callable[[bytes, bytes], bool]
"""Whether a file with the first bytes may be replaced by the second."""


async def _anyone(_: str) -> bool:
    return True


class ImageFiles:
    """The files below `home`, and the imports into them. `fetch` reads an https URL."""

    def __init__(self, home: Path, fetch: Fetch) -> None:
        self.home = home
        self.images_dir = home / "images"
        self.parts_dir = home / "parts"
        self._fetch = fetch

    async def store_result(self, data: bytes) -> Image:
        """Verify a provider's result, store it, and return it as an image.

        Raises: `errors.UnreadableImage` if it does not decode to its last pixel; `errors.NotStored` on a full disk.
        """
        return await anyio.to_thread.run_sync(self._store_result, data)

    def _store_result(self, data: bytes) -> Image:
        from triptych.images import processing

        return self._write(data, processing.verify(data))

    async def import_image(
        self,
        item: str,
        allowed: Sequence[Path],
        may_use: MayUse = _anyone,
        limiter: anyio.CapacityLimiter | None = None,
    ) -> Image:
        """Store the image behind a path, a `file://` or `https://` URL or a `data:` URI, without metadata, and return
        it.

        A path inside our own directory is read only if `may_use` allows it, whatever `allowed` holds. `limiter` bounds
        how many images are decoded at a time.
        Raises: `errors.NotAllowed`, `errors.UnreadableImage`; for URLs the errors of `ProviderClient.fetch`.
        """
        if item[:5].lower() == "data:":
            data = await anyio.to_thread.run_sync(_from_data_uri, item)
        elif re.match(r"https?://", item, re.IGNORECASE):
            data = await self._fetch(item)
        else:
            _, data = await self.read(item, allowed, may_use)
        return await anyio.to_thread.run_sync(self._clean_named, item, data, limiter=limiter)

    def locate(self, item: str, allowed: Sequence[Path]) -> Path | None:
        """Return the resolved path of a file outside our own directory; None for one inside.

        Raises: as `read`, also for a path that leads to nothing.
        """
        real, is_own = locate(item, allowed, self.images_dir)
        if is_own:
            return None
        try:
            real.stat()
        except OSError:
            read_once(item, real, is_own)  # its refusal says what is wrong
        return real

    def import_file(self, item: str, real: Path) -> Image:
        """Do as `import_image` for a path that `locate` returned, maybe minutes ago. Blocks."""
        return self._clean_named(item, read_once(item, real, False))

    def reach(self) -> None:
        """Raise `errors.Outage` if images cannot be stored now. Blocks."""
        place = self.images_dir if self.images_dir.exists() else self.images_dir.parent  # the first image makes it
        if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
            raise errors.Outage(
                "Images cannot be stored on the server's disk.", for_operator=f"Images cannot be stored in {place}."
            )

    def touch(self, image: Image) -> bool:
        """Return whether the file of an image is here; it then counts as used now."""
        return bool(image.path and _touched(image.path))

    def confirm(self, images: Iterable[Image]) -> None:
        """Do nothing for files: one whose row was pruned is written again by then.

        For objects: raise `errors.Outage` if one was removed between its last write and the change of its row.
        """

    def bytes_of(self, image: Image) -> bytes:
        """Return the bytes of a stored image. May block.

        Raises: `errors.UnreadableImage` if its file is lost; `errors.Outage` while an object store gives no whole one.
        """
        try:
            return self.local_file(image).read_bytes()
        except OSError as error:
            raise errors.UnreadableImage(
                f"The file of {image.handle} cannot be read ({error.strerror}); upload it again."
            ) from error

    def local_file(self, image: Image) -> Path:
        """Return the path of a file with the bytes of an image; of an object, a copy. Raises: as `bytes_of`."""
        if image.path is None:
            raise errors.UnreadableImage(
                f"{image.handle} is in an object store: set TRIPTYCH_OBJECTS_URL to the one in which it was stored."
            )
        return image.path

    def signed_url(self, image: Image) -> tuple[str, datetime] | None:
        """Return a URL at which the object store gives an image to everyone, and its expiry; None for a file."""
        return None

    def sha256_in(self, url: str) -> str | None:
        """Return the hash of the image whose object is at this URL; None for any other URL."""
        return None

    async def read(
        self, item: str, allowed: Sequence[Path], may_use: MayUse, limit_bytes: int | None = None
    ) -> tuple[Path, bytes]:
        """Return the resolved path of a file and its bytes.

        A refusal does not show whether a stored image of another owner exists.
        Raises: `errors.NotAllowed`, `errors.UnreadableImage`.
        """
        real, is_own = await anyio.to_thread.run_sync(locate, item, allowed, self.images_dir)
        try:
            data = await anyio.to_thread.run_sync(read_once, item, real, is_own, limit_bytes)
        except errors.TriptychError:
            if is_own and not await may_use(""):
                raise outside_error(item, allowed) from None
            raise
        if is_own and not await may_use(hashlib.sha256(data).hexdigest()):
            raise outside_error(item, allowed)
        return real, data

    def require_file(self, item: str, allowed: Sequence[Path]) -> None:
        """Raise `errors.NotAllowed` or `errors.UnreadableImage` if a path may not be read, or no file is there."""
        path, is_own = locate(item, allowed, self.images_dir)
        if not is_own and not path.is_file():
            raise errors.UnreadableImage(f"there is no file {missing_path(item)}")

    def _clean_named(self, item: str, data: bytes) -> Image:
        from triptych.images import processing

        try:
            clean, facts = processing.clean(data)
        except errors.UnreadableImage as error:
            raise errors.UnreadableImage(f"{quoted_path(item)}: {error.message}") from error
        del data
        return self._write(clean, facts)

    def _write(self, data: bytes, facts: object) -> Image:
        from triptych.images.processing import Facts

        assert isinstance(facts, Facts)
        sha256 = hashlib.sha256(data).hexdigest()
        image = Image(sha256, f"img_{sha256[:8]}", facts.mime_type, facts.width, facts.height, len(data))
        return replace(image, path=self._keep(image, data))

    def _keep(self, image: Image, data: bytes) -> Path | None:
        """Store the bytes of an image; return the path of its file. Raises: `errors.NotStored`."""
        path = self._place(image.sha256, suffix_of(image.mime_type), data)
        if not _touched(path):
            try:
                self._write_whole(path, data)
            except OSError as error:
                raise errors.NotStored(
                    f"The image could not be written ({error.strerror}); is the server's disk full?",
                    for_operator=f"The image could not be written to {path.parent} ({error.strerror}); is the disk "
                    "full?",
                ) from error
        return path

    def _place(self, sha256: str, suffix: str, data: bytes) -> Path:
        """Return the path of an image: the first digits of its hash, because the assistant pays for long paths."""
        path = self.images_dir / f"{sha256[:16]}{suffix}"
        with suppress(OSError):
            if path.read_bytes() != data:
                return self.images_dir / f"{sha256}{suffix}"
        return path

    def _write_whole(self, path: Path, data: bytes) -> None:
        """Write a file so that it is on disk in full, or not at all."""
        private_files.make_directory(path.parent)
        private_files.make_directory(self.parts_dir)
        with writing.part(self.parts_dir, data, private_files.opener) as part:
            systems.replace(part, path)
        systems.flush_directory(path.parent)

    def remove_stale_parts(self, now: datetime) -> None:
        """Close the directories to other users, and remove temporary files that a dead process left."""
        with suppress(OSError):  # the first write raises the error
            private_files.make_directory(self.images_dir)
            private_files.make_directory(self.parts_dir)
        for pattern, lifetime_s in (("*.part", PART_LIFETIME_S), ("*.zip", ARCHIVE_LIFETIME_S)):
            for part in self.parts_dir.glob(pattern):
                with suppress(OSError):
                    if now.timestamp() - part.stat().st_mtime > lifetime_s:
                        part.unlink()

    def save(self, image: Image, directory: Path, stem: str) -> Path:
        """Copy an image into a directory, as `write` does; its suffix is that of its type.

        Raises: as `write`, and `errors.UnreadableImage` for a lost image.
        """
        return self.write(self.bytes_of(image), directory, stem, suffix_of(image.mime_type))[0]

    def write(self, data: bytes, directory: Path, stem: str, suffix: str) -> tuple[Path, bool]:
        """Write a file into a directory under a safe name, overwriting nothing; return its path, and whether it is new.

        `directory` is one that `allowed_directory` returned, maybe hours ago; links in it must lead to the same place
        now. An existing file with the same bytes counts as saved. If the name is taken by another file, `-2`, `-3` … is
        added.
        Raises: `errors.NotAllowed` if the directory cannot be written to.
        """

        def put(target: Path) -> bool | None:
            return True if self._create(target, data) else False if _has(target, data) else None

        return self.put(directory, stem, suffix, put)

    def save_text(self, data: bytes, directory: Path, name: str, may_replace: MayReplace) -> Path:
        """Write a text file as `write` does; a file for which `may_replace(old, new)` holds is replaced in one step.

        Raises: as `write`.
        """

        def put(target: Path) -> bool | None:
            if self._create(target, data):
                return True
            if _has(target, data):
                return False
            if not (_is_plain(target) and may_replace(target.read_bytes(), data)):
                return None
            with writing.part(directory, data) as part:
                part.replace(target)
            return True

        return self.put(directory, Path(name).stem, Path(name).suffix, put)[0]

    def find(self, directory: Path, stem: str, suffix: str, sha256: str) -> Path | None:
        """Return the file that `write` would find there for bytes with this hash; None if it would write a new one."""
        for n in range(1, 10_000):
            target = directory / f"{safe_name(stem)}{'' if n == 1 else f'-{n}'}{suffix}"
            if not target.is_file():
                return None
            with suppress(OSError):
                if hashlib.sha256(target.read_bytes()).hexdigest() == sha256:
                    return target
        return None

    def put(self, directory: Path, stem: str, suffix: str, put: Callable[[Path], bool | None]) -> tuple[Path, bool]:
        """Return the first of `stem`, `stem-2` … that `put` accepts, and its result: True for a new file.

        `put` returns False if the file is there already, None if the name is taken.
        Raises: as `write`.
        """
        stem = safe_name(stem)
        try:
            require_unmoved(directory)
            directory.mkdir(parents=True, exist_ok=True)
            require_unmoved(directory)
            for n in range(1, 10_000):
                target = directory / f"{stem}{'' if n == 1 else f'-{n}'}{suffix}"
                if (is_new := put(target)) is not None:
                    return target, is_new
        except OSError as error:
            raise errors.NotAllowed(f"{quoted_path(str(directory))} cannot be written ({error.strerror}).") from error
        raise errors.NotAllowed(f"{quoted_path(str(directory))} has too many files named {stem}.")

    def _create(self, path: Path, data: bytes) -> bool:
        """Write a new file in full; return False and change nothing if the name is taken.

        The file is written below `home` and hard-linked into place, so that a process that dies leaves nothing in the
        user's directory. On another file system it is written beside its place.
        """
        if path.exists() or path.is_symlink():
            return False
        private_files.make_directory(self.parts_dir)
        for directory in (self.parts_dir, path.parent):
            with writing.part(directory, data) as part:
                try:
                    path.hardlink_to(part)
                except FileExistsError:
                    return False
                except OSError:
                    continue
                return True
        return writing.create_in_place(path, data)  # the file system has no hard links

    def allowed_directory(self, directory: str, allowed: Sequence[Path]) -> Path:
        """Return the resolved directory if it is inside an allowed one, not hidden, and not inside our own home.

        Raises: `errors.NotAllowed`, with the allowed directories and the setting that adds one.
        """
        path = allowed_path(directory, allowed)
        if is_inside(path, self.home):
            raise errors.NotAllowed(f"{quoted_path(directory)} is inside TRIPTYCH_HOME; name a directory of your own.")
        with suppress(OSError):  # a name that is too long, for example: the write raises the error
            if path.is_file():
                raise errors.NotAllowed(f"{quoted_path(directory)} is a file, not a directory; name a directory.")
        return path


def is_here(image: Image) -> bool:
    """Return whether the bytes of an image are stored, as far as this shows without asking an object store."""
    return image.path.exists() if image.path else not image.pruned_at


ELSEWHERE = (
    "If another machine stored it, give all of them one TRIPTYCH_OBJECTS_URL, or one shared folder as "
    "TRIPTYCH_HOME/images"
)
"""The remedy for a file that this machine lacks, where several machines share a database."""


def _from_data_uri(item: str) -> bytes:
    head, comma, body = item.partition(",")
    if not comma:
        raise errors.UnreadableImage("The data: URI has no comma; it must look like data:image/png;base64,….")
    if len(body) > FILE_LIMIT_BYTES * 4 // 3 + 4:
        raise errors.UnreadableImage(f"The data: URI is larger than {FILE_LIMIT_BYTES / 1e6:.0f} MB.")
    try:
        plain = unquote_to_bytes(body)
        return base64.b64decode(b"".join(plain.split()), validate=True) if head.lower().endswith(";base64") else plain
    except (binascii.Error, ValueError) as error:
        raise errors.UnreadableImage("The data: URI is not valid base64.") from error


def _touched(path: Path) -> bool:
    """Return whether a file exists, and set its time of last use, which pruning reads."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except OSError:  # the file belongs to another user
        return path.exists()
    return True


def _has(path: Path, data: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size <= FILE_LIMIT_BYTES
