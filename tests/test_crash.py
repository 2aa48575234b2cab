"""A process that is killed at any of its persist points leaves nothing that another cannot bring home, paid once."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from triptych.emulator import running

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CHILD = Path(__file__).with_name("crash_child.py")


def child(home: Path, url: str, image: str, tool: str, point: int, when: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CHILD), str(home), url, image, tool, str(point), when]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def left_behind(home: Path) -> list[Path]:
    return list(home.rglob("*.part"))


@pytest.mark.parametrize("tool", ["sequence", "chain"])
async def test_killed_at_any_persist_point_every_job_comes_home_with_one_submit_each(
    tool: str, make_studio: Any, clock: Any, finish: Any, coffee: str, tmp_path: Path
) -> None:
    with running("atlas", latency_s=0.0, max_side=64, price="prompt") as atlas:
        whole = child(tmp_path / "whole", atlas.base_url, coffee, tool, 0, "never")
        assert whole.returncode == 0, whole.stderr
        points = int(whole.stdout)
        assert points >= 8
        assert len(atlas.accepted) == (2 if tool == "chain" else 1)

    async def survive(point: int, when: str, killed: subprocess.CompletedProcess[str], home: Path, atlas: Any) -> None:
        assert killed.returncode != 0, f"{when} point {point}: it should have been killed"
        clock._now = datetime.now(UTC) + timedelta(seconds=60)
        async with make_studio(atlas, TRIPTYCH_HOME=str(home)) as studio:
            await finish(studio)
            rows = studio.store.jobs(10)
            charged, reserved = studio.store.money_since(0)
            for row in rows:
                assert row.status == "done", f"{when} point {point}: {studio.job(row.job.id).text()}"
                assert row.returned == 2
            assert len(atlas.accepted) == len(rows) * (2 if tool == "chain" else 1), f"{when} point {point}"
            assert (charged, reserved) == (atlas.charged_usd, 0), f"{when} point {point}"
        assert left_behind(home) == []

    cases = [(point, when) for point in range(1, points + 1) for when in ("before", "after")]

    def kill(case: tuple[int, str]) -> Any:
        running_api = running("atlas", latency_s=0.0, max_side=64, price="prompt")
        atlas = running_api.__enter__()
        home = tmp_path / f"{case[0]}-{case[1]}"
        return running_api, atlas, home, child(home, atlas.base_url, coffee, tool, *case)

    with ThreadPoolExecutor(max_workers=2) as hands:
        for case, (running_api, atlas, home, killed) in zip(cases, hands.map(kill, cases), strict=True):
            try:
                await survive(*case, killed, home, atlas)
            finally:
                running_api.__exit__(None, None, None)
