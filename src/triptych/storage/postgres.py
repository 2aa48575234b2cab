"""The database on a PostgreSQL server: the methods of `sqlite.Database`, for any number of processes and threads.

Rules: outside `transaction` each statement is a transaction of its own. Isolation is READ COMMITTED: a rule over
several rows needs `lock`, or a row that is read FOR UPDATE. No session feature is used, so a transaction pooler
may stand in between. Every error of psycopg becomes an `errors.Outage`, or an `errors.Unusable` if waiting does not
help.

A COMMIT whose answer is lost: each writing transaction stores a random token in `commits`. A new connection then asks
for the token by storing it itself, which waits for the lost transaction and excludes it. So the outcome is known; only
if no connection succeeds for `SETTLE_S`, the error says that the write may have happened.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from enum import Enum
from typing import Any, TypeVar
from uuid import uuid4

import psycopg
from psycopg import sql

from triptych.core import errors
from triptych.core.clock import Clock
from triptych.storage import statements
from triptych.storage.migrations import CLOSED
from triptych.storage.migrations import postgres as migrations
from triptych.storage.postgres_clock import DatabaseClock
from triptych.storage.postgres_errors import Target
from triptych.storage.postgres_listen import CHANNEL, Listener
from triptych.storage.postgres_pool import Connection, Pool

T = TypeVar("T")

CONNECTIONS = 10
"""How many connections a process uses at most: one for each worker thread that calls the store, and a few."""
OLDEST_SERVER = 140000
SETTLE_S = 10.0
SETTLE_PAUSE_S = 0.25
KEEP_COMMITS_S = 900.0

ROWS_AT_ONCE = 500

_BEGIN = (
    # A frozen process must not hold its locks for ever, and none waits for ever.
    "BEGIN; SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = '60s'; "
    "SET LOCAL idle_in_transaction_session_timeout = '30s'; {}"
    "SELECT pg_advisory_xact_lock_shared(%(lock)s); SELECT version, minimum FROM triptych_version"
)
_NO_FSYNC = "SET LOCAL synchronous_commit = off; "
_COMMIT = "INSERT INTO commits (token, kept) VALUES (%(token)s, true); COMMIT"
_ASK = "INSERT INTO commits (token, kept) VALUES (%(token)s, false) ON CONFLICT (token) DO NOTHING"


class Database:
    """The database behind `url`; its tables are made and migrated to this program's version.

    Raises: `errors.Unusable` when it cannot be used, `errors.Outage` when it cannot be used now.
    """

    def __init__(self, url: str, *, migrate: bool = True) -> None:
        self._queries = statements.load("queries.sql", "queries_postgres.sql")
        self._version = migrations.newest()
        self._target = Target(url)
        self._pool = Pool(self._target.parameters, CONNECTIONS)
        self._here = _Here()
        self._clock: DatabaseClock | None = None
        self._commits = self.answers = 0
        self.id = uuid4().hex[:12]
        """The sender of this object's notifications."""
        try:
            with self._mendable(), self._pool.connection() as connection:
                self._require_server(connection)
            if migrate:
                self.migrate()
        except BaseException:
            self._pool.close()
            raise

    @property
    def name(self) -> str:
        """The database and its server, for messages."""
        return self._target.name

    def _require_server(self, connection: Connection) -> None:
        if connection.info.server_version < OLDEST_SERVER:
            raise errors.Unusable(
                f"The server of {self.name} is PostgreSQL {connection.info.server_version // 10000}.",
                "Triptych needs PostgreSQL 14 or newer.",
            )
        row = connection.execute("SHOW server_encoding").fetchone()
        if row and row["server_encoding"] != "UTF8":
            raise errors.Unusable(
                f"{self.name[0].upper()}{self.name[1:]} has the encoding {row['server_encoding']}.",
                "Make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0.",
            )

    def listener(self) -> Listener:
        """Return a listener for the changes that other processes make, on a connection of its own.

        Raises: `errors.Unusable` behind a pooler; `errors.Outage`.
        """
        with self._mendable():
            connection = self._pool.connect()
            try:
                return Listener(connection, self.id)
            except BaseException:
                connection.close()
                raise

    @contextmanager
    def lent(self) -> Iterator[Connection]:
        """Lend a connection for statements without a name."""
        with self._mendable(), self._pool.connection() as connection:
            yield connection

    def migrate(self) -> list[str]:
        """Run the migrations that the database lacks; return their names."""
        with self.lent() as connection:
            self._require(*migrations.versions(connection))
            return migrations.migrate(connection)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def boot(self) -> str:
        """Return the id of the clock that stored monotonic times are of: the server's, which no restart changes."""
        return ""

    def versions(self) -> tuple[int, int]:
        """Return the version of the tables, and the lowest version that a program must know; 0 without tables."""
        if self._here.connection:
            return self._here.versions
        with self._mendable(), self._pool.connection() as connection:
            return migrations.versions(connection)

    def outdated(self) -> bool:
        """Return whether a newer Triptych has changed the database so that this one must not work on it."""
        return self.versions()[1] > self._version

    def require_current(self) -> None:
        """Raise `errors.Outdated` if a newer Triptych has changed the database.

        In a transaction, no migration changes it before the end.
        """
        self._require(*self.versions())

    def _require(self, version: int, minimum: int) -> None:
        if minimum == CLOSED:
            raise errors.Outdated(f"A copy into {self.name} is not finished.", "Run triptych db copy again.")
        if minimum > self._version:
            raise errors.Outdated(
                f"A newer Triptych has changed {self.name} (version {version}); this one knows version "
                f"{self._version}.",
                "Restart with the newer Triptych (update it if need be), or name another database.",
            )

    def check(self) -> None:
        """Check that every table of this version is there and can be read. Raises: `errors.Unusable`, if not."""
        version, _ = self.versions()
        if version < self._version:
            raise errors.Unusable(
                f"The tables of {self.name} have version {version}; this Triptych needs {self._version}.",
                "Run triptych db migrate.",
            )
        with self._mendable(), self._pool.connection() as connection:
            for table in migrations.TABLES:
                connection.execute(sql.SQL("SELECT * FROM {} LIMIT 1").format(sql.Identifier(table)))

    def shrink(self) -> None:
        """Do nothing: the server's autovacuum reuses the space."""

    def run(self, query: str, **values: Any) -> psycopg.Cursor[dict[str, Any]]:
        """Run a statement by its name in `queries.sql`; a list stands for its items.

        Raises: `errors.Outage` if the database does not accept it; `KeyError` for a value that the statement does not
        use.
        """
        text, values = statements.with_lists(query, self._queries[query], values)
        text, values = statements.for_psycopg(text), {name: plain(value) for name, value in values.items()}
        with self._mendable():
            if connection := self._here.connection:
                self._here.wrote = self._here.wrote or not text.startswith("SELECT")
                return _execute(connection, text, values)
            with self._pool.connection() as connection:
                if not self._here.no_fsync:
                    return _execute(connection, text, values)
                cursor = _execute(connection, f"BEGIN; {_NO_FSYNC}{text.rstrip(';')}; COMMIT", values)
                cursor.nextset(), cursor.nextset()
                return cursor

    def run_each(self, query: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run an INSERT with VALUES for each of these values, in a transaction: many rows in one statement."""
        connection = self._here.connection
        assert connection, "many rows are written in a transaction"
        head, values, row_text = statements.for_psycopg(self._queries[query]).rstrip(";").partition("VALUES ")
        assert values
        self._here.wrote = True
        with self._mendable(), psycopg.ClientCursor(connection) as cursor:
            for some in batched(rows, ROWS_AT_ONCE):
                written = [
                    cursor.mogrify(row_text, {name: plain(value) for name, value in row.items()}) for row in some
                ]
                cursor.execute((head + values + ", ".join(written)).encode())

    def parameters(self, query: str) -> frozenset[str]:
        """Return the names of the values that a statement uses."""
        return statements.parameters(self._queries[query])

    def all(self, query: str, **values: Any) -> list[dict[str, Any]]:
        """Return every row of a statement."""
        return self.run(query, **values).fetchall()

    def one(self, query: str, **values: Any) -> dict[str, Any] | None:
        """Return the first row of a statement, if there is one."""
        return self.run(query, **values).fetchone()

    @contextmanager
    def without_fsync(self) -> Iterator[None]:
        """Write without waiting for the disk: a crash of the server may lose the write, the end of a process does not.

        Commits stay in order: a later write that waits takes these with it.
        """
        before, self._here.no_fsync = self._here.no_fsync, True
        try:
            yield
        finally:
            self._here.no_fsync = before

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all writes of the block, or none.

        Raises: `errors.Outage` if the database does not accept them; its message says if they may be written all the
        same.
        """
        here = self._here
        assert here.connection is None, "transactions are not nested"
        with self._mendable(), self._pool.connection() as connection:
            cursor = _execute(connection, _BEGIN.format(_NO_FSYNC if here.no_fsync else ""), {"lock": migrations.LOCK})
            while cursor.nextset():
                pass
            row = cursor.fetchone()
            here.versions = (row["version"], row["minimum"]) if row else (0, 0)
            here.connection, here.wrote, here.told = connection, False, []
            try:
                yield
                self._commit(connection)
            except BaseException:
                with suppress(psycopg.Error):  # the first error is the reason
                    connection.rollback()
                raise
            finally:
                here.connection = None

    def _commit(self, connection: Connection) -> None:
        here, token = self._here, uuid4().hex
        tell = "".join(f"SELECT pg_notify('{CHANNEL}', %(told_{n})s); " for n in range(len(here.told)))
        values = {f"told_{n}": f"{self.id} {job_id}" for n, job_id in enumerate(here.told)}
        asked = here.wrote and not here.no_fsync
        if asked:
            values["token"] = token
        try:
            _execute(connection, tell + (_COMMIT if asked else "COMMIT"), values)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if not asked or not connection.broken:
                raise
            if not self._was_committed(token, error):
                raise
        if asked:
            self._forget_commits(connection)

    def _was_committed(self, token: str, lost: psycopg.Error) -> bool:
        """Return whether the transaction with a token is committed; if not, it never will be.

        Raises: `errors.Outage` if no connection can tell.
        """
        end = time.monotonic() + SETTLE_S
        while True:
            self._pool.forget()
            try:
                with self._pool.connect() as connection:
                    connection.execute(_ASK, {"token": token})
                    row = connection.execute("SELECT kept FROM commits WHERE token = %s", [token]).fetchone()
                    return bool(row and row["kept"])
            except psycopg.Error as error:
                if time.monotonic() >= end:
                    known = self._target.error(lost)
                    open_end = "The last write may be stored or not."
                    raise errors.Outage(
                        f"{known.message} {open_end}", for_operator=f"{known.for_operator} {open_end}"
                    ) from error
            time.sleep(SETTLE_PAUSE_S)

    def _forget_commits(self, connection: Connection) -> None:
        """Now and then, delete old tokens."""
        self._commits += 1
        if self._commits % 500 == 0:
            with suppress(psycopg.Error):
                connection.execute(
                    "DELETE FROM commits WHERE at < extract(epoch FROM clock_timestamp()) - %s", [KEEP_COMMITS_S]
                )

    def lock(self, *names: str) -> None:
        """Wait until no other transaction holds one of these names; hold them to the end of this transaction."""
        connection = self._here.connection
        assert connection, "a lock belongs to a transaction"
        with self._mendable():
            for name in sorted(set(names)):
                connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])

    def notify(self, job_id: str) -> None:
        """Tell other processes that a job has changed, once this transaction is committed."""
        assert self._here.connection, "a notification belongs to a transaction"
        if job_id not in self._here.told:
            self._here.told.append(job_id)

    def clock(self, local: Clock) -> DatabaseClock:
        """Return the server's clock, measured now and at each new connection; `local` is this machine's."""
        self._clock = clock = DatabaseClock(local)
        self._pool.on_connect = lambda connection: clock.measure(lambda: _time(connection))
        self.measure_clock()
        return clock

    def measure_clock(self) -> None:
        """Measure the server's clock again."""
        if self._clock:
            with self._mendable(), self._pool.connection() as connection:
                self._clock.measure(lambda: _time(connection))

    @contextmanager
    def _mendable(self) -> Iterator[None]:
        """Turn an error of psycopg into one with the database and a way to mend it."""
        try:
            yield
        except psycopg.Error as error:
            if isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None:
                raise  # a mistake in this program, raised before the server is asked
            if (error.sqlstate or "08").startswith(("08", "57P", "25006")):
                self._pool.forget()
            raise self._target.error(error) from error
        self.answers += 1


class _Here(threading.local):
    """The state of one thread: its transaction, if it is in one."""

    connection: Connection | None = None
    no_fsync = False
    wrote = False
    versions = (0, 0)

    def __init__(self) -> None:
        self.told: list[str] = []


def batched(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield the rows in lists of at most so many."""
    for begin in range(0, len(rows), size):
        yield rows[begin : begin + size]


def _execute(connection: Connection, text: str, values: dict[str, Any]) -> psycopg.Cursor[dict[str, Any]]:
    return connection.execute(text, values)


def _time(connection: Connection) -> float:
    row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8 AS now").fetchone()
    assert row
    return float(row["now"])


def plain(value: Any) -> str | int | float | None:
    """Return a value as the columns have it: 0 or 1, decimal text, and no NUL, which PostgreSQL's texts cannot have."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return value  # type: ignore[no-any-return]
