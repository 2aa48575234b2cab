"""Copies a SQLite database into an empty PostgreSQL database, so that it is there whole or not at all.

Rules: no server works on the file meanwhile, and none on the new database before the end, because that is marked as
unfinished. Each batch of rows is one transaction with its progress, so a copy that was killed goes on where it was. Row
counts and hashes of every table are compared. Then the file is marked, so that no server sends its queued jobs a second
time, and only then the new database is opened to servers. Image files stay where they are.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from triptych.core import errors
from triptych.core.clock import Clock, SystemClock, boot_id
from triptych.storage.jobs import Store
from triptych.storage.migrations import CLOSED, minimum
from triptych.storage.migrations import postgres as migrations
from triptych.storage.postgres import Database, plain
from triptych.storage.postgres_pool import Connection

BATCH = 500
# Changes are told to processes that run meanwhile, and there are none.
TABLES = tuple(table for table in migrations.TABLES if table not in ("commits", "changes"))
SECONDS: dict[str, tuple[str, ...]] = {
    "jobs": ("ended_mono",),
    "predictions": ("due_at", "deadline_at", "created_mono", "submitted_mono", "looked_mono", "hinted_mono"),
    "accounts": ("hold_until", "quiet_until", "next_sweep"),
    "money": ("newest_mono",),
    "changes": ("mono",),
}
"""The columns with seconds of the machine's monotonic clock; in PostgreSQL they are seconds of the server's clock."""

Report = Callable[[str], None]
Hash = tuple[int, int]
"""The number of rows, and the sum of their SHA-256: the same in whichever order they are read."""


@dataclass(frozen=True, slots=True)
class Copied:
    """The number of rows in each table. `again`: the copy was finished before."""

    rows: dict[str, int]
    again: bool = False


def copy(path: Path, database: Database, report: Report = lambda text: None) -> Copied:
    """Copy the file at `path` into a database that was opened with `migrate=False`; the same call resumes a copy.

    Raises: `errors.Unusable` if a server works on the file, or the database has jobs of its own: then nothing is
    written, and the file is not migrated; `errors.Outage`.
    """
    if not path.is_file():
        raise errors.Unusable(f"There is no database {path}.", "Set TRIPTYCH_HOME to the directory that has it.")
    with database.lent() as connection:
        if _is_closed(path) and migrations.versions(connection)[1] not in (0, CLOSED):
            return Copied({table: _count(connection, table) for table in TABLES}, again=True)
        _refuse_if_in_use(path)
        _require_empty(database, connection)
        if not _is_closed(path):  # brings it up to date, and its clock to this boot of the machine
            Store(path, path.parent / "images").close()
        with closing(_alone(path)) as source:
            report("the file is closed to servers")
            copier = _Copier(source, connection, report)
            copier.begin(database)
            for table in TABLES:
                copier.copy(table)
            rows = {table: copier.verified(table) for table in TABLES}
            source.execute(f"PRAGMA application_id = {CLOSED}")
            report("the file is marked as copied")
            copier.finish()
            report("the database is open to servers")
    return Copied(rows)


def _is_closed(path: Path) -> bool:
    with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as connection:
        return minimum(connection) == CLOSED
    return False


def _refuse_if_in_use(path: Path) -> None:
    with suppress(sqlite3.DatabaseError):  # a file that is no database: `Store` says so
        _alone(path).close()


def _require_empty(database: Database, connection: Connection) -> None:
    """Refuse a database that has rows already, or that a newer Triptych has changed. An unfinished copy is accepted."""
    version, required = migrations.versions(connection)
    if version == 0 or required == CLOSED:
        return
    database.require_current()
    for table in TABLES:
        there = connection.execute("SELECT to_regclass(%s) AS name", [table]).fetchone()
        if not there or there["name"] is None:  # a later version makes it
            continue
        if connection.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(table))).fetchone():
            raise errors.Unusable(
                f"{database.name[0].upper()}{database.name[1:]} has jobs or images of its own ({table}).",
                "Name an empty database in TRIPTYCH_DATABASE_URL.",
            )


def _alone(path: Path) -> sqlite3.Connection:
    """Return the only connection to a file, which keeps every other one out."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=1.0)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        connection.close()
        raise errors.Unusable(
            f"A program works on the database {path} ({error}).",
            "Stop every Triptych that uses this directory, then run triptych db copy again.",
        ) from error
    connection.row_factory = sqlite3.Row
    return connection


class _Copier:
    def __init__(self, source: sqlite3.Connection, target: Connection, report: Report) -> None:
        self._source = source
        self._target = target
        self._report = report
        self._columns: dict[str, list[str]] = {}
        self._offset_s = 0.0
        self._minimum = 0

    def begin(self, database: Database) -> None:
        """Make the tables, and mark the database as unfinished; continue with one that is marked already."""
        migrations.migrate(self._target)
        with self._target.transaction():
            self._target.execute("SELECT pg_advisory_xact_lock(%s)", [migrations.LOCK])
            if migrations.versions(self._target)[1] != CLOSED:
                self._mark(database)
        row = self._target.execute("SELECT * FROM copying").fetchone()
        assert row
        if row["boot"] != boot_id():  # the monotonic clock began anew: nothing of the old copy has its seconds
            self._clear(TABLES)
            self._target.execute(
                "UPDATE copying SET boot = %s, offset_s = %s", [boot_id(), self._offset(database.clock(SystemClock()))]
            )
            row = self._target.execute("SELECT * FROM copying").fetchone()
            assert row
        self._offset_s, self._minimum = row["offset_s"], row["minimum"]
        self._report("the database is marked as unfinished")

    def _mark(self, database: Database) -> None:
        _require_empty(database, self._target)
        self._target.execute(
            "CREATE TABLE copying (boot TEXT NOT NULL, offset_s DOUBLE PRECISION NOT NULL, minimum BIGINT NOT NULL);"
            "CREATE TABLE copied (name TEXT PRIMARY KEY, row BIGINT NOT NULL);"
            "ALTER TABLE predictions DISABLE TRIGGER USER;"
        )
        offset_s = self._offset(database.clock(SystemClock()))
        known = migrations.versions(self._target)[1]
        self._target.execute("INSERT INTO copying VALUES (%s, %s, %s)", [boot_id(), offset_s, known])
        self._target.execute("UPDATE triptych_version SET minimum = %s", [CLOSED])

    @staticmethod
    def _offset(clock: Clock) -> float:
        return clock.monotonic() - SystemClock().monotonic()

    def _clear(self, tables: Sequence[str]) -> None:
        with self._target.transaction():
            for table in tables:
                self._target.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
                self._target.execute("DELETE FROM copied WHERE name = %s", [table])

    def copy(self, table: str) -> None:
        """Copy the rows of a table that are not there yet."""
        names = self._names(table)
        into = sql.SQL("COPY {} ({}) FROM STDIN").format(
            sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, names))
        )
        while True:
            done = self._target.execute("SELECT row FROM copied WHERE name = %s", [table]).fetchone()
            last = done["row"] if done else 0
            rows = self._source.execute(
                f"SELECT rowid AS copied_row, * FROM {table} WHERE rowid > ? ORDER BY rowid LIMIT ?",  # noqa: S608
                [last, BATCH],
            ).fetchall()
            if not rows:
                return
            with self._target.transaction():
                with self._target.cursor() as cursor, cursor.copy(into) as stream:
                    for row in rows:
                        stream.write_row(self._values(table, names, row))
                self._target.execute(
                    "INSERT INTO copied VALUES (%(name)s, %(row)s) ON CONFLICT (name) DO UPDATE SET row = excluded.row",
                    {"name": table, "row": rows[-1]["copied_row"]},
                )
            self._report(f"{table}: {_count(self._target, table)} rows are copied")

    def _names(self, table: str) -> list[str]:
        """Return the columns of a table in both databases.

        Raises: `errors.Unusable` if one of them has a column more.
        """
        if table not in self._columns:
            found = self._target.execute(
                "SELECT column_name FROM information_schema.columns WHERE table_name = %s "
                "AND table_schema = ANY(current_schemas(false)) AND is_generated = 'NEVER' ORDER BY ordinal_position",
                [table],
            ).fetchall()
            names = [row["column_name"] for row in found]
            ours = {row["name"] for row in self._source.execute(f"PRAGMA table_info({table})")}
            if ours != set(names):
                raise errors.Unusable(
                    f"The table {table} is not the same in both databases.", "Update Triptych, then copy again."
                )
            self._columns[table] = names
        return self._columns[table]

    def _values(self, table: str, names: Sequence[str], row: sqlite3.Row) -> list[Any]:
        """Return a row as PostgreSQL has it: no lease, and seconds of the server's clock."""
        values = {name: plain(row[name]) for name in names}
        if table == "predictions":
            values |= {"lease": None, "lease_until": 0.0}
        for name in SECONDS.get(table, ()):
            if values[name]:
                values[name] = float(values[name]) + self._offset_s  # type: ignore[arg-type]
        return list(values.values())

    def verified(self, table: str) -> int:
        """Compare a table in both databases, and copy it again if it differs; return the number of its rows.

        It differs if servers worked on the file after a copy that was stopped. Raises: `errors.Unusable` if it differs
        again.
        """
        for left in (1, 0):
            wanted, found = self._hash_of_source(table), self._hash_of_target(table)
            if wanted == found:
                self._report(f"{table}: {found[0]} rows are the same")
                return found[0]
            if left:
                self._clear([table])
                self.copy(table)
        raise errors.Unusable(
            f"The table {table} has {wanted[0]} rows in the file and {found[0]} in the copy, or they differ.",
            "Run triptych db copy again; if it stays, report it. Nothing works on the copy yet.",
        )

    def _hash_of_source(self, table: str) -> Hash:
        names = self._names(table)
        rows = self._source.execute(f"SELECT * FROM {table}")  # noqa: S608 (one of our own tables)
        return _hash(self._values(table, names, row) for row in rows)

    def _hash_of_target(self, table: str) -> Hash:
        names = self._names(table)
        query = sql.SQL("SELECT {} FROM {}").format(
            sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(table)
        )
        with self._target.transaction(), psycopg.ServerCursor(self._target, "compared") as cursor:
            cursor.execute(query)
            return _hash(list(row.values()) for row in cursor)

    def finish(self) -> None:
        """Open the database to servers."""
        with self._target.transaction():
            self._target.execute("SELECT pg_advisory_xact_lock(%s)", [migrations.LOCK])
            self._target.execute("ALTER TABLE predictions ENABLE TRIGGER USER; DROP TABLE copying; DROP TABLE copied")
            self._target.execute("UPDATE triptych_version SET minimum = %s", [self._minimum])


def _count(connection: Connection, table: str) -> int:
    row = connection.execute(sql.SQL("SELECT COUNT(*) AS n FROM {}").format(sql.Identifier(table))).fetchone()
    return int(row["n"]) if row else 0


def _hash(rows: Iterator[list[Any]]) -> Hash:
    count = total = 0
    for row in rows:
        same = [float(value) if isinstance(value, int) else value for value in row]
        total += int.from_bytes(hashlib.sha256(json.dumps(same).encode()).digest())
        count += 1
    return count, total % 2**256
