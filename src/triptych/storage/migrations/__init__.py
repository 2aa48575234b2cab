"""Numbered migrations: `NNNN_words.sql` beside this file, each run once on every database, in the order of the numbers.

SQLite's `user_version` in the file is the number of the last one that ran. A migration is SQL that runs in one
transaction, so it is applied whole or not at all. A published migration is never edited; a change is a new one.

SQLite's `application_id` in the file is the lowest version that a program must know to work on it. A migration raises
it to its own number, unless its SQL begins with `COMPATIBLE`: then programs that do not know it may go on.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

COMPATIBLE = "-- compatible: a program that does not know this migration may go on"

FOLDER = Path(__file__).parent

CLOSED = 2**31 - 1
"""The lowest version of a database that no program may work on: a file that was copied to PostgreSQL, or a database
into which a copy is not finished."""


def listed(folder: Path = FOLDER) -> list[tuple[int, str]]:
    """Return the number and file name of every migration in a folder, in order."""
    names = (file.name for file in folder.iterdir())
    return sorted((int(name[:4]), name) for name in names if re.fullmatch(r"[0-9]{4}_\w+\.sql", name))


def version(connection: sqlite3.Connection) -> int:
    """Return the number of the last migration that ran on a database; 0 for a new one."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def minimum(connection: sqlite3.Connection) -> int:
    """Return the lowest version that a program must know to work on a database."""
    return int(connection.execute("PRAGMA application_id").fetchone()[0])


def newest() -> int:
    """Return the version that this program brings a database to."""
    return listed()[-1][0]


def migrate(connection: sqlite3.Connection) -> None:
    """Run the migrations that a database lacks; several processes may do so at once.

    `connection` is in autocommit mode. Raises: `sqlite3.Error`; the database is then at the version before.
    """
    for number, name in listed():
        if version(connection) < number:
            connection.execute("BEGIN IMMEDIATE")
            try:
                if version(connection) < number:  # no other process has run it meanwhile
                    script = (FOLDER / name).read_text("utf-8")
                    for statement in statements(script):
                        connection.execute(statement)
                    if not script.startswith(COMPATIBLE):
                        connection.execute(f"PRAGMA application_id = {number}")
                    connection.execute(f"PRAGMA user_version = {number}")
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk has rolled it back already
                    connection.execute("ROLLBACK")
                raise


def statements(script: str) -> Iterator[str]:
    """Yield the statements of a script; a semicolon in a comment, a text or a trigger ends none."""
    statement = ""
    for part in script.split(";"):
        statement += f"{part};"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    yield statement
