"""What a job of 2,000 predictions costs the server, beside one of 100: planning, CPU time per prediction, memory.

A real server over stdio, with the Atlas emulator behind it, is driven as an assistant would drive it: a dry run, in
which the inputs are read; the paid call without a wait, which plans and stores the job; then `get_status` until its
end. The kernel counts the server's CPU time from the paid call on, and its largest resident size (VmHWM). Where there
is no /proc neither is measured.

The widest job is a table of nearly 5 MB, which is the limit: a row for each lane, with 20 columns of 90 characters.
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from PIL import Image

from benchmarks.start import peak_memory_kib
from benchmarks.table import Row, main
from triptych.jobs.reading import FRESH_S
from triptych_emulators import running

COLUMNS, CELL_CHARS = 20, 90
PLANNED_S = 2.0
MEMORY_MIB = 200
CPU_LIMIT = 1.05
"""Two runs of the same job differ by a few percent."""
CASES = (
    ("200 images × 10 steps", False, (200, 10), (10, 10)),
    (f"a table of 2,000 rows, {COLUMNS} columns of {CELL_CHARS} characters", True, (2000, 1), (100, 1)),
)
"""Title, whether it is a table, lanes and steps of the large job and of the one of 100 predictions."""


def measure() -> list[Row]:
    """Return the figures of each large job beside those of its small one."""
    rows = []
    for title, is_table, large, small in CASES:
        ours, theirs = run(is_table, *large), run(is_table, *small)
        count = large[0] * large[1]
        rows.append(
            Row(
                f"{title}: planned and stored in",
                f"{ours['planned_s']:.2f} s",
                f"{theirs['planned_s']:.2f} s (100 predictions)",
                target=f"≤ {PLANNED_S:g} s",
                met=ours["planned_s"] <= PLANNED_S,
            )
        )
        if ours["cpu_s"] is not None and ours["peak_mib"] is not None:
            ours_ms, theirs_ms = ours["cpu_s"] / count * 1000, theirs["cpu_s"] / (small[0] * small[1]) * 1000
            rows += [
                Row(
                    f"{title}: CPU per prediction",
                    f"{ours_ms:.1f} ms",
                    f"{theirs_ms:.1f} ms (a job of 100)",
                    ours_ms / theirs_ms,
                    f"≤ {CPU_LIMIT:g}×",
                    ours_ms <= CPU_LIMIT * theirs_ms,
                ),
                Row(
                    f"{title}: memory of the server, at most",
                    f"{ours['peak_mib']:.0f} MiB",
                    target=f"< {MEMORY_MIB} MiB",
                    met=ours["peak_mib"] < MEMORY_MIB,
                ),
            ]
        stored = ours["stored"]
        rows.append(Row(f"{title}: images stored", f"{stored:,}", target=f"{count:,}", met=stored == count))
    return rows


def run(is_table: bool, lanes: int, steps: int) -> dict[str, Any]:
    """Return the figures of one job."""
    with tempfile.TemporaryDirectory() as home, running("atlas", max_side=64) as api:
        folder = Path(home) / "photos"
        _pictures(folder, lanes)
        prompts = [f"step {n}" for n in range(steps)]
        items = str(folder)
        if is_table:
            items = str(folder / "rows.csv")
            prompts = [f"{prompt} of {{column0}}" for prompt in prompts]
            _table(Path(items), lanes)
        env = {name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ}
        env |= {
            "TRIPTYCH_HOME": str(Path(home) / "triptych"),
            "TRIPTYCH_BUDGET_USD": "none",
            "TRIPTYCH_ALLOWED_DIRS": str(folder),
            "ATLASCLOUD_API_KEY": api.key,
            "ATLASCLOUD_BASE_URL": api.base_url,
        }
        found = anyio.run(_job, env, {"images": [items], "steps": prompts})
        assert len(api.accepted) == lanes * steps, len(api.accepted)
        return found


async def _job(env: dict[str, str], arguments: dict[str, Any]) -> dict[str, Any]:
    before = _children()
    async with Client(StdioServerParameters(command=sys.executable, args=["-m", "triptych"], env=env)) as client:
        server = next(iter(_children() - before), None)

        async def call(tool: str, **given: Any) -> dict[str, Any]:
            while True:
                result = await client.call_tool(tool, given)
                if not result.is_error:
                    return dict(result.structured_content or {})
                assert "[reading" in str(result.content), result.content

        await call("edit_chain", **arguments, dry_run=True)
        began, cpu_began_s = time.perf_counter(), _cpu_s(server)
        job = await call("edit_chain", **arguments, wait_s=0, max_cost_usd=1000)
        planned_s = time.perf_counter() - began
        while job["status"] in ("queued", "running"):
            job = await call("get_status", job_id=job["job_id"], wait_s=55)
        assert job["status"] == "done", job
        cpu_s, peak_kib = _cpu_s(server), peak_memory_kib(server) if server else None
        return {
            "planned_s": planned_s,
            "cpu_s": cpu_s - cpu_began_s if cpu_s is not None and cpu_began_s is not None else None,
            "wall_s": time.perf_counter() - began,
            "stored": job["returned"],
            "peak_mib": peak_kib / 1024 if peak_kib else None,
        }


def _children() -> set[int]:
    """Return the processes that this one started; none where the system does not tell."""
    files = Path("/proc/self/task").glob("*/children")
    return {int(pid) for file in files for pid in file.read_text("ascii").split()}


def _cpu_s(pid: int | None) -> float | None:
    """Return the CPU time of a process; None where the system does not tell."""
    if pid is None:
        return None
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pictures(folder: Path, count: int) -> None:
    """Write different small pictures; wait until they count as unchanged: a fresh file is read in every call."""
    folder.mkdir()
    for n in range(count):
        Image.new("RGB", (64, 64), (n % 256, n // 256, 90)).save(folder / f"photo-{n}.png")
    time.sleep(FRESH_S)


def _table(file: Path, rows: int) -> None:
    """Write a row for each picture beside it."""
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["image", *(f"column{column}" for column in range(COLUMNS))])
        for n in range(rows):
            writer.writerow([f"photo-{n}.png", *[f"row {n} {'äbc ' * CELL_CHARS}"[:CELL_CHARS]] * COLUMNS])


if __name__ == "__main__":
    main(measure)
