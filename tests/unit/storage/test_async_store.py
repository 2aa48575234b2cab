"""The awaited store: the event loop goes on while the database keeps its callers waiting."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest

import triptych
from support.stored import NOW
from triptych import settings
from triptych.core import errors
from triptych.core.clock import SystemClock
from triptych.jobs.service import open_service
from triptych.storage.async_store import AsyncStore, one_thread
from triptych.storage.jobs import Store

pytestmark = pytest.mark.anyio

TICKS = 20
"""So often the loop turns while a database is locked: well within the time that a statement waits for a lock."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "triptych.db"


@pytest.fixture
async def store(path: Path) -> Any:
    made = AsyncStore(Store(path, path.parent / "images"), one_thread(), SystemClock())
    yield made
    await made.close()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the write lock as another program does."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


async def ticks() -> None:
    for _ in range(TICKS):
        await anyio.sleep(0.001)


async def test_the_loop_turns_while_a_write_waits_for_a_lock(store: AsyncStore, path: Path) -> None:
    written = anyio.Event()

    async def write() -> None:
        await store.set_copy("0" * 64, "atlas", "https://x.example/1.png", NOW)
        written.set()

    async with anyio.create_task_group() as tasks:
        with locked(path):
            tasks.start_soon(write)
            await ticks()
            assert not written.is_set()
        await written.wait()
    assert store.plain.copy("0" * 64, "atlas", NOW.replace(year=2025))


async def test_the_loop_turns_while_a_locked_database_opens(path: Path) -> None:
    path.parent.mkdir(parents=True)
    (sql,) = Path(__file__).parent.glob("databases/version-0.sql")
    with sqlite3.connect(path) as earlier:
        earlier.executescript(sql.read_text("utf-8"))
    earlier.close()
    opened = anyio.Event()
    setup = settings.read({"TRIPTYCH_HOME": str(path.parent)}).setup

    async def open_it() -> None:
        async with open_service(setup, work=False) as service:
            assert await service.list_jobs()
            opened.set()

    async with anyio.create_task_group() as tasks:
        with locked(path):  # and it has to be brought up to this version
            tasks.start_soon(open_it)
            await ticks()
            assert not opened.is_set()
        await opened.wait()


async def test_calls_run_one_at_a_time_in_order(store: AsyncStore) -> None:
    order: list[int] = []
    running = threading.Lock()

    def work(_: Store, number: int) -> None:
        assert running.acquire(blocking=False), "another call runs"
        order.append(number)
        running.release()

    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(store.run, work, number)
    assert order == list(range(50))


async def test_a_cancelled_call_that_began_runs_to_its_end(store: AsyncStore) -> None:
    ended: list[str] = []

    async def use() -> None:
        ended.append(await store.run(work))
        ended.append(await store.run(lambda _: "never begun"))

    async with anyio.create_task_group() as tasks:

        def work(plain: Store) -> str:
            anyio.from_thread.run_sync(tasks.cancel_scope.cancel)
            return plain.file_secret()

        tasks.start_soon(use)
    assert ended == [store.plain.file_secret()]


async def test_an_error_of_a_verb_is_raised_to_its_caller(store: AsyncStore, path: Path) -> None:
    def work(_: Store) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await store.run(work)
    assert await store.job("job_00000001") is None


def test_every_awaited_verb_is_used() -> None:
    """A verb that no room uses goes: types say already that every one that is used is there."""
    rooms = [Path(triptych.__file__).parent / room for room in ("jobs", "server", "cli")]
    source = "\n".join(path.read_text("utf-8") for room in rooms for path in room.rglob("*.py"))
    verbs = [name for name, value in vars(AsyncStore).items() if hasattr(value, "__wrapped__")]
    assert len(verbs) > 20
    assert [name for name in verbs if not re.search(rf"(self\._?|await |service\.)store\.{name}\(", source)] == []


async def test_a_call_that_needs_no_statement_ends_no_outage(
    store: AsyncStore, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as away:
        away.setattr(store.plain, "job", _away)
        with pytest.raises(errors.Outage):
            await store.job("job_00000001")
    await store.heartbeat([], 0.0)
    assert [record.getMessage()[-5:] for record in caplog.records] == ["away."]
    await store.job("job_00000001")
    assert "over after" in caplog.text


def _away(job_id: str) -> None:
    raise errors.Outage("The database is away.")
