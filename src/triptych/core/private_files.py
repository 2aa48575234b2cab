"""Rights of the files that Triptych stores: only the user can read them (directories 0700, files 0600), for any umask.

A file or directory with wider rights is closed to other users when it is opened. On Windows nothing is changed: a file
there has the rights of its directory, and the user's data directory is closed to other users.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

OURS = frozenset({"triptych.db", "triptych.db-wal", "triptych.db-shm", "images", "parts", "catalogues", "answers.txt"})
"""Names that Triptych creates in its home directory."""


def make_home(home: Path) -> None:
    """Create the home directory. If it exists and holds only files of Triptych, close it to other users.

    A directory that the user shares with other things (`/tmp`, a home directory) keeps its rights; the files in it are
    closed all the same.
    Raises: `OSError`.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(OSError):
        if OURS.issuperset(path.name for path in home.iterdir()):
            _tighten(home, 0o700)


def make_directory(directory: Path) -> None:
    """Create a directory inside the home. If it exists and is open to other users, close it and its files. Raises:
    `OSError`."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_open(directory):
        return
    with suppress(OSError), os.scandir(directory) as entries:
        tighten_files(Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False))
    _tighten(directory, 0o700)


def make_file(path: Path) -> None:
    """Create an empty file, or close an existing one to other users. Raises: `OSError`."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    tighten_files([path])


def tighten_files(paths: Iterable[Path]) -> None:
    """Close to other users each of these files that exists and is open to them."""
    for path in paths:
        _tighten(path, 0o600)


def opener(path: str, flags: int) -> int:
    """Open a new file that only the user can read: the `opener` of `open`."""
    return os.open(path, flags, 0o600)


def _is_open(path: Path) -> bool:
    try:
        return os.name != "nt" and bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
    except OSError:
        return False


def _tighten(path: Path, mode: int) -> None:
    if _is_open(path):
        with suppress(OSError):  # the file belongs to another user and keeps its rights
            path.chmod(mode)
