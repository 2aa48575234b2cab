"""Several servers on one home: every prediction is advanced by one at a time, and paid once."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from triptych.emulator import running
from triptych.studio import Options

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CHILD = Path(__file__).with_name("work_child.py")


async def test_three_processes_share_the_work_and_pay_each_prediction_once(
    make_studio: Any, clock: Any, samples: Path, tmp_path: Path
) -> None:
    clock._now = datetime.now(UTC)
    with running("atlas", latency_s=0.5, max_side=64, price="prompt") as atlas:
        async with make_studio(atlas) as studio:
            images = [str(samples / name) for name in ("coffee.jpg", "cat.jpg", "rocket.jpg", "astronaut.jpg")]
            uploaded = [image.handle for image in (await studio.upload_images(images)).images]
            started = await studio.edit_chain(uploaded * 3, ["warmer", "sepia"], options=Options(wait_s=0))
            command = [sys.executable, str(CHILD), str(tmp_path / "home"), atlas.base_url]
            children = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]  # noqa: ASYNC220
            said = [child.communicate(timeout=120)[1] for child in children]
            assert [child.returncode for child in children] == [0, 0, 0], said
            job = studio.job(started.job_id or "", every=True)
            charged, reserved = studio.store.money_since(0)
        assert (job.status, job.returned) == ("done", 24)
        assert len(atlas.accepted) == 24
        assert (charged, reserved) == (atlas.charged_usd, 0)
