"""The fleet's wires: a relay (round-robin balancer, or a network that fails), and a client that speaks MCP by hand.

Every request of the client has a connection of its own, so a relay that takes the next backend for each connection is a
balancer without stickiness, and it streams without reading HTTP. The client parses no more than it needs: the official
clients cost ten times as much CPU time, and this machine is shared with the servers that are measured.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import h11

HOST = "127.0.0.1"
ERAS = ("2026-07-28", "2025-06-18")
PIECE_BYTES = 1 << 16
CONNECT_S = 2.0


class Gone(Exception):
    """The connection ended before the answer did."""


@dataclass
class Relay:
    """Passes each connection to the next of the backends that takes it; `shut` makes it refuse and cut them all."""

    backends: Sequence[tuple[str, int]]
    says_502: bool = True
    """Answer HTTP's 502 where no backend is there; otherwise close the connection."""
    port: int = 0
    passed: Counter[int] = field(default_factory=Counter)
    """Connections by the backend's port."""
    refused: int = 0

    def __post_init__(self) -> None:
        self._next = 0
        self._shut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Relay]:
        self._server = await asyncio.start_server(self._pass, HOST, self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self._server.close()
            self.cut()

    def shut(self) -> None:
        """Cut all connections, and take none until `open`."""
        self._shut = True
        self.cut()

    def open(self) -> None:
        self._shut = False

    def cut(self) -> None:
        for writer in list(self._writers):
            with suppress(Exception):
                writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            backend = None if self._shut else await self._backend()
            if backend is None:
                self.refused += 1
                if self.says_502 and not self._shut:
                    writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    await writer.drain()
                return
            self._writers.add(backend[1])
            try:
                there = asyncio.create_task(_pump(reader, backend[1]))
                # The answer's end ends both; a client that only stops sending still gets its answer.
                await _pump(backend[0], writer)
                there.cancel()
                with suppress(asyncio.CancelledError):
                    await there
            finally:
                self._writers.discard(backend[1])
                backend[1].close()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _backend(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for _ in self.backends:
            self._next += 1
            host, port = self.backends[self._next % len(self.backends)]
            with suppress(OSError, TimeoutError):
                made = await asyncio.wait_for(asyncio.open_connection(host, port), CONNECT_S)
                self.passed[port] += 1
                return made
        return None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


@dataclass(frozen=True)
class Answer:
    """An HTTP answer that came whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def message(self) -> Any:
        """Return the JSON-RPC answer in it, of a JSON body or the last event of a stream."""
        if "event-stream" not in self.headers.get("content-type", ""):
            return json.loads(self.body)
        events = [line[5:] for line in self.body.decode().splitlines() if line.startswith("data:") and line[5:].strip()]
        found = [message for message in map(json.loads, events) if "id" in message]
        if not found:
            raise Gone("an event stream without its answer")
        return found[-1]


@dataclass
class Door:
    """One owner's way to the servers: the balancer's address and a bearer token."""

    port: int
    token: str
    era: str = ERAS[0]

    async def get(self, url: str, within_s: float = 60) -> Answer:
        """Return the answer to GET of any loopback URL, without a token. Raises: `Gone`."""
        parts = urlsplit(url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        head = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
        return await self._exchange(head.encode(), within_s, parts.port)

    async def ask(self, method: str, params: Mapping[str, Any], within_s: float = 90) -> Answer:
        """Return the answer to one JSON-RPC request. Raises: `Gone` when the connection ends or time is over."""
        return await self._exchange(self._request(method, params), within_s)

    async def listen(self, uris: Sequence[str], within_s: float) -> AsyncGenerator[Any, None]:
        """Yield the messages of a 2026-07-28 `subscriptions/listen` stream until it ends. Raises: `Gone`."""
        params = {"notifications": {"resourceSubscriptions": list(uris)}}
        async for event in self._events(self._request("subscriptions/listen", params), within_s):
            if isinstance(event, bytes):
                for line in event.splitlines():
                    if line.startswith(b"data:") and line[5:].strip():
                        yield json.loads(line[5:])

    def _request(self, method: str, params: Mapping[str, Any]) -> bytes:
        meta: dict[str, Any] = {}
        headers = {
            "Host": f"{HOST}:{self.port}",
            "Authorization": f"Bearer {self.token}",
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
            "Connection": "close",
            "MCP-Protocol-Version": self.era,
        }
        if self.era == ERAS[0]:
            headers |= {"Mcp-Method": method}
            name = params.get("name", params.get("uri"))
            headers |= {"Mcp-Name": str(name)} if name is not None else {}
            meta = {
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": self.era,
                    "io.modelcontextprotocol/clientInfo": {"name": "fleet", "version": "1"},
                    "io.modelcontextprotocol/clientCapabilities": {},
                }
            }
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, **meta}}).encode()
        lines = "".join(f"{name}: {value}\r\n" for name, value in (headers | {"Content-Length": len(body)}).items())
        return f"POST /mcp HTTP/1.1\r\n{lines}\r\n".encode() + body

    async def _exchange(self, request: bytes, within_s: float, port: int | None = None) -> Answer:
        status, headers, pieces = 0, {}, []
        async for event in self._events(request, within_s, port):
            if isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode(): value.decode() for name, value in event.headers}
            else:
                pieces.append(event)
        return Answer(status, headers, b"".join(pieces))

    async def _events(
        self, request: bytes, within_s: float, port: int | None = None
    ) -> AsyncGenerator[h11.Response | bytes, None]:
        """Send a request and yield its answer's head and pieces of its body. Raises: `Gone`."""
        writer: asyncio.StreamWriter | None = None
        started = False
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method="POST", target="/", headers=[("Host", HOST)]))  # the parser only follows along
        parser.send(h11.EndOfMessage())
        try:
            async with asyncio.timeout(within_s):
                reader, writer = await asyncio.open_connection(HOST, port or self.port)
                writer.write(request)
                while True:
                    event = parser.next_event()
                    if event is h11.NEED_DATA:
                        parser.receive_data(await reader.read(PIECE_BYTES))
                    elif isinstance(event, h11.Response):
                        started = True
                        yield event
                    elif isinstance(event, h11.Data):
                        yield bytes(event.data)
                    elif isinstance(event, h11.EndOfMessage):
                        return
                    elif isinstance(event, h11.ConnectionClosed):
                        raise Gone("closed without an answer")
        except TimeoutError as error:
            raise Gone("no answer in time") from error
        except h11.ProtocolError as error:
            raise Gone("cut" if started else "no answer") from error
        except OSError as error:
            raise Gone(type(error).__name__) from error
        finally:
            if writer:
                writer.close()
