"""How clients reach the server: stdio, streamable HTTP at `/mcp`, SSE at `/sse` (its messages at `/messages/`).

Rules: the service is opened once per process, outside every connection, and outlives them all. Host and Origin are
always checked, and a bind or a public URL that other machines can reach needs `TRIPTYCH_AUTH_TOKEN`; where it is set,
one of its tokens is asked for on every route but `/gallery` and `/files`, loopback included, and each sees only what is
its own. stdout belongs to the protocol; whatever is said to people goes to stderr.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import anyio
from mcp.server.stdio import stdio_server

from triptych.server.app import build
from triptych.server.service_holder import ServiceHolder, SettingsSource, opener

if TYPE_CHECKING:
    from triptych.settings import Settings

Transport = Literal["stdio", "http", "sse"]


def announce(url: str) -> None:
    """Say on stderr where the server listens."""
    sys.stderr.write(f"Triptych is listening on {url}\n")
    sys.stderr.flush()


def serve(
    settings: Settings | SettingsSource,
    transport: Transport = "stdio",
    host: str = "127.0.0.1",
    port: int = 8765,
    on_ready: Callable[[str], None] = announce,
    own_token: str | None = None,
) -> None:
    """Serve until stdin closes (stdio) or a SIGTERM or SIGINT comes; `port` 0 takes a free one.

    `on_ready` gets the URL once HTTP or SSE is listened on. Over HTTP, requests with `own_token` are those of the
    person at the machine, who sees every job.

    Settings given as a function are read at the first need: over stdio a mistake in them is then the answer to
    each tool call, and the server stays up. For HTTP and SSE read them with `read(environ, remote=True)`,
    so that the directory the server was started in is not open to its clients.

    Raises:
        SystemExit: 2, when the bind or the public URL is open to other machines and no token is set, or the bind cannot
            be had.
    """
    if logging.lastResort:  # what is logged before the settings are read
        logging.lastResort.setFormatter(_CleanLines())
    if transport == "stdio":
        holder = ServiceHolder(opener(settings))
        anyio.run(_serve_stdio, holder, cache(lambda: (settings() if callable(settings) else settings).links))
        return
    from triptych.server import http

    read = settings() if callable(settings) else settings
    tokens = [token.get_secret_value() for token in read.auth_tokens]
    if not tokens and not http.is_loopback(host):
        _refuse(
            f"{host} is reachable from other machines: set TRIPTYCH_AUTH_TOKEN to a long random text, which clients "
            "then send as `Authorization: Bearer …`, or bind to 127.0.0.1."
        )
    public = read.public_url
    if public and not tokens and not own_token and not http.is_loopback(urlsplit(public).hostname or ""):
        _refuse(
            f"TRIPTYCH_PUBLIC_URL is {public}, which is reachable from other machines: set TRIPTYCH_AUTH_TOKEN to a "
            "long random text, which clients then send as `Authorization: Bearer …`, or unset TRIPTYCH_PUBLIC_URL."
        )
    try:
        listener = http.bind(host, port)
    except OSError as error:
        _refuse(f"{host}:{port} cannot be listened on: {error}.")
    holder = ServiceHolder(opener(read))
    listens = f"http://{http.in_url(host)}:{listener.getsockname()[1]}"
    reached = public or (listens if http.is_loopback(host) else None)
    files_url = f"{reached}/files" if reached else None
    server = build(holder, remote=True, links=lambda: read.links, files_url=files_url)
    app = http.http_app(server, transport, host, tokens, own_token, public)
    path = "sse" if transport == "sse" else "mcp"

    def ready() -> None:
        if public:
            sys.stderr.write(f"Clients reach it at {public}/{path}\n")
        on_ready(f"{listens}/{path}")

    anyio.run(http.serve, holder, app, listener, ready)


class _CleanLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        from triptych.core.text import block

        return block(super().format(record))


def _refuse(message: str) -> None:
    from triptych.core.text import line

    sys.stderr.write(f"triptych: {line(message)}\n")
    raise SystemExit(2)


async def _serve_stdio(holder: ServiceHolder, links: Callable[[], bool | None]) -> None:
    server = build(holder, remote=False, links=links)
    async with holder.staying(), anyio.create_task_group() as tasks:
        tasks.start_soon(_leave_when_told, holder)
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
        tasks.cancel_scope.cancel()


async def _leave_when_told(holder: ServiceHolder) -> None:
    """End the process on a signal.

    A thread of the SDK's is blocked reading stdin then, and nothing but the next line would wake it: so this closes the
    service in good order and leaves without it.
    """
    # Not implemented on Windows, where the default handlers end the process.
    with suppress(NotImplementedError), anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            await holder.close()
            logging.shutdown()
            sys.stderr.flush()
            os._exit(0)
