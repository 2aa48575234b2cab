"""Databases of every age: each ends with the tables of a new one, and with all of its rows."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pytest

from support.clocks import when
from support.fixtures import Emulator, MakeService
from support.jobs import Options, edit_sequence
from triptych.core.requests import Request
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
    later = {"version-7": (5, 28), "version-8": (6, 32), "version-9": (8, 40), "version-10": (10, 54)}
    done, images = later.get(version, (3, 14))
    assert Counter(str(row.status) for row in jobs) == {
        "done": done, "uncertain": 1, "failed": 1, "cancelled": 1, "running": 1, "queued": 1
    }  # fmt: skip
    assert sum(len(store.predictions(row.id)) for row in jobs) == len(before["predictions"])
    handles = [frame.handle for row in jobs for frame in store.outputs(row.id)]
    handles += [image["handle"] for image in before["images"]]
    assert len(handles) == images and all(store.image_by_handle(handle) for handle in handles)
    owners = {"version-0": {None}, "version-10": {None, "ann", "bob"}}.get(version, {None, "ann"})
    assert {row.owner for row in jobs} == owners
    assert store.money_since(0) == (Decimal("0.192"), Decimal("0.192"))
    assert store.differences() == [], "the totals are those of the rows"
    balance = store.balance(when(datetime.fromtimestamp(1795262400.0, UTC)))  # when these jobs were made
    assert (balance.spent, balance.reserved) == (Decimal("0.192"), Decimal("0.192"))
    store.close()


@pytest.mark.anyio
@pytest.mark.parametrize("version", EARLIER)
async def test_an_earlier_database_takes_a_paid_call(
    version: str, make_service: MakeService, atlas: Emulator, coffee: str, tmp_path: Path
) -> None:
    restored(version, tmp_path / "home" / "triptych.db", atlas.base_url)
    async with make_service(atlas) as service:
        job = await edit_sequence(service, [coffee], "make it golden hour", 2, Options(wait_s=50))
        for _ in range(5):
            job = await service.get_status(job.job_id or "", 50)
        assert (job.status, job.returned) == ("done", 2)
        jobs = {"version-7": 11, "version-8": 12, "version-9": 14, "version-10": 16}.get(version, 9)
        assert len(service.store.plain.jobs(100)) == jobs


def test_what_an_earlier_job_was_asked_for_is_kept(tmp_path: Path) -> None:
    restored("version-7", tmp_path / "old.db")
    store = Store(tmp_path / "old.db", tmp_path / "images")
    asked = {job.id: job.request for job in store.jobs(100)}
    coffee, cat = asked["job_2e26368d"].images
    assert asked["job_2e26368d"] == Request(
        "edit_chain", ("warmer → golden", "film grain"), (coffee, cat), (coffee,), 1, format="png"
    )
    assert [(p.prompt, p.inputs, p.after_id) for p in store.predictions("job_2e26368d")] == [
        ("warmer → golden", (coffee, coffee), None),
        ("film grain", ("job_2e26368d/1", coffee), "job_2e26368d-0-0"),
        ("warmer → golden", (cat, coffee), None),
        ("film grain", ("job_2e26368d/3", coffee), "job_2e26368d-1-0"),
    ]
    assert asked["job_cd4d93de"] == Request("generate_sequence", ("four seasons of a valley",), count=2)
    assert asked["job_49635285"] == Request("edit_sequence", ("make it golden hour",), ("img_566baaa8",), count=3)
    assert [p.size for p in store.predictions("job_49635285")] == [(2304, 1728)]
    store.close()


def test_a_job_of_version_9_keeps_its_params_layers_and_hash(tmp_path: Path) -> None:
    restored("version-9", tmp_path / "old.db")
    store = Store(tmp_path / "old.db", tmp_path / "images")
    chain, layers = store.job("job_010425db"), store.job("job_9204f18f")
    assert chain and layers and chain.sources is None and chain.request.look is None and chain.request.rows is None
    assert (chain.request.params, chain.request.size, layers.owner) == ({"seed": 7}, "512x384", "ann")
    assert [p.inputs for p in store.predictions(chain.id)] == [
        (*chain.request.images, *chain.request.references), ("job_010425db/1", *chain.request.references)
    ]  # fmt: skip
    assert [output.layer.z_index for output in store.outputs(layers.id) if output.layer] == [0, 1]
    for job in (chain, layers):
        content = {handle: image.sha256 for handle in job.request.handles if (image := store.image_by_handle(handle))}
        assert job.request.fingerprint(job.owner, content) == job.fingerprint
    assert store.looks.listed("") == [] and store.looks.add("", "coffee", "", ["img_1"], NOW)[1]
    store.close()


def test_a_job_of_version_10_waits_in_its_owners_queue(tmp_path: Path) -> None:
    restored("version-10", tmp_path / "old.db")
    store = Store(tmp_path / "old.db", tmp_path / "images")
    queues = [tuple(row) for row in store._db.connection.execute("SELECT provider, owner, queued FROM queues")]
    assert queues == [("atlas", "", 1)]
    saves = dict(store._db.connection.execute("SELECT job_id, saved FROM saves").fetchall())
    assert saves == {"job_88c808e5": -2, "job_35c2ea4c": 4} and store.to_save() == []
    owners = dict(store._db.connection.execute("SELECT owner, COUNT(*) FROM predictions GROUP BY owner").fetchall())
    assert set(owners) == {"", "ann", "bob"} and owners["bob"] == 4
    store.close()


def test_a_request_of_an_earlier_version_has_the_same_hash(tmp_path: Path) -> None:
    restored("version-7", tmp_path / "old.db")
    store = Store(tmp_path / "old.db", tmp_path / "images")
    for job_id in ("job_cd4d93de", "job_2e26368d"):
        job = store.job(job_id)
        assert job
        again = replace(job.request, provider="draft")  # as the call named it; the database did not keep it
        handles = (*again.images, *again.references)
        content = {handle: image.sha256 for handle in handles if (image := store.image_by_handle(handle))}
        assert again.fingerprint(None, content) == job.fingerprint
    store.close()


def test_a_route_with_one_quote_has_one_for_each_lane(tmp_path: Path) -> None:
    restored("version-1", tmp_path / "old.db")
    route = {"provider": "ark", "family": "m", "endpoint": "e", "operation": "edit", "sizes": [[64, 64], None]}
    kept = {**route, "quotes_usd": ["0.1", "0.2"]}
    with closing(opened(tmp_path / "old.db")) as old:
        routes = json.dumps([{**route, "quoted_usd": "0.5"}, kept])
        old.execute("UPDATE jobs SET routes = ? WHERE id = 'job_c2da9c7b'", [routes])
    store = Store(tmp_path / "old.db", tmp_path / "images")
    job = store.job("job_c2da9c7b")
    assert job and [r.quotes_usd for r in job.routes] == [(Decimal("0.5"),) * 2, (Decimal("0.1"), Decimal("0.2"))]
    store.close()
