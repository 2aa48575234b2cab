"""Clocks that a test moves, and waiting for another process."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import anyio

from triptych.core.clock import Moment, SystemClock


def when(time: datetime) -> Moment:
    """Return a moment whose clocks agree."""
    return Moment(time, time.timestamp())


class FakeClock:
    """Time that moves only in a wait, which drives the worker meanwhile."""

    def __init__(self) -> None:
        self._now = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
        self.offset_s = 0.0
        """The monotonic clock is ahead of the wall clock by so much."""
        self.drive: Callable[[], Awaitable[bool]] | None = None
        self.next_due: Callable[[], Awaitable[float | None]] | None = None

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._now.timestamp() + self.offset_s

    def follow_the_machine(self) -> None:
        """Show what the machine's clocks show now, where another process reads those."""
        self._now = datetime.now(UTC)
        self.offset_s = SystemClock().monotonic() - self._now.timestamp()

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)

    async def pass_by(self, seconds: float) -> None:
        """Sleep without driving the worker."""
        self.advance(seconds)

    async def wait(self, event: anyio.Event, seconds: float) -> None:
        if self.drive and await self.drive():
            return
        due = await self.next_due() if self.next_due else None
        self.advance(seconds if due is None else min(seconds, max(due - self.monotonic(), 0.01)))


class HandClock:
    """Seconds that move only when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def until(holds: Callable[[], bool], limit_s: float = 60.0) -> None:
    """Wait for what another thread or process does, however slow the machine is."""
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.005)
