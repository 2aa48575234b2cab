"""What a job of 2,000 predictions costs the server, beside one of 100: planning, CPU time per prediction, memory.

A child process opens a service with its worker; its provider is the Atlas emulator, in this process, over real sockets.
It reads the inputs (small pictures), makes the job, and waits for its end with `get_status` as an assistant would. The
child counts its own CPU time and the kernel's VmHWM, its largest resident size. The time to plan and store is that of
the paid call without a wait, with every input stored and every price known.

The widest case is a table: a row for each lane, with 20 columns of 200 characters.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from decimal import Decimal
from io import BytesIO
from typing import Any

import anyio
from PIL import Image

from benchmarks.start import peak_memory_kib
from benchmarks.table import Row, main
from triptych import settings
from triptych.core import requests
from triptych.core.clock import Clock, SystemClock
from triptych.core.requests import Request
from triptych.jobs.image_access import Caller
from triptych.jobs.inputs import Expanded
from triptych.jobs.planning import Terms
from triptych.jobs.service import ImageService, open_service
from triptych_emulators import running

COLUMNS, CELL_CHARS = 20, 200
PLANNED_S = 2.0
MEMORY_MIB = 200
CPU_LIMIT = 1.05
"""Each run of a case differs by a few percent from the last."""
CASES = (("2,000 images × 1 step", "plain", 2000, 1), ("200 images × 10 steps", "plain", 200, 10))
TABLE = (f"a table of 2,000 rows, {COLUMNS} columns of {CELL_CHARS} characters", "table", 2000, 1)
SMALL = {("plain", 1): (100, 1), ("plain", 10): (10, 10), ("table", 1): (100, 1)}
"""The job of 100 predictions beside each case, by kind and steps."""


def measure() -> list[Row]:
    """Return the figures of each large job beside those of its small one."""
    rows = []
    for title, kind, lanes, steps in (*CASES, TABLE):
        few_lanes, few_steps = SMALL[kind, steps]
        small = run(kind, few_lanes, few_steps)
        large = run(kind, lanes, steps)
        assert small["stored"] == few_lanes * few_steps
        ours, theirs = large["cpu_s"] / (lanes * steps) * 1000, small["cpu_s"] / (few_lanes * few_steps) * 1000
        peak = large["peak_mib"]
        rows += [
            Row(
                f"{title}: planned and stored in",
                f"{large['planned_s']:.2f} s",
                f"{small['planned_s']:.2f} s (100 predictions)",
                target=f"≤ {PLANNED_S:g} s",
                met=large["planned_s"] <= PLANNED_S,
            ),
            Row(
                f"{title}: CPU per prediction",
                f"{ours:.1f} ms",
                f"{theirs:.1f} ms (a job of 100)",
                ours / theirs,
                f"≤ {CPU_LIMIT:g}×",
                ours <= CPU_LIMIT * theirs,
            ),
            Row(
                f"{title}: memory of the server, at most",
                f"{peak:.0f} MiB" if peak else "not measured",
                target=f"< {MEMORY_MIB} MiB",
                met=peak < MEMORY_MIB if peak else None,
            ),
            Row(
                f"{title}: images stored",
                f"{large['stored']:,}",
                target=f"{lanes * steps:,}",
                met=large["stored"] == lanes * steps,
            ),
        ]
    return rows


def run(kind: str, lanes: int, steps: int) -> dict[str, Any]:
    """Return the figures of one job, made by a child process."""
    with tempfile.TemporaryDirectory() as home, running("atlas", max_side=64) as api:
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TRIPTYCH_")},
            "TRIPTYCH_HOME": home,
            "TRIPTYCH_BUDGET_USD": "none",
            "ATLASCLOUD_API_KEY": api.key,
            "ATLASCLOUD_BASE_URL": api.base_url,
        }
        command = [sys.executable, "-m", "benchmarks.large_jobs", kind, str(lanes), str(steps)]
        said = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout
        found: dict[str, Any] = json.loads(said)
        assert len(api.accepted) == lanes * steps, len(api.accepted)
        return found


async def _job(kind: str, lanes: int, steps: int) -> dict[str, Any]:
    async with open_service(settings.read(os.environ).setup) as service:
        handles = await _stored(service, SystemClock(), lanes)
        prompts = tuple(f"step {n}" + (" of {column0} in {column1}" if kind == "table" else "") for n in range(steps))
        request = Request("edit_chain", prompts, images=tuple(handles), provider="atlas")
        if kind == "table":
            request = Request("edit_chain", prompts, rows=_rows(handles), provider="atlas")
            service.inputs.expand = _as_it_is  # type: ignore[method-assign]
        began, cpu_began_s = time.perf_counter(), time.process_time()
        job = await service.make(request, Terms(wait_s=0, max_cost_usd=Decimal("Infinity")), Caller())
        planned_s = time.perf_counter() - began
        assert job.job_id
        while job.status in ("queued", "running"):
            job = await service.get_status(job.job_id, 55)
        cpu_s, wall_s = time.process_time() - cpu_began_s, time.perf_counter() - began
        assert job.status == "done", job
        peak = peak_memory_kib(os.getpid())
        return {
            "planned_s": planned_s,
            "cpu_s": cpu_s,
            "wall_s": wall_s,
            "stored": job.returned,
            "peak_mib": peak / 1024 if peak else None,
        }


async def _stored(service: ImageService, clock: Clock, count: int) -> list[str]:
    """Store different small pictures, as read from files; return their handles."""
    handles = []
    for n in range(count):
        file = BytesIO()
        Image.new("RGB", (64, 64), (n % 256, n // 256, 90)).save(file, "PNG")
        image = await service.inputs._files.store_result(file.getvalue())
        handles.append((await service.store.add_image(image, clock.now())).handle)
    return handles


def _rows(handles: list[str]) -> tuple[requests.Row, ...]:
    return tuple(
        requests.Row((handle,), {f"column{c}": f"row {n} {'äbc ' * CELL_CHARS}"[:CELL_CHARS] for c in range(COLUMNS)})
        for n, handle in enumerate(handles)
    )


async def _as_it_is(request: Request, caller: Caller) -> Expanded:
    """Return a request with its rows, as the reader of tables makes it."""
    return Expanded(request, ("",) * request.lanes)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        kind, lanes, steps = sys.argv[1:]
        print(json.dumps(anyio.run(_job, kind, int(lanes), int(steps))))
    else:
        main(measure)
