"""A call that waits for the end of its job, for a bounded time."""

from __future__ import annotations

import math
from collections.abc import Awaitable
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from triptych.core.clock import Clock, Notifier
from triptych.jobs.caller import Caller
from triptych.jobs.image_access import ImageAccess
from triptych.jobs.job_creation import CreatedJob
from triptych.jobs.job_reads import seen_job
from triptych.jobs.presenters import made_before
from triptych.jobs.remaining import remaining_s
from triptych.jobs.results import JobResult, time_left
from triptych.storage.async_store import AsyncStore

MAX_WAIT_S = 55.0
READ_LEFT_EVERY_S = 1.0
"""How often a waiting call estimates the remaining time."""
LOOK_AGAIN_S, MOST_LOOK_AGAIN_S = 0.2, 1.0
"""A waiting call reads its job again after these pauses at the latest, the first and the longest: a change that nobody
tells is seen all the same."""


class ReadJob(Protocol):
    """Reads a job with one page of its images."""

    def __call__(self, job_id: str, caller: Caller, *, page: int) -> Awaitable[JobResult]: ...


class Waiting:
    """The waits of one service. A change wakes the calls that wait for its job, and no others.

    Otherwise each of 60 waiting calls would read the database at every step of every job.
    """

    def __init__(
        self,
        store: AsyncStore,
        image_access: ImageAccess,
        clock: Clock,
        began_at: datetime,
        read: ReadJob,
    ) -> None:
        self._store = store
        self._image_access = image_access
        self._clock = clock
        self._began_at = began_at
        self._read = read
        self._jobs: dict[str, list[Notifier]] = {}
        """The calls that wait, by job."""
        self.stopping = False
        """Whether calls return without waiting, because this process stops."""

    def stop(self) -> None:
        """Let every wait end."""
        self.stopping = True
        for job_id in list(self._jobs):
            self.tell(job_id)

    @property
    def any(self) -> bool:
        """Whether any call waits."""
        return bool(self._jobs)

    def tell(self, job_id: str) -> None:
        """Let the calls that wait for a job read it: it has changed."""
        for call in self._jobs.get(job_id, ()):
            call.notify()

    async def wait(self, job_id: str, wait_s: float, caller: Caller, page: int = 1) -> JobResult:
        """Return the job when it has ended or `wait_s` is over; report its progress meanwhile.

        Raises: `errors.UnknownHandle`.
        """
        call = Notifier()
        self._jobs.setdefault(job_id, []).append(call)
        try:
            return await self._wait(job_id, wait_s, caller, page, call)
        finally:
            self._jobs[job_id].remove(call)
            if not self._jobs[job_id]:
                del self._jobs[job_id]

    async def attach(self, created: CreatedJob, caller: Caller) -> JobResult:
        """Return the earlier job of the same request; nothing is confirmed, quoted or sent again."""
        job, left_s = created.job, created.until_s - self._clock.monotonic()
        if created.save_to:
            await self._store.save_also(job.id, created.save_to)
        result = await self.wait(job.id, min(left_s, caller.left_s()), caller)
        if created.save_to:
            await self._image_access.save_copies(job.id)
            result = await self._read(job.id, caller, page=1)
        note = made_before(self._clock.now() - job.created_at)
        return replace(result, warnings=[*result.warnings, note])

    async def _wait(self, job_id: str, wait_s: float, caller: Caller, page: int, call: Notifier) -> JobResult:
        end_s = self._clock.monotonic() + min(max(wait_s, 0), MAX_WAIT_S)
        reported, left, left_read_s = None, None, -math.inf
        pause_s = LOOK_AGAIN_S
        while True:
            changed = call.next
            seen = await self._store.run(seen_job, job_id, caller)
            if caller.report and seen != reported:
                reported = seen
                if self._clock.monotonic() - left_read_s >= READ_LEFT_EVERY_S:
                    pace, left_read_s = await self._store.pace(job_id), self._clock.monotonic()
                    left = remaining_s(pace, self._clock.now(), self._began_at)
                message = f"{job_id} {seen.status}, {seen.returned} of {seen.requested} images"
                message += f", {time_left(left)}" if left and not seen.status.has_ended else ""
                await caller.report_progress(seen.returned, seen.requested, message)
            left_s = end_s - self._clock.monotonic()
            if seen.status.has_ended:
                await self._image_access.save_copies(job_id)
                return await self._read(job_id, caller, page=page)
            if left_s <= 0 or self.stopping:
                return await self._read(job_id, caller, page=page)
            await self._clock.wait(changed, min(left_s, pause_s))
            pause_s = min(2 * pause_s, MOST_LOOK_AGAIN_S)
