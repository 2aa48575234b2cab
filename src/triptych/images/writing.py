"""Files that are written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from triptych.core import systems

Opener = Callable[[str, int], int]


def create_in_place(path: Path, data: bytes) -> bool:
    """Write a new file at its place; return False and change nothing if the name is taken. A failure removes it."""
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
def part(directory: Path, data: bytes, opener: Opener | None = None) -> Iterator[Path]:
    """Yield a flushed temporary file to be moved or linked into place. It is removed at the end if it is still there.

    It has the rights of the umask, because it may become the user's own file, unless an `opener` sets others.
    """
    path = directory / f".triptych-{uuid4().hex}.part"
    try:
        with open(path, "xb", opener=opener) as file:
            file.write(data)
            file.flush()
            systems.flush_file(file.fileno())
        yield path
    finally:
        path.unlink(missing_ok=True)
