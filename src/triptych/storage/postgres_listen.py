"""Hears from a PostgreSQL server which jobs other processes have changed. A hint: everything is right without it.

It needs a connection of its own that no pooler shares, because LISTEN belongs to a session.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg

from triptych.core import errors

CHANNEL = "triptych"
"""The channel. A payload is the sender's id, a space, and the id of a job."""


class Listener:
    """One connection that listens; `own_id` is the sender whose notifications are left out."""

    def __init__(self, connection: psycopg.Connection[Any], own_id: str) -> None:
        """Raises: `errors.Unusable` behind a pooler; `psycopg.Error`."""
        self._connection = connection
        self._own_id = own_id
        row = connection.execute("SELECT pg_backend_pid() AS pid").fetchone()
        if not row or row["pid"] != connection.info.backend_pid:
            raise errors.Unusable(
                "A pooler stands before the database, so no change is heard.",
                "Nothing has to be done: changes by other processes are seen within a second.",
            )
        connection.execute(f"LISTEN {CHANNEL}")

    def fileno(self) -> int:
        """Return the socket, which is readable when something was heard."""
        return self._connection.fileno()

    def heard(self) -> set[str]:
        """Return the ids of the jobs that were changed, without waiting. Raises: `errors.Outage`."""
        try:
            payloads = [found.payload for found in self._connection.notifies(timeout=0)]
        except psycopg.Error as error:
            raise errors.Outage(f"The connection that listens for changes is lost ({type(error).__name__}).") from error
        pairs = [payload.partition(" ") for payload in payloads]
        return {job_id for sender, _, job_id in pairs if sender != self._own_id and job_id}

    def close(self) -> None:
        """Close the connection."""
        with suppress(psycopg.Error):
            self._connection.close()
