"""The thin start's looks at the database: whether there is work, and the images of `resources/list`.

Rules: a look opens the file read-only and closes it again. Nothing is created or migrated. A look whose result is not
certain raises `Unclear`: then the real server looks.
"""

from __future__ import annotations

import json
import os
import sys
import time

from triptych.thin import images
from triptych.thin.messages import Unknown

TYPE_CHECKING = False  # importing `typing` costs a start
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from triptych.thin.snapshots import Snapshot

OVERDUE_S = 3.0
"""A living process takes a due step within this time."""
TOO_FAR_S = 1800.0
"""A due time further ahead is damaged data, and due now."""
BUSY_S = 0.5
FILE = "triptych.db"


class Unclear(Unknown):
    """The database is not as expected, or cannot be read now."""


class Work(Unknown):
    """The database has work, and no process does it."""


class Database:
    """The database in a home directory.

    `providers` are those that this process can use. `clock` returns seconds, as the worker's clock does.
    """

    def __init__(self, home: str, snapshot: Snapshot, providers: Sequence[str], clock: Callable[[], float]) -> None:
        self._home = home
        self._snapshot = snapshot
        self._providers = json.dumps(list(providers))
        self._clock = clock

    def has_work(self) -> bool:
        """Return whether a job is not finished."""
        return bool(self._rows("unfinished", providers=self._providers))

    def has_overdue_work(self) -> bool:
        """Return whether a step is due and no process takes it."""
        now_s = self._clock()
        return bool(self._rows("overdue", now=now_s - OVERDUE_S, too_far=now_s + TOO_FAR_S, providers=self._providers))

    def images(self) -> list[str]:
        """Return the newest images as JSON, as `resources/list` has them."""
        return [images.as_json(*_facts(row)) for row in self._rows("recent_images", limit=images.RECENT, owner=None)]

    def _rows(self, name: str, **values: Any) -> list[tuple[Any, ...]]:
        path = os.path.join(self._home, FILE)
        if not os.path.exists(path):
            self._check_home()
            return []
        import sqlite3

        try:
            connection = sqlite3.connect(_uri(path), uri=True, timeout=BUSY_S, isolation_level=None)
            try:
                if connection.execute("PRAGMA user_version").fetchone()[0] != self._snapshot.schema:
                    raise Unclear
                if connection.execute("PRAGMA application_id").fetchone()[0] > self._snapshot.schema:
                    raise Unclear
                return connection.execute(self._snapshot.statements[name], values).fetchall()
            finally:
                connection.close()
        except sqlite3.Error:
            raise Unclear from None

    def _check_home(self) -> None:
        """Raise `Unclear` if the real server could not create the database."""
        path = self._home
        while path and not os.path.exists(path):
            path = os.path.dirname(path)
        if not os.path.isdir(path) or not os.access(path, os.W_OK | os.X_OK):
            raise Unclear


def clock(platform: str = sys.platform) -> float:
    """Return the seconds that `core.clock.SystemClock.monotonic` returns, by the same counter of the system."""
    if platform != "win32":
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
    import ctypes

    ticks_ms = ctypes.WinDLL("kernel32").GetTickCount64  # type: ignore[attr-defined, unused-ignore]
    ticks_ms.restype = ctypes.c_uint64
    return float(ticks_ms()) / 1000


def _uri(path: str) -> str:
    """Return the URI with which SQLite opens a file and writes nothing.

    A file without a write-ahead log is open nowhere. It is opened as immutable, because SQLite would begin a log.
    """
    name = path.replace(os.sep, "/").replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    root = "" if name.startswith("/") else "/"
    return f"file:{root}{name}?mode=ro" + ("" if os.path.exists(f"{path}-wal") else "&immutable=1")


def _facts(row: tuple[Any, ...]) -> tuple[str, int | None, int | None, list[str]]:
    job_id, n, width, height, source = row
    try:
        found = json.loads(source)
    except ValueError:
        raise Unclear from None
    if type(found) is not list or not all(type(one) is str for one in found):
        raise Unclear
    return f"{job_id}/{n}", width, height, found
