"""The soak in small, by the code of the large one; and its audit, which has to fail where money or images were lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from support import ROOT
from support.fixtures import Emulator, FakeClock, Finish, MakeService
from support.jobs import NOW, Options, generate_sequence
from triptych_emulators import running

pytestmark = pytest.mark.anyio


FIRST, SECOND = (f"job_id IN (SELECT id FROM jobs WHERE request LIKE '%#{n}.1%')" for n in (1, 2))
"""The predictions of a job, by the mark in its prompt."""


@pytest.fixture(autouse=True)
def benchmarks_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.slow
@pytest.mark.usefixtures("ordinary_start")
async def test_sixty_jobs_survive_a_killed_server_and_are_paid_once(tmp_path: Path) -> None:
    from benchmarks.soak import Plan, bugs, run

    plan = Plan(jobs=60, servers=2, seed=7, most_kills=1, kill_every_s=1.5, haste=8.0)
    with (tmp_path / "servers.log").open("wb") as log:
        told, found = await run(plan, tmp_path, log)
    assert {what: lines for what, lines in found.wrong().items() if lines} == {}
    assert bugs(tmp_path / "servers.log") == []
    assert told.kills == 1
    # A job whose caller was killed with its server before it heard of it is made again, where it is asked for anew.
    assert sum(found.jobs.values()) >= len(told.jobs) >= 60
    assert found.images > 0 and found.charged_usd == found.for_done_usd > 0
    assert sum(found.ends.values()) > found.ends["done"], "nothing went wrong at all"


@pytest.mark.slow
async def test_two_servers_keep_one_budget_to_the_cent(tmp_path: Path) -> None:
    from benchmarks.soak import Plan, spend

    with (tmp_path / "servers.log").open("wb") as log:
        spent = await spend(Plan(servers=2, haste=8.0), tmp_path / "budget", log)
    assert not spent.otherwise, "\n".join(spent.otherwise)
    assert spent.holds, spent
    assert (spent.asked, spent.taken) == (75, 25) and spent.refused >= 50


# -- the audit finds what it looks for --------------------------------------------------------------------------------


@pytest.fixture
def ark(clock: FakeClock) -> Iterator[Any]:
    with running("ark", max_side=64, clock=clock.monotonic) as emulator:
        yield emulator


@pytest.fixture
async def books(
    make_service: MakeService, atlas: Emulator, ark: Emulator, finish: Finish, clock: FakeClock
) -> list[Any]:
    """The books of two providers for three jobs that came home: by a ticket, at once, and as two that are the same."""
    from benchmarks.soak_audit import Accepted

    async with make_service(atlas, ark) as service:
        await generate_sequence(service, "a red kite #1.1", 1, Options(wait_s=0, provider="atlas"))
        await generate_sequence(service, "a red kite #2.1", 2, Options(wait_s=0, provider="ark"))
        await generate_sequence(service, "a red kite #3.1", 1, NOW)
        clock.advance(1)
        await generate_sequence(service, "a red kite #3.1", 1, Options(wait_s=0, again=True))
        await finish(service)
        clock.advance(60)
        await finish(service)
    return [
        Accepted(api.name, work.id, work.spec.prompt, work.charge_usd(clock.monotonic()))
        for api in (atlas, ark)
        for work in api.jobs
    ]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def wrong(books: list[Any], home: Path, promised: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Return what the audit has to say, without what is empty."""
    from benchmarks.soak_audit import audit, read

    return {what: lines for what, lines in audit(books, read(home), promised).wrong().items() if lines}


def sql(home: Path, statement: str) -> None:
    with closing(sqlite3.connect(home / "triptych.db")) as db, db:
        assert db.execute(statement).rowcount == 1


async def test_books_that_agree_are_found_to_agree(books: list[Any], home: Path) -> None:
    from benchmarks.soak_audit import audit, read

    assert len(books) == 4 and wrong(books, home) == {}
    found = audit(books, read(home))
    assert found.charged_usd == found.emulators_usd == Decimal("0.175") and found.home == {"atlas": 3, "ark": 1}


@pytest.mark.parametrize("place", [0, 2, 3], ids=["by a ticket", "the same request twice", "at once"])
async def test_a_request_that_was_accepted_once_more_was_paid_twice(books: list[Any], home: Path, place: int) -> None:
    once_more = replace(books[place], id="once-more")
    assert list(wrong([*books, once_more], home)) == ["paid twice"]


async def test_a_paid_request_missing_in_the_database_is_a_loss(books: list[Any], home: Path) -> None:
    unknown = replace(books[0], id="unknown", prompt="a red kite #9.1")
    assert list(wrong([*books, unknown], home)) == ["lost"]


async def test_a_paid_request_without_its_ticket_is_a_loss(books: list[Any], home: Path) -> None:
    sql(
        home,
        "UPDATE predictions SET state = 'failed', ticket = NULL, charged_usd = NULL, reserved_usd = '0', "
        f"""fault = '{{"kind": "refused"}}' WHERE {FIRST}""",
    )
    assert list(wrong(books, home)) == ["lost"]


async def test_an_unfinished_prediction_and_a_missing_job_are_losses(books: list[Any], home: Path) -> None:
    assert wrong(books, home, ("job_gone",)) == {"lost": ["job_gone was promised and is not there"]}
    sql(home, f"UPDATE predictions SET state = 'running' WHERE {FIRST}")
    assert list(wrong(books, home)) == ["lost"]


async def test_a_ticket_of_another_request_is_found(books: list[Any], home: Path) -> None:
    sql(home, f"UPDATE predictions SET ticket = '{books[1].id}' WHERE {FIRST}")
    assert "another one's ticket" in wrong(books, home)


async def test_a_charge_that_is_not_the_providers_is_found(books: list[Any], home: Path) -> None:
    assert list(wrong([replace(books[0], charged_usd=Decimal(0)), *books[1:]], home)) == ["ledger and provider differ"]
    sql(home, f"UPDATE predictions SET charged_usd = NULL, reserved_usd = '0' WHERE {SECOND}")
    assert list(wrong(books, home)) == ["ledger and provider differ"]


async def test_lost_files_leases_and_duplicate_jobs_are_found(books: list[Any], home: Path) -> None:
    sql(home, f"UPDATE predictions SET lease = 'dead' WHERE {FIRST}")
    sql(home, "UPDATE predictions SET variation = '' WHERE variation <> ''")
    next((home / "images").rglob("*.*")).write_bytes(b"other bytes")
    assert set(wrong(books, home)) == {
        "identical calls in flight that did not attach",
        "images that are not what the database says",
        "leases left",
    }
