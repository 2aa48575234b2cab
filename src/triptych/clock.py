"""What time it is, and waiting: handed to whoever needs it, so that no test sleeps."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

import anyio


class Clock(Protocol):
    """The time in UTC, seconds since the machine's start, and a wait that ends early when `bell` rings."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...

    async def wait(self, bell: Bell, seconds: float) -> None: ...


class Bell:
    """Rung when something changed; wakes everybody who waits, and nobody who comes later."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def ring(self) -> None:
        """Wake all who wait."""
        self._event.set()
        self._event = anyio.Event()

    async def heard(self) -> None:
        """Return at the next ring."""
        await self._event.wait()


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds since the machine's start; every process on it reads the same."""
        return time.monotonic()

    async def wait(self, bell: Bell, seconds: float) -> None:
        """Return when the bell rings, or after so many seconds."""
        with anyio.move_on_after(seconds):
            await bell.heard()
