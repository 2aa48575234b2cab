"""Rights of the files that Triptych keeps: for the user alone (directories 0700, files 0600), whatever the umask is.

What existed with wider rights is tightened when it is opened. On Windows nothing is done: there a file has the rights
of its directory, and the user's own data directory is closed to other users.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

OURS = frozenset({"triptych.db", "triptych.db-wal", "triptych.db-shm", "images", "parts"})
"""What Triptych makes in its home."""


def make_home(home: Path) -> None:
    """Make the home, or close it to other users where there is nothing in it but what Triptych made.

    A directory that the user shares with other things (`/tmp`, a home directory) keeps its rights; what Triptych keeps
    in it is closed all the same. Raises: `OSError`.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(OSError):
        if OURS.issuperset(path.name for path in home.iterdir()):
            _tighten(home, 0o700)


def make_directory(directory: Path) -> None:
    """Make a directory of the home, or close one that was open to others, with every file in it. Raises: `OSError`."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_open(directory):
        return
    with suppress(OSError), os.scandir(directory) as entries:
        tighten_files(Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False))
    _tighten(directory, 0o700)


def make_file(path: Path) -> None:
    """Make an empty file, or close one that was open to others. Raises: `OSError`."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    tighten_files([path])


def tighten_files(paths: Iterable[Path]) -> None:
    """Close those of these files that are there, and that other users may read."""
    for path in paths:
        _tighten(path, 0o600)


def opener(path: str, flags: int) -> int:
    """Open a new file for the user alone: the `opener` of `open`."""
    return os.open(path, flags, 0o600)


def _is_open(path: Path) -> bool:
    try:
        return os.name != "nt" and bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
    except OSError:
        return False


def _tighten(path: Path, mode: int) -> None:
    if _is_open(path):
        with suppress(OSError):  # it is another user's, and stays as it is
            path.chmod(mode)
