"""Clocks that a test moves, and waiting for another process."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from triptych.core.clock import Moment


def when(time: datetime) -> Moment:
    """Return a moment whose clocks agree."""
    return Moment(time, time.timestamp())


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
