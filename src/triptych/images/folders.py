"""The pictures in a folder and behind a pattern, in natural order.

A folder is not entered further; a pattern with `**` is. Left out are hidden files, files whose names do not end like a
picture's, and links that `allowed_paths` refuses. Rules: only directories inside the allowed ones are
listed, and none in our own home. Nothing is opened. The listings of a call end at `MOST_ENTRIES`
names and `MOST_S` seconds. Names are data from outside: a message quotes them. Must not know the database.
"""

from __future__ import annotations

import fnmatch
import os
import re
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TypeVar

from triptych.core import errors, systems
from triptych.core.text import counted
from triptych.images.allowed_paths import allowed_place, has_hidden_flag, is_inside, path_of, quoted_path

SUFFIXES = {
    "image/jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "image/png": (".png",),
    "image/webp": (".webp",),
    "image/gif": (".gif",),
    "image/bmp": (".bmp",),
    "image/tiff": (".tiff", ".tif"),
}
"""How the names of pictures end; the first is the one that is written."""
MOST_ENTRIES = 50_000
MOST_S = 10.0
MOST_ITEM_CHARS = 4096
"""A longer item is no folder and no pattern: the time to read wildcards grows with the square of their length."""
AnyPath = TypeVar("AnyPath", bound=PurePath)
ITEM_CHARS = 80
"""The most of a folder's path that a message shows."""
MOST_NAMES = 5
"""The most skipped files that a message names."""

_ALL_SUFFIXES = frozenset(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
_NAMES_IGNORE_CASE = systems.names_ignore_case()


@dataclass(frozen=True, slots=True)
class Listing:
    """The contents of one folder or pattern: its pictures in natural order, and the number left out."""

    item: str
    """The folder or pattern as the caller wrote it."""
    is_pattern: bool
    pictures: tuple[Path, ...]
    skipped: tuple[str, ...] = ()
    """The files that are no pictures, or that `allowed_paths` refuses, by name."""
    folders: int = 0
    """How many folders were found and not entered."""
    saved: int = 0
    """How many pictures are left out because Triptych saved them there."""

    def without(self, saved: set[Path]) -> Listing:
        """Return the listing without the pictures that Triptych saved there."""
        kept = tuple(path for path in self.pictures if path not in saved)
        return replace(self, pictures=kept, saved=len(self.pictures) - len(kept))

    def require_some(self) -> None:
        """Raise `errors.UnreadableImage`, which says what was found, if there is no picture."""
        if self.pictures:
            return
        found = [self._skipped()] if self.skipped or self.saved else []
        found += [f"{counted(self.folders, 'folder')} (not entered)"] if self.folders else []
        what = f"It has {' and '.join(found)}. " if found else "It is empty. "
        if self.is_pattern:
            what = f"It matches {' and '.join(found)}. " if found else ""
        by_name = "Name the saved ones one by one to use them. " if self.saved else ""
        deeper = f"{self.item.rstrip('/')}/*" if self.is_pattern else f"{self.item.rstrip('/')}/**/*"
        deeper = f"The pattern {quoted_path(deeper)} reads the folders in it. " if self.folders else ""
        raise errors.UnreadableImage(
            f"{quoted_path(self.item)} {'matches' if self.is_pattern else 'has'} no picture. {what}{by_name}{deeper}"
            f"Pictures end in {', '.join(sorted(_ALL_SUFFIXES))}; hidden files do not count."
        )

    @property
    def count(self) -> str:
        """The number of pictures, and where they are from."""
        return f"{counted(len(self.pictures), 'picture')} from {shown(self.item)}"

    @property
    def sentence(self) -> str:
        """The number of pictures, and what is left out."""
        number = len(self.pictures)
        where = f"{'matches' if number == 1 else 'match'}" if self.is_pattern else "in"
        skipped = f", {self._skipped()}" if self.skipped or self.saved else ""
        folders = f", {counted(self.folders, 'folder')} not entered" if self.folders else ""
        what = shown(self.item)
        return f"{counted(number, 'picture')} {where} {what} (natural order){skipped}{folders}."

    def _skipped(self) -> str:
        names = [errors.quoted(name, 60) for name in self.skipped[:MOST_NAMES]]
        more = len(self.skipped) - len(names)
        names += [f"{more} more"] if more else []
        names += [f"{self.saved} saved by Triptych"] if self.saved else []
        return f"{len(self.skipped) + self.saved} skipped: {', '.join(names)}"


def natural_key(name: str) -> tuple[tuple[str | int, ...], ...]:
    """Return the sort key of a file name: numbers by value, letters without case, `a.jpg` before `a-1.jpg`.

    Names that differ only in case, in composed letters or in leading zeros keep an order of their own.
    """
    folded = unicodedata.normalize("NFC", name).casefold()
    stem, dot, suffix = folded.rpartition(".")
    return (*(_numbered(part) for part in ((stem, suffix) if stem and dot else (folded, ""))), (name,))


def _numbered(text: str) -> tuple[str | int, ...]:
    return tuple(int(part) if n % 2 else part for n, part in enumerate(re.split(r"(\d+)", text)))


@dataclass(slots=True)
class Budget:
    """The names and the time that one call has left."""

    clock: Callable[[], float] = time.monotonic
    entries: int = 0
    end_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.end_s = self.clock() + MOST_S

    def count(self, item: str) -> None:
        """Count one name. Raises: `errors.OutOfLimits` at the end of the budget."""
        self.entries += 1
        if self.entries > MOST_ENTRIES or self.clock() > self.end_s:
            limit = f"{MOST_ENTRIES} names" if self.entries > MOST_ENTRIES else f"{MOST_S:.0f} seconds"
            raise errors.OutOfLimits(
                f"{quoted_path(item)} leads to too many files: the search ended after {limit}. Nothing was read. "
                "Name a smaller folder, or a pattern without **."
            )


def shown(item: str) -> str:
    """Return an item as the caller wrote it; of a long one its end, which names the folder."""
    return errors.quoted(item if len(item) <= ITEM_CHARS else f"…{item[1 - ITEM_CHARS :]}", ITEM_CHARS)


def look_at(items: Iterable[str], allowed: Sequence[Path], home: Path) -> dict[str, Listing]:
    """Return the listing of each folder and pattern among the items of one call; as `look`."""
    budget = Budget()
    listed = {item: look(item, allowed, home, budget) for item in items}
    return {item: listing for item, listing in listed.items() if listing}


def look(item: str, allowed: Sequence[Path], home: Path, budget: Budget) -> Listing | None:
    """Return the listing of a folder or a pattern; None for any other item, which `ImageFiles` then reads or refuses.

    An existing file or folder is taken by its name, even if that looks like a pattern. A `file://` URL is no pattern.
    Raises: `errors.NotAllowed` for a place outside the allowed directories; `errors.UnreadableImage` for one that
    cannot be listed, `errors.OutOfLimits` for one with too many names.
    """
    if len(item) > MOST_ITEM_CHARS:
        return None
    path = path_of(item)
    base, parts = (path, ()) if item[:5].lower() == "file:" else split(path, _exists)
    if not (parts or _may_be_folder(base)):
        return None
    try:
        real = allowed_place(item, base, allowed)
    except errors.BadRequest:
        if parts:
            raise
        return None  # `ImageFiles` refuses it in the same words as a file
    if not (parts or real.is_dir()):
        return None
    if ".." in parts:
        raise errors.NotAllowed(f"{quoted_path(item)} has .. after a wildcard; write the folder's own path.")
    if is_inside(real, home):
        raise errors.NotAllowed(f"{quoted_path(item)} is inside TRIPTYCH_HOME; name the images by their handles.")
    return _Search(item, allowed, home, budget).listing(real, parts)


def folder_of(item: str) -> Path | None:
    """Return the folder that an item names, or that its pattern begins in; None for a file and any other text."""
    with suppress(errors.BadRequest, OSError, ValueError):
        path = path_of(item)
        base, parts = (path, ()) if item[:5].lower() == "file:" else split(path, _exists)
        return base if parts or base.is_dir() else None
    return None


def split(path: AnyPath, exists: Callable[[AnyPath], bool]) -> tuple[AnyPath, tuple[str, ...]]:
    """Return the folder that a pattern begins in, and its parts from the first wildcard on; none if it has none.

    A name that exists is no wildcard. The anchor (`C:\\`, `\\\\?\\C:\\`) never is one.
    """
    base, names = type(path)(path.anchor), path.relative_to(path.anchor).parts
    for n, name in enumerate(names):
        if any(sign in name for sign in "*?[") and not exists(base / name):
            return base, tuple(names[n:])
        base = base / name
    return base, ()


def _exists(path: Path) -> bool:
    with suppress(OSError, ValueError):
        return not _is_on_share(path) and os.path.lexists(path)
    return False


def _may_be_folder(path: Path) -> bool:
    with suppress(OSError, ValueError):
        return _is_on_share(path) or path.is_dir()
    return False


def _is_on_share(path: PurePath) -> bool:
    """Return whether a path is on a Windows share: the first access sends the user's login to its server."""
    return path.drive.startswith("\\\\")


@dataclass(slots=True)
class _Search:
    """One search: its limits, and the entries found so far."""

    item: str
    allowed: Sequence[Path]
    home: Path
    budget: Budget
    pictures: dict[Path, None] = field(default_factory=dict)
    skipped: dict[str, None] = field(default_factory=dict)
    folders: dict[Path, None] = field(default_factory=dict)

    def listing(self, base: Path, parts: tuple[str, ...]) -> Listing:
        """Return what a folder has, or what a pattern matches below it."""
        waiting = [(base, _without_repeats(parts) or ("*",))]
        seen = set(waiting)
        while waiting:
            directory, names = waiting.pop()
            following = dict.fromkeys(self._enter(directory, names, required=directory == base))
            waiting += following.keys() - seen
            seen |= following.keys()
        at = len(base.parts)
        found = sorted(self.pictures, key=lambda path: [natural_key(name) for name in path.parts[at:]])
        skipped = sorted(self.skipped, key=natural_key)
        return Listing(self.item, bool(parts), tuple(found), tuple(skipped), len(self.folders))

    def _enter(
        self, directory: Path, names: tuple[str, ...], *, required: bool
    ) -> Iterator[tuple[Path, tuple[str, ...]]]:
        """Look at one directory; yield those to enter next, each with the parts that still have to match."""
        name, rest = names[0], names[1:]
        if name == "**":
            # The directory itself counts too, and its folders, but not those behind links: they may lead back.
            yield directory, rest or ("*",)
        matches = re.compile(fnmatch.translate(_folded(name))).match
        for entry in self._entries(directory, required=required):
            path = directory / entry.name
            if name == "**":
                if entry.is_dir(follow_symlinks=False) and not _is_junction(entry):
                    yield path, names
            elif not matches(_folded(entry.name)):
                continue
            elif not rest:
                self._take(entry, path)
            elif entry.is_dir() and (real := self._allowed(path)) and not is_inside(real, self.home):
                yield real, rest

    def _entries(self, directory: Path, *, required: bool) -> Iterator[os.DirEntry[str]]:
        """Yield the entries of a directory that are not hidden; an unreadable one has none, unless it is required."""
        try:
            with os.scandir(directory) as entries:
                if directory.resolve() != directory or is_inside(directory, self.home):
                    return  # replaced by a link meanwhile, or our own
                for entry in entries:
                    self.budget.count(self.item)
                    if not (entry.name.startswith(".") or has_hidden_flag(directory / entry.name)):
                        yield entry
        except OSError as error:
            if required:
                raise errors.UnreadableImage(
                    f"{quoted_path(self.item)} cannot be listed ({error.strerror}); check the folder and its "
                    "permissions."
                ) from error
            self.skipped[f"{directory.name}/"] = None

    def _take(self, entry: os.DirEntry[str], path: Path) -> None:
        """Sort one entry into pictures, folders and skipped files."""
        try:
            target = self._allowed(path) if entry.is_symlink() else path
            if target and entry.is_dir():
                self.folders[path] = None
            elif not target or (target != path and is_inside(target, self.home)):
                self.skipped[f"{entry.name} (a link)"] = None
            elif path.suffix.lower() not in _ALL_SUFFIXES or not entry.is_file() or not _is_text(entry.name):
                self.skipped[entry.name] = None
            elif entry.stat(follow_symlinks=False).st_nlink > 1:
                self.skipped[f"{entry.name} (a hard link)"] = None
            else:
                self.pictures[path] = None
        except OSError:
            self.skipped[entry.name] = None

    def _allowed(self, path: Path) -> Path | None:
        with suppress(errors.BadRequest):
            return allowed_place(self.item, path, self.allowed)
        return None


def _without_repeats(parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part for n, part in enumerate(parts) if part != "**" or parts[n - 1 : n] != ("**",))


def _folded(name: str) -> str:
    """Return a name as it is compared: composed letters, and without case where the system ignores it."""
    name = unicodedata.normalize("NFC", name)
    return name.casefold() if _NAMES_IGNORE_CASE else name


def _is_junction(entry: os.DirEntry[str]) -> bool:
    return bool(getattr(entry, "is_junction", bool)())


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8: no message and no JSON can carry them
        return False
    return True
