"""Databases of every age: each ends with the tables of a new one, and with all of its rows."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from contextlib import closing
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import pytest

from support.clocks import when
from triptych.core.models import Failure, Job, Operation, Output, Prediction, Route, State
from triptych.jobs.service import Options
from triptych.storage import migrations
from triptych.storage.jobs import Store

T = TypeVar("T")
Columns = dict[str, list[tuple[object, ...]]]

EARLIER = {path.stem: path for path in sorted((Path(__file__).parent / "databases").glob("*.sql"))}
TABLES = ("images", "holders", "copies", "jobs", "predictions", "frames")
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)


def tables(connection: sqlite3.Connection) -> tuple[Columns, dict[str, str]]:
    """Return the columns of every table, and every index as it was written."""
    made = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall()
    columns = {
        name: [tuple(row) for row in connection.execute(f"PRAGMA table_info({name})")]
        for kind, name, _ in made
        if kind == "table"
    }
    return columns, {name: " ".join(sql.split()) for kind, name, sql in made if kind == "index"}


def restored(version: str, path: Path, base_url: str = "http://127.0.0.1:9") -> None:
    """Write the database file of an earlier version; its emulator then was where `base_url` is now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(opened(path)) as connection:
        connection.executescript(EARLIER[version].read_text("utf-8").replace("http://127.0.0.1:36715", base_url))


def rows(path: Path) -> dict[str, list[dict[str, Any]]]:
    with closing(opened(path)) as connection:
        connection.row_factory = sqlite3.Row
        there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return {
            name: [dict(row) for row in connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2")]
            for name in TABLES
            if name in there
        }


def filled(kind: Any, name: str = "", n: int = 1) -> Any:
    """Return a value of a type that is no default: every field of a class is filled, each with another value."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return filled(next(arg for arg in args if arg is not NoneType), name, n)
    if origin is tuple:
        return tuple(filled(arg, name, n + i) for i, arg in enumerate(arg for arg in args if arg is not Ellipsis))
    plain: dict[Any, Any] = {
        str: f"the {name}",
        int: 1000 + n,
        float: 1000.25 + n,
        bool: True,
        Decimal: Decimal(n) / 1000,
        datetime: NOW + timedelta(seconds=n),
    }
    if kind in plain:
        return plain[kind]
    if issubclass(kind, Enum):
        return list(kind)[1]
    hints = get_type_hints(kind)
    return kind(**{f.name: filled(hints[f.name], f.name, n + i) for i, f in enumerate(fields(kind))})


def differing(one: T, other: T) -> set[str]:
    return {f.name for f in fields(one) if getattr(one, f.name) != getattr(other, f.name)}  # type: ignore[arg-type]


# The runner ----------------------------------------------------------------------------------------------------------


def test_migrations_are_numbered_from_one_without_gap_or_double() -> None:
    assert [number for number, _ in migrations.listed()] == list(range(1, migrations.newest() + 1))


def test_semicolons_in_texts_comments_and_triggers_end_no_statement() -> None:
    script = """-- made; once
        CREATE TABLE a (b TEXT DEFAULT ';'); -- and; twice
        CREATE TRIGGER c AFTER INSERT ON a BEGIN DELETE FROM a; SELECT 1; END;
        INSERT INTO a VALUES ('x')"""
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in migrations.statements(script):
            connection.execute(statement)
        assert sorted(name for (name,) in connection.execute("SELECT name FROM sqlite_master")) == ["a", "c"]
        assert connection.execute("SELECT COUNT(*) FROM a").fetchone() == (0,), "the trigger has run"


def test_a_migration_that_fails_leaves_the_version_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(opened(tmp_path / "a.db")) as connection:
        migrations.migrate(connection)
        before, at = tables(connection), migrations.version(connection)
        monkeypatch.setattr(migrations, "listed", lambda: [(1, "0001_initial.sql"), (at + 1, "0001_initial.sql")])
        monkeypatch.setattr(
            migrations, "statements", lambda _: iter(["CREATE TABLE half (a)", "ALTER TABLE nothing ADD b"])
        )
        with pytest.raises(sqlite3.OperationalError, match="nothing"):
            migrations.migrate(connection)
        assert (tables(connection), migrations.version(connection)) == (before, at)
        assert not connection.in_transaction


def test_processes_that_migrate_at_once_run_each_once(tmp_path: Path) -> None:
    faults: list[BaseException] = []

    def migrate() -> None:
        try:
            with closing(opened(tmp_path / "a.db")) as connection:
                migrations.migrate(connection)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    with closing(opened(tmp_path / "a.db")) as connection:
        assert migrations.version(connection) == migrations.newest()


# Earlier versions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", EARLIER)
def test_an_earlier_database_ends_as_a_new_one(version: str, tmp_path: Path) -> None:
    restored(version, tmp_path / "old.db")
    with closing(opened(tmp_path / "old.db")) as old, closing(opened(tmp_path / "new.db")) as new:
        migrations.migrate(old)
        migrations.migrate(new)
        assert tables(old) == tables(new)
        assert migrations.version(old) == migrations.version(new) == migrations.newest()


@pytest.mark.parametrize("version", EARLIER)
def test_every_row_of_an_earlier_database_is_kept(version: str, tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    restored(version, path)
    before = rows(path)
    store = Store(path, tmp_path / "images")
    after = rows(path)
    assert {name: len(found) for name, found in before.items()} == {name: len(after[name]) for name in before}
    for name, found in before.items():
        for old, new in zip(found, after[name], strict=True):
            assert all(
                new[key] == old[key] for key in ("id", "job_id", "n", "sha256", "status", "ticket") if key in old
            )
    jobs = store.jobs(100)
    assert Counter(str(row.status) for row in jobs) == {
        "done": 3, "uncertain": 1, "failed": 1, "cancelled": 1, "running": 1, "queued": 1
    }  # fmt: skip
    assert sum(len(store.predictions(row.job.id)) for row in jobs) == len(before["predictions"])
    handles = [frame.handle for row in jobs for frame in store.frames(row.job.id)]
    handles += [image["handle"] for image in before["images"]]
    assert len(handles) == 14 and all(store.image_by_handle(handle) for handle in handles)
    assert {row.job.owner for row in jobs} == ({None} if version == "version-0" else {None, "ann"})
    assert store.money_since(0) == (Decimal("0.192"), Decimal("0.192"))
    store.close()


@pytest.mark.anyio
@pytest.mark.parametrize("version", EARLIER)
async def test_an_earlier_database_takes_a_paid_call(
    version: str, make_service: Any, atlas: Any, coffee: str, tmp_path: Path
) -> None:
    restored(version, tmp_path / "home" / "triptych.db", atlas.base_url)
    async with make_service(atlas) as service:
        job = await service.edit_sequence([coffee], "make it golden hour", 2, Options(wait_s=50))
        for _ in range(5):
            job = await service.get_status(job.job_id or "", 50)
        assert (job.status, job.returned) == ("done", 2)
        assert len(service.store.jobs(100)) == 9


# Every field ---------------------------------------------------------------------------------------------------------


def test_every_field_of_a_job_a_prediction_and_a_frame_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.db", tmp_path / "images")
    job = filled(Job)
    wanted = replace(filled(Prediction), job_id=job.id, state=State.SUBMITTING, provider=job.provider, due_at=0.0)
    store.add_job(job, [replace(wanted, state=State.QUEUED)], now=when(NOW), attach=False)
    claim = store.claim(
        now=when(NOW), lease="l", providers=[job.provider], max_running={job.provider: 1}
    )  # fmt: skip
    assert claim
    late = {name: getattr(wanted, name) for name in differing(claim.prediction, wanted) - {"state"}}
    assert store.move(claim, State.SUBMITTING, now=when(NOW), due_at=0.0, **late)
    assert differing(store.predictions(job.id)[0], wanted) == set()
    store.cancel(job.id, when(NOW))
    kept = store.job(job.id)
    assert kept and differing(kept.job, job) == set()
    frame = replace(filled(Output), job_id=job.id, prediction_id=wanted.id)
    store.add_outputs([frame], now=NOW)
    assert frame.saved_path
    store.output_saved(frame, frame.saved_path)
    assert differing(store.frames(job.id)[0], frame) == set()
    store.close()


def test_values_of_the_round_trip_are_no_defaults() -> None:
    for kind in (Job, Prediction, Output, Failure, Route):
        made = filled(kind)
        for field in fields(kind):
            assert getattr(made, field.name) not in (None, 0, "", (), False, field.default), (kind, field.name)
    assert filled(Operation) is list(Operation)[1]
