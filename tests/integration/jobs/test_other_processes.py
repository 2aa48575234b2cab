"""Changes by other processes reach this process's listeners: each once, and none that was before."""

from __future__ import annotations

import anyio
import pytest

from support.clocks import FakeClock
from support.fixtures import Emulator, Finish, MakeService
from support.jobs import NOW, generate_sequence
from triptych.jobs.caller import Caller
from triptych.jobs.service import ImageService
from triptych.storage.summaries import Seen

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


def listening(service: ImageService) -> list[str]:
    heard: list[str] = []
    service.watch(heard.append)
    return heard


async def looked(service: ImageService, clock: FakeClock, heard: list[str]) -> list[str]:
    """Return the jobs that are told by a look a second later."""
    heard.clear()
    clock.advance(1.0)
    await service.other_processes.look()
    return list(heard)


@BOTH
async def test_another_process_tells_each_change_once(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, finish: Finish
) -> None:
    async with make_service(atlas) as there, make_service(atlas) as here:
        before = await generate_sequence(there, "made before anybody listens", options=NOW)
        heard = listening(here)
        assert await looked(here, clock, heard) == []
        made = await generate_sequence(there, "a lamp", options=NOW)
        assert await looked(here, clock, heard) == [made.job_id]
        assert await looked(here, clock, heard) == []
        await there.cancel_job(before.job_id or "")
        assert await looked(here, clock, heard) == [before.job_id]
        await finish(there)
        assert await looked(here, clock, heard) == [made.job_id]
        for _ in range(10):
            assert await looked(here, clock, heard) == []


@BOTH
async def test_a_processs_own_changes_are_told_at_once_and_not_again(
    make_service: MakeService, atlas: Emulator, clock: FakeClock
) -> None:
    async with make_service(atlas) as here:
        heard = listening(here)
        await here.other_processes.look()
        made = await generate_sequence(here, "a lamp", options=NOW)
        assert heard == [made.job_id]
        assert await looked(here, clock, heard) == []


async def test_a_change_that_is_committed_late_is_told(
    make_service: MakeService, atlas: Emulator, clock: FakeClock
) -> None:
    """A transaction that began before a look and ended after it has a time before that look."""
    async with make_service(atlas) as there, make_service(atlas) as here:
        made = await generate_sequence(there, "a lamp", options=NOW)
        heard = listening(here)
        await here.other_processes.look()
        late_s = clock.monotonic() - 2.0
        there.store.plain._db.run("note_change", job_id=made.job_id, mono=late_s, process=there.store.plain._process)
        assert await looked(here, clock, heard) == [made.job_id]
        assert await looked(here, clock, heard) == []


async def test_nothing_is_read_while_nobody_listens(
    make_service: MakeService, atlas: Emulator, clock: FakeClock
) -> None:
    async with make_service(atlas) as there, make_service(atlas) as here:
        stop = here.watch(lambda _: None)
        stop()
        here.store.plain._db.close()
        await here.other_processes.look()
        await generate_sequence(there, "a lamp", options=NOW)
        here.store.plain._db = there.store.plain._db


class PatientClock(FakeClock):
    """Its waits end with their event alone."""

    async def wait(self, event: anyio.Event, seconds: float) -> None:
        await event.wait()


async def test_a_waiting_call_reads_the_changes_of_its_own_job_alone(
    make_service: MakeService, atlas: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_service(atlas) as here:
        awaited = await generate_sequence(here, "a lamp", options=NOW)
        other = await generate_sequence(here, "a chair", options=NOW)
        reads: list[str] = []
        seen = here.store.plain.seen

        def counted(job_id: str) -> Seen | None:
            reads.append(job_id)
            return seen(job_id)

        monkeypatch.setattr(here.store.plain, "seen", counted)
        monkeypatch.setattr(here._waiting, "_clock", PatientClock())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(here._waiting.wait, awaited.job_id, 55, Caller())
            await anyio.wait_all_tasks_blocked()
            assert len(reads) == 1
            for _ in range(20):
                here._notify_listeners(other.job_id or "")
                here.worker.notifier.notify()
            await anyio.wait_all_tasks_blocked()
            assert len(reads) == 1
            here._notify_listeners(awaited.job_id or "")
            await anyio.wait_all_tasks_blocked()
            assert reads == [awaited.job_id] * 2
            tasks.cancel_scope.cancel()
        assert not here._waiting.any
