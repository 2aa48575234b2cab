"""How clients reach the server: stdio, streamable HTTP at `/mcp`, SSE at `/sse` (its messages at `/messages/`).

Beside `/mcp` there is `/gallery`, a page for people (`gallery`); beside both transports `/files`, images at full size
for who has a signed URL (`files`).

Rules: the studio is opened once per process, outside every connection, and outlives them all. Host and Origin are
always checked, and a bind or a public URL that other machines can reach needs `TRIPTYCH_AUTH_TOKEN`; where it is set,
one of its tokens is asked for on every route but `/gallery` and `/files`, loopback included, and each sees only what is
its own. stdout belongs to the protocol; whatever is said to people goes to stderr.

Hosts that are answered to: on loopback its three names; on another address that address too; on all addresses
(`0.0.0.0`, `::`) this machine's own name and addresses as well; and the host of `TRIPTYCH_PUBLIC_URL`, with its port.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import anyio
import anyio.abc
from mcp.server.stdio import stdio_server

from triptych.server.build import TriptychServer, build

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from triptych.config import Settings
    from triptych.studio import Studio

logger = logging.getLogger(__name__)

Transport = Literal["stdio", "http", "sse"]
SettingsSource = Callable[[], "Settings"]

BODY_LIMIT_BYTES = 64 * 1024 * 1024
"""Images may come as base64 in a call."""
SESSIONS_LIMIT = 1000
"""Of the early eras, each of which ends after half an hour without a request."""
FIRST_LOOK_S = 1.0
"""When unfinished jobs are taken up if nobody calls: after the start, which has a client waiting."""
CLOSE_LIMIT_S = 9.0
"""Above the time that a submit on its way still gets for its answer (`steps.SHUTDOWN_GRACE_S`)."""
DRAIN_LIMIT_S = 2
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


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

    Settings given as a function are read at the first need: over stdio what is wrong with them is then answered to
    whoever calls a tool, and the server stays up. For HTTP and SSE read them with `config.read(environ, remote=True)`,
    so that the directory the server was started in is not open to its clients.

    Raises:
        SystemExit: 2, when the bind or the public URL is open to other machines and no token is set, or the bind cannot
            be had.
    """
    if logging.lastResort:  # what is logged before the settings are read
        logging.lastResort.setFormatter(_CleanLines())
    if transport == "stdio":
        resident = Resident(opener(settings))
        anyio.run(_serve_stdio, resident, cache(lambda: (settings() if callable(settings) else settings).links))
        return
    read = settings() if callable(settings) else settings
    tokens = [token.get_secret_value() for token in read.auth_tokens]
    if not tokens and not is_loopback(host):
        _refuse(
            f"{host} can be reached from other machines: set TRIPTYCH_AUTH_TOKEN to a long random text, which clients "
            "then send as `Authorization: Bearer …`, or bind to 127.0.0.1."
        )
    public = read.public_url
    if public and not tokens and not own_token and not is_loopback(urlsplit(public).hostname or ""):
        _refuse(
            f"TRIPTYCH_PUBLIC_URL is {public}, which can be reached from other machines: set TRIPTYCH_AUTH_TOKEN to a "
            "long random text, which clients then send as `Authorization: Bearer …`, or unset TRIPTYCH_PUBLIC_URL."
        )
    try:
        listener = _bind(host, port)
    except OSError as error:
        _refuse(f"{host}:{port} cannot be listened on: {error}.")
    resident = Resident(opener(read))
    listens = f"http://{_in_url(host)}:{listener.getsockname()[1]}"
    reached = public or (listens if is_loopback(host) else None)
    files_url = f"{reached}/files" if reached else None
    server = build(resident, remote=True, links=lambda: read.links, files_url=files_url)
    app = http_app(server, transport, host, tokens, own_token, public)
    path = "sse" if transport == "sse" else "mcp"

    def ready() -> None:
        if public:
            sys.stderr.write(f"Clients reach it at {public}/{path}\n")
        on_ready(f"{listens}/{path}")

    anyio.run(_serve_http, resident, app, listener, ready)


class _CleanLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        from triptych.text import block

        return block(super().format(record))


def _refuse(message: str) -> None:
    from triptych.text import line

    sys.stderr.write(f"triptych: {line(message)}\n")
    raise SystemExit(2)


def opener(settings: Settings | SettingsSource) -> Callable[[], AbstractAsyncContextManager[Studio]]:
    """Return what opens a studio from settings, which are read then; logging goes to stderr from then on."""

    def open_it() -> AbstractAsyncContextManager[Studio]:
        from triptych import config, studio

        read = settings() if callable(settings) else settings
        config.configure_logging(read.log_level)
        return studio.open_studio(read.setup)

    return open_it


class Resident:
    """The process's one studio: opened when first needed, kept open until the server ends.

    Awaiting it (`await resident()`) returns the studio. An opening that failed is reported to whoever needed it and
    tried again at the next need; a studio that broke is opened anew.
    """

    def __init__(self, open_studio: Callable[[], AbstractAsyncContextManager[Studio]]) -> None:
        self._open = open_studio
        self._studio: Studio | None = None
        self._closing = anyio.Event()
        self._closed = anyio.Event()
        self._opening = anyio.Lock()
        self._tasks: anyio.abc.TaskGroup | None = None

    async def __call__(self) -> Studio:
        """Return the studio.

        Raises: `errors.TriptychError` saying why it cannot be opened.
        """
        if self._studio is not None:
            return self._studio
        async with self._opening:
            if self._studio is None:
                assert self._tasks is not None, "the studio is asked for outside `staying`"
                try:
                    await self._tasks.start(self._hold)
                except Exception as error:
                    raise _why_not(error) from error
            assert self._studio is not None
            return self._studio

    @asynccontextmanager
    async def staying(self) -> AsyncIterator[Resident]:
        """Keep the studio for as long as the block runs, and open it soon even if nobody asks."""
        async with anyio.create_task_group() as self._tasks:
            self._tasks.start_soon(self._open_soon)
            try:
                yield self
            finally:
                await self.close()
                self._tasks.cancel_scope.cancel()

    async def close(self) -> None:
        """Close the studio in good order, or give up on that after a few seconds."""
        self._closing.set()
        with anyio.move_on_after(CLOSE_LIMIT_S, shield=True):
            if self._studio is not None:
                await self._closed.wait()

    async def _open_soon(self) -> None:
        with anyio.move_on_after(FIRST_LOOK_S):
            await self._closing.wait()
            return
        from triptych.errors import TriptychError

        with suppress(TriptychError):  # Logged where it was raised; the next call reports it.
            await self()

    async def _hold(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Open the studio, say so, and keep it open until the end."""
        opened = False
        try:
            async with self._open() as self._studio:
                opened = True
                task_status.started()
                await self._closing.wait()
        except Exception:
            if not opened:
                raise
            logger.exception("the studio broke; the next call opens it anew")
        finally:
            self._studio = None
            if self._closing.is_set():
                self._closed.set()


def _why_not(error: Exception) -> Exception:
    """Return the refusal for a studio that does not open, and log what is behind it."""
    from triptych.errors import TriptychError

    if isinstance(error, TriptychError):
        logger.error("Triptych cannot start working: %s", error.message)
        return error
    logger.error("Triptych cannot start working", exc_info=error)
    if isinstance(error, OSError) or type(error).__module__ == "sqlite3":
        return TriptychError(
            f"Triptych cannot use its data directory: {str(error)[:300]}. Set TRIPTYCH_HOME to a directory that it can "
            "write to, and restart the server."
        )
    return TriptychError("Triptych cannot start working; the server's log (stderr) says why.")


# -- stdio -------------------------------------------------------------------------------------------------------------


async def _serve_stdio(resident: Resident, links: Callable[[], bool | None]) -> None:
    server = build(resident, remote=False, links=links)
    async with resident.staying(), anyio.create_task_group() as tasks:
        tasks.start_soon(_leave_when_told, resident)
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
        tasks.cancel_scope.cancel()


async def _leave_when_told(resident: Resident) -> None:
    """End the process on a signal.

    A thread of the SDK's is blocked reading stdin then, and nothing but the next line would wake it: so this closes the
    studio in good order and leaves without it.
    """
    # Not implemented on Windows, where the default handlers end the process.
    with suppress(NotImplementedError), anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            await resident.close()
            logging.shutdown()
            sys.stderr.flush()
            os._exit(0)


# -- HTTP --------------------------------------------------------------------------------------------------------------


def http_app(
    server: TriptychServer,
    transport: Transport,
    host: str,
    tokens: Sequence[str],
    own_token: str | None = None,
    public: str | None = None,
) -> Starlette:
    """Return the ASGI application of one HTTP transport, with its checks around every route."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.routing import Mount, Route

    from triptych.server import files, guard, sites

    own = Middleware(sites.OwnNames, names=own_names(host), public=public)  # in front of all else
    owners = [guard.owner_of(token) for token in tokens] + ([None] if own_token or not tokens else [])
    checks = [Middleware(files.Signed, open_studio=server.open_studio, owners=owners)]
    checks += [Middleware(guard.BearerToken, tokens=tokens, own=own_token)] if tokens or own_token else []
    checks += [Middleware(guard.InWork, limits=guard.LIMITS), Middleware(guard.Leaving, patience=server.patience)]
    file = Route(f"{files.ROUTE}/{{handle:path}}", endpoint=files.answer, methods=["GET"])
    if transport == "http":
        from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager

        from triptych.server import gallery

        manager = StreamableHTTPSessionManager(
            server,
            max_request_body_size=BODY_LIMIT_BYTES,
            max_sessions=SESSIONS_LIMIT,
        )
        endpoint = StreamableHTTPASGIApp(manager)
        # Both named, because a redirect to one of them would be made of a Host that nobody has checked.
        routes: list[BaseRoute] = [Route(path, endpoint=endpoint) for path in ("/mcp", "/mcp/")]
        routes.append(file)
        page = Middleware(gallery.Page)  # before the token: it asks for none
        return _strict(Starlette(routes=routes, middleware=[own, page, *checks], lifespan=lambda _: manager.run()))
    from mcp.server.sse import SseServerTransport
    from starlette.responses import Response

    sse = SseServerTransport("/messages/", max_request_body_size=BODY_LIMIT_BYTES)

    async def connect(request: Request) -> Response:
        if request.method != "GET":  # a route for GET takes HEAD as well, and would open a session for it
            return Response(status_code=405, headers={"Allow": "GET"})
        async with sse.connect_sse(request.scope, request.receive, request._send) as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
        return Response()

    routes = [Route("/sse", endpoint=connect, methods=["GET"]), Mount("/messages/", app=sse.handle_post_message), file]
    return _strict(Starlette(routes=routes, middleware=[own, *checks]))


def _strict(app: Starlette) -> Starlette:
    """Return the application without redirects from a path to its likeness."""
    app.router.redirect_slashes = False
    return app


def own_names(host: str) -> list[str]:
    """Return the names in Host and Origin headers that are answered when bound to `host`, as URLs spell them."""
    if is_loopback(host):
        return list(LOOPBACK)
    return [*LOOPBACK, *(_in_url(name) for name in (_machine_names() if _is_wildcard(host) else [host]))]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a bind to `host`; a name other than localhost is not taken for one."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _is_wildcard(host: str) -> bool:
    try:
        return not host or ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        return False


def _machine_names() -> list[str]:
    """Return this machine's name and the addresses it resolves to."""
    name = socket.gethostname()
    names = {name, name.lower()}
    with suppress(OSError):
        names |= {str(found[4][0]).partition("%")[0] for found in socket.getaddrinfo(name, None)}
    return sorted(names)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host.strip("[]"), port), family=family)


async def _serve_http(
    resident: Resident, app: Starlette, listener: socket.socket, on_ready: Callable[[], None]
) -> None:
    import uvicorn

    from triptych.server import guard

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_ready()

        def handle_exit(self, sig: int, frame: object) -> None:
            # Not passed on: uvicorn would raise the signal again, and an orderly end would look like a death by it.
            self.force_exit = self.should_exit
            self.should_exit = True

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=DRAIN_LIMIT_S,
        **guard.uvicorn_options(guard.LIMITS),
    )
    async with resident.staying():
        await Server(config).serve(sockets=[listener])
