"""Databases of every age: each ends with the tables of a new one, and with all of its rows."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from triptych import migrations

Columns = dict[str, list[tuple[object, ...]]]


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
