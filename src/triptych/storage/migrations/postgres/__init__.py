"""Numbered migrations for PostgreSQL, by the rules of the package above: `NNNN_words.sql`, each run once, in order.

The first one makes all tables of its version. The table `triptych_version` holds what SQLite keeps in its file: the
number of the last migration, and the lowest version that a program must know. A migration runs in one transaction
under `LOCK`; every other transaction of Triptych holds that lock as a shared one, so none sees half a change.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg

from triptych.storage.migrations import COMPATIBLE, listed

FOLDER = Path(__file__).parent

LOCK = 0x54524950
"""The key of the advisory lock."""
TABLES = (
    "images", "holders", "copies", "jobs", "predictions", "frames", "saves", "saved_files", "file_secret", "looks",
    "commits", "accounts", "queues", "money", "changes",
)  # fmt: skip
"""The tables of this version."""


def newest() -> int:
    """Return the version that this program brings a database to."""
    return listed(FOLDER)[-1][0]


def versions(connection: psycopg.Connection[Any]) -> tuple[int, int]:
    """Return the number of the last migration, and the lowest version that a program must know; 0 for a new one."""
    # `to_regclass` could answer from a cache that is older than the wait for a lock.
    found = connection.execute(
        "SELECT 1 FROM pg_tables WHERE tablename = 'triptych_version' AND schemaname = ANY(current_schemas(false))"
    ).fetchone()
    if not found:
        return 0, 0
    row = connection.execute("SELECT version, minimum FROM triptych_version").fetchone()
    return (int(_values(row)[0]), int(_values(row)[1])) if row else (0, 0)


def migrate(connection: psycopg.Connection[Any]) -> list[str]:
    """Run the migrations that a database lacks, and return their names; several processes may do so at once.

    `connection` is in autocommit mode. Raises: `psycopg.Error`; the database is then at the version before.
    """
    done = []
    for number, name in listed(FOLDER):
        if versions(connection)[0] >= number:
            continue
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            version, minimum = versions(connection)
            if version >= number:  # another process has run it meanwhile
                continue
            script = (FOLDER / name).read_text("utf-8")
            connection.execute(script)
            if not version:
                connection.execute("CREATE TABLE triptych_version (version BIGINT NOT NULL, minimum BIGINT NOT NULL)")
                connection.execute("INSERT INTO triptych_version VALUES (0, 0)")
            if not script.startswith(COMPATIBLE):
                minimum = number
            connection.execute("UPDATE triptych_version SET version = %s, minimum = %s", [number, minimum])
        done.append(name)
    return done


def _values(row: Any) -> list[Any]:
    return list(row.values() if isinstance(row, dict) else row)
