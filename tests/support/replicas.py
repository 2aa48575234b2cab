"""Several served processes over one database, and a balancer before them that knows no session."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from support.servers import Child, environ
from triptych import providers
from triptych_emulators import Emulator

SERVE = """
import os, sys, json
from triptych import settings
from triptych.server.transports import serve
options = json.loads(sys.argv[1])
options = {"transport": "http", "port": 0, **options}
serve(settings.read(os.environ, remote=True), host="127.0.0.1", **options)
"""
WORK = """
import os, anyio
from triptych import settings
from triptych.server import worker_process
anyio.run(worker_process.work, settings.read(os.environ, remote=True))
"""


def replica(
    home: Path, *emulators: Emulator, env: dict[str, str] | None = None, before: str = "", **options: object
) -> Child:
    """Return a served process; its URL is `child.url()`. `before` is Python that it runs first."""
    return Child("-c", before + SERVE, json.dumps(options), env=environ(home, **_at(emulators), **(env or {})))


def worker(home: Path, *emulators: Emulator, env: dict[str, str] | None = None) -> Child:
    """Return a process that is a worker without a server."""
    return Child("-c", WORK, env=environ(home, **_at(emulators), **(env or {})), ready="works on jobs")


def _at(emulators: Sequence[Emulator]) -> dict[str, str]:
    env = {"TRIPTYCH_MODELS": "builtin", "PYTHONPATH": os.pathsep.join(sys.path)}
    for emulator in emulators:
        provider = providers.load(emulator.name)
        assert provider.key_env
        env[provider.key_env] = emulator.key
        env |= {base.env: emulator.base_url for base in provider.base_urls.values()}
    return env


@dataclass
class Balancer:
    """Gives each connection to the next replica, round-robin; one that refuses the connection is left out."""

    ports: list[int]
    port: int = 0
    taken: list[int] = field(default_factory=list)
    """The replica of each connection, by its place in `ports`."""
    _turn: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection. A request is one connection: keep-alive would stick a client to a replica."""
        with contextlib.closing(writer):
            for _ in self.ports:
                place, self._turn = self._turn % len(self.ports), self._turn + 1
                try:
                    there = await asyncio.open_connection("127.0.0.1", self.ports[place])
                except OSError:
                    continue
                self.taken.append(place)
                with contextlib.closing(there[1]):
                    await asyncio.gather(_carry_request(reader, there[1]), _carry(there[0], writer))
                break


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.close()


async def _carry_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass one request on, and ask the replica to close the connection after its response."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        writer.write(b"\r\n".join([lines[0], b"Connection: close", *lines[1:]]))
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.close()


@contextmanager
def balanced(*urls: str) -> Iterator[Balancer]:
    """Run a balancer before the replicas at these URLs for as long as the block lasts."""
    balancer = Balancer([urlsplit(url).port or 0 for url in urls])
    ready, loops = threading.Event(), []

    async def run() -> None:
        server = await asyncio.start_server(balancer.serve, "127.0.0.1", 0)
        balancer.port = server.sockets[0].getsockname()[1]
        stop = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stop))
        ready.set()
        await stop.wait()
        server.close()
        connections = asyncio.all_tasks() - {asyncio.current_task()}
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await asyncio.sleep(0)  # a transport closes its socket in the loop's next turn

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield balancer
    finally:
        loop, stop = loops[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)


@contextmanager
def ending(*children: Child) -> Iterator[None]:
    """End these processes after the block, politely."""
    try:
        yield
    finally:
        for child in children:
            child.end()
