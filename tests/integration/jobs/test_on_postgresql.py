"""Services on one PostgreSQL database: through poolers, hearing of changes or not, on machines with wrong clocks."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn, cast

import anyio
import anyio.lowlevel
import psycopg
import pytest

from support import poolers, postgres
from support.database_proxy import proxied
from support.fixtures import Emulator, Finish, MakeService
from support.jobs import NOW, edit_sequence, edited
from support.servers import SMALL
from triptych import settings
from triptych.core import errors
from triptych.core.clock import Clock, SystemClock, moment
from triptych.core.states import LEASE_S
from triptych.jobs import database_opening
from triptych.jobs.caller import Caller
from triptych.jobs.planning import read_arguments
from triptych.jobs.service import ImageService, ServiceConfig, open_service
from triptych.server.metrics import Metrics
from triptych.storage.async_store import Hop
from triptych.storage.claims import Slots
from triptych.storage.postgres import Database
from triptych.storage.postgres_clock import DatabaseClock

pytestmark = pytest.mark.anyio
URL = "TRIPTYCH_DATABASE_URL"


@pytest.fixture
def url() -> Iterator[str]:
    with postgres.database() as url:
        yield url


def config(tmp_path: Path, url: str) -> ServiceConfig:
    return settings.read({"TRIPTYCH_HOME": str(tmp_path / "home"), "TRIPTYCH_MODELS": "builtin", URL: url}).setup


async def made(service: ImageService, prompt: str = "a fox") -> str:
    """Make a job of the offline engine, and return its id at once."""
    result = await service.make(*read_arguments("generate_sequence", {"prompt": prompt, "count": 1, "wait_s": 0}))
    assert result.job_id
    return result.job_id


class LaterClock:
    """A clock whose waits are over at once; the third ends the test."""

    def __init__(self, end: anyio.CancelScope) -> None:
        self._end, self._waits = end, 0

    async def wait(self, event: anyio.Event, seconds: float) -> None:
        self._waits += 1
        if self._waits == 3:
            self._end.cancel()
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("what", ["keep_clock", "keep_listening"])
async def test_a_thread_that_cannot_start_ends_no_service(what: str, url: str) -> None:
    failures = 0

    async def no_thread(call: object) -> NoReturn:
        nonlocal failures
        failures += 1
        raise RuntimeError("can't start new thread")

    with closing(Database(url)) as database, anyio.CancelScope() as end:
        opened = database_opening.Opened(database, cast("Clock", LaterClock(end)), is_shared=True)
        if what == "keep_clock":
            await database_opening.keep_clock(opened, cast("Hop", no_thread))
        else:
            await database_opening.keep_listening(opened, cast("Hop", no_thread), lambda job_id: None)
    assert failures >= 2


async def test_a_due_row_that_another_one_holds_is_not_asked_for_at_once(url: str, tmp_path: Path) -> None:
    async with open_service(config(tmp_path, url), work=False) as service:
        await made(service)
        with psycopg.connect(url) as other:
            other.execute("SELECT id FROM predictions FOR UPDATE")
            assert not await service.worker.step()
            assert service.worker._idle_s() > 0.05
        assert await service.worker.step()


# -- poolers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", poolers.KINDS)
async def test_a_transaction_pooler_is_enough(
    kind: str, url: str, make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    with poolers.pooler(kind, url) as through:
        async with make_service(atlas, **{URL: through}) as service, make_service(atlas, **{URL: through}) as other:
            done = await edited(service, finish, coffee)
            assert (await other.job(done.job_id or "")).status == "done"
            again = await edit_sequence(other, [coffee], "make it golden hour", 3, NOW)
            assert again.job_id == done.job_id
            assert not other.store.plain.differences()


@pytest.mark.parametrize("kind", poolers.KINDS)
async def test_changes_are_not_heard_through_a_pooler_and_jobs_still_end(kind: str, url: str, tmp_path: Path) -> None:
    with poolers.pooler(kind, url) as through, closing(Database(through)) as database:
        with pytest.raises(errors.TriptychError) as refused:
            database.listener()
        assert "pooler" in refused.value.for_operator
        async with (
            open_service(config(tmp_path, through), work=False) as asking,
            open_service(config(tmp_path, through)),
        ):
            result = await asking.get_status(await made(asking), wait_s=30)
            assert result.status == "done"


# -- changes by other processes ----------------------------------------------------------------------------------------


async def test_a_change_at_one_process_is_told_at_another(url: str, tmp_path: Path) -> None:
    told = anyio.Event()
    async with (
        open_service(config(tmp_path, url), worker=False) as asking,
        open_service(config(tmp_path, url)) as other,
    ):
        asking.watch(lambda job_id: told.set())
        job_id = await made(other)
        with anyio.fail_after(30):
            await told.wait()
        assert (await asking.get_status(job_id, wait_s=30)).status == "done"


async def test_a_listener_that_is_cut_off_listens_again(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_opening, "LISTEN_AGAIN_S", 0.01)
    heard: set[str] = set()
    with proxied(url) as (proxy, through):
        async with (
            open_service(config(tmp_path, through), worker=False) as asking,
            open_service(config(tmp_path, url)) as other,
        ):
            asking.watch(heard.add)
            for n in range(2):
                job_id = await made(other, f"fox {n}")
                with anyio.fail_after(30):
                    while job_id not in heard:
                        await anyio.sleep(0.01)
                        if n and job_id not in heard:  # it may have ended while nobody listened
                            job_id = await made(other, f"fox {n} {time.monotonic()}")
                proxy.cut()


def test_many_changes_of_a_job_in_a_transaction_are_told_once(url: str) -> None:
    with closing(Database(url)) as telling, closing(Database(url)) as hearing, closing(hearing.listener()) as listener:
        with telling.transaction():
            for _ in range(50):
                telling.notify("job_1")
        with telling.transaction():
            telling.notify("job_2")
        heard: set[str] = set()
        while "job_2" not in heard:
            heard |= listener.heard()
        assert heard == {"job_1", "job_2"}
        with closing(telling.listener()) as own, telling.transaction():
            telling.notify("job_3")
            assert own.heard() == set()


def test_a_refused_transaction_tells_nothing(url: str) -> None:
    with closing(Database(url)) as telling, closing(Database(url)) as hearing, closing(hearing.listener()) as listener:
        with pytest.raises(KeyError), telling.transaction():
            telling.notify("job_1")
            raise KeyError
        with telling.transaction():
            telling.notify("job_2")
        heard: set[str] = set()
        while not heard:
            heard = listener.heard()
        assert heard == {"job_2"}


# -- the server's clock ------------------------------------------------------------------------------------------------


class WrongClock(SystemClock):
    """A machine's clocks that are ahead by so many seconds, or behind."""

    def __init__(self, ahead_s: float) -> None:
        self.ahead_s = ahead_s

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.ahead_s)

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


@pytest.mark.parametrize("ahead_s", [-600.0, 0.0, 600.0])
def test_the_time_is_the_servers_whatever_the_machine_says(url: str, ahead_s: float) -> None:
    with closing(Database(url)) as database:
        clock = database.clock(WrongClock(ahead_s))
        (row,) = postgres.server().execute("SELECT extract(epoch FROM clock_timestamp())::float8")
        assert 0 <= row[0] - clock.monotonic() + 5 <= 10
        assert abs((clock.now() - datetime.now(UTC)).total_seconds()) < 5


CHILD = """
import sys, time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from triptych.core import clock as clocks
from triptych.core.clock import Moment, moment
from triptych.storage.claims import Slots
from triptych.storage.jobs import Store
from triptych.storage.async_store import Hop
from triptych.storage.postgres import Database

ahead_s = float(sys.argv[2])
real = clocks.SystemClock
class Wrong(real):
    def now(self): return real().now() + timedelta(seconds=ahead_s)
    def monotonic(self): return real().monotonic() + ahead_s
database = Database(sys.argv[1])
clock = database.clock(Wrong())
store = Store(database, Path("/images"), None, clock)
claims = store.claim(now=moment(clock), lease="c", slots=[Slots("atlas:1", "atlas", 4)])
print(len(claims), claims[0].prediction.id if claims else "-", flush=True)
"""


def test_processes_with_wrong_clocks_share_the_leases(url: str) -> None:
    """Two processes, ten minutes apart by their own clocks, never hold the same prediction."""
    from support.stored import add, prediction
    from triptych.storage.jobs import Store

    with closing(Database(url)) as database, closing(Store(database, Path("/images"), None, SystemClock())) as store:
        add(store, prediction())
        said = [
            subprocess.run([sys.executable, "-c", CHILD, url, ahead], capture_output=True, check=True).stdout.split()[0]
            for ahead in ("-600", "600")
        ]
        assert said == [b"1", b"0"]
        clock = database.clock(SystemClock())
        (row,) = postgres.server().execute("SELECT lease_until FROM predictions", url.partition("?")[0].split("/")[-1])
        assert 0 < row[0] - clock.monotonic() <= LEASE_S


async def test_monitoring_shows_pauses_by_the_servers_clock(url: str, tmp_path: Path) -> None:
    async with open_service(config(tmp_path, url), worker=False) as service:
        account = service.config.accounts["draft"]
        clock = service.store.plain._clock
        await service.store.look(now=moment(clock), slots=[Slots(account.id, "draft", 1)])
        await service.store.hold_account(account.id, clock.monotonic() + 30)

        async def checks() -> dict[str, str]:
            return {}

        async def opened() -> ImageService:
            return service

        page = Metrics(checks, opened)
        await page.answer({"type": "http", "headers": []})
        held_s = page.registry.get_sample_value(
            "triptych_account_hold_seconds", {"account": account.id, "provider": "draft"}
        )
        assert held_s is not None and 0 < held_s <= 30


def test_a_small_step_back_of_the_servers_clock_is_waited_out() -> None:
    local = WrongClock(0)
    clock, offset = DatabaseClock(local), [1000.0]
    clock.measure(lambda: local.monotonic() + offset[0])
    before = clock.monotonic()
    offset[0] -= 0.5
    clock.measure(lambda: local.monotonic() + offset[0])
    assert before <= clock.monotonic() <= before + 0.4
    offset[0] -= 100
    clock.measure(lambda: local.monotonic() + offset[0])
    assert clock.monotonic() < before - 90


def test_a_slow_answer_does_not_move_the_clock() -> None:
    """Of several measurements the quickest counts."""
    local, asked = WrongClock(0), []

    def server_time() -> float:
        asked.append(1)
        if len(asked) == 1:
            local.ahead_s += 3.0  # the answer took three seconds, all of them on the way back
            return local.monotonic() + 1000.0 - 3.0
        return local.monotonic() + 1000.0

    clock = DatabaseClock(local)
    clock.measure(server_time)
    assert abs(clock.monotonic() - local.monotonic() - 1000.0) < 0.1


def test_a_new_connection_measures_the_clock_again(url: str) -> None:
    with proxied(url) as (proxy, through), closing(Database(through)) as database:
        local = WrongClock(0)
        clock = database.clock(local)
        right = clock.monotonic()
        local.ahead_s = 300.0  # as if another server, whose clock is 300 s behind, had taken over
        assert clock.monotonic() > right + 290
        proxy.cut()
        database.one("job", id="j")
        assert clock.monotonic() < right + 60


async def test_an_image_on_another_machine_says_what_shares_it(tmp_path: Path, url: str) -> None:
    there, here = config(tmp_path / "there", url), config(tmp_path / "here", url)
    async with open_service(there) as service:
        arguments = {"prompt": "a fox", "count": 1, "size": SMALL, "wait_s": 50}
        job = await service.make(*read_arguments("generate_sequence", arguments))
        assert job.status == "done" and job.job_id
    caller = Caller(roots=(tmp_path,))
    async with open_service(here, work=False) as service:
        for refused in (
            service.save_images([job.job_id], str(tmp_path / "out"), None, caller),
            service.image_access.by_handle(f"{job.job_id}/1", caller),
        ):
            with pytest.raises(errors.UnknownHandle, match="one TRIPTYCH_OBJECTS_URL, or one shared") as said:
                await refused
            assert "pruned" not in said.value.message
