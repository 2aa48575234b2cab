"""The reads of the store: images, jobs, predictions and outputs.

Images are written here too: they need no lease, because their bytes identify them. The methods block; each runs one
statement or two. This file must not know providers, networks or files other than its own.
"""

from __future__ import annotations

import json
import os
import threading
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from triptych.core.clock import Clock, Moment
from triptych.core.models import Image, Job, Output, Prediction
from triptych.core.offers import Offer
from triptych.core.requests import Request
from triptych.storage import rows
from triptych.storage.base import StoreBase
from triptych.storage.budget import Caps
from triptych.storage.database import Database, Row

SAME_FOR_S = 3600.0
"""How long after its end a job is the result of the same request."""

IN_OBJECTS = "object:"
"""In place of a file name: the image is in the object store, under its hash."""
KEPT_CHARS = 16_000_000
"""The most characters of requests that are kept as values."""


@dataclass(frozen=True, slots=True)
class _Fixed:
    """The facts of a job that never change after it is stored; `chars` is its length as JSON."""

    request: Request
    sources: tuple[str, ...] | None
    live_offer: Offer | None
    requested: int
    chars: int


class Reads(StoreBase):
    """The records of one database, whose image files are below `images_dir`."""

    def __init__(
        self,
        database: Database | Path,
        images_dir: Path,
        caps: Caps | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(database, caps, clock)
        self._images_dir = images_dir
        self._kept: dict[str, _Fixed] = {}
        self._kept_lock = threading.Lock()

    # -- images

    def add_image(self, image: Image, now: datetime, owner: str | None = None) -> Image:
        """Store the row of an image; return it as stored (the same bytes keep their first handle).

        If `pruned_at` is set in what is returned, the row was that of a pruned image until now: `ImageFiles.confirm`
        then looks whether its object was removed meanwhile. With an owner, that owner is added to its owners.
        """
        if owner is not None:
            self._db.run("hold", sha256=image.sha256, owner=owner)
        file = image.path.relative_to(self._images_dir).as_posix() if image.path else IN_OBJECTS
        known = self.image_by_sha256(image.sha256)
        if known and (known.pruned_at or bool(known.path) != bool(image.path)):
            self._db.run("image_back", sha256=image.sha256, file=file)
            return replace(known, path=image.path)
        if known:
            return known
        handle, length = image.handle, 8
        while self._db.one("image_by_handle", handle=handle):
            length += 1  # two files whose hashes begin alike: the later one's handle is longer
            handle = f"img_{image.sha256[:length]}"
        self._db.run(
            "add_image",
            sha256=image.sha256,
            handle=handle,
            mime_type=image.mime_type,
            width=image.width,
            height=image.height,
            bytes=image.bytes,
            file=file,
            now=now.timestamp(),
        )
        stored = self.image_by_sha256(image.sha256)
        assert stored
        return stored

    def add_images(self, images: Sequence[Image], now: datetime, owner: str | None = None) -> list[Image]:
        """Do as `add_image` for several images, in one transaction."""
        known = owner is None and all(self.image_by_sha256(image.sha256) for image in images)
        with nullcontext() if known else self._db.transaction():
            return [self.add_image(image, now, owner) for image in images]

    def owns(self, owner: str, sha256: str) -> bool:
        """Return whether an owner uploaded these bytes, or has them as the output of a job."""
        return self._db.one("holds", sha256=sha256, owner=owner) is not None

    def note_saved_file(self, path: str | Path) -> None:
        """Record a file that we wrote into a user's directory: a folder as an argument leaves it out."""
        self._db.run("note_saved_file", path=_saved_key(path))

    def saved_among(self, paths: Iterable[str | Path]) -> set[str]:
        """Return those of the paths that are files that we wrote."""
        by_key = {_saved_key(path): str(path) for path in paths}
        rows = self._db.all("saved_among", paths=json.dumps(list(by_key)))
        return {by_key[row["path"]] for row in rows}

    def file_secret(self) -> str:
        """Return the secret that signs the URLs of files, in hexadecimal; the first call makes it."""
        row = self._db.one("file_secret")
        if not row:
            import secrets

            self._db.run("add_file_secret", secret=secrets.token_hex(32))
            row = self._db.one("file_secret")  # another process may have been quicker
        assert row
        return str(row["secret"])

    def renew_file_secret(self) -> None:
        """Replace the secret: every signed URL expires now, at every server on this database."""
        import secrets

        self._db.run("set_file_secret", secret=secrets.token_hex(32))

    def image_by_sha256(self, sha256: str) -> Image | None:
        """Return the image with these bytes."""
        row = self._db.one("image_by_sha256", sha256=sha256)
        return self._image(row) if row else None

    def image_by_handle(self, handle: str) -> Image | None:
        """Return the image behind `img_…` or `job_…/n`; None if there is none, or it is not stored yet."""
        if handle.startswith("img_"):
            row = self._db.one("image_by_handle", handle=handle)
            return self._image(row) if row else None
        output = self.output(handle)
        return self.image_by_sha256(output.sha256) if output and output.sha256 else None

    def recent_uploads(self, limit: int, owner: str | None = None) -> list[Image]:
        """Return the newest uploads, of one owner or of all."""
        return [self._image(row) for row in self._db.all("recent_uploads", limit=limit, owner=owner)]

    def _image(self, row: Row) -> Image:
        return Image(
            sha256=row["sha256"],
            handle=row["handle"],
            mime_type=row["mime_type"],
            width=row["width"],
            height=row["height"],
            bytes=row["bytes"],
            path=None if row["file"] == IN_OBJECTS else self._images_dir / row["file"],
            pruned_at=rows.utc(row["pruned_at"]) if row["pruned_at"] else None,
        )

    def set_copy(self, sha256: str, provider: str, url: str, expires_at: datetime) -> None:
        """Store the URL of an image at a provider, and its expiry."""
        self._db.run("set_copy", sha256=sha256, provider=provider, url=url, expires_at=expires_at.timestamp())

    def copy(self, sha256: str, provider: str, now: datetime) -> tuple[str, datetime] | None:
        """Return the URL of an image at a provider and its expiry; None after it."""
        row = self._db.one("copy", sha256=sha256, provider=provider, now=now.timestamp())
        return (row["url"], rows.utc(row["expires_at"])) if row else None

    def forget_copies(self, provider: str, urls: Sequence[str]) -> None:
        """Forget uploads that the provider could no longer read."""
        self._db.run("forget_copies", provider=provider, urls=urls)

    def take_unused_uploads(self, provider: str, now: datetime, limit: int) -> list[tuple[str, str, datetime]]:
        """Remove the oldest uploads at a provider that no unfinished prediction uses; return them.

        Each has its sha256, its URL and its expiry. No later request names these URLs, so the files can be deleted at
        the provider. Results of the provider are no uploads.
        """
        with self._db.transaction():
            using = [self._prediction(row) for row in self._db.all("unfinished_at", provider=provider)]
            sent = {url for p in using for url in p.sent_urls}
            handles = {handle for p in using for handle in (*p.inputs, *p.request.handles)}
            needed = {image.sha256 for image in map(self.image_by_handle, handles) if image}
            uploads = self._db.all("uploads", provider=provider, now=now.timestamp())
            free = [row for row in uploads if row["sha256"] not in needed and row["url"] not in sent][:limit]
            if free:
                self._db.run("forget_copies", provider=provider, urls=[row["url"] for row in free])
        return [(row["sha256"], row["url"], rows.utc(row["expires_at"])) for row in free]

    # -- jobs

    def same_request(self, fingerprint: str, owner: str | None, request: Request) -> Job | None:
        """Return the newest job of this request that runs, is uncertain, or ended within the last hour.

        It has the same fingerprint, or makes the same failed lanes again. Failed and cancelled jobs do not count.
        """
        times = {"now": self._clock.now().timestamp(), "mono": self._clock.monotonic(), "keep_s": SAME_FOR_S}
        if row := self._db.one("same_request", fingerprint=fingerprint, **times):
            return self.job(row["id"])
        if request.retry_of is None:
            return None
        for row in self._db.all("same_retry", retry_of=request.retry_of, **times):
            job = self.job(row["id"])
            if job and job.owner == owner and request.retries_as(job.request, job.model):
                return job
        return None

    def made_again(self, job_id: str) -> str | None:
        """Return the newest job that makes the failed lanes of a job again; failed and cancelled ones do not count."""
        row = self._db.one("made_again", id=job_id)
        return str(row["id"]) if row else None

    def job(self, job_id: str) -> Job | None:
        """Return a job; None if there is none."""
        row = self._db.one("job", id=job_id)
        return self._job(row) if row else None

    def jobs(self, limit: int, status: str | None = None, owner: str | None = None) -> list[Job]:
        """Return the newest jobs first, of one owner or of all."""
        return [self._job(row) for row in self._db.all("jobs", limit=limit, status=status, owner=owner)]

    def _job(self, row: Row) -> Job:
        fixed = self._fixed(row["id"])
        return rows.read(Job, row, request=fixed.request, sources=fixed.sources, live_offer=fixed.live_offer)

    def _prediction(self, row: Row) -> Prediction:
        fixed = self._fixed(row["job_id"])
        return rows.read(Prediction, row, request=fixed.request, live_offer=fixed.live_offer)

    def _fixed(self, job_id: str) -> _Fixed:
        """Return the facts of a job that never change. They are kept, up to `KEPT_CHARS`: a table has megabytes."""
        with self._kept_lock:
            found = self._kept.pop(job_id, None)
        if found is None:
            row = self._db.one("job_fixed", id=job_id)
            assert row
            request: Request = rows.value(Request, row["request"])
            chars = len(row["request"]) + len(row["sources"] or "")
            found = rows.read(_Fixed, row, request=request, requested=request.requested, chars=chars)
        with self._kept_lock:
            self._kept[job_id] = found  # the last used is the last to be forgotten
            while len(self._kept) > 1 and sum(one.chars for one in self._kept.values()) > KEPT_CHARS:
                del self._kept[next(iter(self._kept))]
        return found

    def predictions(self, job_id: str) -> list[Prediction]:
        """Return a job's predictions, lane by lane, step by step."""
        return [self._prediction(row) for row in self._db.all("predictions", job_id=job_id)]

    def outputs(self, job_id: str) -> list[Output]:
        """Return a job's outputs in order."""
        return [rows.read(Output, row) for row in self._db.all("frames", job_id=job_id)]

    def outputs_of(self, prediction_id: str) -> list[Output]:
        """Return one prediction's outputs in order."""
        return [rows.read(Output, row) for row in self._db.all("frames_of", prediction_id=prediction_id)]

    def output(self, handle: str) -> Output | None:
        """Return the output behind `job_…/n`."""
        job_id, _, n = handle.partition("/")
        row = self._db.one("frame", job_id=job_id, n=int(n)) if n.isdecimal() and len(n) < 6 else None
        return rows.read(Output, row) if row else None

    def recent_outputs(self, limit: int, owner: str | None = None) -> list[Output]:
        """Return the newest stored outputs, of one owner or of all."""
        return [rows.read(Output, row) for row in self._db.all("recent_frames", limit=limit, owner=owner)]

    def outputs_made_from(self, handle: str, owner: str | None = None) -> list[Output]:
        """Return the stored outputs that were made from this image, oldest first, of one owner or of all."""
        # LIKE matches more than the handle: an underscore in it matches any character.
        found = (
            rows.read(Output, row) for row in self._db.all("frames_made_from", holding=f'%"{handle}"%', owner=owner)
        )
        return [output for output in found if handle in output.source]

    def to_save(self, job_id: str | None = None) -> list[tuple[str, str]]:
        """Return ended jobs, each with a directory that lacks some of its images: of one job, or of all."""
        return [(row["job_id"], row["directory"]) for row in self._db.all("to_save", job_id=job_id)]

    def tickets(self, provider: str) -> frozenset[str]:
        """Return every ticket of a provider that belongs to a prediction."""
        return frozenset(row["ticket"] for row in self._db.all("tickets", provider=provider))

    def _has_ticket(self, provider: str, ticket: str | None) -> bool:
        return self._db.one("ticket_taken", provider=provider, ticket=ticket) is not None

    def submits_without_ticket(
        self, prediction: Prediction, *, since: datetime, now: Moment
    ) -> list[tuple[Prediction, bool]]:
        """Return the other predictions at the same endpoint that may have been accepted and have no ticket.

        Each with whether a process works on it now.
        """
        found = self._db.all(
            "unaccounted",
            id=prediction.id,
            provider=prediction.provider,
            endpoint=prediction.endpoint,
            since=since.timestamp(),
        )
        return [(self._prediction(row), row["lease_until"] > now.mono_s) for row in found]

    def running_at(self, provider: str) -> list[Prediction]:
        """Return the predictions that run at a provider, oldest first, at most 50."""
        return [self._prediction(row) for row in self._db.all("running_at", provider=provider)]

    def unfinished(self) -> int:
        """Return how many predictions are not finished."""
        row = self._db.one("unfinished")
        return int(row["n"]) if row else 0


def _saved_key(path: str | Path) -> str:
    """Return a path as it is compared: some systems decompose letters, and some ignore case."""
    return unicodedata.normalize("NFC", os.path.normcase(path)).encode(errors="backslashreplace").decode()
