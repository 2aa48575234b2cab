"""The connections to one PostgreSQL database: at most `size`, each used by one thread at a time.

`psycopg_pool` would add a package, worker threads of its own and 30 ms of import; threads here come from the event
loop's limiter already, so a stack of idle connections is enough.
"""

from __future__ import annotations

import selectors
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg.rows import dict_row

Connection = psycopg.Connection[dict[str, Any]]

FREE_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10
DEFAULTS = {
    "connect_timeout": str(CONNECT_TIMEOUT_S),
    "application_name": "triptych",
    "client_encoding": "UTF8",
    "target_session_attrs": "read-write",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
"""libpq's parameters that a URL may set otherwise. None of them needs a session of its own at a pooler."""


class Pool:
    """Connections in autocommit mode that bind values at the client, so no statement is prepared at the server."""

    def __init__(self, parameters: dict[str, Any], size: int) -> None:
        self._parameters = {**DEFAULTS, **parameters}
        self._free = threading.BoundedSemaphore(size)
        self._idle: list[Connection] = []
        self._age = 0
        """How often `forget` was called: a connection that was lent before is not used again."""
        self._lock = threading.Lock()
        self._closed = False
        self.on_connect: Callable[[Connection], None] | None = None
        """Called with each new connection of the pool."""

    def connect(self) -> Connection:
        """Return a new connection, which the caller closes. Raises: `psycopg.Error`."""
        return psycopg.Connection.connect(
            **self._parameters,
            autocommit=True,
            row_factory=dict_row,
            cursor_factory=psycopg.ClientCursor,
            prepare_threshold=None,
        )

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a connection; one that is broken or inside a transaction afterwards is closed.

        Raises: `psycopg.Error`, also if none becomes free in time.
        """
        if not self._free.acquire(timeout=FREE_TIMEOUT_S):
            raise psycopg.OperationalError("all connections of this process are in use")
        try:
            age, connection = self._age, self._take()
            try:
                yield connection
            finally:
                self._give_back(connection, age)
        finally:
            self._free.release()

    def _take(self) -> Connection:
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                connection = self.connect()
                if self.on_connect:
                    self.on_connect(connection)
                return connection
            if _is_open(connection):
                return connection
            connection.close()

    def _give_back(self, connection: Connection, age: int) -> None:
        with self._lock:
            usable = not self._closed and age == self._age
            if usable and connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
                self._idle.append(connection)
                return
        with suppress(psycopg.Error):
            connection.close()

    def forget(self) -> None:
        """Use no present connection again: after a restart they are lost, after a failover lead to another server."""
        with self._lock:
            self._age += 1
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def close(self) -> None:
        """Close the idle connections, and each other one after its use."""
        self._closed = True
        self.forget()


def _is_open(connection: Connection) -> bool:
    """Return whether an idle connection is still open; read what the server has sent meanwhile, without waiting.

    A server that stops sends a message and ends the connection: the first read gets the one, the second the other.
    """
    with suppress(psycopg.Error, OSError), selectors.DefaultSelector() as ready:
        ready.register(connection.pgconn.socket, selectors.EVENT_READ)
        for _ in range(3):
            if not ready.select(0):
                return bool(connection.pgconn.status == psycopg.pq.ConnStatus.OK)
            connection.pgconn.consume_input()
    return False
