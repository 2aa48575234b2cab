"""Files as the program sees them: real files below the world's directory, a seam at every call that touches them.

What was written but not flushed (`fsync`) may be torn by a power cut; what was committed to the database without a
flush may be lost from the end of its log.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simulation.faults import any_exception, injected, spread
from simulation.here import here
from simulation.loop import PROCESS

real_open = io.open
REAL: dict[str, Callable[..., Any]] = {
    name: getattr(os, name) for name in ("replace", "rename", "unlink", "link", "mkdir", "fsync", "open")
}
GROWS = frozenset({"write", "create", "link", "mkdir"})


class Disk:
    """The disk of one world."""

    def __init__(self, world: Any, home: Path) -> None:
        self._world = world
        self._home = home
        self._log = home / "triptych.db-wal"
        self._durable_bytes = 0
        self._unflushed: dict[str, int] = {}
        """Bytes that are surely on the disk, of each file that has more."""

    def meet(self, call: str, path: object) -> None:
        """Fail as the world wants it; return where the call may go on."""
        world, process = self._world, PROCESS.get()
        world.seam(process, f"disk.{call}")
        if call in GROWS and (spell := world.spell("disk full")):
            spell.met(f"{process} {call}")
            raise injected(OSError(errno.ENOSPC, "No space left on device", str(path)))
        if call in ("create", "open", "read") and (spell := world.spell("out of descriptors")):
            spell.met(f"{process} {call}")
            raise injected(OSError(errno.EMFILE, "Too many open files", str(path)))
        if lot := world.lot("disk", f"{process}.{call}"):
            if lot.random() < 0.3:
                slow_s = spread(lot, 0.05, 15)
                lot.is_("slow", f"{call} {slow_s:.1f} s")
                process.still_s += slow_s
                if world.loop.can_block():
                    world.loop.block(slow_s)
            elif lot.random() < 0.5:
                code = lot.choice((errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EACCES, errno.EROFS, errno.EDQUOT))
                lot.is_(errno.errorcode[code], call)
                raise injected(OSError(code, os.strerror(code), str(path)))
            else:
                error = any_exception(lot)
                lot.is_(type(error).__name__, call)
                raise error

    def written(self, path: str) -> None:
        self._unflushed.setdefault(path, 0)

    def flushed(self, path: str) -> None:
        self._unflushed.pop(path, None)

    def moved(self, old: str, new: str, *, copied: bool = False) -> None:
        if old in self._unflushed:
            self._unflushed[new] = self._unflushed[old] if copied else self._unflushed.pop(old)

    def committed(self, flushes: bool) -> None:
        """Note what of the database's log a power cut cannot take any more."""
        if flushes:
            try:
                self._durable_bytes = self._log.stat().st_size
            except OSError:
                self._durable_bytes = 0

    def cut_power(self, chance: random.Random, close: Callable[[], None]) -> None:
        """Leave of the files what a power cut leaves; `close` closes every connection."""
        database = self._log.with_name("triptych.db")
        kept = {path: path.read_bytes() for path in (database, self._log) if path.exists()}
        close()
        for path, data in kept.items():
            if path == self._log:
                durable = min(self._durable_bytes, len(data))
                data = data[: chance.randint(durable, len(data))]
            with real_open(path, "wb") as file:
                file.write(data)
        database.with_name("triptych.db-shm").unlink(missing_ok=True)
        for name in list(self._unflushed):
            path = Path(name)
            if path.is_file():
                data = path.read_bytes()
                with real_open(path, "wb") as file:
                    file.write(data[: chance.randint(0, len(data))])
        self._unflushed.clear()


class File:
    """A file that is being written; every write meets the disk."""

    def __init__(self, disk: Disk, file: Any, path: str) -> None:
        self._disk, self._file, self._path = disk, file, path

    def write(self, data: Any) -> Any:
        self._disk.meet("write", self._path)
        self._disk.written(self._path)
        _descriptors[self._file.fileno()] = self._path
        return self._file.write(data)

    def __enter__(self) -> File:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


_descriptors: dict[int, str] = {}


def _mine(path: object) -> Any:
    """Return the world whose simulated server touches a path of its own, else None."""
    world, process = here(), PROCESS.get()
    if world is None or process is None or process.kind != "server" or isinstance(path, int):
        return None
    return world if os.fspath(path).startswith(world.directory) else None  # type: ignore[call-overload]


def opened(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
    """Stand in for `open`."""
    world = _mine(file)
    if world is None:
        return real_open(file, mode, *args, **options)
    writes = any(letter in mode for letter in "wxa+")
    world.disk.meet("create" if writes else "read", file)
    made = real_open(file, mode, *args, **options)
    return File(world.disk, made, os.fspath(file)) if writes else made


def _one_path(name: str, call: str) -> Callable[..., Any]:
    def stand_in(path: Any, *args: Any, **options: Any) -> Any:
        world = _mine(path)
        if world is not None:
            world.disk.meet(call, path)
        return REAL[name](path, *args, **options)

    return stand_in


def _two_paths(name: str, call: str) -> Callable[..., Any]:
    def stand_in(old: Any, new: Any, **options: Any) -> Any:
        world = _mine(new)
        if world is not None:
            world.disk.meet(call, new)
        made = REAL[name](old, new, **options)
        if world is not None:
            world.disk.moved(os.fspath(old), os.fspath(new), copied=name == "link")
        return made

    return stand_in


def _fsync(descriptor: int) -> None:
    world, process = here(), PROCESS.get()
    if world is None or process is None or process.kind != "server":
        REAL["fsync"](descriptor)
        return
    path = _descriptors.get(descriptor, "")
    world.disk.meet("fsync", path)
    world.disk.flushed(path)


STAND_INS: list[tuple[object, str, Any]] = [
    (builtins, "open", opened),
    (io, "open", opened),
    (os, "open", _one_path("open", "open")),
    (os, "unlink", _one_path("unlink", "unlink")),
    (os, "mkdir", _one_path("mkdir", "mkdir")),
    (os, "replace", _two_paths("replace", "move")),
    (os, "rename", _two_paths("rename", "move")),
    (os, "link", _two_paths("link", "link")),
    (os, "fsync", _fsync),
]
"""What is put in place of what while worlds run: module, name, stand-in."""
