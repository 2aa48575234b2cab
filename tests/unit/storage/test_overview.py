"""The numbers for monitoring: right on both databases, and as cheap with a long history as without."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from support.clocks import FakeClock, when
from support.stored import ATLAS, NOW, add, claim, prediction
from triptych.core.models import State
from triptych.storage.database import open_database
from triptych.storage.jobs import Store
from triptych.storage.sqlite import Database

ON_BOTH_DATABASES = True


@pytest.fixture
def store(tmp_path: Path, clock: FakeClock, database_url: str | None) -> Iterator[Store]:
    opened = Store(open_database(tmp_path / "triptych.db", database_url), tmp_path / "images", clock=clock)
    yield opened
    opened.close()


def test_the_overview_counts_what_is_in_flight(store: Store) -> None:
    for n in range(1, 7):
        add(store, prediction(f"job_0000000{n}"), prediction(f"job_0000000{n}", step=1), fingerprint=str(n))
    taken = claim(store)
    assert taken
    sent = store.move(taken, State.SUBMITTING, now=when(NOW), due_at=when(NOW).mono_s, keep_lease=True)
    assert sent
    ran = store.move(sent, State.RUNNING, now=when(NOW), due_at=when(NOW).mono_s + 5, ticket="t")
    assert ran
    ended = claim(store, "b")
    assert ended
    store.move(ended, State.FAILED, now=when(NOW), due_at=0, release_money=True)
    late = store.overview(when(NOW + timedelta(seconds=65)))
    assert late.predictions == {
        ("atlas", "queued"): 4,
        ("atlas", "running"): 1,
        ("atlas", "waiting"): 5,
    }
    assert late.jobs == {"queued": 4, "running": 1}
    assert [(account, provider, running) for account, provider, running, _ in late.accounts] == [
        (ATLAS.account, "atlas", 1)
    ]
    assert late.oldest_due_s == pytest.approx(60)
    assert late.budget.reserved == Decimal(10)


def test_an_empty_database_has_an_overview(store: Store) -> None:
    empty = store.overview(when(NOW))
    assert (empty.jobs, empty.predictions, empty.accounts, empty.oldest_due_s) == ({}, {}, (), 0.0)


def plan(db: Database, name: str) -> str:
    """Return how SQLite runs a statement."""
    return "\n".join(row[3] for row in db.connection.execute(f"EXPLAIN QUERY PLAN {db._queries[name]}"))


def test_no_number_is_read_from_the_history(tmp_path: Path) -> None:
    db = Database(tmp_path / "triptych.db")
    try:
        assert "SEARCH predictions USING COVERING INDEX predictions_by_state" in plan(db, "overview_predictions")
        assert "SCAN predictions" not in plan(db, "overview_predictions")
        assert "SEARCH jobs USING COVERING INDEX jobs_by_status" in plan(db, "overview_jobs")
        assert plan(db, "overview_due").count("SEARCH p USING INDEX predictions_free") == 3
    finally:
        db.close()
