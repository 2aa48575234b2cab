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
from triptych.images import archives
from triptych.images.archives import Archive
from triptych.images.files import ImageFiles
from triptych.jobs import manifest
from triptych.jobs.caller import Caller
from triptych.jobs.image_access import ImageAccess
from triptych.jobs.inputs import Inputs
from triptych.jobs.job_reads import job_named
from triptych.jobs.planning import MAX_REQUESTS
from triptych.jobs.results import Saved, SaveResult
from triptych.jobs.save_plan import Asked, Task, groups, look_up, tasks_of
from triptych.storage.async_store import AsyncStore
from triptych.storage.jobs import Store

if TYPE_CHECKING:
    from triptych.images.delivery import Notes

MAX_SAVED_IMAGES = MAX_REQUESTS
"""A job has at most so many final images, except layers."""
AT_ONCE = 2
"""Images that are rendered at the same time, unless one of them is large."""
KNOWN_FILES = 20_000
"""Rendered files whose hashes are kept, so that a repeated call need not render them again."""
UNFINISHED_ARCHIVES = 2
MARGIN_S = 2.0
"""The time for the answer itself."""


Write = Callable[[Task, bytes], tuple[Path, bool]]
"""Writes a file; returns its path, and whether it is new."""
Find = Callable[[Task, str], Path | None]
"""Returns the file that is there already for bytes with this hash."""


@dataclass(frozen=True, slots=True)
class _Written:
    """A written file: its path and notes, whether it is new, and whether this call did work for it."""

    task: Task
    path: Path
    notes: Notes | None
    is_new: bool
    was_work: bool


@dataclass(slots=True)
class _Unfinished:
    """An archive that a call could not finish, with its files."""

    archive: Archive
    written: list[_Written] = field(default_factory=list)


class Saving:
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
        items, counts = await self._inputs.expand_items(asked.images, caller)
        images = await self._image_access.import_images([item for item in items if not job_named(item)], caller)
        found = await self._store.run(look_up, items, images, caller)
        if len(found.pieces) > MAX_SAVED_IMAGES:
            raise errors.OutOfLimits(
                f"These are {len(found.pieces)} images; save_images takes {MAX_SAVED_IMAGES} at most."
            )
        mime_type = delivery.FORMATS[asked.format] if asked.format else None
        tasks = await anyio.to_thread.run_sync(tasks_of, found, deliveries, asked.name, mime_type)

        def time_is_up() -> bool:
            return self._clock.monotonic() >= end_s

        archive = None
        if archive_stem is None:
            written = await self._write_all(tasks, directory, caller, time_is_up)
            manifests = await self._manifests(found.tables, directory, written) if len(written) == len(tasks) else []
        else:
            target = (directory, archive_stem)
            written, archive, manifests = await self._write_archive(tasks, found.tables, target, caller, time_is_up)
        stopped = len(written) < len(tasks)
        return SaveResult(
            saved=[Saved(handle=one.task.piece.handle, path=str(one.path)) for one in written],
            count=len(written),
            directory=str(directory),
            archive=str(archive) if archive else None,
            manifests=manifests,
            warnings=[*counts, *found.missing, *_sentences(written)],
            next=f"{asked.call()} goes on: {len(written)} of {len(tasks)} files are saved" if stopped else None,
        )

    # -- where

    async def _target(self, directory: str, caller: Caller) -> tuple[Path, str | None]:
        """Return the directory to write into, and the name of the archive if the path ends with `.zip`.

        Raises: `errors.NotAllowed`.
        """
        allowed = self._image_access.allowed(caller)
        archive = await anyio.to_thread.run_sync(archives.target, self._files, directory, allowed)
        return archive or (await self._image_access.directory(directory, caller), None)

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
            with anyio.CancelScope(shield=True):  # each written file is also recorded
                for one in await self._together(group, write, find):
                    if isinstance(one, Exception):
                        raise one
                    written += one
                    worked = worked or any(file.was_work for file in one)
            await anyio.lowlevel.checkpoint_if_cancelled()
        await caller.report_progress(len(written), len(tasks), f"saved {len(written)} of {len(tasks)} files")
        return written

    async def _together(
        self, group: Sequence[list[Task]], write: Write, find: Find
    ) -> list[list[_Written] | Exception]:
        """Write and record several images at the same time; return the files of each, or its error."""
        done: list[list[_Written] | Exception] = [[] for _ in group]

        async def write_one(n: int) -> None:
            try:
                done[n] = await anyio.to_thread.run_sync(self._write_image, group[n], write, find)
            except Exception as error:
                done[n] = error

        async with anyio.create_task_group() as images:
            for n in range(len(group)):
                images.start_soon(write_one, n)
        await self._store.run(_record, [file for one in done if isinstance(one, list) for file in one])
        return done

    async def _manifests(self, job_ids: Sequence[str], directory: Path, written: Sequence[_Written]) -> list[str]:
        """Write the manifest of each of these jobs beside its files; return their paths."""
        paths = [
            await manifest.write(self._store, self._files, job_id, directory, _paths(job_id, directory, written))
            for job_id in job_ids
        ]
        return [str(path) for path in paths if path]

    async def _add_manifests(
        self, archive: Archive, job_ids: Sequence[str], directory: Path, written: Sequence[_Written]
    ) -> list[str]:
        """Add the manifest of each of these jobs to an archive; return their names."""
        names: list[str] = []
        for job_id in job_ids:
            data = await manifest.data_of(self._store, job_id, directory, _paths(job_id, directory, written))
            if data is not None:
                names.append(f"manifest-{len(names) + 1}.csv" if names else "manifest.csv")
                if names[-1] not in archive.names:
                    await anyio.to_thread.run_sync(archive.add, names[-1], data)
        return names

    async def _write_archive(
        self,
        tasks: Sequence[Task],
        job_ids: Sequence[str],
        target: tuple[Path, str],
        caller: Caller,
        time_is_up: Callable[[], bool],
    ) -> tuple[list[_Written], Path | None, list[str]]:
        """Write one archive, with the manifests of these jobs; return its files, its path and the manifests' names.

        The path is None while it is not finished, and the same call goes on with it then.
        """
        directory, stem = target
        key = (caller.owner, directory, stem, tuple((task.key, task.stem, task.suffix) for task in tasks))
        work = self._unfinished.pop(key, None) or _Unfinished(
            await anyio.to_thread.run_sync(archives.begin, self._files)
        )

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
                    return work.written, None, []
            manifests = await self._add_manifests(work.archive, job_ids, directory, work.written)
            with anyio.CancelScope(shield=True):
                path, is_new = await anyio.to_thread.run_sync(archives.put, self._files, work.archive, directory, stem)
                if is_new:
                    await self._store.note_saved_file(path)
        except anyio.get_cancelled_exc_class():
            self._keep(key, work)
            raise
        except OSError as error:
            work.archive.discard()
            raise errors.NotAllowed(f"The archive cannot be written ({error.strerror}).") from error
        except BaseException:
            work.archive.discard()
            raise
        return work.written, path, manifests

    def _keep(self, key: object, work: _Unfinished) -> None:
        self._unfinished[key] = work
        while len(self._unfinished) > UNFINISHED_ARCHIVES:
            self._unfinished.popitem(last=False)[1].archive.discard()

    def _write_image(
        self,
        tasks: Sequence[Task],
        write: Write,
        find: Find | None,
    ) -> list[_Written]:
        """Write one image in its deliveries; it is decoded once, and not at all if every file is known to be there."""
        from triptych.images import delivery

        first = tasks[0]
        if first.mime_type is None:
            path, is_new = write(first, self._files.bytes_of(first.piece.image))
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
        data = self._files.bytes_of(first.piece.image)
        made = delivery.render(data, [task.delivery for task in tasks], first.mime_type)
        written = []
        for task, picture in zip(tasks, made, strict=True):
            path, is_new = write(task, picture.data)
            self._known[task.key] = (hashlib.sha256(picture.data).hexdigest(), picture.notes)
            written.append(_Written(task, path, picture.notes, is_new, True))
        while len(self._known) > KNOWN_FILES:
            self._known.popitem(last=False)
        return written


def _record(store: Store, written: Sequence[_Written]) -> None:
    """Store which files were written, and the full-size copies of outputs. May block.

    A running job stores its copies itself. A resized copy is no reason to prune the image.
    """
    for one in written:
        if one.is_new:
            store.note_saved_file(one.path)
        if one.task.piece.output and not one.task.mime_type:
            store.output_saved(one.task.piece.output, str(one.path))


def _paths(job_id: str, directory: Path, written: Sequence[_Written]) -> dict[int, Path]:
    """Return the first file of each output of a job, by its number."""
    paths: dict[int, Path] = {}
    for one in written:
        of_job, slash, n = one.task.piece.handle.partition("/")
        if slash and of_job == job_id:
            paths.setdefault(int(n), directory / one.path)
    return paths


# -- warnings


def _sentences(written: Sequence[_Written]) -> list[str]:
    """Return the changes that a person may not want, each as one sentence with the number of files."""
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
