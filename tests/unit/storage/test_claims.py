"""Whose turn it is, and what it costs to know: counted in SQLite's own instructions and in its plans."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.clocks import FakeClock
from support.stored import job, open_store, path_of, prediction, write
from triptych.core.clock import moment
from triptych.core.models import Prediction, State
from triptych.core.states import LEASE_S, MAX_WAIT_S
from triptych.storage.claims import Claim, Slots
from triptych.storage.jobs import Store
from triptych.storage.sqlite import Database

ATLAS = Slots("atlas:1", "atlas", 4, steps=99)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


ON_BOTH_DATABASES = True


@pytest.fixture
def path(tmp_path: Path, database_url: str | None) -> Path:
    return path_of(tmp_path, database_url)


@pytest.fixture
def store(path: Path, clock: FakeClock) -> Iterator[Store]:
    opened = open_store(path, path.parent / "images", clock=clock)
    if isinstance(opened._db, Database):
        opened._db.connection.execute("PRAGMA synchronous=OFF")
    yield opened
    opened.close()


def lane(job_id: str, n: int, **changes: Any) -> Prediction:
    return replace(prediction(job_id), id=f"{job_id}-{n}-0", lane=n, **changes)


def add(store: Store, clock: FakeClock, job_id: str, lanes: int, owner: str | None = None, **changes: Any) -> None:
    made = [lane(job_id, n, **changes) for n in range(lanes)]
    of = replace(job(job_id, job_id), owner=owner)
    assert store.add_job(of, made, now=moment(clock), attach=False) is None


def claim(store: Store, clock: FakeClock, slots: Slots = ATLAS, most: int = 1, lease: str = "a") -> list[Claim]:
    return store.claim(now=moment(clock), lease=lease, slots=[slots], most=most)


def submit(store: Store, clock: FakeClock, held: Claim) -> Claim:
    sent = store.move(held, State.SUBMITTING, now=moment(clock), due_at=0.0, keep_lease=True, submitted_at=clock.now())
    assert sent
    return sent


def end(store: Store, clock: FakeClock, held: Claim) -> None:
    """Bring a queued claim to its end in a moment."""
    sent = submit(store, clock, held)
    assert store.move(sent, State.FAILED, now=moment(clock), due_at=0.0, release_money=True)


def owner_of(store: Store, held: Claim) -> str | None:
    found = store.job(held.prediction.job_id)
    assert found
    return found.owner


def served(store: Store, clock: FakeClock, many: int, slots: Slots = ATLAS) -> list[str | None]:
    """Return the owners of the next so many submits, one at a time."""
    owners = []
    for _ in range(many):
        (held,) = claim(store, clock, slots)
        owners.append(owner_of(store, held))
        end(store, clock, held)
    return owners


# -- turns -------------------------------------------------------------------------------------------------------------


def test_one_job_waits_two_slots_behind_five_thousand(store: Store, clock: FakeClock) -> None:
    for n in range(5):
        add(store, clock, f"job_0000000{n}", 1000, "many")
    assert set(served(store, clock, 7)) == {"many"}
    add(store, clock, "job_00000009", 1, "one")
    assert "one" in served(store, clock, 2)


def test_the_person_is_one_owner_among_others(store: Store, clock: FakeClock) -> None:
    add(store, clock, "job_00000001", 30, None)
    add(store, clock, "job_00000002", 30, "ann")
    add(store, clock, "job_00000003", 30, "bob")
    assert Counter(served(store, clock, 30)) == {None: 10, "ann": 10, "bob": 10}


def test_who_was_away_gets_no_more_than_its_turn(store: Store, clock: FakeClock) -> None:
    add(store, clock, "job_00000001", 100, "ann")
    served(store, clock, 50)
    add(store, clock, "job_00000002", 100, "bob")
    assert Counter(served(store, clock, 20)) == {"ann": 10, "bob": 10}


def test_one_claim_of_several_takes_of_each_owner(store: Store, clock: FakeClock) -> None:
    add(store, clock, "job_00000001", 50, "ann")
    add(store, clock, "job_00000002", 2, "bob")
    taken = claim(store, clock, replace(ATLAS, max_running=8), most=8)
    assert [owner_of(store, held) for held in taken[:4]] == ["ann", "bob", "ann", "bob"]
    assert len(taken) == 8 and len({held.lease for held in taken}) == 8


def test_follow_ups_of_a_chain_wait_for_their_turn(store: Store, clock: FakeClock) -> None:
    """An owner whose next step becomes due after each end is served every second time, not every time."""
    add(store, clock, "job_00000001", 40, "ann")
    steps = [replace(prediction("job_00000002", step), due_at=0.0) for step in range(10)]
    chain = replace(job("job_00000002", "chain"), owner="bob")
    assert store.add_job(chain, steps, now=moment(clock), attach=False) is None
    owners = []
    for _ in range(12):
        (held,) = claim(store, clock)
        owners.append(owner_of(store, held))
        end(store, clock, held)
        after = f"job_00000002-0-{held.prediction.step + 1}"
        if owners[-1] == "bob":
            write(store, "UPDATE predictions SET state = 'queued', fault = NULL WHERE id = ?", after)
    assert owners == ["ann", "bob"] * 6 or owners == ["bob", "ann"] * 6


def test_a_retry_holds_up_no_other_owner(store: Store, clock: FakeClock) -> None:
    add(store, clock, "job_00000001", 1, "ann")
    add(store, clock, "job_00000002", 3, "bob")
    (held,) = claim(store, clock)
    sent = submit(store, clock, held)
    assert store.move(sent, State.QUEUED, now=moment(clock), due_at=clock.monotonic() + 30, attempts=1)
    assert served(store, clock, 2) == ["bob", "bob"]
    clock.advance(30)
    assert served(store, clock, 2) == ["ann", "bob"]


def test_within_an_owner_the_oldest_is_first(store: Store, clock: FakeClock) -> None:
    add(store, clock, "job_00000002", 2)
    clock.advance(1)
    add(store, clock, "job_00000001", 2)
    ids = [held.prediction.id for held in claim(store, clock, most=4)]
    assert ids == ["job_00000002-0-0", "job_00000002-1-0", "job_00000001-0-0", "job_00000001-1-0"]


# -- accounts ----------------------------------------------------------------------------------------------------------


def test_an_account_never_runs_more_than_it_may(store: Store, clock: FakeClock) -> None:
    add(store, clock, "job_00000001", 20)
    first = claim(store, clock, most=3)
    assert len(first) == 3, "what is about to be submitted counts"
    second = claim(store, clock, most=9, lease="b")
    assert len(second) == 1
    running = [submit(store, clock, held) for held in (*first, *second)]
    assert claim(store, clock, most=9) == []
    end_of_one = store.move(running[0], State.FAILED, now=moment(clock), due_at=0.0, release_money=True)
    assert end_of_one and len(claim(store, clock, most=9)) == 1


def test_two_accounts_of_one_provider_have_their_own_limits(store: Store, clock: FakeClock) -> None:
    add(store, clock, "job_00000001", 20)
    assert len(claim(store, clock, most=9)) == 4
    assert len(claim(store, clock, replace(ATLAS, account="atlas:2"), most=9)) == 4


def test_a_submit_that_died_gives_its_slot_back(store: Store, clock: FakeClock) -> None:
    add(store, clock, "job_00000001", 20)
    claim(store, clock, most=4)
    assert claim(store, clock, most=4) == []
    clock.advance(LEASE_S + 1)
    assert len(claim(store, clock, most=9)) == 4


def test_every_process_obeys_a_hold(store: Store, clock: FakeClock, path: Path) -> None:
    add(store, clock, "job_00000001", 2)
    other = open_store(path, path.parent / "images", clock=clock)
    (held,) = claim(store, clock)
    store.hold_account("atlas:1", clock.monotonic() + 30)
    store.hold_account("atlas:1", clock.monotonic() + 5)
    assert claim(other, clock) == []
    assert other.look(now=moment(clock), slots=[ATLAS]).due_at == clock.monotonic() + 30
    clock.advance(30)
    assert len(claim(other, clock)) == 1 and held
    other.close()


def test_a_quiet_account_is_neither_polled_nor_submitted(store: Store, clock: FakeClock) -> None:
    add(store, clock, "job_00000001", 2)
    (held,) = claim(store, clock)
    running = store.move(submit(store, clock, held), State.RUNNING, now=moment(clock), due_at=0.0, ticket="t")
    assert running
    store.hold_account("atlas:1", clock.monotonic() + 30, quiet=True)
    assert claim(store, clock, most=9) == []
    assert store.look(now=moment(clock), slots=[ATLAS]).due_at == clock.monotonic() + 30
    clock.advance(30)
    assert [one.prediction.state for one in claim(store, clock, most=9)] == [State.RUNNING, State.QUEUED]


def test_one_process_takes_a_look_at_the_list(store: Store, clock: FakeClock, path: Path) -> None:
    other = open_store(path, path.parent / "images", clock=clock)
    seen = [s.look(now=moment(clock), slots=[ATLAS]).accounts["atlas:1"].next_sweep for s in (store, other)]
    took = [s.schedule_sweep("atlas:1", seen=at, at_s=clock.monotonic() + 1, sweeping=True)
            for s, at in zip((store, other), seen, strict=True)]  # fmt: skip
    assert took == [True, False]
    assert other.look(now=moment(clock), slots=[ATLAS]).accounts["atlas:1"].sweeping
    other.close()


def test_what_an_earlier_version_sent_counts_at_the_account(store: Store, clock: FakeClock) -> None:
    add(store, clock, "job_00000001", 9)
    sql = "UPDATE predictions SET state = 'running', ticket = id, due_at = ? WHERE lane < 3"
    write(store, sql, clock.monotonic() + 9)
    assert len(claim(store, clock, most=9)) == 1


# -- damaged times -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["queued", "submitting", "running", "fetching"])
def test_what_is_due_too_far_ahead_is_due_now(store: Store, clock: FakeClock, state: str) -> None:
    add(store, clock, "job_00000001", 2)
    assert len(claim(store, clock)) == 1  # the account is known
    far = clock.monotonic() + MAX_WAIT_S + 60
    sql = "UPDATE predictions SET due_at = ?, lease = NULL, lease_until = 0, state = ?"
    write(store, sql, far, state)
    assert store.look(now=moment(clock), slots=[ATLAS]).due_at == 0
    assert len(claim(store, clock, most=2)) == 2


def test_a_lease_that_ends_too_far_ahead_is_over(store: Store, clock: FakeClock) -> None:
    add(store, clock, "job_00000001", 1)
    (held,) = claim(store, clock)
    store.heartbeat([held.lease], clock.monotonic() + 300)
    assert store.look(now=moment(clock), slots=[ATLAS]).due_at == 0
    assert len(claim(store, clock, lease="b")) == 1


def test_a_pause_that_ends_too_far_ahead_is_over(store: Store, clock: FakeClock) -> None:
    add(store, clock, "job_00000001", 1)
    store.look(now=moment(clock), slots=[ATLAS])
    write(store, "UPDATE accounts SET hold_until = ?", clock.monotonic() + 9 * MAX_WAIT_S)
    assert len(claim(store, clock)) == 1


# -- cost --------------------------------------------------------------------------------------------------------------

IDLE = ("look", "running_at", "to_save", "money_totals", "taken", "lock_account")
CLAIM = ("due", "turns", "queued", "take", "serve", "lease_of", "lock_job", "job_status", "states", "ticket_taken",
         "hold_account", "quiet_account", "schedule_sweep", "heartbeat", "renew", "put_back", "mend_due", "mend_leases",
         "same_request", "move", "poll_now")  # fmt: skip
SMALL = ("queues", "saves", "CONSTANT ROW", "firsts", "steps", "counted", "scopes", "json_each")
"""What a plan may scan: the owners that wait, what is to be saved, and constants."""


@pytest.mark.only_sqlite
@pytest.mark.parametrize("name", [*IDLE, *CLAIM])
def test_no_statement_of_the_loop_reads_a_whole_table(store: Store, name: str) -> None:
    values: dict[str, Any] = dict.fromkeys(store._db.parameters(name), 1)
    lists = ("accounts", "held", "ids", "leases", "providers", "tickets")
    values = {key: ["x"] if key in lists and key != "lease" else value for key, value in values.items()}
    plans: list[str] = []
    really = store._db.connection

    class Explaining:
        """A connection that explains each statement."""

        def execute(self, sql: str, values: dict[str, Any]) -> sqlite3.Cursor:
            plans.extend(row["detail"] for row in really.execute(f"EXPLAIN QUERY PLAN {sql}", values))
            return really.execute("SELECT 1")

    store._db.connection = Explaining()  # type: ignore[assignment]
    store._db.run(name, **values)
    store._db.connection = really
    scans = [line for line in plans if line.startswith("SCAN") and not any(word in line for word in SMALL)]
    assert plans and scans == []


def instructions(store: Store, work: Callable[[], object]) -> int:
    """Return how many instructions SQLite's machine runs for some work."""
    count = 0

    def one_more() -> int:
        nonlocal count
        count += 1
        return 0

    store._db.connection.set_progress_handler(one_more, 1)
    work()
    store._db.connection.set_progress_handler(None, 1)
    return count


def test_looks_claims_and_budget_cost_the_same_at_any_size(tmp_path: Path, clock: FakeClock) -> None:
    counts: dict[int, dict[str, int]] = {}
    for lanes in (100, 5000):
        store = Store(tmp_path / f"{lanes}.db", tmp_path / "images", clock=clock)
        db = store._db.connection
        db.execute("PRAGMA synchronous=OFF")
        add(store, clock, "job_00000001", lanes)
        done = "state = 'done', charged_usd = '0.1', ticket = id, submitted_at = 1, finished_at = 2"
        db.execute(f"UPDATE predictions SET {done} WHERE lane % 2 = 0")
        db.execute("UPDATE predictions SET state = 'running', ticket = id, account = 'atlas:1' WHERE lane % 4 = 1")
        slots = replace(ATLAS, max_running=lanes)
        assert len(claim(store, clock, slots, most=2)) == 2
        counts[lanes] = {
            "look": instructions(store, partial(store.look, now=moment(clock), slots=[slots])),
            "claim": instructions(store, partial(claim, store, clock, slots)),
            "budget": instructions(store, partial(store.ledger.tightest, moment(clock), None, None)),
            "saves": instructions(store, store.to_save),
        }
        store.close()
    few, many = counts.values()
    assert all(many[what] <= 1.1 * few[what] for what in few), counts


@pytest.mark.only_sqlite
def test_the_worker_of_an_idle_server_reads_two_statements(store: Store, clock: FakeClock) -> None:
    add(store, clock, "job_00000001", 1)
    for held in claim(store, clock):
        end(store, clock, held)
    seen: list[str] = []
    store._db.connection.set_trace_callback(seen.append)
    store.look(now=moment(clock), slots=[ATLAS])
    store.to_save()
    store._db.connection.set_trace_callback(None)
    assert len(seen) == 2 and all(sql.startswith(("--", "SELECT")) for sql in seen)


def test_counters_are_those_of_the_rows(path: Path, store: Store, clock: FakeClock) -> None:
    add(store, clock, "job_00000001", 9, "ann")
    add(store, clock, "job_00000002", 9)
    for held in claim(store, clock, replace(ATLAS, max_running=9), most=6)[:5]:
        submit(store, clock, held)
    assert store.differences() == []
    write(store, "UPDATE queues SET queued = queued + 1 WHERE owner = 'ann'")
    write(store, "UPDATE accounts SET running = 0")
    write(store, "UPDATE money SET reserved_nano = reserved_nano - 7000000000 WHERE scope = ''")
    assert store.differences() == [
        "money of all jobs, bucket 0: charged $0 and reserved $-7 too much",
        "account atlas:1: 5 running too few",
        "queue ann at atlas: 1 queued too many",
    ]
    store.recount()
    assert store.differences() == []
