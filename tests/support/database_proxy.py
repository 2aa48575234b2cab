"""A proxy before a PostgreSQL server that loses connections, and answers, as networks do."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from typing import Self

from support.postgres import server


class Loss(Enum):
    """What becomes of the next COMMIT with writes."""

    ANSWER = "it is executed, and its answer is lost"
    REQUEST = "it does not reach the server"
    LATE = "it reaches the server when `deliver` is called"


class Proxy:
    """Forwards connections on loopback to this process's server."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._sockets: set[socket.socket] = set()
        self.next_loss: Loss | None = None
        self.refusals = 0
        """So many new connections are refused."""
        self.losses = 0
        self.connections = 0
        self._late: tuple[socket.socket, bytes] | None = None
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def url(self, url: str) -> str:
        """Return the URL of a database through this proxy."""
        database = url.partition("?")[0].rpartition("/")[2]
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def cut(self) -> None:
        """End every connection."""
        for one in list(self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def deliver(self) -> bytes:
        """Send the late COMMIT to the server; return what it answers."""
        assert self._late, "no COMMIT is on its way"
        (behind, data), self._late = self._late, None
        with behind:
            behind.sendall(data)
            return behind.recv(65536)

    def close(self) -> None:
        self._listening.close()
        self.cut()
        if self._late:
            self._late[0].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if self.refusals:
                self.refusals -= 1
                client.close()
                continue
            self.connections += 1
            threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        behind = socket.create_connection(("127.0.0.1", server().port))
        pair = {client: behind, behind: client}
        self._sockets |= set(pair)
        losing: Loss | None = None
        try:
            with selectors.DefaultSelector() as ready:
                for one in pair:
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    ready.register(one, selectors.EVENT_READ)
                while True:
                    for key, _ in ready.select():
                        one = client if key.fileobj is client else behind
                        data = one.recv(65536)
                        if not data:
                            return
                        if one is client and self.next_loss and b"COMMIT\0" in data and b"INTO commits" in data:
                            losing, self.next_loss = self.next_loss, None
                            self.losses += 1
                            if losing is Loss.LATE:
                                self._late = behind.dup(), data
                            if losing is not Loss.ANSWER:
                                return
                        if one is behind and losing is Loss.ANSWER:
                            if b"COMMIT\0" in data:
                                return
                            continue
                        pair[one].sendall(data)
        except OSError:
            return
        finally:
            for one in pair:
                self._sockets.discard(one)
                one.close()


@contextmanager
def proxied(url: str) -> Iterator[tuple[Proxy, str]]:
    """Run a proxy before a database; give it and the URL through it."""
    with Proxy() as proxy:
        yield proxy, proxy.url(url)
