"""A process that makes one job and kills itself at its n-th persist point: before the write, or right after it.

    python crash_child.py HOME ATLAS_URL IMAGE TOOL POINT before|after

A persist point is a committed transaction, a single write to the database, or a file moved into its place. Without the
kill it ends with exit code 0 and prints how many points it passed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio

from triptych import config
from triptych.clock import Bell
from triptych.studio import Options, Studio


class Points:
    def __init__(self, fatal: int, when: str) -> None:
        self.passed = 0
        self._lock = threading.Lock()
        self._fatal, self._when = fatal, when

    def reach(self, write: Any) -> Any:
        with self._lock:
            self.passed += 1
            fatal = self.passed == self._fatal
        if fatal and self._when == "before":
            die()
        result = write()
        if fatal and self._when == "after":
            die()
        return result


def die() -> None:
    if hasattr(signal, "SIGKILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(137)


class Connection:
    """The database's connection, with its writes counted."""

    def __init__(self, db: Any, points: Points) -> None:
        self._db, self._points = db, points

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def execute(self, sql: str, *values: Any) -> Any:
        verb = sql.split(maxsplit=1)[0].upper()
        alone = verb in ("INSERT", "UPDATE", "DELETE") and not self._db.in_transaction
        if verb == "COMMIT" or alone:
            return self._points.reach(lambda: self._db.execute(sql, *values))
        return self._db.execute(sql, *values)


class JumpingClock:
    """Real time plus every wait, which is over at once."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    async def wait(self, bell: Bell, seconds: float) -> None:
        self._ahead += timedelta(seconds=seconds)


async def main(home: str, url: str, image: str, tool: str, point: str, when: str) -> None:
    clock, points = JumpingClock(), Points(int(point), when)
    environ = {
        "TRIPTYCH_HOME": home,
        "ATLASCLOUD_API_KEY": "test-key",
        "ATLASCLOUD_BASE_URL": url,
        "TRIPTYCH_ALLOWED_DIRS": str(Path(image).parent),
    }
    studio = Studio(config.read(environ).setup, clock)
    studio.store._db.connection = Connection(studio.store._db.connection, points)  # type: ignore[assignment]
    replace = Path.replace
    Path.replace = lambda self, target: points.reach(lambda: replace(self, target))  # type: ignore[method-assign,assignment]
    if tool == "chain":
        await studio.edit_chain([image], ["warmer", "sepia"], options=Options(wait_s=0))
    else:
        await studio.edit_sequence([image], "golden hour", 2, Options(wait_s=0))
    while studio.store.unfinished():
        if not await studio.engine.step():
            await clock.wait(studio.engine.bell, 1.0)
    sys.stdout.write(f"{points.passed}\n")


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:7])
