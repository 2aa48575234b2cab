"""Saves images into a user's directory or archive: at full resolution, or resized and converted.

Rules: nothing is overwritten, and a repeated call changes nothing: a file with the same bytes counts as saved. A call
that runs out of time keeps what it wrote, and the same call goes on. Only images that the caller sees are saved.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from triptych.core import errors
from triptych.core.clock import Clock
from triptych.core.concurrency import unwrap_group
from triptych.core.models import Status
from triptych.images.allowed_paths import allowed_path
from triptych.images.archives import Archive
from triptych.images.files import ImageFiles, bytes_of
from triptych.jobs.image_access import Caller, ImageAccess
from triptych.jobs.image_preview import job_named
from triptych.jobs.inputs import Inputs
from triptych.jobs.results import Saved, SaveResult
from triptych.jobs.save_plan import Asked, Piece, Task, final_pieces, groups, piece_of, tasks_of
from triptych.storage.async_store import AsyncStore
from triptych.storage.jobs import Store

if TYPE_CHECKING:
    from triptych.images.delivery import Notes

MAX_SAVED_IMAGES = 2000
AT_ONCE = 2
"""Images that are rendered at the same time, unless one of them is large."""
KNOWN_FILES = 20_000
"""Rendered files whose hashes are kept, so that a repeated call need not render them again."""
UNFINISHED_ARCHIVES = 2
MARGIN_S = 2.0
"""The time for the answer itself."""


@dataclass(frozen=True, slots=True)
class _Written:
    """A file that is written: where, what there is to say about it, and whether this call had work with it."""

    task: Task
    path: Path
    notes: Notes | None
    is_new: bool
    was_work: bool


@dataclass(slots=True)
class _Unfinished:
    """An archive that a call could not finish, with what is in it."""

    archive: Archive
    written: list[_Written] = field(default_factory=list)


class Deliveries:
    """Saves images of one store."""

    def __init__(
        self, store: AsyncStore, image_files: ImageFiles, image_access: ImageAccess, inputs: Inputs, clock: Clock
    ) -> None:
        self._store = store
        self._files = image_files
        self._image_access = image_access
        self._inputs = inputs
        self._clock = clock
        self._known: OrderedDict[object, tuple[str, Notes]] = OrderedDict()
        self._unfinished: OrderedDict[object, _Unfinished] = OrderedDict()

    def close(self) -> None:
        """Remove the archives that no call finished."""
        while self._unfinished:
            self._unfinished.popitem()[1].archive.discard()

    async def save(self, asked: Asked, caller: Caller, within_s: float = math.inf) -> SaveResult:
        """Save images into an allowed directory, or into an archive if it ends with `.zip`.

        It stops after `within_s`, or when the caller stops waiting, at least one file further than before; `next` is
        then the same call.
        Raises: `errors.NotAllowed`, `errors.OutOfLimits` for a wrong size or name, and as `import_images`.
        """
        from triptych.images import delivery

        end_s = self._clock.monotonic() + min(within_s, caller.left_s()) - MARGIN_S
        if not 1 <= len(asked.images) <= MAX_SAVED_IMAGES:
            raise errors.OutOfLimits(
                f"save_images takes 1 to {MAX_SAVED_IMAGES} images; {len(asked.images)} were given."
            )
        deliveries = delivery.parse(asked.size)
        directory, archive_stem = await self._target(asked.directory, caller)
        pieces, warnings = await self._pieces(asked.images, caller)
        tasks = tasks_of(pieces, deliveries, asked.name, delivery.FORMATS[asked.format] if asked.format else None)

        def time_is_up() -> bool:
            return self._clock.monotonic() >= end_s

        archive = None
        if archive_stem is None:
            written = await self._write_all(tasks, directory, caller, time_is_up)
        else:
            written, archive = await self._write_archive(tasks, directory, archive_stem, caller, time_is_up)
        stopped = len(written) < len(tasks)
        return SaveResult(
            saved=[Saved(handle=one.task.piece.handle, path=str(one.path)) for one in written],
            count=len(written),
            directory=str(directory),
            archive=str(archive) if archive else None,
            warnings=[*warnings, *_sentences(written)],
            next=f"{asked.call()} goes on: {len(written)} of {len(tasks)} files are saved" if stopped else None,
        )

    # -- what and where

    async def _target(self, directory: str, caller: Caller) -> tuple[Path, str | None]:
        """Return the directory to write into, and the name of the archive if the path ends with `.zip`.

        Raises: `errors.NotAllowed`.
        """
        if directory.strip().lower().endswith(".zip"):
            allowed = self._image_access.allowed(caller)
            path = await anyio.to_thread.run_sync(allowed_path, directory.strip(), allowed)
            if not await anyio.to_thread.run_sync(path.is_dir):
                return await self._image_access.directory(str(path.parent), caller), path.stem
        return await self._image_access.directory(directory, caller), None

    async def _pieces(self, items: Sequence[str], caller: Caller) -> tuple[list[Piece], list[str]]:
        """Return the images of a call in order, with a sentence about each job that has not all of its images.

        Raises: `errors.UnknownHandle` for a job without any, and as `ImageAccess.import_images`.
        """
        items, warnings = await self._inputs.expand_items(items, caller)
        singles = [item for item in items if not job_named(item)]
        images = iter(await self._image_access.import_images(singles, caller))
        pieces: list[Piece] = []
        for item in items:
            job_id = job_named(item)
            if job_id:
                found, sentence = await self._store.run(final_pieces, job_id, caller)
                pieces += found
                warnings = [*warnings, sentence] if sentence else warnings
            else:
                pieces.append(await self._store.run(piece_of, next(images), item))
        if len(pieces) > MAX_SAVED_IMAGES:
            raise errors.OutOfLimits(f"These are {len(pieces)} images; save_images takes {MAX_SAVED_IMAGES} at most.")
        return pieces, warnings

    # -- writing

    async def _write_all(
        self, tasks: Sequence[Task], directory: Path, caller: Caller, time_is_up: Callable[[], bool]
    ) -> list[_Written]:
        """Write files into a directory, a few images at a time, until the time is up."""

        def write(task: Task, data: bytes) -> tuple[Path, bool]:
            return self._files.write(data, directory, task.stem, task.suffix)

        def find(task: Task, sha256: str) -> Path | None:
            return self._files.find(directory, task.stem, task.suffix, sha256)

        written: list[_Written] = []
        worked = False
        for group in groups(tasks, AT_ONCE):
            if worked and time_is_up():
                break
            await caller.report_progress(len(written), len(tasks), f"saved {len(written)} of {len(tasks)} files")
            done: dict[int, list[_Written]] = {}

            async def one(n: int, same: list[Task], done: dict[int, list[_Written]] = done) -> None:
                done[n] = await anyio.to_thread.run_sync(self._write_image, same, write, find)

            with unwrap_group():
                async with anyio.create_task_group() as images:
                    for n, same in enumerate(group):
                        images.start_soon(one, n, same)
            for n in range(len(group)):
                written += done[n]
                worked = worked or any(one.was_work for one in done[n])
                await self._store.run(_remember, done[n])
        return written

    async def _write_archive(
        self, tasks: Sequence[Task], directory: Path, stem: str, caller: Caller, time_is_up: Callable[[], bool]
    ) -> tuple[list[_Written], Path | None]:
        """Write one archive; its path is None while it is not finished, and the same call goes on with it then."""
        key = (caller.owner, directory, stem, tuple((task.key, task.stem, task.suffix) for task in tasks))
        work = self._unfinished.pop(key, None) or _Unfinished(await anyio.to_thread.run_sync(self._files.new_archive))

        def add(task: Task, data: bytes) -> tuple[Path, bool]:
            name = task.stem + task.suffix
            if name not in work.archive.names:
                work.archive.add(name, data)
            return Path(name), False

        try:
            for (same,) in groups(tasks[len(work.written) :], 1):
                await caller.report_progress(
                    len(work.written), len(tasks), f"packed {len(work.written)} of {len(tasks)}"
                )
                work.written += await anyio.to_thread.run_sync(self._write_image, same, add, None)
                if time_is_up() and len(work.written) < len(tasks):
                    self._keep(key, work)
                    return work.written, None
            path, is_new = await anyio.to_thread.run_sync(self._files.put_archive, work.archive, directory, stem)
        except anyio.get_cancelled_exc_class():
            self._keep(key, work)
            raise
        except OSError as error:
            work.archive.discard()
            raise errors.NotAllowed(f"The archive cannot be written ({error.strerror}).") from error
        except BaseException:
            work.archive.discard()
            raise
        if is_new:
            await self._store.run(_note, path)
        return work.written, path

    def _keep(self, key: object, work: _Unfinished) -> None:
        self._unfinished[key] = work
        while len(self._unfinished) > UNFINISHED_ARCHIVES:
            self._unfinished.popitem(last=False)[1].archive.discard()

    def _write_image(
        self,
        tasks: Sequence[Task],
        write: Callable[[Task, bytes], tuple[Path, bool]],
        find: Callable[[Task, str], Path | None] | None,
    ) -> list[_Written]:
        """Write one image in its deliveries; it is decoded once, and not at all if every file is known to be there."""
        from triptych.images import delivery

        first = tasks[0]
        if first.mime_type is None:
            path, is_new = write(first, bytes_of(first.piece.image))
            return [_Written(first, path, None, is_new, is_new)]
        known = [self._known.get(task.key) for task in tasks]
        if find and all(known):
            places = [find(task, one[0]) if one else None for task, one in zip(tasks, known, strict=True)]
            if all(places):
                return [
                    _Written(task, path, one[1], False, False)
                    for task, path, one in zip(tasks, places, known, strict=True)
                    if path and one
                ]
        made = delivery.render(bytes_of(first.piece.image), [task.delivery for task in tasks], first.mime_type)
        written = []
        for task, picture in zip(tasks, made, strict=True):
            path, is_new = write(task, picture.data)
            self._known[task.key] = (hashlib.sha256(picture.data).hexdigest(), picture.notes)
            written.append(_Written(task, path, picture.notes, is_new, True))
        while len(self._known) > KNOWN_FILES:
            self._known.popitem(last=False)
        return written


# The functions below use the plain store and may block: `AsyncStore.run` runs them.


def _remember(store: Store, written: Sequence[_Written]) -> None:
    """Store where files were written, and the full-size copy of an output of an ended job.

    A running job stores its copies itself. A resized copy is no reason to prune the image.
    """
    for one in written:
        if one.is_new:
            _note(store, one.path)
        output = store.output(one.task.piece.handle) if one.task.piece.is_output and not one.task.mime_type else None
        job = store.job(output.job_id) if output else None
        if output and job and job.status not in (Status.QUEUED, Status.RUNNING):
            store.output_saved(output, str(one.path))


def _note(store: Store, path: Path) -> None:
    note = getattr(store, "note_saved_file", None)
    if note:
        note(path)


# -- what to say


def _sentences(written: Sequence[_Written]) -> list[str]:
    """Return what happened to the pictures, each as one sentence with the number of files."""
    noted = [(one.notes, one.path.name) for one in written if one.notes]
    sentences = []
    enlarged = [(notes.enlarged, name) for notes, name in noted if notes.enlarged > 1.01]
    if enlarged:
        most, name = max(enlarged)
        rest = f"; {len(enlarged)} files were, this one the most" if len(enlarged) > 1 else ""
        sentences.append(f"{name} was enlarged {most:.1f}×{rest}: it may look soft.")
    white = [name for notes, name in noted if notes.on_white]
    if white:
        sentences.append(
            f"{_counted(white)}: transparency or border became white, as JPEG has none. A colour after the size sets "
            'another, such as "1080x1080 #ffeeaa"; format="png" or "webp" keeps it.'
        )
    broken = [name for notes, name in noted if notes.broken_profile]
    if broken:
        sentences.append(f"{_counted(broken)}: the broken colour profile was ignored; the colours count as sRGB.")
    return sentences


def _counted(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} files, such as {names[0]}"
