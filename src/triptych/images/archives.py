"""A zip archive of pictures, written file by file and placed whole: its path never holds a part of it.

Rules: the same files in the same order give the same bytes. Pictures are compressed already, so they are stored as they
are. Must not know the database.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import TYPE_CHECKING
from uuid import uuid4

from triptych.core import errors, private_files, systems
from triptych.images.allowed_paths import allowed_path

if TYPE_CHECKING:
    from triptych.images.files import ImageFiles

_TIME = (1980, 1, 1, 0, 0, 0)
_CHUNK_BYTES = 1 << 20


class Archive:
    """An archive in work at `path`, which is a temporary one. Raises `OSError` for a disk that is full."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._zip = zipfile.ZipFile(path, "x", zipfile.ZIP_STORED)
        self.names: set[str] = set()

    def add(self, name: str, data: bytes) -> None:
        """Add a file; `name` is a safe file name that is not in the archive yet."""
        assert name not in self.names and name == PurePath(name).name
        info = zipfile.ZipInfo(name, _TIME)
        info.create_system, info.external_attr = 3, 0o100644 << 16  # the same on every system
        self._zip.writestr(info, data)
        self.names.add(name)

    def place(self, path: Path) -> bool | None:
        """Give the finished archive its name: True if it has it now.

        False if a file with the same bytes is there already, None if the name is taken.
        """
        self._finish()
        if path.exists() or path.is_symlink():
            return False if _same(self._path, path) else None
        try:
            path.hardlink_to(self._path)
        except FileExistsError:
            return None
        except OSError:  # another file system, or one without hard links
            return _copied(self._path, path)
        return True

    def discard(self) -> None:
        """Remove the temporary file; a placed archive stays."""
        with suppress(OSError, ValueError):
            self._zip.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _finish(self) -> None:
        if self._zip.fp is None:
            return
        self._zip.close()
        with self._path.open("rb+") as file:
            systems.flush_file(file.fileno())


def target(files: ImageFiles, path: str, allowed: Sequence[Path]) -> tuple[Path, str] | None:
    """Return the directory and the name without suffix of an archive to write; None if the path is none.

    The path of an archive ends with `.zip` and is no directory. Raises: as `ImageFiles.allowed_directory`.
    """
    if not path.strip().lower().endswith(".zip"):
        return None
    found = allowed_path(path.strip(), allowed)
    with suppress(OSError):
        if found.is_dir():
            return None
    return files.allowed_directory(str(found.parent), allowed), found.stem


def begin(files: ImageFiles) -> Archive:
    """Return an empty archive below the home; `put` places it. Raises: `errors.Outage` on a full disk."""
    try:
        private_files.make_directory(files.parts_dir)
        return Archive(files.parts_dir / f".triptych-{uuid4().hex}.zip")
    except OSError as error:
        raise errors.Outage(
            f"The archive could not be written ({error.strerror}); is the server's disk full?",
            for_operator=f"The archive could not be written to {files.parts_dir} ({error.strerror}); is the disk full?",
        ) from error


def put(files: ImageFiles, archive: Archive, directory: Path, stem: str) -> tuple[Path, bool]:
    """Place a finished archive as `ImageFiles.write` places a file, and remove its temporary name. Raises: as that."""
    try:
        return files.put(directory, stem, ".zip", archive.place)
    finally:
        archive.discard()


def _same(one: Path, other: Path) -> bool:
    if not other.is_file() or one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        while chunk := first.read(_CHUNK_BYTES):
            if chunk != second.read(_CHUNK_BYTES):
                return False
    return True


def _copied(source: Path, target: Path) -> bool | None:
    """Copy a file to a new name of another file system, whole or not at all; None if the name is taken."""
    part = target.parent / f".triptych-{uuid4().hex}.part"
    try:
        shutil.copyfile(source, part)
        try:
            target.hardlink_to(part)
        except FileExistsError:
            return None
        except OSError:
            return _moved(part, target)
        return True
    finally:
        part.unlink(missing_ok=True)


def _moved(part: Path, target: Path) -> bool | None:
    """Copy without hard links: the name is taken first, and freed again if the copy fails."""
    try:
        file = target.open("xb")
    except FileExistsError:
        return None
    try:
        with file, part.open("rb") as source:
            shutil.copyfileobj(source, file, _CHUNK_BYTES)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return True
