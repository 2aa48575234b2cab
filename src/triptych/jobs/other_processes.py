"""Tells this process's listeners about jobs that other processes change.

Rules: the database is read once a second, more often while a call waits, and at once after `hint`. Nothing depends on
the hint. Each change is told once. While nobody listens or waits, nothing is read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from triptych.core import errors
from triptych.core.clock import Clock, Notifier
from triptych.storage.async_store import AsyncStore

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.8
"""Less than a second, so that a change is told within one."""
AWAITED_EVERY_S = 0.2
"""The same while a call waits for the end of its job."""
OVERLAP_S = 5.0
"""Each look begins so long before the last one: a change may be committed later than a younger one."""


class OtherProcesses:
    """Calls `tell` with the id of each job that another process changes, while somebody listens or a call waits."""

    def __init__(
        self,
        store: AsyncStore,
        clock: Clock,
        tell: Callable[[str], None],
        is_heard: Callable[[], bool],
        is_awaited: Callable[[], bool],
    ) -> None:
        self._store = store
        self._clock = clock
        self._tell = tell
        self._is_heard = is_heard
        self._is_awaited = is_awaited
        self._hinted = Notifier()
        self._since_s: float | None = None
        self._told: dict[str, float] = {}
        """The time of the last change that was told, by job; as old as the overlap."""

    def hint(self) -> None:
        """Look now: another process has reported a change."""
        self._hinted.notify()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            hinted = self._hinted.next
            try:
                await self.look()
            except errors.Outage:  # the store logs it
                pass
            except Exception:
                log.exception("internal error while reading the changes by other processes; trying again")
            await self._clock.wait(hinted, AWAITED_EVERY_S if self._is_awaited() else LOOK_EVERY_S)

    async def look(self) -> None:
        """Tell the changes since the last look; the first look tells nothing."""
        if not (self._is_heard() or self._is_awaited()):
            self._since_s = None
            return
        now_s = self._clock.monotonic()
        is_first, since_s = self._since_s is None, (now_s if self._since_s is None else self._since_s) - OVERLAP_S
        found = await self._store.changes_since(since_s)
        news = [job_id for job_id, mono_s in found.items() if self._told.get(job_id) != mono_s]
        self._told, self._since_s = found, now_s
        if not is_first:
            for job_id in news:
                self._tell(job_id)
