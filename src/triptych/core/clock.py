"""Two clocks and a wait. Code that needs the time receives a `Clock`, so that no test sleeps.

`now` is the wall clock: times for people, and times to compare with a provider's. It can step forward or back at any
moment. `monotonic` is for durations, due times, deadlines and leases: it never steps, and all processes of one boot
read the same value. A stored monotonic time is invalid after a restart of the machine; `boot_id` tells the boots apart.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import anyio


class Moment(NamedTuple):
    """Both clocks, read at once."""

    at: datetime
    mono_s: float


class Clock(Protocol):
    """The wall clock in UTC, the monotonic clock in seconds, and a wait that ends early when `event` is set."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...

    async def wait(self, event: anyio.Event, seconds: float) -> None: ...


def moment(clock: Clock) -> Moment:
    """Return the time by both clocks."""
    return Moment(clock.now(), clock.monotonic())


class Notifier:
    """Wakes all current waiters at each `notify`. Later waiters wait for the next one."""

    def __init__(self) -> None:
        self._next: anyio.Event | None = None

    @property
    def next(self) -> anyio.Event:
        """The event that the next change sets.

        Take it before you look, and wait for it after the look: then a change during the look is not missed.
        """
        if self._next is None:
            import anyio

            self._next = anyio.Event()
        return self._next

    def notify(self) -> None:
        """Wake all current waiters."""
        changed, self._next = self._next, None
        if changed:
            changed.set()


_SLEEP_COUNTS: int = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", 1))
"""The clock that counts the time the machine sleeps. Linux has CLOCK_BOOTTIME. On macOS CLOCK_MONOTONIC counts sleep
and `time.monotonic` does not."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the seconds since a fixed moment of this boot, the same moment for all processes.

        The time that the machine sleeps is included where the system reports it, so that a day's budget ends after a
        day.
        """
        return _since_boot_s()

    async def wait(self, event: anyio.Event, seconds: float) -> None:
        """Return when the event is set, or after so many seconds."""
        import anyio

        with anyio.move_on_after(seconds):
            await event.wait()


def _since_boot_s(platform: str = sys.platform) -> float:
    if platform != "win32":
        return time.clock_gettime(_SLEEP_COUNTS)
    import ctypes

    # `time.monotonic` reads another counter from Python 3.13 on, and one home may serve two Pythons.
    ticks_ms = ctypes.WinDLL("kernel32").GetTickCount64  # type: ignore[attr-defined, unused-ignore]
    ticks_ms.restype = ctypes.c_uint64
    return float(ticks_ms()) / 1000


@lru_cache(maxsize=1)
def boot_id(platform: str = sys.platform) -> str:
    """Return an id of this boot of the machine; an empty string where the system has none."""
    readers: dict[str, Callable[[], str]] = {"linux": _linux, "darwin": _darwin, "win32": _windows}
    try:
        return readers.get(platform, lambda: "")()
    except (OSError, AttributeError, ImportError, ValueError):
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
    winreg: Any = import_module("winreg")  # only Windows has it
    path = r"SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management\PrefetchParameters"
    with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:
        return str(winreg.QueryValueEx(key, "BootId")[0])
