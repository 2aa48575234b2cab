"""An ASGI app on a loopback port: in a daemon thread for tests, in the foreground for the command line.

Rules: nothing is printed and nothing is logged above errors. The port is bound before the server starts, so that the
base URL is known at once. The scope of every request has its transport, so that a response can be a closed connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from triptych.core import systems

CLOSING_WAIT_S = 2.0
"""A stopping server waits this long for the responses that are being sent."""
CLOSING_CHECK_S = 0.002


class _Protocol(H11Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._closed = asyncio.Event()
        self.app_state = {**self.app_state, "transport": transport, "closed": self._closed}
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._closed.set()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.on_ready = on_ready
        self.before_exit: Callable[[], None] = lambda: None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leave = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self.on_ready()

    async def main_loop(self) -> None:
        """Tick as uvicorn does, but stop at once after `leave`."""
        counter = 0
        while not await self.on_tick(counter % 10):
            counter += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leave.wait(), 0.1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close everything as uvicorn does, without its pauses: a test suite stops many servers."""
        self.before_exit()
        for server in self.servers:
            server.close()
        for listening in sockets or []:
            listening.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        for _ in range(round(CLOSING_WAIT_S / CLOSING_CHECK_S)):
            if not (state.connections or state.tasks):
                break
            await asyncio.sleep(CLOSING_CHECK_S)
        for task in state.tasks:
            task.cancel()

    def leave(self) -> None:
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._leave.set)


class LoopbackServer:
    """One app on one port. Raises OSError when the port is taken."""

    def __init__(self, app: ASGIApp, host: str, port: int, before_exit: Callable[[], None]) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # Without the protocol number asyncio leaves Nagle's algorithm on, and every response takes 40 ms more.
        self._socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        systems.claim_address(self._socket)
        try:
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise
        shown = f"[{host}]" if ":" in host else host
        self.base_url = f"http://{shown}:{self._socket.getsockname()[1]}"
        settings: dict[str, Any] = {"lifespan": "off", "ws": "none", "log_config": None}
        settings |= {"access_log": False, "date_header": False}
        config = uvicorn.Config(app, http=_Protocol, **settings)
        self._ready = threading.Event()
        self._server = _Server(config, self._ready.set)
        self._server.before_exit = before_exit
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Serve in a daemon thread; return when the port answers."""
        self._thread = threading.Thread(target=self._run, name="emulator", daemon=True)
        self._thread.start()
        if not self._ready.wait(20):
            raise RuntimeError("the emulator did not start within 20 seconds")

    def stop(self) -> None:
        """Close every connection and end the thread."""
        self._server.leave()
        if self._thread is not None:
            self._thread.join(20)
        self._socket.close()

    def serve(self, on_ready: Callable[[str], None]) -> None:
        """Serve in this thread until SIGINT or SIGTERM."""
        self._server.on_ready = lambda: on_ready(self.base_url)
        try:
            self._run()
        finally:
            self._socket.close()

    def _run(self) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            self._server.run(sockets=[self._socket])
