"""The store's work for one prediction does not grow with its job: counted in SQLite's own instructions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from support.clocks import when
from triptych.core.models import Job, Output, Prediction, State
from triptych.core.offers import Operation
from triptych.core.requests import Request, Row
from triptych.storage.claims import Slots
from triptych.storage.jobs import Store
from triptych.storage.reads import KEPT_CHARS
from triptych.storage.sqlite import ROWS_AT_ONCE

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
FEW, MANY = 100, 2000
ATLAS = Slots("atlas:1", "atlas", 99)
LATER_S = when(NOON).mono_s + 100


def job_of(store: Store, job_id: str, lanes: int, cell: str = "", done: int | None = None) -> None:
    """Store a job: half of it is done, or so many; up to three of the others are at the provider."""
    done = lanes // 2 if done is None else done
    request = Request(
        "edit_chain", ("{mood} light",), rows=tuple(Row(("img_1",), {"mood": cell}) for _ in range(lanes))
    )
    job = Job(job_id, request, NOON, "f", "atlas", "m", "e")
    made = [
        Prediction(
            id=f"{job_id}-{lane}-0",
            job_id=job_id,
            request=request,
            lane=lane,
            step=0,
            after_id=None,
            first_output=lane + 1,
            provider="atlas",
            endpoint="e",
            operation=Operation.EDIT,
            size=None,
            client_id=str(lane),
            variation="",
            quoted_usd=Decimal("0.04"),
            quote_exact=True,
            created_mono=0.0,
        )
        for lane in range(lanes)
    ]
    assert store.add_job(job, made, now=when(NOON), attach=False) is None
    store.add_outputs([output(job_id, lane, stored=True) for lane in range(done)], now=NOON)
    db = store._db.connection
    db.execute(
        "UPDATE predictions SET state = 'done', charged_usd = '0.04', ticket = id, submitted_at = 1, finished_at = 2 "
        "WHERE job_id = ? AND lane < ?",
        (job_id, done),
    )
    for lane in range(min(3, lanes - done)):
        (claim,) = store.claim(now=when(NOON), lease=f"old{lane}", slots=[ATLAS])
        sent = store.move(claim, State.SUBMITTING, now=when(NOON), due_at=0, keep_lease=True, submitted_at=NOON)
        assert sent and store.move(sent, State.RUNNING, now=when(NOON), due_at=LATER_S, ticket=f"t{lane}")


def output(job_id: str, lane: int, *, stored: bool) -> Output:
    sha256 = f"{lane:064}" if stored else None
    return Output(job_id, lane + 1, f"{job_id}-{lane}-0", "https://x.example/1.png", None, sha256, None, ("img_1",))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "triptych.db", tmp_path / "images")
    yield opened
    opened.close()


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


def one_prediction(store: Store, job_id: str) -> Callable[[], None]:
    """Return the store's part of the way of a prediction from the queue to its end, and a call that waits for it."""

    def work() -> None:
        assert store.look(now=when(NOON), slots=[ATLAS]).due_at == 0
        (claim,) = store.claim(now=when(NOON), lease="new", slots=[ATLAS])
        assert claim.prediction.state is State.QUEUED
        store.heartbeat([claim.lease], LATER_S)
        for state, ticket in ((State.SUBMITTING, None), (State.RUNNING, "new")):
            claim = store.move(
                claim, state, now=when(NOON), due_at=0, keep_lease=True, submitted_at=NOON, ticket=ticket
            )
            assert claim
        coming = output(job_id, claim.prediction.lane, stored=False)
        claim = store.move(claim, State.FETCHING, now=when(NOON), due_at=0, keep_lease=True, outputs=[coming])
        assert claim
        store.output_stored(coming, "f" * 64)
        assert store.move(claim, State.DONE, now=when(NOON), due_at=0, charged_usd=Decimal("0.04"))

    return work


def test_a_prediction_costs_as_much_in_a_large_job(tmp_path: Path) -> None:
    counts = []
    for lanes in (FEW, MANY):
        store = Store(tmp_path / f"{lanes}.db", tmp_path / "images")
        job_of(store, "job_1", lanes)
        one_prediction(store, "job_1")()
        counts.append(instructions(store, one_prediction(store, "job_1")))
        store.close()
    few, many = counts
    assert many <= 1.02 * few, counts


def test_finished_jobs_make_the_next_one_no_slower(tmp_path: Path) -> None:
    counts = []
    for finished in (0, 3):
        store = Store(tmp_path / f"{finished}.db", tmp_path / "images")
        for n in range(finished):
            job_of(store, f"job_9{n}", FEW, done=FEW)
        job_of(store, "job_1", FEW)
        one_prediction(store, "job_1")()
        counts.append(instructions(store, one_prediction(store, "job_1")))
        store.close()
    assert counts[1] <= 1.05 * counts[0], counts


def test_the_number_of_images_follows_the_outputs(store: Store) -> None:
    job_of(store, "job_1", FEW)
    one_prediction(store, "job_1")()
    job, seen = store.job("job_1"), store.seen("job_1")
    stored = sum(1 for one in store.outputs("job_1") if one.sha256)
    assert job and seen and job.returned == seen.returned == stored == FEW // 2 + 1
    job_of(store, "job_2", FEW)
    others = [f"job_{n}" for n in range(3, 2000)]  # more than one statement asks for
    assert store.changed(["job_1", *others, "job_2"]) == {"job_1": (None, stored), "job_2": (None, FEW // 2)}


@pytest.mark.parametrize("most_values", [32_766, 50])
def test_many_predictions_are_stored_in_few_statements(store: Store, most_values: int) -> None:
    db, texts = store._db.connection, list[str]()
    db.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, most_values)
    db.set_trace_callback(texts.append)
    job_of(store, "job_1", MANY)
    inserts = len({text for text in texts if text.startswith("INSERT INTO predictions")})  # once more for each trigger
    assert len(store.predictions("job_1")) == MANY and store.differences() == []
    if most_values > 1_000:
        assert inserts == MANY / ROWS_AT_ONCE


def test_a_request_is_kept_once_for_all_its_predictions(store: Store) -> None:
    job_of(store, "job_1", FEW)
    job, made = store.job("job_1"), store.predictions("job_1")
    assert job and all(one.request is job.request for one in made)


def test_only_so_much_of_requests_is_kept(store: Store) -> None:
    for n in range(6):
        job_of(store, f"job_{n}", 4, cell="x" * (KEPT_CHARS // 15))
    assert all(store.job(f"job_{n}") for n in range(6))
    assert 1 <= len(store._kept) < 6 and sum(one.chars for one in store._kept.values()) <= KEPT_CHARS


def test_costs_and_stages_count_each_prediction(store: Store) -> None:
    job_of(store, "job_1", FEW)
    assert sum(one.count for one in store.costs("job_1")) == FEW
    assert store.stages("job_1") == [(FEW // 2, 0, FEW)]
    assert store.spent_usd("job_1") == Decimal("0.04") * (FEW // 2)
