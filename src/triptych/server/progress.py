"""Progress as the protocol demands it: a number that only grows, from stages that each count from zero."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from triptych.core.text import line

Send = Callable[[float, float, str], Awaitable[None]]
NUDGE = 0.001
"""The increment of a report with an unchanged count: hosts restart their time-out with each higher number."""


class MonotonicProgress:
    """Sends stages (3 of 14 images read, then 0 of 4 made) as one growing count (3 of 14, then 14 of 18)."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._before = 0.0
        self._done = -1.0
        self._total = 0.0
        self._nudges = 0

    async def __call__(self, done: float, total: float, message: str) -> None:
        """Send one report. A lower count or another total begins a stage. A finished count is sent once."""
        if done < self._done or (self._total and total != self._total):
            self._before += self._total
            self._done = -1.0
        if done > self._done:
            self._nudges = 0
        elif done >= total:
            return
        else:
            self._nudges += 1
        self._done, self._total = done, total
        await self._send(self._before + done + self._nudges * NUDGE, self._before + total, line(message))
