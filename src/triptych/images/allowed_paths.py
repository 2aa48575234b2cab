"""Paths that a caller names: inside the allowed directories, on this machine, not hidden, read from one descriptor.

Rules: a path must resolve, with all symbolic links, to a place inside an allowed directory and not hidden there. A file
must be regular, have one name, and be the file that was checked. A refusal quotes the path as the caller wrote it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from triptych.core import errors

FILE_LIMIT_BYTES = 64 * 1024 * 1024


def path_of(item: str) -> Path:
    """Return the local path that a path or a `file://` URL names. Raises: `errors.BadRequest`."""
    try:
        if item[:5].lower() != "file:":
            return Path(item).expanduser()
        parts = urlsplit(item)
    except (RuntimeError, ValueError) as error:
        raise errors.UnreadableImage(f"{quoted_path(item)} is not a path on this machine.") from error
    if parts.netloc not in ("", "localhost"):
        raise errors.NotAllowed(f"{quoted_path(item)} names another machine; pass a local path.")
    return Path(url2pathname(parts.path) if os.name == "nt" else unquote(parts.path))


def allowed_path(item: str, allowed: Sequence[Path], own: Path | None = None) -> Path:
    """Return the resolved path if it is inside an allowed directory and not hidden there, or inside `own`.

    A file is hidden if a directory between it and the allowed directory is; the allowed directory itself may be hidden.
    Raises: `errors.NotAllowed`, `errors.UnreadableImage`.
    """
    return allowed_place(item, path_of(item), allowed, own)


def allowed_place(item: str, path: Path, allowed: Sequence[Path], own: Path | None = None) -> Path:
    """Do as `allowed_path` for a path that a caller's `item` led to."""
    return _place(item, path, allowed, own)[0]


def _place(item: str, path: Path, allowed: Sequence[Path], own: Path | None) -> tuple[Path, bool]:
    """Return the resolved path, and whether it is inside `own`. Raises: as `allowed_path`."""
    require_on_this_machine(item, path, allowed)
    path = _resolved(item, path)
    directories = list(dict.fromkeys(_resolved(str(directory), directory) for directory in allowed))
    containing = [directory for directory in directories if path.is_relative_to(directory)]
    if own and is_inside(path, own):
        return path, True
    if not containing:
        raise outside_error(item, directories)
    if all(_is_hidden_below(directory, path) for directory in containing):
        raise errors.NotAllowed(
            f"{quoted_path(item)} is hidden or in a hidden directory. Hidden files are not used. Use another place, or "
            "name the hidden directory itself in TRIPTYCH_ALLOWED_DIRS in the server's environment (`triptych install "
            "HOST --allow DIR` writes it)."
        )
    return path, False


def outside_error(item: str, allowed: Sequence[Path]) -> errors.NotAllowed:
    shown = ", ".join(str(directory) for directory in allowed[:4]) or "none"
    return errors.NotAllowed(
        f"{quoted_path(item)} is outside the allowed directories ({shown}; a link counts as its target). Add its "
        "directory to TRIPTYCH_ALLOWED_DIRS in the server's environment (`triptych install HOST --allow DIR` writes "
        "it), or use an allowed one."
    )


def _resolved(item: str, path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # loops of links, zero bytes, lone surrogates
        raise errors.UnreadableImage(f"{quoted_path(item)} cannot be resolved.") from error


def require_on_this_machine(item: str, path: PurePath, allowed: Sequence[PurePath]) -> None:
    """Refuse a Windows share before any access: the first access sends the user's login to its server."""
    drives = {directory.drive.casefold() for directory in allowed}
    if path.drive.startswith("\\\\") and path.drive.casefold() not in drives:
        raise errors.NotAllowed(
            f"{quoted_path(item)} is on a network share. Add the share to TRIPTYCH_ALLOWED_DIRS in the server's "
            "environment (`triptych install HOST --allow DIR` writes it), or pass a local path."
        )


def _is_hidden_below(directory: Path, path: Path) -> bool:
    names = path.relative_to(directory).parts
    return any(
        name.startswith(".") or has_hidden_flag(directory.joinpath(*names[: i + 1])) for i, name in enumerate(names)
    )


def has_hidden_flag(path: Path) -> bool:
    """Return whether the path has the hidden flag of Windows or macOS."""
    try:
        found = path.lstat()
    except (OSError, ValueError):
        return False
    attributes, flags = getattr(found, "st_file_attributes", 0), getattr(found, "st_flags", 0)
    return bool(attributes & stat.FILE_ATTRIBUTE_HIDDEN or flags & stat.UF_HIDDEN)


def is_inside(path: Path, directory: Path) -> bool:
    """Return whether a path is this directory or below it, whatever the spelling of its name."""
    try:
        wanted = directory.stat()
    except OSError:
        return False
    for parent in (path, *path.parents):
        with suppress(OSError):
            if os.path.samestat(parent.stat(), wanted):
                return True
    return False


def require_unmoved(directory: Path) -> None:
    try:
        moved = directory.resolve() != directory
    except (OSError, RuntimeError):  # a loop of links
        moved = True
    if moved:
        raise errors.NotAllowed(
            f"{quoted_path(str(directory))} was replaced after it was checked; nothing was written. "
            "Save again with save_images."
        )


def locate(item: str, allowed: Sequence[Path], own: Path) -> tuple[Path, bool]:
    """Return a readable path, resolved, and whether it is inside our `own` directory."""
    return _place(item, path_of(item), allowed, own)


def read_once(item: str, real: Path, is_own: bool, limit_bytes: int | None = None) -> bytes:
    """Return the bytes of a regular file. The checks and the reading use one descriptor."""
    limit_bytes = FILE_LIMIT_BYTES if limit_bytes is None else limit_bytes
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(real, flags)
        try:
            opened = os.fstat(descriptor)
            unmoved = os.path.samestat(opened, real.lstat()) and real.resolve() == real
            regular, small = stat.S_ISREG(opened.st_mode), opened.st_size <= limit_bytes
            # A second hard link may be in any directory. Our own files may have one: some backups make hard links.
            has_one_name = opened.st_nlink <= 1 or is_own
            if unmoved and regular and small and has_one_name:
                with open(descriptor, "rb", closefd=False) as file:
                    return file.read(limit_bytes)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise errors.UnreadableImage(
            f"There is no file {missing_path(item)}; check the path, and write it in full if it is relative."
        ) from error
    except OSError as error:
        if isinstance(error, PermissionError) and real.is_dir():  # Windows opens no directory
            raise errors.UnreadableImage(f"{quoted_path(item)} is not a file; name an image file.") from error
        raise errors.UnreadableImage(f"{quoted_path(item)} cannot be read ({error.strerror}).") from error
    if not unmoved:
        raise errors.NotAllowed(f"{quoted_path(item)} changed while it was opened.")
    if not regular:
        raise errors.UnreadableImage(f"{quoted_path(item)} is not a file; name an image file.")
    if not has_one_name:
        raise errors.NotAllowed(
            f"{quoted_path(item)} is a hard link: the same file has another name, which may be outside the allowed "
            "directories. Make a copy of it and name the copy."
        )
    size, limit = opened.st_size / 1e6, limit_bytes / 1e6
    raise errors.UnreadableImage(f"{quoted_path(item)} has {size:.0f} MB; at most {limit:.0f} MB are read.")


def missing_path(item: str) -> str:
    """Return the quoted path of a missing file, with a hint if it has Windows' separators on another system."""
    hint = " (folders are separated by / here)" if "\\" in item and os.sep == "/" else ""
    return f"{quoted_path(item)}{hint}"


def quoted_path(item: str) -> str:
    return errors.quoted(item, 160)
