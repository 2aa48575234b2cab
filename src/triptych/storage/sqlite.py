"""One SQLite connection under the store: statements by name, transactions, and errors with a way to mend them.

WAL mode with `synchronous=FULL`: several processes share the file, and a write is on the disk when it returns, except
in `without_fsync`. Each `sqlite3.Error` becomes an `errors.Outage`, or an `errors.Unusable` if waiting does not help.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from triptych.core import errors, private_files
from triptych.core.clock import Clock, boot_id
from triptych.storage import migrations, statements

OPEN_TIMEOUT_S = 30.0
BUSY_TIMEOUT_S = 2.0
"""How long a statement waits for another program's lock; the other statements of this process wait with it."""
ROWS_AT_ONCE = 250
SWITCH_TRIES = 100
SWITCH_PAUSE_S = 0.05

RESTORE = (
    "Stop every Triptych on it, move it away together with its -wal and -shm files, and restore a backup in its place; "
    "without one, the next start makes an empty database."
)


class Database:
    """The database at `path`; created if it is missing, and migrated to this program's version.

    Raises: `errors.Unusable` when the file cannot be used, `errors.Outage` while another program locks it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._queries = statements.load("queries.sql")
        self._version = migrations.newest()
        try:
            private_files.make_home(path.parent)
        except OSError as error:
            raise errors.Unusable(
                f"The directory {path.parent} cannot be made ({error.strerror}).", _WRITABLE
            ) from error
        if path.is_dir():
            raise errors.Unusable(f"{path} is a directory, where the database should be a file.", "Move it away.")
        with suppress(OSError):  # SQLite reports the error
            private_files.make_file(path)  # its -wal and -shm get the same rights
            private_files.tighten_files(path.with_name(path.name + end) for end in ("-wal", "-shm"))
        self.answers = 0
        with self._mendable():
            self.connection = sqlite3.connect(
                path, isolation_level=None, timeout=OPEN_TIMEOUT_S, check_same_thread=False
            )
        try:
            self.connection.row_factory = sqlite3.Row
            with self._mendable():
                self._use_wal()
                self.connection.execute("PRAGMA fullfsync=ON")  # macOS alone: not only into the drive's cache
                self.connection.execute("PRAGMA synchronous=FULL")
                self.require_current()
                migrations.migrate(self.connection)
                self.connection.execute(f"PRAGMA busy_timeout = {round(BUSY_TIMEOUT_S * 1000)}")
        except BaseException:
            self.connection.close()
            raise

    def _use_wal(self) -> None:
        """Switch to the write-ahead log. SQLite does not wait for this lock if two processes open a new file."""
        for left in reversed(range(SWITCH_TRIES)):
            try:
                self.connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if not left or "locked" not in str(error):
                    raise
                time.sleep(SWITCH_PAUSE_S)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def outdated(self) -> bool:
        """Return whether a newer Triptych has changed the database so that this one must not work on it."""
        with self._mendable():
            return migrations.minimum(self.connection) > self._version

    def require_current(self) -> None:
        """Raise `errors.Outdated` if a newer Triptych has changed the database; each call reads its version."""
        if self.outdated():
            raise self._outdated()

    def _outdated(self) -> errors.Outdated:
        if migrations.minimum(self.connection) == migrations.CLOSED:
            return errors.Outdated(
                f"The database {self.path} was copied to PostgreSQL, so that its queued jobs are not sent twice.",
                "Set TRIPTYCH_DATABASE_URL to that database (triptych db copy finishes a copy), or TRIPTYCH_HOME to "
                "another directory.",
            )
        return errors.Outdated(
            f"A newer Triptych has changed the database {self.path} (version {migrations.version(self.connection)}); "
            f"this one knows version {self._version}.",
            "Restart with the newer Triptych (update it if need be), or set TRIPTYCH_HOME to another directory.",
        )

    def check(self) -> None:
        """Check every page of the file. Raises: `errors.Unusable` if one is damaged."""
        with self._mendable():
            reason = self.connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if reason != "ok":
            raise self._damaged(reason)

    def shrink(self) -> None:
        """Return free pages to the disk, and empty the log; does nothing while another program locks the database."""
        with suppress(errors.Outage), self._mendable():
            self.connection.execute("VACUUM")
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def run(self, query: str, **values: Any) -> sqlite3.Cursor:
        """Run a statement by its name in `queries.sql`; a list stands for its items.

        Raises: `errors.Outage` if the database does not accept a write; `KeyError` for a value that the statement does
        not use (SQLite ignores it).
        """
        sql, values = statements.with_lists(query, self._queries[query], values)
        with self._mendable():
            cursor = self.connection.execute(sql, values)
        self.answers += 1
        return cursor

    def run_each(self, query: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run an INSERT with VALUES for each of these values, in a transaction: many rows in one statement.

        Each statement on a table with triggers costs SQLite a savepoint, a statement of many rows only one.
        """
        head, values, row_text = self._queries[query].rstrip(";").partition("VALUES ")
        assert values
        row_text, names = statements.with_places(row_text)
        most_values = self.connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        at_once = max(1, min(ROWS_AT_ONCE, most_values // len(names)))
        for begin in range(0, len(rows), at_once):
            some = rows[begin : begin + at_once]
            text = head + values + ", ".join([row_text] * len(some))
            with self._mendable():
                self.connection.execute(text, [row[name] for row in some for name in names])
            self.answers += 1

    def parameters(self, query: str) -> frozenset[str]:
        """Return the names of the values that a statement uses."""
        return statements.parameters(self._queries[query])

    def all(self, query: str, **values: Any) -> list[sqlite3.Row]:
        """Return every row of a statement."""
        with self._mendable():
            return self.run(query, **values).fetchall()

    def one(self, query: str, **values: Any) -> sqlite3.Row | None:
        """Return the first row of a statement, if there is one."""
        with self._mendable():
            row: sqlite3.Row | None = self.run(query, **values).fetchone()
        return row

    def lock(self, *names: str) -> None:
        """Do nothing: a transaction excludes every other one."""

    def notify(self, job_id: str) -> None:
        """Do nothing: the processes of one machine read the file often enough."""

    def listener(self) -> None:
        """Return None: the file tells nobody."""

    def boot(self) -> str:
        """Return an id of this boot of the machine: stored monotonic times are invalid after a restart."""
        return boot_id()

    def clock(self, local: Clock) -> Clock:
        """Return this machine's clock: all processes on the file run here."""
        return local

    def measure_clock(self) -> None:
        """Do nothing: the clock is this machine's."""

    @contextmanager
    def without_fsync(self) -> Iterator[None]:
        """Write without waiting for the disk: a power cut may lose the write, the end of this process does not."""
        with self._mendable():
            self.connection.execute("PRAGMA synchronous=NORMAL")
        try:
            yield
        finally:
            with self._mendable():
                self.connection.execute("PRAGMA synchronous=FULL")
                self.connection.execute("PRAGMA fullfsync=ON")  # macOS alone: not only into the drive's cache

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all writes of the block, or none.

        Raises: `errors.Outage` if the database is locked or does not accept a write.
        """
        with self._mendable():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:  # a full disk has rolled it back already
                    with suppress(sqlite3.Error):  # for a damaged file the first error is the reason
                        self.connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _mendable(self) -> Iterator[None]:
        """Turn an SQLite error into one with the file and a way to mend it."""
        try:
            yield
        except sqlite3.ProgrammingError:  # a mistake in this program, raised before SQLite is asked
            raise
        except sqlite3.Error as error:
            raise self._as_outage(error) from error

    def _as_outage(self, error: sqlite3.Error) -> errors.Outage:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_IOERR) & 0xFF
        if code == sqlite3.SQLITE_ERROR:
            with suppress(sqlite3.Error):
                if migrations.version(self.connection) > self._version:
                    return self._outdated()
        return _ERRORS.get(code, _not_taken)(self.path, error)

    def _damaged(self, reason: str) -> errors.Unusable:
        return _damaged(self.path, reason)


MakeError = Callable[[Path, object], errors.Outage]

_WRITABLE = "Set TRIPTYCH_HOME to a directory that can be written."


def _damaged(path: Path, reason: object) -> errors.Unusable:
    return errors.Unusable(f"The database {path} is damaged ({reason}).", RESTORE)


def _no_database(path: Path, reason: object) -> errors.Unusable:
    return errors.Unusable(f"{path} is not a database of Triptych ({reason}).", RESTORE)


def _changed(path: Path, reason: object) -> errors.Unusable:
    return errors.Unusable(f"The tables of the database {path} are not those of this Triptych ({reason}).", RESTORE)


def _read_only(path: Path, reason: object) -> errors.Unusable:
    return errors.Unusable(
        f"The database {path} cannot be opened or written ({reason}).",
        f"Let this user write {path.parent} and the files in it (is the disk mounted read-only?), or set TRIPTYCH_HOME "
        "to a directory that can be written.",
    )


def _full(path: Path, reason: object) -> errors.Outage:
    return errors.Outage(
        "The disk of the server's database is full. The worker continues once there is space.",
        for_operator=f"The disk with the database {path} is full ({reason}). Free some space (triptych prune shows "
        "what can be removed); the worker then continues.",
    )


def _locked(path: Path, reason: object) -> errors.Outage:
    return errors.Outage(
        "Another program keeps the server's database locked. Try again in a moment.",
        for_operator=f"Another program keeps the database {path} locked ({reason}). "
        "Close that program (a database browser, a backup, a stopped Triptych), then try again.",
    )


def _not_taken(path: Path, reason: object) -> errors.Outage:
    return errors.Outage(
        "The server's database rejected a write. Try again in a moment.",
        for_operator=f"The database {path} rejected a write ({reason}). Check its disk: is it full, read-only or "
        "disconnected?",
    )


_ERRORS: Mapping[int, MakeError] = {
    sqlite3.SQLITE_CORRUPT: _damaged,
    sqlite3.SQLITE_CONSTRAINT: _changed,
    sqlite3.SQLITE_MISMATCH: _changed,
    sqlite3.SQLITE_ERROR: _changed,
    sqlite3.SQLITE_SCHEMA: _changed,
    sqlite3.SQLITE_NOTADB: _no_database,
    sqlite3.SQLITE_FORMAT: _no_database,
    sqlite3.SQLITE_READONLY: _read_only,
    sqlite3.SQLITE_CANTOPEN: _read_only,
    sqlite3.SQLITE_PERM: _read_only,
    sqlite3.SQLITE_AUTH: _read_only,
    sqlite3.SQLITE_FULL: _full,
    sqlite3.SQLITE_BUSY: _locked,
    sqlite3.SQLITE_LOCKED: _locked,
}
"""The error for each of SQLite's primary result codes."""
