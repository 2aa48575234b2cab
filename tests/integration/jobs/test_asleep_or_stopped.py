"""A machine that sleeps while a submit is on its way, and a server that is stopped meanwhile: nothing is paid twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import anyio
import pytest

from support.fixtures import Emulator, FakeClock, Finish, MakeService
from support.jobs import NOW, edit_sequence, generate_sequence
from triptych.core.models import State
from triptych.jobs import submission
from triptych.jobs.service import ImageService
from triptych.providers.client import ProviderClient
from triptych.server import service_holder
from triptych_emulators import running

pytestmark = pytest.mark.anyio


async def edit(service: ImageService, image: str) -> str:
    return (await edit_sequence(service, [image], "make it golden hour", 2, NOW)).job_id or ""


# A machine that sleeps: the wall clock goes on, the monotonic one rests ----------------------------------------------


@pytest.mark.parametrize("name", ["evolink", "runware"])
@pytest.mark.parametrize("slept_h", [3.0, 72.0])
async def test_a_sleep_of_the_machine_ages_an_idempotency_key(
    make_service: MakeService, finish: Finish, clock: FakeClock, name: str, slept_h: float
) -> None:
    """Its lid is closed during a submit; whether the provider keeps the key for so long is unknown."""
    with running(name, latency_s=5.0, max_side=64, clock=lambda: clock.now().timestamp()) as api:
        api.fault("submit", "drop")
        async with make_service(api) as service:
            job_id = (await generate_sequence(service, "two cats", 2, NOW)).job_id
            await service.worker.step()
            clock._now += timedelta(hours=slept_h)
            clock.offset_s -= slept_h * 3600
            await finish(service)
            assert (await service.job(job_id)).status == "uncertain"
    assert not api.accepted


@pytest.mark.parametrize("slept_h", [0.0, 3.0])
async def test_a_lost_submit_is_found_after_a_sleep(
    make_service: MakeService, finish: Finish, clock: FakeClock, coffee: str, slept_h: float
) -> None:
    with running("atlas", latency_s=5.0, max_side=64, clock=lambda: clock.now().timestamp()) as api:
        api.fault("submit", "lost-answer")
        async with make_service(api) as service:
            job_id = await edit(service, coffee)
            await service.worker.step()
            clock._now += timedelta(hours=slept_h)
            clock.offset_s -= slept_h * 3600
            await finish(service)
            assert (await service.job(job_id)).status == "done"
    assert len(api.accepted) == 1


# A server that is stopped while a submit is on its way ----------------------------------------------------------------


@pytest.mark.parametrize(("fault", "state"), [(None, State.RUNNING), ("429", State.QUEUED)])
async def test_a_stopped_server_notes_at_once_that_a_request_left(
    make_service: MakeService,
    atlas: Emulator,
    coffee: str,
    monkeypatch: pytest.MonkeyPatch,
    fault: str | None,
    state: State,
) -> None:
    """The process may be killed before the answer arrives; an answer that arrives in time is stored."""
    left, answered = anyio.Event(), anyio.Event()
    really = ProviderClient._send_once

    async def send(self: ProviderClient, account: Any, call: Any, url: str, stream: Any, leaving: Any) -> Any:
        if not call.repeatable:
            await leaving()
            left.set()
            await answered.wait()
        return await really(self, account, call, url, stream, leaving)

    monkeypatch.setattr(ProviderClient, "_send_once", send)
    if fault:
        atlas.fault("submit", fault)
    async with make_service(atlas) as service:
        job_id = await edit(service, coffee)

        def stored() -> Any:
            return service.store.plain.predictions(job_id)[0]

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(service.worker.step)
                await left.wait()
                assert stored().fault is None
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    while stored().fault is None:  # noqa: ASYNC110
                        await anyio.sleep(0.001)
                    assert (stored().state, stored().fault.kind) == (State.SUBMITTING, "answer_lost")
                    answered.set()
        assert stored().state is state and (fault or stored().fault is None)


async def test_a_server_stopped_while_it_writes_a_submit_sends_nothing(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_service(atlas) as service:
        job_id, really = await edit(service, coffee), service.store.plain.move
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:

                def move(claim: Any, state: State, **changes: Any) -> Any:
                    if state is State.SUBMITTING:
                        anyio.from_thread.run_sync(tasks.cancel_scope.cancel)
                    return really(claim, state, **changes)

                monkeypatch.setattr(service.store.plain, "move", move)
                tasks.start_soon(service.worker.step)
        (prediction,) = service.store.plain.predictions(job_id)
        assert prediction.state is State.QUEUED and not atlas.performed["submit"]
        await finish(service)
        assert (await service.job(job_id)).status == "done" and len(atlas.accepted) == 1


def test_a_server_closes_later_than_a_submit_is_waited_for() -> None:
    assert service_holder.CLOSE_LIMIT_S > submission.SHUTDOWN_GRACE_S
