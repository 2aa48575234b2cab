"""Jobs, predictions and outputs as values for the tests of the storage."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from support.clocks import when
from triptych.core.clock import Clock
from triptych.core.models import Job, Output, Prediction, State
from triptych.core.offers import Operation
from triptych.core.requests import Request
from triptych.storage.budget import Caps
from triptych.storage.claims import Claim, Slots
from triptych.storage.database import open_database
from triptych.storage.jobs import Store
from triptych.storage.postgres import Database as PostgresDatabase
from triptych.storage.sqlite import Database

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


ATLAS = Slots("atlas:1", "atlas", 4)


REQUEST = Request("edit_chain", ("p", "q", "r"), ("img_00000001",))


def job(job_id: str = "job_00000001", fingerprint: str = "f") -> Job:
    return Job(job_id, REQUEST, NOW, fingerprint, "atlas", "m", "e")


def prediction(job_id: str = "job_00000001", step: int = 0, usd: str = "1.00") -> Prediction:
    return Prediction(
        id=f"{job_id}-0-{step}",
        job_id=job_id,
        request=REQUEST,
        lane=0,
        step=step,
        after_id=f"{job_id}-0-{step - 1}" if step else None,
        first_output=step + 1,
        provider="atlas",
        endpoint="e",
        operation=Operation.EDIT_SEQUENTIAL,
        size=(2048, 2048),
        client_id="c",
        variation="",
        quoted_usd=Decimal(usd),
        quote_exact=True,
        state=State.WAITING if step else State.QUEUED,
    )


def add(store: Store, *predictions: Prediction, fingerprint: str = "f", attach: bool = True) -> Job | None:
    return store.add_job(job(predictions[0].job_id, fingerprint), predictions, now=when(NOW), attach=attach)


def claim(store: Store, lease: str = "a", at: datetime = NOW) -> Claim | None:
    return claimed(store.claim(now=when(at), lease=lease, slots=[ATLAS]))


def claimed(claims: Sequence[Claim]) -> Claim | None:
    """Return the only claim, if there is one."""
    assert len(claims) <= 1
    return claims[0] if claims else None


def frame(n: int, sha256: str | None) -> Output:
    return Output("job_00000001", n, f"job_00000001-0-{n - 1}", "https://x/y", NOW, sha256, None, ("img_1",))


URLS: dict[Path, str] = {}
"""The PostgreSQL databases that stand in for files in tests that run on both databases, by the files' paths."""


def path_of(directory: Path, url: str | None) -> Path:
    """Return the path of a test's database, for `open_store`."""
    path = directory / "triptych.db"
    if url:
        URLS[path] = url
    return path


def open_store(path: Path, images: Path, caps: Caps | None = None, clock: Clock | None = None) -> Store:
    """Open a store on the file at `path`, or on the PostgreSQL database that stands in for it."""
    return Store(open_database(path, URLS.get(path)), images, caps, clock)


def write(store: Store, sql: str, *values: Any) -> list[Any]:
    """Run a statement of a test, with `?` for each value; return its rows."""
    database = store._db
    if isinstance(database, Database):
        return database.connection.execute(sql, values).fetchall()
    assert isinstance(database, PostgresDatabase)
    current = database._here.connection
    with nullcontext(current) if current else database.lent() as connection:
        cursor = connection.execute(sql.replace("?", "%s").encode(), values)
        return cursor.fetchall() if cursor.description else []


def sqlite_of(store: Store) -> Database:
    """Return the SQLite database of a store."""
    assert isinstance(store._db, Database)
    return store._db
