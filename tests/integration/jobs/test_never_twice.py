"""What may have left is never sent again: not after an error of our own, a jumping clock or a frozen process."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import pytest

from support.fixtures import Emulator, FakeClock, Finish, MakeService
from support.jobs import Options, edit_sequence
from support.stored import write
from triptych.core import errors
from triptych.core.models import State
from triptych.core.states import LEASE_S
from triptych.images.files import ImageFiles
from triptych.jobs import early_outputs
from triptych.jobs.completion import Completion
from triptych.jobs.polling import age_s
from triptych.jobs.service import ImageService
from triptych.jobs.transitions import Transitions
from triptych.providers import ark as ark_provider
from triptych.providers.client import ProviderClient
from triptych.storage.jobs import Store
from triptych_emulators import running

pytestmark = pytest.mark.anyio
ON_BOTH_DATABASES = True

NOW = Options(wait_s=0)


async def edit(service: ImageService, image: str, count: int = 2, **options: Any) -> str:
    result = await edit_sequence(service, [image], "make it golden hour", count, Options(wait_s=0, **options))
    assert result.job_id
    return result.job_id


def failing(
    really: Callable[..., Any], error: BaseException, times: int, when: Callable[..., bool] | None = None
) -> Any:
    left = times

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        if left and (when is None or when(*args, **kwargs)):
            left -= 1
            raise error
        return really(*args, **kwargs)

    return call


def yielding(clock: FakeClock) -> Callable[..., Any]:
    """Return a wait that lets the other tasks run."""

    async def wait(notifier: Any, seconds: float) -> None:
        clock.advance(min(seconds, 0.2))
        await anyio.sleep(0.001)

    return wait


OWN_ERRORS = [
    MemoryError(),
    OSError(24, "Too many open files"),
    sqlite3.IntegrityError("UNIQUE constraint failed"),
    RuntimeError("a bug"),
    LookupError("unknown encoding: hex"),
]


@pytest.mark.parametrize("times", [1, 100], ids=["once", "always"])
@pytest.mark.parametrize("error", OWN_ERRORS, ids=lambda error: type(error).__name__)
async def test_an_own_error_after_the_answer_sends_nothing_again(
    make_service: MakeService,
    finish: Finish,
    coffee: str,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    times: int,
) -> None:
    with running("ark", latency_s=0.0, max_side=64) as ark:
        async with make_service(ark) as service:
            monkeypatch.setattr(Completion, "_write_outputs", failing(Completion._write_outputs, error, times))
            job_id = await edit(service, coffee)
            await finish(service)
            job = await service.job(job_id)
            (prediction,) = service.store.plain.predictions(job_id)
    assert len(ark.accepted) == 1
    # The stream's frames are stored as they come, so nothing is missing even when its end is never written.
    assert (job.status, job.returned, prediction.state) == ("done", 2, State.DONE)


@pytest.mark.parametrize("error", OWN_ERRORS, ids=lambda error: type(error).__name__)
async def test_an_error_of_our_own_while_sending_sends_nothing_again(
    make_service: MakeService,
    atlas: Emulator,
    finish: Finish,
    coffee: str,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    really = ProviderClient._send_once

    async def send(self: ProviderClient, account: Any, call: Any, *rest: Any) -> Any:
        answer = await really(self, account, call, *rest)
        if not call.repeatable:
            raise error
        return answer

    monkeypatch.setattr(ProviderClient, "_send_once", send)
    async with make_service(atlas) as service:
        job_id = await edit(service, coffee)
        await finish(service)
        assert (await service.job(job_id)).status == "done", "the provider's history has it"
    assert len(atlas.accepted) == 1


async def test_an_error_before_anything_left_is_no_lost_answer(
    make_service: MakeService, finish: Finish, coffee: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running("ark", latency_s=0.0, max_side=64) as ark:
        async with make_service(ark) as service:
            monkeypatch.setattr(ProviderClient, "_api_client", failing(ProviderClient._api_client, MemoryError(), 1))
            job_id = await edit(service, coffee)
            await finish(service)
            assert (await service.job(job_id)).status == "done"
    assert len(ark.accepted) == 1


async def test_a_lost_answer_outlasts_a_long_database_lock(
    make_service: MakeService,
    atlas: Emulator,
    finish: Finish,
    clock: FakeClock,
    coffee: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    atlas.fault("submit", "lost-answer")
    atlas.fault("history", "500", times=None)
    locked_until = None

    def locked(really: Callable[..., Any]) -> Callable[..., Any]:
        def verb(self: Store, *args: Any, **kwargs: Any) -> Any:
            nonlocal locked_until
            if atlas.accepted and locked_until is None:
                locked_until = clock.monotonic() + 45
            if locked_until and clock.monotonic() < locked_until:
                raise errors.Outage("The database is locked.")
            return really(self, *args, **kwargs)

        return verb

    for verb in ("move", "put_back", "claim", "heartbeat", "note_loss"):
        monkeypatch.setattr(Store, verb, locked(getattr(Store, verb)))
    async with make_service(atlas) as service:
        clock.drive = None
        job_id = await edit(service, coffee)
        for _ in range(200):
            try:
                await service.worker.step()
            except errors.Outage:
                clock.advance(1)
            if locked_until and clock.monotonic() > locked_until:
                break
        (prediction,) = service.store.plain.predictions(job_id)
        assert prediction.state is State.SUBMITTING and prediction.fault and prediction.fault.kind == "answer_lost"
        atlas.clear()
        await finish(service)
        assert (await service.job(job_id)).status == "done"
    assert len(atlas.accepted) == 1


@pytest.mark.parametrize("step_h", [1.0, -2.0, 30.0])
async def test_a_clock_that_jumps_during_a_submit_pays_once(
    make_service: MakeService,
    atlas: Emulator,
    finish: Finish,
    clock: FakeClock,
    coffee: str,
    step_h: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The request is on its way, and accepted late: the same process must not take it over."""
    really = ProviderClient._send_once
    async with make_service(atlas) as service:

        async def send(self: ProviderClient, account: Any, call: Any, *rest: Any) -> Any:
            if not call.repeatable:
                clock._now += timedelta(hours=step_h)
                clock.offset_s -= step_h * 3600
                for _ in range(30):
                    clock.advance(1)
                    assert not await service.worker.step(), "this process claims what it still works on"
            return await really(self, account, call, *rest)

        monkeypatch.setattr(ProviderClient, "_send_once", send)
        job_id = await edit(service, coffee)
        await finish(service)
        assert (await service.job(job_id)).status == "done"
    assert len(atlas.accepted) == 1


@pytest.mark.parametrize("step_h", [1.0, -2.0])
async def test_a_clock_that_jumps_changes_no_wait(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, coffee: str, step_h: float
) -> None:
    async with make_service(atlas) as service:
        job_id = await edit(service, coffee)
        await service.worker.step()
        clock._now += timedelta(hours=step_h)
        clock.offset_s -= step_h * 3600
        before_s = clock.monotonic()
        clock.drive = None
        assert (await service.get_status(job_id, wait_s=5)).status == "running"
        assert clock.monotonic() - before_s == pytest.approx(5, abs=1.1)
        for _ in range(60):
            await service.worker.step() or clock.advance(0.5)
        assert (await service.job(job_id)).status == "done", "it was polled all the while"


async def test_a_budget_is_not_freed_by_a_clock_that_jumps(
    make_service: MakeService, atlas: Emulator, finish: Finish, clock: FakeClock, coffee: str
) -> None:
    async with make_service(atlas, TRIPTYCH_BUDGET_USD="0.1") as service:
        await edit(service, coffee)
        await finish(service)
        clock._now += timedelta(hours=30)
        clock.offset_s -= 30 * 3600
        with pytest.raises(errors.OverBudget, match="does not fit the budget"):
            await edit(service, coffee, again=True)
        clock.advance(25 * 3600)
        await edit(service, coffee, again=True)


async def test_a_sleep_between_submit_and_answer_frees_no_budget(
    make_service: MakeService, finish: Finish, clock: FakeClock, coffee: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been accepted after the sleep, so its day begins at its end."""
    really, slept = ProviderClient._send_once, False

    async def send(self: ProviderClient, account: Any, call: Any, *rest: Any) -> Any:
        nonlocal slept
        answer = await really(self, account, call, *rest)
        clock.advance(0 if slept or call.repeatable else 25 * 3600)
        slept = slept or not call.repeatable
        return answer

    monkeypatch.setattr(ProviderClient, "_send_once", send)
    with running("ark", latency_s=0.0, max_side=64) as ark:
        async with make_service(ark, TRIPTYCH_BUDGET_USD="0.1") as service:
            job_id = await edit(service, coffee)
            await finish(service)
            assert slept and (await service.job(job_id)).status == "done"
            with pytest.raises(errors.OverBudget, match="does not fit the budget"):
                await edit(service, coffee, again=True)


@pytest.mark.only_sqlite
async def test_a_restart_and_a_clock_that_jumps_free_no_budget(
    make_service: MakeService,
    atlas: Emulator,
    finish: Finish,
    clock: FakeClock,
    coffee: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with make_service(atlas, TRIPTYCH_BUDGET_USD="0.1") as service:
        await edit(service, coffee)
        await finish(service)
    clock.offset_s -= 1e9  # the monotonic clock begins anew
    monkeypatch.setattr("triptych.storage.sqlite.boot_id", lambda: "another boot")
    async with make_service(atlas, TRIPTYCH_BUDGET_USD="0.1") as service:
        clock._now += timedelta(hours=30)
        clock.offset_s -= 30 * 3600
        with pytest.raises(errors.OverBudget, match="does not fit the budget"):
            await edit(service, coffee, again=True)
        clock.advance(25 * 3600)
        await edit(service, coffee, again=True)


@pytest.mark.only_sqlite
async def test_a_restart_of_the_machine_makes_everything_due(
    make_service: MakeService,
    atlas: Emulator,
    finish: Finish,
    clock: FakeClock,
    coffee: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with make_service(atlas) as service:
        job_id = await edit(service, coffee)
        await service.worker.step()
        service.store.plain._db.connection.execute(  # by a monotonic clock that was far ahead of today's
            "UPDATE predictions SET due_at = due_at + 1000, lease = 'old', lease_until = due_at + 10, "
            "deadline_at = deadline_at + 1e9, submitted_mono = submitted_mono + 1e9"
        )
    monkeypatch.setattr("triptych.storage.sqlite.boot_id", lambda: "another boot")
    async with make_service(atlas) as service:
        assert await service.worker.step(), "it is polled at once"
        (prediction,) = service.store.plain.predictions(job_id)
        assert age_s(prediction, clock) < 60, "its age goes on from the wall clock's"
        await finish(service)
        assert (await service.job(job_id)).status == "done"
    assert len(atlas.accepted) == 1


async def test_a_damaged_due_time_is_due_now(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(atlas) as service:
        job_id = await edit(service, coffee)
        damage = "UPDATE predictions SET due_at = 1e12, lease = 'x', lease_until = 1e12"
        write(service.store.plain, damage)
        assert await service.worker.step()
        await finish(service)
        assert (await service.job(job_id)).status == "done"


async def test_a_frozen_process_goes_on_with_its_own_request(
    make_service: MakeService, finish: Finish, clock: FakeClock, coffee: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease has run out meanwhile, and no other process took it."""
    really = ProviderClient._send_once
    with running("ark", latency_s=0.0, max_side=64) as ark:
        async with make_service(ark) as service:

            async def send(self: ProviderClient, account: Any, call: Any, *rest: Any) -> Any:
                answer = await really(self, account, call, *rest)
                clock.advance(20)
                while await service.worker.step():
                    pass
                return answer

            monkeypatch.setattr(ProviderClient, "_send_once", send)
            job_id = await edit(service, coffee)
            await finish(service)
            assert (await service.job(job_id)).status == "done"
    assert len(ark.accepted) == 1


async def test_a_frozen_process_does_not_send_what_another_took(
    make_service: MakeService,
    atlas: Emulator,
    finish: Finish,
    clock: FakeClock,
    coffee: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    really = ProviderClient._send_once
    async with make_service(atlas) as frozen, make_service(atlas) as other:
        thawed = False

        async def send(self: ProviderClient, account: Any, call: Any, *rest: Any) -> Any:
            nonlocal thawed
            if not call.repeatable and self is frozen.provider_client and not thawed:
                thawed = True
                clock.advance(LEASE_S + 1)
                await finish(other)  # looks for a minute, finds nothing, and sends it
                assert len(atlas.accepted) == 1
            return await really(self, account, call, *rest)

        monkeypatch.setattr(ProviderClient, "_send_once", send)
        job_id = await edit(frozen, coffee)
        await frozen.worker.step()
        await finish(frozen)
        assert (await frozen.job(job_id)).status == "done"
    assert thawed and len(atlas.accepted) == 1


async def test_a_process_frozen_in_lease_renewal_does_not_send(
    make_service: MakeService,
    atlas: Emulator,
    finish: Finish,
    clock: FakeClock,
    coffee: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with make_service(atlas) as frozen, make_service(atlas) as other:
        really, thawed = frozen.store.plain.renew, False

        def renew(*args: Any) -> bool:
            nonlocal thawed
            renewed = really(*args)
            if not thawed:
                thawed = True
                clock.advance(LEASE_S + 1)
            return renewed

        monkeypatch.setattr(frozen.store.plain, "renew", renew)
        job_id = await edit(frozen, coffee)
        await frozen.worker.step()
        assert thawed and not atlas.accepted, "another process may have sent it meanwhile"
        await finish(other)
        assert (await other.job(job_id)).status == "done"
    assert len(atlas.accepted) == 1


async def test_looking_for_a_lost_submit_counts_from_the_first_look(
    make_service: MakeService,
    atlas: Emulator,
    finish: Finish,
    clock: FakeClock,
    coffee: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process dies right after the write, and the next one comes hours later: it still looks for a minute."""

    async def die(*_: Any) -> None:
        raise anyio.get_cancelled_exc_class()

    async with make_service(atlas) as service:
        job_id = await edit(service, coffee)
        with monkeypatch.context() as patched:
            patched.setattr("triptych.jobs.submission.Submission._send", die)
            with pytest.raises(anyio.get_cancelled_exc_class()):
                await service.worker.step()
    clock.advance(3 * 3600)
    async with make_service(atlas) as service:
        began_s = clock.monotonic()
        while not atlas.seen_at("POST", "/api/v1/model/generateImage"):
            await service.worker.step() or clock.advance(1)
        assert clock.monotonic() - began_s >= 60
        await finish(service)
        assert (await service.job(job_id)).status == "done"
    assert len(atlas.accepted) == 1


@pytest.mark.only_sqlite
@pytest.mark.parametrize("name", ["atlas", "wavespeed", "evolink"])
async def test_after_a_restart_no_list_proves_a_request_unsent(
    make_service: MakeService, finish: Finish, clock: FakeClock, coffee: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The age of the request is only known by the wall clock then, and that may have been set meanwhile."""

    async def die(*_: Any, **__: Any) -> None:
        raise anyio.get_cancelled_exc_class()

    with running(name, latency_s=0.0, max_side=64) as api:
        async with make_service(api) as service:
            job_id = await edit(service, coffee, count=1)
            with monkeypatch.context() as patched:
                patched.setattr("triptych.jobs.submission.Submission._send", die)
                with pytest.raises(anyio.get_cancelled_exc_class()):
                    await service.worker.step()
        clock.advance(60)
        clock._now -= timedelta(hours=1)
        clock.offset_s += 3600
        monkeypatch.setattr("triptych.storage.sqlite.boot_id", lambda: "another boot")
        async with make_service(api) as service:
            await finish(service)
            assert (await service.job(job_id)).status == "uncertain"
        assert not api.accepted


async def test_a_submit_without_answer_is_looked_for_before_uncertain(
    make_service: MakeService, finish: Finish, clock: FakeClock, coffee: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process may only be frozen: its answer is waited for, and taken up when it comes."""
    really = ProviderClient._send_once
    with running("ark", latency_s=0.0, max_side=64) as ark:
        async with make_service(ark) as frozen, make_service(ark) as other:

            async def send(self: ProviderClient, account: Any, call: Any, *rest: Any) -> Any:
                answer = await really(self, account, call, *rest)
                clock.advance(20)
                for _ in range(3):
                    await other.worker.step() or clock.advance(1)
                assert (await other.job(job_id)).status == "running"
                return answer

            monkeypatch.setattr(ProviderClient, "_send_once", send)
            job_id = await edit(frozen, coffee)
            await frozen.worker.step()
            await finish(other)
            assert (await other.job(job_id)).status == "done"
    assert len(ark.accepted) == 1


# Nothing ends the worker, and nothing paid is dropped ----------------------------------------------------------------


async def test_a_disk_that_fills_while_images_are_stored_loses_nothing(
    make_service: MakeService,
    atlas: Emulator,
    finish: Finish,
    clock: FakeClock,
    coffee: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full = errors.Outage("The image could not be written (No space left on device); is the disk full?")
    async with make_service(atlas) as service:
        job_id = await edit(service, coffee)
        monkeypatch.setattr(ImageFiles, "_write", failing(ImageFiles._write, full, 3))
        await finish(service)
        job = await service.job(job_id)
    assert (job.status, job.returned, len(atlas.accepted)) == ("done", 2, 1)


@pytest.mark.parametrize("verb", ["running_at", "look", "claim", "heartbeat", "put_back"])
@pytest.mark.parametrize("error", [*OWN_ERRORS, errors.Outage("locked")], ids=lambda error: type(error).__name__)
async def test_nothing_ends_the_worker_but_its_cancellation(
    make_service: MakeService,
    atlas: Emulator,
    clock: FakeClock,
    coffee: str,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    error: Exception,
) -> None:
    monkeypatch.setattr(clock, "wait", yielding(clock))
    async with make_service(atlas) as service:
        job_id = await edit(service, coffee)
        monkeypatch.setattr(Store, verb, failing(getattr(Store, verb), error, 3))
        monkeypatch.setattr(Transitions, "move", failing(Transitions.move, error, 3 if verb == "put_back" else 0))
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(service.worker.run)
                while (await service.job(job_id)).status != "done":  # noqa: ASYNC110
                    await anyio.sleep(0.001)
                tasks.cancel_scope.cancel()
    assert len(atlas.accepted) == 1


@pytest.mark.parametrize("spilled", [False, True], ids=["in-memory", "spilled"])
async def test_a_full_disk_does_not_stop_a_paid_stream(
    make_service: MakeService,
    finish: Finish,
    clock: FakeClock,
    coffee: str,
    monkeypatch: pytest.MonkeyPatch,
    spilled: bool,
) -> None:
    full_for_s, first_s = 5.0, 0.0

    def taken_late(really: Callable[..., Any]) -> Callable[..., Any]:
        def verb(self: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal first_s
            first_s = first_s or clock.monotonic()
            if clock.monotonic() < first_s + full_for_s:
                raise errors.Outage("is the disk full?")
            return really(self, *args, **kwargs)

        return verb

    body = ark_provider._body
    monkeypatch.setattr(ark_provider, "_body", lambda edit: body(edit) | {"response_format": "b64_json"})
    monkeypatch.setattr(early_outputs, "HELD_LIMIT_BYTES", 0 if spilled else 10**9)
    with running("ark", latency_s=0.0, max_side=64) as ark:
        async with make_service(ark) as service:
            clock.drive = None
            job_id = await edit(service, coffee, count=6)
            monkeypatch.setattr(Store, "add_outputs", taken_late(Store.add_outputs))
            monkeypatch.setattr(ImageFiles, "_write", taken_late(ImageFiles._write))
            await finish(service)
            job = await service.job(job_id)
    assert (job.status, job.returned, len(ark.accepted)) == ("done", 6, 1), job.warnings


async def test_a_list_that_drips_stops_no_other_provider(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, coffee: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One look at a list at a time, on that provider's own connections."""
    looks = 0
    never = anyio.Event()
    monkeypatch.setattr(clock, "wait", yielding(clock))
    really = ProviderClient.run

    async def run(self: ProviderClient, account: Any, flow: Any, **options: Any) -> Any:
        nonlocal looks
        if account.provider.name == "atlas" and flow.__name__ == "finished":
            looks += 1
            await never.wait()
        return await really(self, account, flow, **options)

    monkeypatch.setattr(ProviderClient, "run", run)
    with running("wavespeed", latency_s=0.0, max_side=64) as wavespeed:
        async with make_service(atlas, wavespeed) as service:

            async def is_due(name: str) -> bool:
                return name == "atlas"

            monkeypatch.setattr(service.worker._polling, "sweep_is_due", is_due)
            await edit(service, coffee)
            other = await edit(service, coffee, provider="wavespeed")
            with anyio.fail_after(60):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(service.worker.run)
                    while (await service.job(other)).status != "done":  # noqa: ASYNC110
                        await anyio.sleep(0.001)
                    tasks.cancel_scope.cancel()
            assert looks == 1
            assert service.provider_client._apis["atlas"] is not service.provider_client._apis["wavespeed"]


async def test_a_call_waits_for_a_briefly_locked_database(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, coffee: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_service(atlas) as service:
        clock.drive = None
        monkeypatch.setattr(Store, "add_job", failing(Store.add_job, errors.Outage("locked"), 8))
        with pytest.raises(errors.Outage):
            await edit_sequence(service, [coffee], "warmer", options=Options(wait_s=1))
        began_s = clock.monotonic()
        assert (await edit_sequence(service, [coffee], "warmer", options=Options(wait_s=3))).job_id
        assert clock.monotonic() - began_s <= 4


async def test_quote_write_and_wait_share_the_time_of_one_call(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, coffee: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_service(atlas) as service:
        clock.drive = None
        monkeypatch.setattr(Store, "add_job", failing(Store.add_job, errors.Outage("locked"), 20))
        began_s = clock.monotonic()
        result = await edit_sequence(service, [coffee], "warmer", options=Options(wait_s=10))
        assert result.job_id and clock.monotonic() - began_s <= 11


@pytest.mark.parametrize("name", ["atlas", "wavespeed", "ark", "evolink", "runware", "novita"])
@pytest.mark.parametrize("status", [408, 425, 499])
async def test_a_gateways_time_out_is_no_refusal(
    make_service: MakeService, finish: Finish, coffee: str, name: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request was accepted, and what stands in front of the provider lost patience."""
    really = ProviderClient._send_once

    async def send(self: ProviderClient, account: Any, call: Any, *rest: Any) -> Any:
        answer = await really(self, account, call, *rest)
        return answer if call.repeatable else replace(answer, status=status, body=b"{}", headers={})

    monkeypatch.setattr(ProviderClient, "_send_once", send)
    with running(name, latency_s=0.0, max_side=64) as api:
        async with make_service(api) as service:
            job_id = await edit(service, coffee, count=1)
            await finish(service)
            job = await service.job(job_id)
    assert job.status in ("done", "uncertain"), job.error
    assert len(api.accepted) == 1


async def test_the_list_delays_no_poll_for_long(make_service: MakeService, atlas: Emulator, coffee: str) -> None:
    async with make_service(atlas) as service:
        job_id = await edit(service, coffee)
        (prediction,) = service.store.plain.predictions(job_id)
        polling = service.worker._polling
        alone_s = polling.poll_wait_s(prediction, elapsed_s=0.0)
        state = polling._states["atlas"]
        state.shared = replace(state.shared, sweeping=True)
        assert alone_s <= polling.poll_wait_s(prediction, elapsed_s=0.0) <= max(alone_s, 20.0)


async def test_a_refused_repetition_proves_nothing_of_the_first_submit(
    make_service: MakeService, finish: Finish, coffee: str
) -> None:
    """Sent again under its key, the request is refused for its content; the first one was accepted and is charged."""
    with running("evolink", latency_s=0.0, max_side=64) as evolink:
        evolink.fault("submit", "no-id")
        evolink.fault("submit", "moderated-at-once")
        async with make_service(evolink) as service:
            job_id = await edit(service, coffee)
            await finish(service)
            result = await service.job(job_id)
            assert result.status == "uncertain" and result.cost.charged is None
            assert service.store.plain.ledger.since(0)[1] > 0, "the money is held back"
        assert len(evolink.accepted) == 1
