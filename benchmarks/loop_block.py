"""How long the event loop stands still while the database is locked, slow, or full of work.

A task sleeps for a millisecond again and again, and its longest delay is the figure. Meanwhile another program holds
the write lock; a verb takes long, as on a slow disk; a job of 2,000 predictions is read, listed and worked on; a locked
database is opened. Each case runs five times, and the least figure counts: what else the machine does only adds to it.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
from PIL import Image

from benchmarks.table import Row, main
from triptych import settings
from triptych.core.clock import SystemClock, moment
from triptych.core.requests import Request
from triptych.jobs.caller import Caller
from triptych.jobs.planning import Terms
from triptych.jobs.service import ImageService, open_service
from triptych.storage.claims import Slots
from triptych.storage.jobs import Store

LIMIT_MS = 20.0
LOCK_S = 0.5
SLOW_S = 0.3
LANES, STEPS = 200, 10
TRIES = 5
WRITES = ("a" * 64, "atlas", "https://x.example/1.png", SystemClock().now())


async def longest_gap_ms(work: Callable[[], Awaitable[Any]]) -> float:
    """Return the longest delay of a task that only sleeps, while `work` runs; in milliseconds."""
    longest_s = 0.0

    async def tick() -> None:
        nonlocal longest_s
        while True:
            began = time.perf_counter()
            await anyio.sleep(0.001)
            longest_s = max(longest_s, time.perf_counter() - began - 0.001)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        await anyio.sleep(0.01)
        await work()
        tasks.cancel_scope.cancel()
    return longest_s * 1000


async def _least(work: Callable[[], Awaitable[Any]]) -> float:
    return min([await longest_gap_ms(work) for _ in range(TRIES)])


async def _measure(home: Path) -> list[Row]:
    setup, database = settings.read({"TRIPTYCH_HOME": str(home)}).setup, home / "triptych.db"

    async def held(work: Callable[[], Awaitable[Any]]) -> None:
        """Do something while another program holds the write lock; it lets go after half a second."""
        with closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")

            async def let_go() -> None:
                await anyio.sleep(LOCK_S)
                other.execute("ROLLBACK")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(let_go)
                await work()

    async def open_anew() -> None:
        with closing(sqlite3.connect(database)) as other:  # as after a restart of the machine: the opening writes
            other.execute("UPDATE boot SET id = 'another boot'")
            other.commit()

        async def opened() -> None:
            async with open_service(setup, work=False):
                pass

        await held(opened)

    async with open_service(setup, work=False) as service:
        idle_ms = await _least(lambda: anyio.sleep(0.3))
        locked_ms = await _least(lambda: held(lambda: service.store.set_copy(*WRITES)))
        slow_ms = await _least(lambda: service.store.run(lambda _: time.sleep(SLOW_S)))
        job_id = await _added(service, home)
        full_ms = await _least(lambda: _used(service, job_id))
        opening_ms = await _least(open_anew)
    return [
        _row("nothing happens", idle_ms),
        _row(f"a write while the database is locked for {LOCK_S:g} s", locked_ms, LOCK_S),
        _row(f"a verb that takes {SLOW_S:g} s, as on a slow disk", slow_ms, SLOW_S),
        # No target: the verbs run beside the loop, but a full garbage collection stops every thread for 30 ms and more.
        Row(f"event loop, longest gap: a job of {LANES * STEPS:,} predictions, read and claimed", f"{full_ms:.1f} ms"),
        _row(f"opening a database that is locked for {LOCK_S:g} s", opening_ms, LOCK_S),
    ]


async def _added(service: ImageService, home: Path) -> str:
    """Store a job of two thousand predictions, of which none is worked on."""
    file = home / "picture.png"
    Image.new("RGB", (64, 64), "teal").save(file)
    caller = Caller(roots=(home,))
    picture = (await service.upload_images([str(file)], caller)).images[0].handle
    steps = tuple(f"step {n}" for n in range(STEPS))
    request = Request("edit_chain", steps, images=(picture,) * LANES, provider="draft")
    job = await service.make(request, Terms(wait_s=0), caller)
    assert job.job_id
    return job.job_id


async def _used(service: ImageService, job_id: str) -> None:
    clock = SystemClock()

    def claim(store: Store) -> None:
        store.claim(now=moment(clock), lease="benchmark", slots=[Slots("draft", "draft", LANES)])

    for _ in range(10):
        await service.get_status(job_id)
        await service.list_jobs()
        await service.spend()
        await service.store.run(claim)


def _row(what: str, gap_ms: float, lasts_s: float | None = None) -> Row:
    lasts = f"{lasts_s * 1000:,.0f} ms (what it takes)" if lasts_s else ""
    return Row(
        f"event loop, longest gap: {what}", f"{gap_ms:.1f} ms", lasts, None, f"≤ {LIMIT_MS:g} ms", gap_ms <= LIMIT_MS
    )


def measure() -> list[Row]:
    """Return the longest gap of each case."""
    with tempfile.TemporaryDirectory() as home:
        return anyio.run(_measure, Path(home).resolve())


if __name__ == "__main__":
    main(measure)
