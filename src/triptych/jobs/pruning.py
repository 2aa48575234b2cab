"""Frees space in TRIPTYCH_HOME or the object store: removes images that are old, not in use, and saved elsewhere.

Rules, on which money depends: no job, prediction or output is deleted, so the ledger does not change; an image's row
has the time when its file was removed. The images that a queued, running or uncertain job made or uses stay. So do the
inputs of a job that keeps any image, and the images of every look that is not removed. Images without a saved copy
stay, unless `unsaved` is set. Files with a recent date stay: importing an image again sets the date of its file.

Servers may run on the same home. A file is first moved aside, then its date is read again. If a server has set the date
meanwhile, the file goes back. A server that misses the file writes it again.

An object has the date of its last write; a server that stores an old one again writes it again, and looks for it once
more if its row was that of a pruned image. An object without a row stays: it may be another installation's.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from triptych.core import errors
from triptych.core.models import Status
from triptych.core.requests import Request
from triptych.images.naming import CACHE, key_of
from triptych.jobs.results import PrunedItem, PruneResult
from triptych.storage import rows
from triptych.storage.database import Database, Row
from triptych.storage.reads import IN_OBJECTS

if TYPE_CHECKING:
    from triptych.images.objects import Objects

log = logging.getLogger(__name__)

LEAST_AGE = timedelta(days=1)
"""Younger files are never removed: a running server may be about to use them."""
BATCH = 100
"""The number of files removed under one lock of the database: servers wait for that time at most."""
BATCH_OF_OBJECTS = 10
"""The same for objects: each takes two requests."""
BUSY = frozenset({Status.QUEUED, Status.RUNNING, Status.UNCERTAIN})


@dataclass(frozen=True, slots=True)
class _File:
    """An image file, or an object by its key; `sha256` and `handle` are empty for a file without a row."""

    place: Path | str
    bytes: int
    used_at: float
    sha256: str = ""
    handle: str = ""


@dataclass(frozen=True, slots=True)
class _Job:
    """The outputs of a job and its inputs, by sha256, as far as their files exist.

    `fresh`: the job has not ended, or ended recently.
    """

    fresh: bool
    made: set[str]
    given: set[str]


class Pruner:
    """Finds the files that may be removed from a home, and removes them."""

    def __init__(
        self,
        db: Database,
        home: Path,
        objects: Objects | None = None,
        *,
        older_than: timedelta,
        unsaved: bool,
        now: datetime,
    ) -> None:
        self._db = db
        self._images_dir = home / "images"
        self._objects = objects
        self._in_objects = objects.all_facts() if objects else {}
        self._now = now
        self._older_than = max(older_than, LEAST_AGE)
        self._before = (now - self._older_than).timestamp()
        self._unsaved = unsaved
        self._there: dict[str, bool] = {}

    def look(self) -> PruneResult:
        """Return the files that would be removed; change nothing."""
        may_go, only_unsaved = self._candidates()
        return self._result(may_go, only_unsaved, done=False)

    def prune(self) -> PruneResult:
        """Remove the files that may be removed, and return them.

        Raises: `errors.Outage` if the database does not accept a write; earlier removals are stored.
        """
        wanted, only_unsaved = self._candidates()
        gone: list[_File] = []
        batch = BATCH_OF_OBJECTS if self._objects else BATCH
        for start in range(0, len(wanted), batch):
            with self._db.transaction():
                self._db.lock("books")  # no job that needs one of these images is added meanwhile
                still = {file.place for file in self._candidates()[0]}
                for file in wanted[start : start + batch]:
                    if file.place in still and self._remove(file.place):
                        gone.append(file)
                        self._db.run("prune_image", sha256=file.sha256, now=self._now.timestamp())
        self._db.run("drop_expired_copies", now=self._now.timestamp())
        self._db.shrink()
        return self._result(gone, only_unsaved, done=True)

    def _remove(self, path: Path | str) -> bool:
        """Remove a file or an object, unless its date has changed; return whether it was removed."""
        if isinstance(path, str):
            return self._remove_object(path)
        aside = path.with_name(f".pruned-{path.name}")  # after a crash this is a file without a row
        try:
            path.replace(aside)
        except OSError:  # gone already, or open in another program on Windows
            return False
        with suppress(OSError):
            if aside.stat().st_mtime <= self._before:
                aside.unlink()
                return True
        with suppress(OSError):
            aside.replace(path)
        return False

    def _remove_object(self, key: str) -> bool:
        assert self._objects
        try:
            found = self._objects.facts(key)
            if found and found[1].timestamp() > self._before:
                return False
            self._objects.delete(key)
        except errors.Outage as error:  # those that are gone must be written down
            log.warning("%s", error.for_operator)
            return False
        return True

    def _candidates(self) -> tuple[list[_File], list[_File]]:
        """Return the files that may be removed, and those that only `unsaved` would remove, oldest first."""
        files = list(self._files())
        by_handle = {file.handle: file.sha256 for file in files}
        there = {file.sha256 for file in files}
        outputs = [row for row in self._db.all("outputs") if row["sha256"] in there]
        by_handle |= {f"{row['job_id']}/{row['n']}": row["sha256"] for row in outputs}
        jobs = self._jobs(outputs, by_handle)
        looks = self._db.all("images_of_looks")
        of_looks = {by_handle.get(handle) for row in looks for handle in json.loads(row["images"])}
        old = {file.sha256 for file in files if file.used_at <= self._before} - of_looks
        unsaved = {row["sha256"] for row in outputs} - {row["sha256"] for row in outputs if self._is_saved(row)}
        all_old, free = _unused(old, jobs), _unused(old if self._unsaved else old - unsaved, jobs)
        strays = [file for file in files if not file.sha256 and file.used_at <= self._before]
        known = [file for file in files if file.sha256 in free and file.sha256]
        return known + strays, [file for file in files if file.sha256 in all_old - free]

    def _files(self) -> Iterator[_File]:
        """Yield the files with rows, by the age of the rows, then the files without rows."""
        known = set()
        for row in self._db.all("images_home"):
            if row["file"] == IN_OBJECTS:
                key = key_of(row["sha256"], row["mime_type"])
                if key in self._in_objects:
                    size, date = self._in_objects[key]
                    yield _File(key, size, max(date.timestamp(), row["created_at"]), row["sha256"], row["handle"])
                continue
            path = self._images_dir / row["file"]
            known.add(path)
            with suppress(OSError):
                found = path.stat()
                used_at = max(found.st_mtime, row["created_at"])
                yield _File(path, found.st_size, used_at, row["sha256"], row["handle"])
        for path in sorted(self._images_dir.rglob("*")):
            with suppress(OSError):
                if path not in known and path.parent != self._images_dir / CACHE and path.is_file():
                    found = path.stat()
                    yield _File(path, found.st_size, found.st_mtime)

    def _jobs(self, outputs: Sequence[Row], by_handle: Mapping[str, str]) -> list[_Job]:
        made, given = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
        for row in outputs:
            made[row["job_id"]].add(row["sha256"])
        requests = self._db.all("all_requests")
        ages = self._db.all("job_ages")  # last, so that a job written meanwhile is left out
        for row in requests:
            request = rows.value(Request, row["request"])
            given[row["job_id"]] |= {h for h in request.handles if h in by_handle}
        return [
            _Job(
                fresh=(fresh := row["status"] in BUSY or row["last_at"] > self._before),
                made=made[row["id"]],
                given={by_handle[h] for h in given[row["id"]] if fresh or not h.startswith(f"{row['id']}/")},
            )
            for row in ages
        ]

    def _is_saved(self, row: Row) -> bool:
        path = row["saved_path"]
        if path and path not in self._there:
            self._there[path] = Path(path).is_file()  # cached, as the disk may be slow
        return bool(path and self._there[path])

    def _result(self, went: list[_File], only_unsaved: list[_File], *, done: bool) -> PruneResult:
        outputs: dict[str, Row] = {}
        for row in self._db.all("outputs"):
            outputs.setdefault(row["sha256"], row)
        items = []
        for file in went:
            made = outputs.get(file.sha256)
            items.append(
                PrunedItem(
                    name=f"{made['job_id']}/{made['n']}" if made else file.handle or Path(file.place).name,
                    kind="output" if made else "upload" if file.sha256 else "unknown",
                    bytes=file.bytes,
                    days_old=int((self._now.timestamp() - file.used_at) // 86_400),
                    saved_path=made["saved_path"] if made and self._is_saved(made) else None,
                )
            )
        return PruneResult(
            done=done,
            older_than_days=self._older_than.days,
            items=items,
            bytes=sum(file.bytes for file in went),
            unsaved=len(only_unsaved),
            unsaved_bytes=sum(file.bytes for file in only_unsaved),
        )


def _unused(wished: set[str], jobs: Sequence[_Job]) -> set[str]:
    """Return those of the wished images that no job needs.

    A fresh job needs its outputs and inputs. Any other job that keeps an image needs its inputs.
    """
    free, unsettled = set(wished), list(jobs)
    while True:
        needing = [job for job in unsettled if job.fresh or job.made - free]
        if not needing:
            return free
        unsettled = [job for job in unsettled if not (job.fresh or job.made - free)]
        for job in needing:
            free -= job.given | (job.made if job.fresh else set())
