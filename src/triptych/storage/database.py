"""The interface of a database, and the choice of one: SQLite in a file, or PostgreSQL behind a URL.

`sqlite.Database` and `postgres.Database` have these methods. The second is imported only if there is a URL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from triptych.core import errors
from triptych.core.clock import Clock
from triptych.storage.sqlite import Database as SqliteDatabase

if TYPE_CHECKING:
    from triptych.storage.postgres import Database as PostgresDatabase


class Row(Protocol):
    """A row of a result: `row["column"]`."""

    def __getitem__(self, column: str, /) -> Any: ...


class Rows(Protocol):
    """The result of a statement. `rowcount`: how many rows it changed."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Listener(Protocol):
    """Hears which jobs other processes have changed; `fileno` is readable when something was heard."""

    def fileno(self) -> int: ...

    def heard(self) -> set[str]: ...

    def close(self) -> None: ...


class Database(Protocol):
    """Statements by name, and transactions. Every error is an `errors.Outage`, or an `errors.Unusable`."""

    answers: int
    """How many statements were run without an error: more of them show that an outage is over."""

    def run(self, query: str, **values: Any) -> Rows: ...

    def run_each(self, query: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run an INSERT with VALUES for each of these values, in a transaction."""

    def all(self, query: str, **values: Any) -> Sequence[Row]: ...

    def one(self, query: str, **values: Any) -> Row | None: ...

    def parameters(self, query: str) -> frozenset[str]: ...

    def transaction(self) -> AbstractContextManager[None]: ...

    def without_fsync(self) -> AbstractContextManager[None]: ...

    def lock(self, *names: str) -> None:
        """Wait until no other transaction holds one of these names; hold them to the end of this transaction."""

    def notify(self, job_id: str) -> None:
        """Tell other processes that a job has changed, once this transaction is committed."""

    def listener(self) -> Listener | None:
        """Return a listener for the changes by other processes, None if nothing can be heard."""

    def boot(self) -> str:
        """Return an id that changes when stored monotonic times become invalid; empty if they never do."""

    def clock(self, local: Clock) -> Clock:
        """Return the clock of leases and due times; `local` is this machine's."""

    def measure_clock(self) -> None:
        """Measure that clock again, if it is a server's."""

    def outdated(self) -> bool: ...

    def require_current(self) -> None: ...

    def check(self) -> None: ...

    def shrink(self) -> None: ...

    def close(self) -> None: ...


def open_database(path: Path, url: str | None) -> Database:
    """Open the database behind a URL, or the file at `path` if there is no URL.

    Raises: `errors.Unusable` if it cannot be used, `errors.Outage` if it cannot be used now.
    """
    return SqliteDatabase(path) if url is None else open_postgres(url)


def open_postgres(url: str, *, migrate: bool = True) -> PostgresDatabase:
    """Open the PostgreSQL database behind a URL; its tables are as this version needs them if `migrate` is set.

    Raises: as `open_database`, and `errors.Unusable` if the driver is not installed.
    """
    try:
        from triptych.storage.postgres import Database as PostgresDatabase
    except ImportError as error:
        raise errors.Unusable(
            f"TRIPTYCH_DATABASE_URL is set, but the driver for PostgreSQL cannot be imported ({error}).",
            'Install it: pip install "triptych[postgres]". Or unset TRIPTYCH_DATABASE_URL to use SQLite.',
        ) from error
    return PostgresDatabase(url, migrate=migrate)
