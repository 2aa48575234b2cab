"""Two clocks and a wait: handed to all that need them, so that no test sleeps.

`now` is the wall clock, for times that people read and that providers compare. It may step forward or back at any
moment. `monotonic` is for durations, due times, deadlines and leases: it never steps, and all processes of one boot
read the same one. What is stored of it is worth nothing after a restart of the machine, which `boot_id` shows.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import anyio


class Moment(NamedTuple):
    """Both clocks, read at once."""

    at: datetime
    mono_s: float


class Clock(Protocol):
    """The wall clock in UTC, the monotonic clock in seconds, and a wait that ends early when `notifier` rings."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...

    async def wait(self, notifier: Notifier, seconds: float) -> None: ...


def moment(clock: Clock) -> Moment:
    """Return the time by both clocks."""
    return Moment(clock.now(), clock.monotonic())


class Notifier:
    """Rung when something changed; wakes all current waiters, later ones wait for the next ring."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def notify(self) -> None:
        """Wake all who wait."""
        self._event.set()
        self._event = anyio.Event()

    async def wait(self) -> None:
        """Return at the next ring."""
        await self._event.wait()


_SLEEP_COUNTS: int = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", 1))
"""Linux has a clock of its own for it; on macOS CLOCK_MONOTONIC counts sleep, which `time.monotonic` does not."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the seconds since some moment of this boot; all processes count from the same one.

        The time that the machine sleeps counts where the system says it: a day's budget ends after a day.
        """
        if sys.platform == "win32":
            return time.monotonic()
        return time.clock_gettime(_SLEEP_COUNTS)

    async def wait(self, notifier: Notifier, seconds: float) -> None:
        """Return when the bell rings, or after so many seconds."""
        with anyio.move_on_after(seconds):
            await notifier.wait()


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Return what tells this boot of the machine from every other; empty where the system does not say."""
    readers: dict[str, Callable[[], str]] = {"linux": _linux, "darwin": _darwin, "win32": _windows}
    try:
        return readers.get(sys.platform, lambda: "")()
    except (OSError, AttributeError, ValueError):
        return ""


def _linux() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def _darwin() -> str:
    import ctypes

    system = ctypes.CDLL(None)
    buffer, length = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
    failed = system.sysctlbyname(b"kern.bootsessionuuid", buffer, ctypes.byref(length), None, ctypes.c_size_t(0))
    return "" if failed else buffer.value.decode("ascii")


def _windows() -> str:
    if sys.platform != "win32":
        return ""
    import winreg

    path = r"SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management\PrefetchParameters"
    with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:
        return str(winreg.QueryValueEx(key, "BootId")[0])
