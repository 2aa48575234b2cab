"""Reads outside images into our files: paths and https URLs, for calls, and on after a call has given up waiting.

A repeated call uses what was read before. Rules: each call checks its paths (`allowed_paths`) before it uses anything
that another call read. A remembered file counts only while it is unchanged. A URL is remembered for one owner, and only
after a call for it gave up. A few pictures are decoded at a time. Must not know the database.
"""

from __future__ import annotations

import logging
import math
import os
import stat
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Hashable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread

from triptych.core import errors
from triptych.core.clock import Clock
from triptych.core.models import Image
from triptych.images.files import ImageFiles

log = logging.getLogger(__name__)

DECODERS = 2
"""The most pictures that are decoded at a time: one of 50 megapixels takes 150 MB."""
WORKERS = 2
"""The most images of one call that are read at a time."""
MOST_REMEMBERED = 10_000
MOST_LEFT = 3
"""The most calls of one owner that gave up and for which reading goes on; the oldest is dropped above it."""
URL_KEPT_S = 600.0
FRESH_S = 2.0
"""A file that changed less than this ago may change again without a new time: it is read for each call."""


@dataclass(frozen=True, slots=True)
class Source:
    """One outside image of a call: a path that was checked, or an https URL.

    Two sources with the same key have the same bytes.
    """

    text: str
    real: Path | None
    """The resolved path; None for a URL."""
    key: Hashable


def source_of_url(url: str, owner: str | None) -> Source:
    """Return the source of an https URL."""
    return Source(url, None, (owner, url))


def source_of_file(text: str, real: Path) -> Source:
    """Return the source of a file at this resolved path."""
    try:
        found = real.stat()
    except OSError:
        return Source(text, real, object())
    fresh = any(abs(time.time() - at) < FRESH_S for at in (found.st_mtime, found.st_ctime))
    return Source(text, real, object() if fresh else (str(real), *_stamp(found)))


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    """Return the facts that change with a file, its names or its rights."""
    return (
        *(found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev),
        *(found.st_nlink, stat.S_IFMT(found.st_mode), stat.S_IMODE(found.st_mode)),
    )


@dataclass(slots=True)
class _Item:
    """One image that is being read, or waits for it."""

    source: Source
    batch: Batch
    """The call that wanted it first; its spelling of the path is in the error."""
    done: anyio.Event = field(default_factory=anyio.Event)
    started: bool = False
    kept: bool = False
    """A call for it gave up: the image of a URL is remembered then."""
    wanted: int = 0
    """The number of calls that wait for it."""
    image: Image | None = None
    error: Exception | None = None


class Batch:
    """The images of one call; `image` waits for one of them."""

    def __init__(self, reading: Reading, owner: str | None, number: int, within_s: float) -> None:
        self.owner = owner
        self.items: dict[Hashable, _Item] = {}
        self.waiting: deque[_Item] = deque()
        self._reading = reading
        self._number = number
        self._end_s = reading.clock.monotonic() + within_s

    async def image(self, source: Source) -> Image:
        """Return the image of one of the sources.

        Raises: `errors.StillReading` when the time of the call is over; as `ImageFiles.import_image`.
        """
        item = self.items.get(source.key)
        if not item:  # the service does not run: it reads as long as its call waits
            return await self._reading.fetch(source)
        while not item.done.is_set():
            left_s = self._end_s - self._reading.clock.monotonic()
            if math.isinf(left_s):
                await item.done.wait()
            elif left_s > 0:
                await self._reading.clock.wait(item.done, left_s)
            else:
                raise self._still_reading()
        if item.error and item.batch is not self:  # the refusal would quote another caller's words
            return await self._reading.fetch(source)
        if item.error:
            raise item.error
        assert item.image
        return item.image

    def _still_reading(self) -> errors.StillReading:
        missing = sum(1 for item in self.items.values() if not item.done.is_set())
        return errors.StillReading(
            f"{self._number - missing} of {self._number} images are read, and reading goes on; nothing was sent. Make "
            "the same call again: it goes on from there."
        )


class Reading:
    """The reading of one service; it goes on after calls while `run` runs."""

    def __init__(self, image_files: ImageFiles, clock: Clock) -> None:
        self.clock = clock
        self._files = image_files
        self._tasks: anyio.abc.TaskGroup | None = None
        self._limiter: anyio.CapacityLimiter | None = None
        self._items: dict[Hashable, _Item] = {}
        self._left: list[Batch] = []
        self._remembered: OrderedDict[Hashable, tuple[Image, float]] = OrderedDict()
        """By key: an image, and until when it counts (monotonic seconds)."""

    async def run(self) -> None:
        """Read for calls until cancelled, also for those that have ended."""
        try:
            async with anyio.create_task_group() as self._tasks:
                await anyio.sleep_forever()
        finally:
            self._tasks = None
            for item in list(self._items.values()):
                item.error = errors.Outage("Triptych stopped before the image was read. Make the same call again.")
                item.done.set()
            self._items.clear()

    @asynccontextmanager
    async def batch(
        self, sources: Sequence[Source], owner: str | None, number: int, within_s: float
    ) -> AsyncIterator[Batch]:
        """Begin to read the sources of a call with so many images; yield what waits for them, for `within_s` at most.

        If the block fails or is cancelled, the reading goes on without it.
        """
        batch = Batch(self, owner, number, within_s)
        by_key = {source.key: source for source in sources}
        known = self._known(by_key)
        if known:
            gone = await anyio.to_thread.run_sync(lambda: {key for key in known if not self._files.touch(known[key])})
            known = {key: image for key, image in self._known(by_key).items() if key not in gone}
        if self._tasks:
            for key, source in by_key.items():
                self._add(batch, source, known.get(key))
            for _ in range(min(WORKERS, len(batch.waiting))):
                self._tasks.start_soon(self._work, batch)
        try:
            yield batch
        except BaseException:
            self._leave(batch)
            raise

    def _known(self, keys: Iterable[Hashable]) -> dict[Hashable, Image]:
        """Return the remembered images; their files may be gone."""
        now_s = self.clock.monotonic()
        found = {key: self._remembered[key] for key in keys if key in self._remembered}
        return {key: image for key, (image, until_s) in found.items() if now_s < until_s}

    def _add(self, batch: Batch, source: Source, known: Image | None) -> None:
        item = self._items.get(source.key)
        if known or not item:
            item = _Item(source, batch, image=known)
            if known:
                item.done.set()
            else:
                self._items[source.key] = item
        item.wanted += 1
        batch.items[source.key] = item
        if not item.started and not item.done.is_set():
            batch.waiting.append(item)

    def _leave(self, batch: Batch) -> None:
        """Let the reading of a call go on without it; drop the oldest such reading of the owner above `MOST_LEFT`."""
        for item in batch.items.values():
            item.kept = True
            if item.image and not item.source.real:
                self._remember(item)
        self._left = [one for one in self._left if one.waiting]
        self._left.append(batch)
        of_owner = [one for one in self._left if one.owner == batch.owner]
        for dropped in of_owner[:-MOST_LEFT]:
            for item in dropped.waiting:
                item.wanted -= 1
                if not item.wanted and not item.started:
                    self._items.pop(item.source.key, None)
            dropped.waiting.clear()

    async def _work(self, batch: Batch) -> None:
        while batch.waiting:
            item = batch.waiting.popleft()
            if not item.started:
                item.started = True
                await self._read(item)

    async def _read(self, item: _Item) -> None:
        try:
            item.image = await self.fetch(item.source)
            counts = await anyio.to_thread.run_sync(_is_unchanged, item.source) if item.source.real else item.kept
            if counts:
                self._remember(item)
        except Exception as error:  # each call that waits for it gets the error
            item.error = error
        except BaseException:
            item.error = errors.Outage("Triptych stopped before the image was read. Make the same call again.")
            raise
        finally:
            self._items.pop(item.source.key, None)
            item.done.set()

    async def fetch(self, source: Source) -> Image:
        """Read and store one image now. Raises: as `ImageFiles.import_image`."""
        log.debug("reading %s", errors.quoted(source.text, 160))
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(DECODERS)
        if source.real:
            return await anyio.to_thread.run_sync(
                self._files.import_file, source.text, source.real, limiter=self._limiter
            )
        return await self._files.import_image(source.text, (), limiter=self._limiter)

    def _remember(self, item: _Item) -> None:
        """Remember an image: of a file while it is unchanged, of a URL for some minutes."""
        assert item.image
        until_s = math.inf if item.source.real else self.clock.monotonic() + URL_KEPT_S
        self._remembered[item.source.key] = (item.image, until_s)
        self._remembered.move_to_end(item.source.key)
        while len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)


def together(faults: Mapping[str, errors.UnreadableImage], places: Mapping[str, str]) -> errors.UnreadableImage:
    """Return the first error; its message also names the other images."""
    (_, first), *others = faults.items()
    names = [
        places.get(text) or ("a data: URI" if text[:5].lower() == "data:" else errors.quoted(Path(text).name, 80))
        for text, _ in others
    ]
    if not names:
        return first
    listed = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    return errors.UnreadableImage(f"{first.message} Nor can these be read: {listed}.")


def _is_unchanged(source: Source) -> bool:
    """Return whether a file is still the one that was named."""
    assert source.real
    with suppress(OSError):
        return source.key == (str(source.real), *_stamp(source.real.stat()))
    return False
