"""Processes with the same key obey the same pauses and share one look at the provider's list."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from support.clocks import FakeClock
from support.fixtures import Emulator, MakeService
from support.jobs import Options, edit_sequence, generate_sequence
from triptych.core import errors
from triptych.core.secret import SecretStr
from triptych.jobs.polling import SWEEP_FROM
from triptych.jobs.service import ImageService
from triptych.providers import atlas as atlas_api
from triptych.providers.accounts import Account
from triptych.providers.client import ProviderClient
from triptych.storage.jobs import Store
from triptych_emulators import running

pytestmark = pytest.mark.anyio

SUBMIT = ("POST", "/api/v1/model/generateImage")


def test_an_accounts_id_tells_keys_apart_and_shows_none() -> None:
    one, other = (Account(atlas_api.PROVIDER, SecretStr(f"apikey-{n:032}")) for n in range(2))
    assert one.id != other.id and one.id == Account(atlas_api.PROVIDER, one.key).id
    assert one.id.startswith("atlas:") and len(one.id) == len("atlas:") + 8
    assert Account(atlas_api.PROVIDER).id == "atlas"


async def test_a_429_holds_the_submits_of_every_process(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, coffee: str
) -> None:
    atlas.fault("submit", "429", times=1, retry_after=40)
    async with make_service(atlas) as one, make_service(atlas) as other:
        await edit_sequence(one, [coffee], "warmer", 1, Options(wait_s=0))
        while not atlas.seen_at(*SUBMIT):
            await one.worker.step()
        await edit_sequence(other, [coffee], "colder", 1, Options(wait_s=0))
        began_s = clock.monotonic()
        while len(atlas.seen_at(*SUBMIT)) < 2:
            if not await other.worker.step() and not await one.worker.step():
                clock.advance(1)
        assert clock.monotonic() - began_s >= 39


async def test_two_processes_never_run_more_than_the_account_may(
    make_service: MakeService, atlas: Emulator, coffee: str, clock: FakeClock
) -> None:
    async with make_service(atlas) as one, make_service(atlas) as other:
        limit = one.config.accounts["atlas"].provider.max_running
        for n in range(limit + 4):
            await edit_sequence(one, [coffee], f"light {n}", 1, Options(wait_s=0))
        for _ in range(limit + 4):
            await one.worker.step()
            await other.worker.step()
        assert len(atlas.accepted) == limit


async def test_one_process_reads_the_list_for_all(make_service: MakeService, clock: FakeClock) -> None:
    with running("atlas", latency_s=30.0, max_side=48, clock=clock.monotonic) as api:
        async with make_service(api) as one, make_service(api) as other:
            for n in range(SWEEP_FROM + 1):
                await generate_sequence(one, f"a fox {n}", 1, Options(wait_s=0))
            while len(api.accepted) < SWEEP_FROM + 1:
                await one.worker.step()
            clock.advance(2)
            due = [await service.worker.sweep_is_due("atlas") for service in (one, other)]
            assert due == [True, False]
            assert _sweeps(one) == _sweeps(other) and _sweeps(one)[1]


def _sweeps(service: ImageService) -> tuple[float, bool]:
    shared = service.worker._polling._states["atlas"].shared
    return shared.next_sweep, shared.sweeping


@pytest.mark.parametrize("verb", ["schedule_sweep", "hold_account"])
async def test_a_pause_that_is_not_stored_ends_no_worker(
    make_service: MakeService, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    async def refused(*_: object, **__: object) -> None:
        raise errors.RateLimited("slow down", retry_after_s=7.0)

    with running("atlas", latency_s=30.0, max_side=48, clock=clock.monotonic) as api:
        async with make_service(api) as service:
            await generate_sequence(service, "a fox", 1, Options(wait_s=0))
            await service.worker.step()
            monkeypatch.setattr(ProviderClient, "run", refused)
            monkeypatch.setattr(Store, verb, broken)
            await service.worker.sweep("atlas")


async def test_an_idle_server_runs_two_reads_and_takes_no_lock(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, coffee: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next step, and what is to be saved."""
    async with make_service(atlas) as service:
        await edit_sequence(service, [coffee], "warmer", 1, Options(wait_s=50))
        began_s, said = clock.monotonic(), list[str]()
        service.store.plain._db.connection.set_trace_callback(said.append)

        async def wait(_: object, seconds: float) -> None:
            clock.advance(min(seconds, 0.2))
            await anyio.sleep(0.001)

        monkeypatch.setattr(clock, "wait", wait)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.worker.run)
            tasks.start_soon(service.image_access.keep_saving)
            while clock.monotonic() < began_s + 60:  # noqa: ASYNC110
                await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()
    statements = {" ".join(sql.split()[:4]) for sql in said}
    assert statements == {"SELECT accounts.*, steps.state, (SELECT", "SELECT job_id, directory FROM"}, statements


async def test_no_key_reaches_the_database(make_service: MakeService, atlas: Emulator, coffee: str) -> None:
    async with make_service(atlas) as service:
        await edit_sequence(service, [coffee], "warmer", 1, Options(wait_s=0))
        while not atlas.accepted:
            await service.worker.step()
        home: Path = service.config.home
        stored = b"".join(path.read_bytes() for path in home.glob("triptych.db*"))
        assert atlas.key.encode() not in stored and b"atlas:" in stored
