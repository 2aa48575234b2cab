"""Content-addressed files, and the one guarded door for outside bytes.

An image is home when its bytes, decoded to the last pixel, lie on disk under their sha256, written atomically. Outside
bytes come in as a path, a `file://` or `https://` URL or a `data:` URI, through `bring_in` alone: a path must resolve,
symbolic links and all, to a regular file inside an allowed directory; a URL goes through `Wire.fetch`; whatever comes
is decoded in full and stripped of its metadata before it is kept. Copies leave through `save`, which never overwrites.

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
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes, urlsplit
from urllib.request import url2pathname
from uuid import uuid4

import anyio.from_thread
import anyio.to_thread

from triptych import errors
from triptych.model import Image

FILE_LIMIT_BYTES = 64 * 1024 * 1024
PART_LIFETIME_S = 30.0
"""No write takes this long; if one did, it would fail and be tried again."""

_SUFFIX = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp", "image/gif": ".gif"}
_SUFFIX |= {"image/bmp": ".bmp", "image/tiff": ".tiff"}
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in "0123456789¹²³")}

Fetch = Callable[[str], Awaitable[bytes]]
MayUse = Callable[[str], bool]
"""Whether a caller may use the image at home with this sha256; asked on the event loop."""


class Assets:
    """The files below `home`, and the door to them. `fetch` reads an https URL."""

    def __init__(self, home: Path, fetch: Fetch) -> None:
        self.images_dir = home / "images"
        self._parts_dir = home / "parts"
        self._fetch = fetch

    async def keep(self, data: bytes) -> Image:
        """Verify a provider's result, write it, and return it as an image.

        Raises: `errors.UnreadableImage` when it does not decode to its last pixel; `errors.Outage` on a full disk.
        """
        return await anyio.to_thread.run_sync(self._keep, data)

    def _keep(self, data: bytes) -> Image:
        from triptych import imaging

        return self._write(data, imaging.verify(data))

    async def bring_in(self, item: str, allowed: Sequence[Path], may_use: MayUse = lambda _: True) -> Image:
        """Return the image behind a path, a `file://` or `https://` URL or a `data:` URI: home, and without metadata.

        A path to an image that is home already is read only if `may_use` agrees, whatever is allowed besides.
        Raises: `errors.NotAllowed`, `errors.UnreadableImage`, and for URLs what `Wire.fetch` raises.
        """
        if item[:5].lower() == "data:":
            data = _from_data_uri(item)
        elif re.match(r"https?://", item, re.IGNORECASE):
            data = await self._fetch(item)
        else:
            data = await anyio.to_thread.run_sync(_read_allowed, _to_path(item), allowed, self.images_dir, may_use)
        try:
            return await anyio.to_thread.run_sync(self._clean, data)
        except errors.UnreadableImage as error:
            raise errors.UnreadableImage(f"{_short(item)}: {error.message}") from error

    def _clean(self, data: bytes) -> Image:
        from triptych import imaging

        clean, facts = imaging.clean(data)
        del data
        return self._write(clean, facts)

    def _write(self, data: bytes, facts: object) -> Image:
        from triptych.imaging import Facts

        assert isinstance(facts, Facts)
        sha256 = hashlib.sha256(data).hexdigest()
        path = self._place(sha256, _SUFFIX.get(facts.mime_type, ".img"), data)
        if not path.exists():
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
        path.parent.mkdir(parents=True, exist_ok=True)
        self._parts_dir.mkdir(parents=True, exist_ok=True)
        with _part(self._parts_dir, data) as part:
            part.replace(path)

    def sweep(self, now: datetime) -> None:
        """Remove what a process that died in the middle of a write left behind."""
        for part in self._parts_dir.glob("*.part"):
            with suppress(OSError):
                if now.timestamp() - part.stat().st_mtime > PART_LIFETIME_S:
                    part.unlink()

    def save(self, image: Image, directory: Path, stem: str) -> Path:
        """Copy an image into a directory under a name made safe, overwriting nothing; return where it lies.

        A file of that name with the same bytes counts as saved; another one's name gets `-2`, `-3` …
        Raises: `errors.NotAllowed` when the directory cannot be written, `errors.UnreadableImage` for a lost image.
        """
        stem, suffix = safe_name(stem), _SUFFIX.get(image.mime_type, ".img")
        try:
            data = image.path.read_bytes()
        except OSError as error:
            raise errors.UnreadableImage(f"The file of {image.handle} cannot be read ({error.strerror}).") from error
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for n in range(1, 10_000):
                target = directory / f"{stem}{'' if n == 1 else f'-{n}'}{suffix}"
                if self._create(target, data) or (target.is_file() and target.read_bytes() == data):
                    return target
        except OSError as error:
            raise errors.NotAllowed(f"{directory} cannot be written ({error.strerror}).") from error
        raise errors.NotAllowed(f"{directory} has too many files named {stem}.")

    def _create(self, path: Path, data: bytes) -> bool:
        """Write a new file in full; return False, touching nothing, if there is one of that name.

        It is written below `home` and linked from there, so that a process that dies leaves nothing in a directory of
        the user's; beside its place only where that is another file system.
        """
        if path.exists() or path.is_symlink():
            return False
        self._parts_dir.mkdir(parents=True, exist_ok=True)
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


def allowed_directory(directory: str, allowed: Sequence[Path]) -> Path:
    """Return a directory to write into, resolved, if it is inside an allowed one.

    Raises: `errors.NotAllowed`, saying what is allowed and how to allow more.
    """
    path = _resolved(_to_path(directory))
    _require_inside(path, allowed)
    with suppress(OSError):  # a name too long, say: the writing will tell
        if path.is_file():
            raise errors.NotAllowed(f"{path} is a file, not a directory; name a directory.")
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
        raise errors.UnreadableImage(f"{_short(item)} is no path on this machine.") from error
    if parts.netloc not in ("", "localhost"):
        raise errors.NotAllowed(f"{_short(item)} names another machine; pass a local path.")
    return Path(url2pathname(parts.path) if os.name == "nt" else unquote(parts.path))


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # loops of links, zero bytes, lone surrogates
        raise errors.UnreadableImage(f"{_short(str(path))} cannot be resolved.") from error


def _is_below(path: Path, directory: Path) -> bool:
    """Return whether a resolved path is below a directory, by whatever name: case may not count, mounts may double."""
    if path.is_relative_to(_resolved(directory)):
        return True
    for parent in path.parents:
        with suppress(OSError):
            if parent.samefile(directory):
                return True
    return False


def _require_inside(path: Path, allowed: Sequence[Path], refused: bool = False) -> None:
    directories = list(dict.fromkeys(_resolved(directory) for directory in allowed))
    if refused or not any(path.is_relative_to(directory) for directory in directories):
        shown = ", ".join(str(directory) for directory in directories[:4]) or "none"
        raise errors.NotAllowed(
            f"{_short(str(path))} is outside the allowed directories ({shown}). Add its directory to "
            "TRIPTYCH_ALLOWED_DIRS in the server's environment, or use an allowed one."
        )


def _read_allowed(path: Path, allowed: Sequence[Path], images_dir: Path, may_use: MayUse) -> bytes:
    """Read a regular file inside an allowed directory, from the one descriptor on which it was checked."""
    real = _resolved(path)
    if not _is_below(real, images_dir):
        _require_inside(real, allowed)
    elif not anyio.from_thread.run_sync(may_use, real.stem):
        _require_inside(real, allowed, refused=True)
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(real, flags)
        try:
            opened = os.fstat(descriptor)
            unmoved = os.path.samestat(opened, real.lstat()) and real.resolve() == real
            if unmoved and stat.S_ISREG(opened.st_mode) and opened.st_size <= FILE_LIMIT_BYTES:
                with open(descriptor, "rb", closefd=False) as file:
                    return file.read(FILE_LIMIT_BYTES)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise errors.UnreadableImage(f"There is no file {_short(str(real))}; check the path.") from error
    except OSError as error:
        raise errors.UnreadableImage(f"{_short(str(real))} cannot be read ({error.strerror}).") from error
    if not unmoved:
        raise errors.NotAllowed(f"{_short(str(real))} changed while it was opened.")
    if not stat.S_ISREG(opened.st_mode):
        raise errors.UnreadableImage(f"{_short(str(real))} is not a file; name an image file.")
    size, limit = opened.st_size / 1e6, FILE_LIMIT_BYTES / 1e6
    raise errors.UnreadableImage(f"{_short(str(real))} has {size:.0f} MB; at most {limit:.0f} MB are read.")


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


@contextmanager
def _part(directory: Path, data: bytes) -> Iterator[Path]:
    """A finished, flushed file to be moved to its place; gone afterwards, if it was not."""
    path = directory / f".triptych-{uuid4().hex}.part"
    try:
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield path
    finally:
        path.unlink(missing_ok=True)
