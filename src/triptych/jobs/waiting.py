"""A call that waits for the end of its job, for a bounded time."""

from __future__ import annotations

import math
from collections.abc import Awaitable
from datetime import datetime
from typing import Protocol

from triptych.core.clock import Clock, Notifier
from triptych.jobs.caller import Caller
from triptych.jobs.image_access import ImageAccess
from triptych.jobs.job_reads import seen_job
from triptych.jobs.remaining import remaining_s
from triptych.jobs.results import JobResult, time_left
from triptych.storage.async_store import AsyncStore

MAX_WAIT_S = 55.0
READ_LEFT_EVERY_S = 1.0
"""How often a waiting call estimates the remaining time."""
LOOK_AGAIN_S = 0.2
"""How often a waiting call reads its job again, for changes by other processes."""


class ReadJob(Protocol):
    """Reads a job with one page of its images."""

    def __call__(self, job_id: str, caller: Caller, *, page: int) -> Awaitable[JobResult]: ...


class Waiting:
    """The waits of one service; `changed` is notified when a job may have changed."""

    def __init__(
        self,
        store: AsyncStore,
        image_access: ImageAccess,
        changed: Notifier,
        clock: Clock,
        began_at: datetime,
        read: ReadJob,
    ) -> None:
        self._store = store
        self._image_access = image_access
        self._changed = changed
        self._clock = clock
        self._began_at = began_at
        self._read = read
        self.stopping = False
        """Whether calls return without waiting, because this process stops."""

    def stop(self) -> None:
        """Let every wait end."""
        self.stopping = True
        self._changed.notify()

    async def wait(self, job_id: str, wait_s: float, caller: Caller, page: int = 1) -> JobResult:
        """Return the job when it has ended or `wait_s` is over; report its progress meanwhile.

        Raises: `errors.UnknownHandle`.
        """
        end_s = self._clock.monotonic() + min(max(wait_s, 0), MAX_WAIT_S)
        reported, left, left_read_s = None, None, -math.inf
        while True:
            changed = self._changed.next
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
            await self._clock.wait(changed, min(left_s, LOOK_AGAIN_S))
