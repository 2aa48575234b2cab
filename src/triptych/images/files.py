"""Content-addressed files, and the one guarded door for outside bytes.

An image is home when its bytes, decoded to the last pixel, lie on disk under their sha256, written atomically. Outside
bytes come in as a path, a `file://` or `https://` URL or a `data:` URI, through `import_images` alone: a path must
resolve, symbolic links and all, to a regular file with one name, inside an allowed directory and not hidden there; a
URL goes through `ProviderClient.fetch`; whatever comes is decoded in full and stripped of its metadata before it is
kept. Copies leave through `save`, which never overwrites. What is refused is named as the caller named it.

This file must not know the database.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import stat
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path, PurePath
from urllib.parse import unquote, unquote_to_bytes, urlsplit
from urllib.request import url2pathname
from uuid import uuid4

import anyio.from_thread
import anyio.to_thread

from triptych.core import errors, private_files
from triptych.core.models import Image

FILE_LIMIT_BYTES = 64 * 1024 * 1024
PART_LIFETIME_S = 30.0
"""No write takes this long; if one did, it would fail and be tried again."""

_SUFFIX = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp", "image/gif": ".gif"}
_SUFFIX |= {"image/bmp": ".bmp", "image/tiff": ".tiff"}
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in "0123456789¹²³")}

Fetch = Callable[[str], Awaitable[bytes]]
Opener = Callable[[str, int], int]
MayUse = Callable[[str], Awaitable[bool]]
"""Whether a caller may use the image at home with this sha256; with "", whatever is there."""


async def _anyone(_: str) -> bool:
    return True


class ImageFiles:
    """The files below `home`, and the door to them. `fetch` reads an https URL."""

    def __init__(self, home: Path, fetch: Fetch) -> None:
        self._home = home
        self.images_dir = home / "images"
        self._parts_dir = home / "parts"
        self._fetch = fetch

    async def keep(self, data: bytes) -> Image:
        """Verify a provider's result, write it, and return it as an image.

        Raises: `errors.UnreadableImage` when it does not decode to its last pixel; `errors.Outage` on a full disk.
        """
        return await anyio.to_thread.run_sync(self._keep, data)

    def _keep(self, data: bytes) -> Image:
        from triptych.images import processing

        return self._write(data, processing.verify(data))

    async def import_images(self, item: str, allowed: Sequence[Path], may_use: MayUse = _anyone) -> Image:
        """Return the image behind a path, a `file://` or `https://` URL or a `data:` URI: home, and without metadata.

        A path to an image that is home already is read only if `may_use` agrees, whatever is allowed besides.
        Raises: `errors.NotAllowed`, `errors.UnreadableImage`, and for URLs what `ProviderClient.fetch` raises.
        """
        if item[:5].lower() == "data:":
            data = await anyio.to_thread.run_sync(_from_data_uri, item)
        elif re.match(r"https?://", item, re.IGNORECASE):
            data = await self._fetch(item)
        else:
            data = await self._read(item, allowed, may_use)
        try:
            return await anyio.to_thread.run_sync(self._clean, data)
        except errors.UnreadableImage as error:
            raise errors.UnreadableImage(f"{_short(item)}: {error.message}") from error

    async def _read(self, item: str, allowed: Sequence[Path], may_use: MayUse) -> bytes:
        """Return what lies at a path; whether there is anything at home that is not the caller's is not told either."""
        real, at_home = await anyio.to_thread.run_sync(_locate, item, allowed, self.images_dir)
        try:
            data = await anyio.to_thread.run_sync(_read_once, item, real, at_home)
        except errors.TriptychError:
            if at_home and not await may_use(""):
                raise _outside(item, allowed) from None
            raise
        if at_home and not await may_use(hashlib.sha256(data).hexdigest()):
            raise _outside(item, allowed)
        return data

    def _clean(self, data: bytes) -> Image:
        from triptych.images import processing

        clean, facts = processing.clean(data)
        del data
        return self._write(clean, facts)

    def _write(self, data: bytes, facts: object) -> Image:
        from triptych.images.processing import Facts

        assert isinstance(facts, Facts)
        sha256 = hashlib.sha256(data).hexdigest()
        path = self._place(sha256, _SUFFIX.get(facts.mime_type, ".img"), data)
        if not _touched(path):
            try:
                self._write_whole(path, data)
            except OSError as error:
                raise errors.Outage(
                    f"The image could not be written to {path.parent} ({error.strerror}); is the disk full?"
                ) from error
        return Image(sha256, f"img_{sha256[:8]}", facts.mime_type, facts.width, facts.height, len(data), path)

    def _place(self, sha256: str, suffix: str, data: bytes) -> Path:
        """Return where an image lies: under the first digits of its hash: paths are paid for by the word."""
        path = self.images_dir / f"{sha256[:16]}{suffix}"
        with suppress(OSError):
            if path.read_bytes() != data:
                return self.images_dir / f"{sha256}{suffix}"
        return path

    def _write_whole(self, path: Path, data: bytes) -> None:
        """Write a file so that it is there in full, on the disk, or not at all."""
        private_files.make_directory(path.parent)
        private_files.make_directory(self._parts_dir)
        with _part(self._parts_dir, data, private_files.opener) as part:
            part.replace(path)
        _flush_directory(path.parent)

    def sweep(self, now: datetime) -> None:
        """Close the files to other users, and remove what a process that died in the middle of a write left behind."""
        with suppress(OSError):  # the first write will tell
            private_files.make_directory(self.images_dir)
            private_files.make_directory(self._parts_dir)
        for part in self._parts_dir.glob("*.part"):
            with suppress(OSError):
                if now.timestamp() - part.stat().st_mtime > PART_LIFETIME_S:
                    part.unlink()

    def save(self, image: Image, directory: Path, stem: str) -> Path:
        """Copy an image into a directory under a name made safe, overwriting nothing; return where it lies.

        The directory is one that `allowed_directory` returned, maybe hours ago: it has to be where it was then. A file
        of that name with the same bytes counts as saved; another one's name gets `-2`, `-3` …
        Raises: `errors.NotAllowed` when the directory cannot be written, `errors.UnreadableImage` for a lost image.
        """
        stem, suffix = safe_name(stem), _SUFFIX.get(image.mime_type, ".img")
        try:
            data = image.path.read_bytes()
        except OSError as error:
            raise errors.UnreadableImage(f"The file of {image.handle} cannot be read ({error.strerror}).") from error
        try:
            _require_unmoved(directory)
            directory.mkdir(parents=True, exist_ok=True)
            _require_unmoved(directory)
            for n in range(1, 10_000):
                target = directory / f"{stem}{'' if n == 1 else f'-{n}'}{suffix}"
                if self._create(target, data) or _has(target, data):
                    return target
        except OSError as error:
            raise errors.NotAllowed(f"{_short(str(directory))} cannot be written ({error.strerror}).") from error
        raise errors.NotAllowed(f"{_short(str(directory))} has too many files named {stem}.")

    def _create(self, path: Path, data: bytes) -> bool:
        """Write a new file in full; return False, touching nothing, if there is one of that name.

        It is written below `home` and linked from there, so that a process that dies leaves nothing in a directory of
        the user's; beside its place only where that is another file system.
        """
        if path.exists() or path.is_symlink():
            return False
        private_files.make_directory(self._parts_dir)
        for directory in (self._parts_dir, path.parent):
            with _part(directory, data) as part:
                try:
                    path.hardlink_to(part)
                except FileExistsError:
                    return False
                except OSError:
                    continue
                return True
        return _create_in_place(path, data)  # a file system without hard links

    def allowed_directory(self, directory: str, allowed: Sequence[Path]) -> Path:
        """Return a directory to write into, resolved, if it is inside an allowed one, not hidden, and not our own home.

        Raises: `errors.NotAllowed`, saying what is allowed and how to allow more.
        """
        path = _allowed(directory, allowed)
        if _is_inside(path, self._home):
            raise errors.NotAllowed(f"{_short(directory)} is inside TRIPTYCH_HOME; name a directory of your own.")
        with suppress(OSError):  # a name too long, say: the writing will tell
            if path.is_file():
                raise errors.NotAllowed(f"{_short(directory)} is a file, not a directory; name a directory.")
        return path


def safe_name(name: str) -> str:
    """Return a file name without separators, control characters, leading dots or reserved words; at most 120 bytes."""
    clean = re.sub(r"[^\w\- .()]", "-", name).strip(" .-").encode()[:120].decode(errors="ignore").rstrip(" .-")
    return f"image-{clean}" if clean.split(".")[0].strip().lower() in _RESERVED else clean or "image"


def _to_path(item: str) -> Path:
    try:
        if item[:5].lower() != "file:":
            return Path(item).expanduser()
        parts = urlsplit(item)
    except (RuntimeError, ValueError) as error:
        raise errors.UnreadableImage(f"{_short(item)} is not a path on this machine.") from error
    if parts.netloc not in ("", "localhost"):
        raise errors.NotAllowed(f"{_short(item)} names another machine; pass a local path.")
    return Path(url2pathname(parts.path) if os.name == "nt" else unquote(parts.path))


def _allowed(item: str, allowed: Sequence[Path], own: Path | None = None) -> Path:
    """Return a path, resolved, if it is inside an allowed directory and not hidden there, or inside our `own`.

    A directory is hidden where the user did not name it: what lies below one that is itself allowed is not.
    """
    path = _to_path(item)
    _require_on_this_machine(item, path, allowed)
    path = _resolved(item, path)
    directories = list(dict.fromkeys(_resolved(str(directory), directory) for directory in allowed))
    around = [directory for directory in directories if path.is_relative_to(directory)]
    if own and _is_inside(path, own):
        return path
    if not around:
        raise _outside(item, directories)
    if all(_is_hidden_below(directory, path) for directory in around):
        raise errors.NotAllowed(
            f"{_short(item)} is hidden or in a hidden directory. Hidden files are not used. Use another place, or name "
            "the hidden directory itself in TRIPTYCH_ALLOWED_DIRS in the server's environment (`triptych install HOST "
            "--allow DIR` writes it)."
        )
    return path


def _outside(item: str, allowed: Sequence[Path]) -> errors.NotAllowed:
    shown = ", ".join(str(directory) for directory in allowed[:4]) or "none"
    return errors.NotAllowed(
        f"{_short(item)} is outside the allowed directories ({shown}; a link counts as its target). Add its "
        "directory to TRIPTYCH_ALLOWED_DIRS in the server's environment (`triptych install HOST --allow DIR` writes "
        "it), or use an allowed one."
    )


def _resolved(item: str, path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # loops of links, zero bytes, lone surrogates
        raise errors.UnreadableImage(f"{_short(item)} cannot be resolved.") from error


def _require_on_this_machine(item: str, path: PurePath, allowed: Sequence[PurePath]) -> None:
    """Refuse a Windows share before anything touches it: a mere look sends the user's login to its server."""
    drives = {directory.drive.casefold() for directory in allowed}
    if path.drive.startswith("\\\\") and path.drive.casefold() not in drives:
        raise errors.NotAllowed(
            f"{_short(item)} is on a network share. Add the share to TRIPTYCH_ALLOWED_DIRS in the server's "
            "environment (`triptych install HOST --allow DIR` writes it), or pass a local path."
        )


def _is_hidden_below(directory: Path, path: Path) -> bool:
    below = path.relative_to(directory).parts
    return any(
        name.startswith(".") or _has_hidden_flag(directory.joinpath(*below[: i + 1])) for i, name in enumerate(below)
    )


def _has_hidden_flag(path: Path) -> bool:
    """Return whether Windows or macOS was told not to show this."""
    try:
        found = path.lstat()
    except (OSError, ValueError):
        return False
    attributes, flags = getattr(found, "st_file_attributes", 0), getattr(found, "st_flags", 0)
    return bool(attributes & stat.FILE_ATTRIBUTE_HIDDEN or flags & stat.UF_HIDDEN)


def _is_inside(path: Path, directory: Path) -> bool:
    """Return whether a path is this directory or below it, however its name is spelled."""
    for one in (path, *path.parents):
        with suppress(OSError):
            if one.samefile(directory):
                return True
    return False


def _require_unmoved(directory: Path) -> None:
    try:
        moved = directory.resolve() != directory
    except (OSError, RuntimeError):  # a loop of links
        moved = True
    if moved:
        raise errors.NotAllowed(
            f"{_short(str(directory))} was replaced after it was checked; nothing was written. "
            "Save again with save_images."
        )


def _locate(item: str, allowed: Sequence[Path], own: Path) -> tuple[Path, bool]:
    """Return a path that may be read, resolved, and whether it is inside our `own` directory."""
    real = _allowed(item, allowed, own)
    return real, _is_inside(real, own)


def _read_once(item: str, real: Path, at_home: bool) -> bytes:
    """Read a regular file from the one descriptor on which it is checked."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(real, flags)
        try:
            opened = os.fstat(descriptor)
            unmoved = os.path.samestat(opened, real.lstat()) and real.resolve() == real
            regular, small = stat.S_ISREG(opened.st_mode), opened.st_size <= FILE_LIMIT_BYTES
            # A second name may lie anywhere. What we keep ourselves may have one: some back up by hard links.
            only_here = opened.st_nlink <= 1 or at_home
            if unmoved and regular and small and only_here:
                with open(descriptor, "rb", closefd=False) as file:
                    return file.read(FILE_LIMIT_BYTES)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise errors.UnreadableImage(
            f"There is no file {_short(item)}; check the path, and write it in full if it is relative."
        ) from error
    except OSError as error:
        raise errors.UnreadableImage(f"{_short(item)} cannot be read ({error.strerror}).") from error
    if not unmoved:
        raise errors.NotAllowed(f"{_short(item)} changed while it was opened.")
    if not regular:
        raise errors.UnreadableImage(f"{_short(item)} is not a file; name an image file.")
    if not only_here:
        raise errors.NotAllowed(
            f"{_short(item)} is a hard link: the same file has another name, which may be outside the allowed "
            "directories. Make a copy of it and name the copy."
        )
    size, limit = opened.st_size / 1e6, FILE_LIMIT_BYTES / 1e6
    raise errors.UnreadableImage(f"{_short(item)} has {size:.0f} MB; at most {limit:.0f} MB are read.")


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


def _short(item: str) -> str:
    return errors.quoted(item, 160)


def _touched(path: Path) -> bool:
    """Return whether a file is there; from now on it counts as used, which keeps it from being pruned."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except OSError:  # another user's
        return path.exists()
    return True


def _has(path: Path, data: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data


def _create_in_place(path: Path, data: bytes) -> bool:
    try:
        file = path.open("xb")
    except FileExistsError:
        return False
    try:
        with file:
            file.write(data)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return True


def _flush_directory(directory: Path) -> None:
    """Put a new name on the disk: without it a power cut forgets the name of a file whose bytes are there."""
    if os.name == "nt":
        return  # Windows opens no directory; its file systems log a rename themselves
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _part(directory: Path, data: bytes, opener: Opener | None = None) -> Iterator[Path]:
    """A finished, flushed file to be moved to its place; gone afterwards, if it was not.

    With the umask's rights, for it may be the user's own, unless an `opener` gives others.
    """
    path = directory / f".triptych-{uuid4().hex}.part"
    try:
        with open(path, "xb", opener=opener) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield path
    finally:
        path.unlink(missing_ok=True)
