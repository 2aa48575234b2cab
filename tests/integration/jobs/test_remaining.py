"""The remaining time of a running job, in results, progress and after a restart."""

from __future__ import annotations

import pytest

from support.fixtures import FakeClock, MakeService
from support.jobs import NOW, Options, edit_chain
from triptych.jobs.caller import Caller
from triptych_emulators import Emulator

pytestmark = pytest.mark.anyio

LANES = 40


async def test_a_running_job_says_its_time_left(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, coffee: str
) -> None:
    told: list[tuple[float, int]] = []
    async with make_service(atlas, TRIPTYCH_CONFIRM_USD="5") as service:
        job = await edit_chain(service, [coffee] * LANES, ["warmer"], options=NOW)
        assert job.progress.remaining_s is None, "nothing has finished yet"
        while job.status in ("queued", "running"):
            job = await service.get_status(job.job_id or "", 5)
            if job.progress.remaining_s is not None and job.returned >= LANES / 5:
                told.append((clock.monotonic(), job.progress.remaining_s))
                assert " left" in job.text().splitlines()[0]
        end_s = clock.monotonic()
    assert job.status == "done" and job.progress.remaining_s is None
    ratios = [left_s / (end_s - at_s) for at_s, left_s in told if end_s - at_s > 10]
    assert len(ratios) >= 3 and all(0.5 <= ratio <= 2 for ratio in ratios), ratios


async def test_progress_says_the_time_left(make_service: MakeService, atlas: Emulator, coffee: str) -> None:
    told: list[str] = []

    async def report(done: float, total: float, message: str) -> None:
        told.append(message)

    async with make_service(atlas) as service:
        options = Options(wait_s=40)
        await edit_chain(service, [coffee] * 20, ["warmer"], options=options, caller=Caller(report=report))
    assert " left" not in told[0] and any(" left" in message for message in told[1:])
    assert " done" in told[-1] and " left" not in told[-1]


async def test_the_basis_survives_a_restart(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, coffee: str
) -> None:
    async with make_service(atlas, TRIPTYCH_CONFIRM_USD="5") as service:
        job = await edit_chain(service, [coffee] * LANES, ["warmer"], options=NOW)
        while job.returned < LANES / 2:
            job = await service.get_status(job.job_id or "", 5)
        before = job.progress.remaining_s
    clock.advance(7200)
    async with make_service(atlas, TRIPTYCH_CONFIRM_USD="5") as service:
        after = (await service.job(job.job_id or "")).progress.remaining_s
    assert before and after and after <= 2 * before, "two hours without a process do not count"
