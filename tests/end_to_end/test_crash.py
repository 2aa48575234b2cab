"""After a process is killed at any moment, another one completes its jobs, paid once.

Each kind of provider is killed at the first and last moment of each sort; `python -m benchmarks.crash_matrix` kills
every shape of job at every moment. The rules are in `crash_matrix.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from support import crash_matrix
from triptych.jobs.service import ImageService

pytestmark = pytest.mark.slow

CELLS = [(kind, "sequence") for kind in crash_matrix.KINDS]
# One provider that is polled and one that answers at once stand for the rest in the other shapes. One image is the
# first step of a chain.
CELLS += [("atlas", "chain"), ("atlas", "lanes"), ("novita", "chain")]


@pytest.fixture(scope="module")
def child() -> Iterator[crash_matrix.Child]:
    with crash_matrix.ready_child() as ready:
        yield ready


@pytest.mark.parametrize(("kind", "shape"), CELLS)
def test_a_killed_process_leaves_every_job_to_end_paid_once(
    child: crash_matrix.Child, kind: str, shape: str, tmp_path: Path
) -> None:
    tally = crash_matrix.run(child, kind, shape, tmp_path, every=False)
    assert not tally.violations, "\n".join(tally.violations)
    assert tally.kills > 10 and tally.submits_seen == tally.submits_expected
    assert tally.done + tally.uncertain == tally.jobs
    assert (tally.uncertain == 0) == crash_matrix.KINDS[kind].recovers


def test_on_postgresql_a_killed_process_leaves_every_job_paid_once(child: crash_matrix.Child, tmp_path: Path) -> None:
    tally = crash_matrix.run(child, "atlas", "single", tmp_path, every=False, on_postgres=True)
    assert not tally.violations, "\n".join(tally.violations)
    assert tally.kills > 20 and tally.submits_seen == tally.submits_expected == tally.done == tally.jobs


@pytest.mark.parametrize(("kind", "shape"), [("atlas", "chain"), ("ark", "sequence")])
def test_a_power_cut_within_a_write_leaves_jobs_paid_once(
    child: crash_matrix.Child, kind: str, shape: str, tmp_path: Path
) -> None:
    tally = crash_matrix.cut_power(child, kind, shape, tmp_path)
    assert not tally.violations, "\n".join(tally.violations)
    assert tally.kills > 10 and tally.submits_seen == tally.submits_expected


@pytest.mark.parametrize(("kind", "asked"), [("atlas", "history"), ("wavespeed", "history")])
def test_get_status_finds_what_a_killed_process_had_sent(
    child: crash_matrix.Child, kind: str, asked: str, tmp_path: Path
) -> None:
    moments = crash_matrix.moments_of(child, kind, "single", tmp_path)
    answered = moments.index("the submit's answer came") + 1
    case = crash_matrix.Case(kind, "single", tmp_path / "killed", answered).kill(child)
    clock = crash_matrix.LaterClock()

    async def look(service: ImageService) -> None:
        case.api.fault(asked, "500", times=None)
        await crash_matrix.finish(service, clock)
        ((job_id, status),) = [(row.id, row.status) for row in service.store.plain.jobs(10)]
        held = service.store.plain.money_since(0)
        assert (status, held) == ("uncertain", (0, case.api.charged_usd))
        case.api.clear()
        await service.get_status(job_id)
        await crash_matrix.finish(service, clock)
        assert (await service.job(job_id)).status == "done"
        assert service.store.plain.money_since(0) == (case.api.charged_usd, 0)
        assert len(case.api.accepted) == case.api.performed["submit"] == 1

    with case.aftermath():
        anyio.run(case.visit, look, clock)
