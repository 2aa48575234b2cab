"""The clock of a PostgreSQL server, for processes on machines whose own clocks differ.

`monotonic` is in seconds of the server's clock, so leases and due times of all processes are of one clock. Between two
measurements it follows this machine's monotonic clock. It steps only if the server's clock does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import anyio

from triptych.core.clock import Clock

STEP_S = 1.0
"""A difference of the server's clock up to this is a drift: this clock then waits instead of going back."""
TRIES = 3
NEAR_S = 0.02
"""A measurement whose answer took no longer than this needs no second one."""


class DatabaseClock:
    """The wall clock and the monotonic clock of a server; `local` is this machine's. It is valid once measured."""

    def __init__(self, local: Clock) -> None:
        self._local = local
        self._lock = threading.Lock()
        self._offset_s = 0.0
        self._last_s = 0.0

    def measure(self, server_time: Callable[[], float]) -> None:
        """Measure how far the server's clock is ahead of this machine's monotonic clock.

        `server_time` reads its seconds and may block; its errors pass through.
        """
        best_s, offset_s = float("inf"), 0.0
        for _ in range(TRIES):
            before_s = self._local.monotonic()
            server_s = server_time()
            took_s = self._local.monotonic() - before_s
            if took_s < best_s:
                best_s, offset_s = took_s, server_s - before_s - took_s / 2
            if took_s <= NEAR_S:
                break
        with self._lock:
            self._offset_s = offset_s

    def monotonic(self) -> float:
        """Return the seconds of the server's clock."""
        with self._lock:
            now_s = self._local.monotonic() + self._offset_s
            if self._last_s - STEP_S < now_s < self._last_s:
                return self._last_s
            self._last_s = now_s
            return now_s

    def now(self) -> datetime:
        """Return the server's time, in UTC."""
        return datetime.fromtimestamp(self.monotonic(), UTC)

    async def wait(self, event: anyio.Event, seconds: float) -> None:
        """Return when the event is set, or after so many seconds."""
        await self._local.wait(event, seconds)
