"""Several servers on one home: every prediction is advanced by one at a time, and paid once."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from support import worker_child
from support.fixtures import FakeClock, Finish, MakeService
from support.jobs import Options, edit_chain
from triptych.core.states import LEASE_S
from triptych_emulators import running

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CHILD = worker_child.__file__


async def test_three_processes_share_the_work_and_pay_each_prediction_once(
    make_service: MakeService, clock: FakeClock, samples: Path, tmp_path: Path
) -> None:
    clock._now = datetime.now(UTC)
    with running("atlas", latency_s=0.5, max_side=64, price="prompt") as atlas:
        async with make_service(atlas) as service:
            images = [str(samples / name) for name in ("coffee.jpg", "cat.jpg", "rocket.jpg", "astronaut.jpg")]
            uploaded = [image.handle for image in (await service.upload_images(images)).images]
            started = await edit_chain(
                service, uploaded * 3, ["warmer", "sepia"], options=Options(wait_s=0, max_cost_usd=Decimal(2))
            )
            command = [sys.executable, CHILD, str(tmp_path / "home"), atlas.base_url]
            children = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]  # noqa: ASYNC220
            said = [child.communicate(timeout=120)[1] for child in children]
            assert [child.returncode for child in children] == [0, 0, 0], said
            job = await service.job(started.job_id or "", every=True)
            charged, reserved = service.store.plain.money_since(0)
        assert (job.status, job.returned) == ("done", 24)
        assert len(atlas.accepted) == 24
        assert (charged, reserved) == (atlas.charged_usd, 0)


@pytest.mark.usefixtures("ordinary_start")
async def test_another_server_takes_over_killed_work_within_15_s(
    make_service: MakeService, clock: FakeClock, finish: Finish, samples: Path, tmp_path: Path
) -> None:
    with running("atlas", latency_s=0.0, max_side=64, price="prompt") as atlas:
        async with make_service(atlas) as service:
            images = [str(samples / name) for name in ("coffee.jpg", "cat.jpg", "rocket.jpg")]
            clock.follow_the_machine()
            started = await edit_chain(service, images, ["warmer"], options=Options(wait_s=0))
            atlas.fault("submit", "hang", times=None, accepted=True)
            command = [sys.executable, CHILD, str(tmp_path / "home"), atlas.base_url]
            other = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # noqa: ASYNC220
            until = time.monotonic() + 60
            while len(atlas.accepted) < 3 and time.monotonic() < until:
                time.sleep(0.01)  # noqa: ASYNC251
            other.kill()
            assert other.wait() != 0
            clock.follow_the_machine()
            killed_s = clock.monotonic()
            atlas.clear()

            def leases() -> list[tuple[str, float]]:
                return [
                    (row["lease"], row["lease_until"] - killed_s)
                    for row in service.store.plain._db.connection.execute("SELECT lease, lease_until FROM predictions")
                ]

            held = leases()
            assert len({lease for lease, _ in held}) == 3 and all(0 < left_s <= LEASE_S for _, left_s in held)
            assert not await service.worker.step(), "while they hold it, no other process may touch it"
            clock.advance(15)
            for _ in range(3):
                assert await service.worker.step()
            assert not {lease for lease, _ in leases()} & {lease for lease, _ in held}, "all three are taken over"
            await finish(service)
            job = await service.job(started.job_id or "")
            charged, reserved = service.store.plain.money_since(0)
        assert (job.status, job.returned, len(atlas.accepted)) == ("done", 3, 3)
        assert (charged, reserved) == (atlas.charged_usd, 0)
