"""The plumbing under the store: one SQLite connection, statements by name, transactions, errors that a person can mend.

WAL mode with `synchronous=FULL`: several processes share the file, and a write is on the disk when it returns, unless
it is one that a power cut may forget (`unflushed`).
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from triptych import errors, migrations

SWITCH_TRIES = 100
SWITCH_PAUSE_S = 0.05


class Database:
    """The database at `path`; made, with its tables, if it is not there.

    Raises: `errors.BadRequest` when the file cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self._queries = _load_queries()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
            self.connection.row_factory = sqlite3.Row
            self._use_wal()
            self.connection.execute("PRAGMA synchronous=FULL")
            if migrations.version(self.connection) > migrations.newest():
                raise sqlite3.DatabaseError("a newer Triptych made it")
            migrations.migrate(self.connection)
        except (OSError, sqlite3.Error) as error:
            raise errors.BadRequest(
                f"The database at {path} cannot be opened ({error}). "
                "Set TRIPTYCH_HOME to a directory that can be written."
            ) from error

    def _use_wal(self) -> None:
        """Switch to the write-ahead log. For this lock SQLite does not wait by itself, and two may open a new file."""
        for left in reversed(range(SWITCH_TRIES)):
            try:
                self.connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if not left or "locked" not in str(error):
                    raise
                time.sleep(SWITCH_PAUSE_S)

    def close(self) -> None:
        """Close the connection; what was written stays."""
        self.connection.close()

    def run(self, query: str, **values: Any) -> sqlite3.Cursor:
        """Run a statement by its name in `queries.sql`; a list stands for its items.

        Raises: `errors.Outage` when the database does not take a write.
        """
        sql = self._queries[query]
        for name, value in list(values.items()):
            if isinstance(value, list | tuple | set | frozenset):
                del values[name]
                items = {f"{name}_{i}": item for i, item in enumerate(value)}
                sql = re.sub(rf":{name}\b", ", ".join(f":{key}" for key in items) or "''", sql)
                values.update(items)
        try:
            return self.connection.execute(sql, values)
        except sqlite3.OperationalError as error:
            raise _not_written(error) from error

    def all(self, query: str, **values: Any) -> list[sqlite3.Row]:
        """Return every row of a statement."""
        return self.run(query, **values).fetchall()

    def one(self, query: str, **values: Any) -> sqlite3.Row | None:
        """Return the first row of a statement, if there is one."""
        row: sqlite3.Row | None = self.run(query, **values).fetchone()
        return row

    @contextmanager
    def unflushed(self) -> Iterator[None]:
        """Write without waiting for the disk: a power cut may forget it, the end of this process does not."""
        self.connection.execute("PRAGMA synchronous=NORMAL")
        try:
            yield
        finally:
            self.connection.execute("PRAGMA synchronous=FULL")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do all of the block or nothing of it.

        Raises: `errors.Outage` when the database is not to be had, or does not take it.
        """
        try:
            self.connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise errors.Outage(f"The database is not available ({error}).") from error
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException as error:
            if self.connection.in_transaction:  # a full disk has already undone it
                self.connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise _not_written(error) from error
            raise


def _not_written(error: sqlite3.OperationalError) -> errors.Outage:
    return errors.Outage(
        f"The database did not take a write ({error}). Is the disk full, or read-only? TRIPTYCH_HOME says where it is."
    )


def _load_queries() -> Mapping[str, str]:
    text = files("triptych").joinpath("queries.sql").read_text("utf-8")
    return {
        name: sql.strip()
        for name, sql in re.findall(r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)", text, re.DOTALL | re.MULTILINE)
    }
