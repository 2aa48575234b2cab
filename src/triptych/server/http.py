"""The HTTP application: streamable HTTP at `/mcp` or SSE at `/sse` (messages at `/messages/`), and further routes.

Beside `/mcp` is `/gallery`, a page for people (`gallery`); beside both transports `/files`, images at full size by
signed URL (`files`), and `/webhooks`, which providers call (`webhooks`).

Accepted Host headers: on loopback its three names; on another address also that address; on all addresses (`0.0.0.0`,
`::`) also this machine's name and addresses; and always the host of `TRIPTYCH_PUBLIC_URL`, with its port.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Literal

import anyio

from triptych.core import systems
from triptych.providers.url_safety import LOOPBACK
from triptych.server.app import TriptychServer
from triptych.server.patience import DisconnectWatcher
from triptych.server.service_holder import ServiceHolder

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from triptych.server import draining
    from triptych.server.health import Health
    from triptych.server.metrics import Metrics
    from triptych.server.oauth import OAuth

BODY_LIMIT_BYTES = 64 * 1024 * 1024
"""A call may hold images as base64."""
SESSIONS_LIMIT = 1000
"""The most sessions of early clients. Each ends after half an hour without a request."""
TICK_S = 1.0
LAST_REQUESTS_S = 0.2
"""A stopping server reads so long from connections that it has accepted: their requests may be on their way."""
DRAIN_LIMIT_S = 2
"""Longer than `draining.LIMIT_S`, which ends requests in order."""


def http_app(
    server: TriptychServer,
    transport: Literal["stdio", "http", "sse"],
    host: str,
    tokens: Sequence[str],
    own_token: str | None = None,
    public: str | None = None,
    *,
    stateless: bool = False,
    drain: draining.Drain | None = None,
    health: Health | None = None,
    metrics: Metrics | None = None,
    oauth: OAuth | None = None,
) -> Starlette:
    """Return the ASGI application of one HTTP transport, with the checks around every route.

    With `stateless`, clients of earlier eras get no session: each request may reach another process. `drain` ends the
    requests in progress. `health` adds `/healthz` and `/readyz`, `metrics` adds `/metrics` and counts every request.
    """
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.routing import Mount, Route

    from triptych.jobs.file_links import SIGNED_IN
    from triptych.server import auth, draining, files, limits, scopes, sites, webhooks

    hints = webhooks.Hints(server.open_service)
    # Before the check of Host, which balancers do not know.
    first = [*_probes(health, metrics), Middleware(draining.Draining, drain=drain or draining.Drain())]
    # Before the token, which providers do not have.
    called = [Middleware(webhooks.Webhooks, hints=hints)] if public else []
    resource, closed = oauth.resource if oauth else None, bool(tokens or own_token or oauth)
    open_paths = resource.metadata_paths if resource else frozenset()
    own = Middleware(sites.OwnNames, names=own_names(host), public=public, open_paths=open_paths)
    owners: list[str | None] = [auth.owner_of(token) for token in tokens]
    owners += [SIGNED_IN] if oauth else []
    owners += [None] if own_token or not closed else []
    checks = [Middleware(scopes.ResourceMetadata, resource=resource)] if resource else []
    checks += [Middleware(files.Signed, open_service=server.open_service, owners=owners)]
    checks += [Middleware(auth.RequireToken, tokens=tokens, own=own_token, oauth=oauth)] if closed else []
    checks += [Middleware(limits.CallsInProgress, limits=limits.LIMITS)]
    if resource and transport == "http":  # an SSE client does not read the answers to its messages
        checks += [Middleware(scopes.RequireSpend, resource=resource)]
    checks += [
        Middleware(DisconnectWatcher, patience=server.patience),
    ]
    file = Route(f"{files.ROUTE}/{{handle:path}}", endpoint=files.serve_file, methods=["GET"])
    if transport == "http":
        from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager

        from triptych.server import gallery

        manager = StreamableHTTPSessionManager(
            server,
            max_request_body_size=BODY_LIMIT_BYTES,
            max_sessions=SESSIONS_LIMIT,
            stateless=stateless,
        )
        endpoint = StreamableHTTPASGIApp(manager)
        # Both are named: a redirect to one of them would be built from an unchecked Host.
        # Without a session there is no stream to GET and nothing to DELETE.
        methods = ["POST"] if stateless else None
        routes: list[BaseRoute] = [Route(path, endpoint=endpoint, methods=methods) for path in ("/mcp", "/mcp/")]
        routes.append(file)
        page = Middleware(gallery.Page)  # before the token, which it does not need

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            async with hints.running(), manager.run():
                yield

        return _strict(Starlette(routes=routes, middleware=[*first, own, *called, page, *checks], lifespan=lifespan))
    from mcp.server.sse import SseServerTransport
    from starlette.responses import Response

    sse = SseServerTransport("/messages/", max_request_body_size=BODY_LIMIT_BYTES)

    async def connect(request: Request) -> Response:
        if request.method != "GET":  # a route for GET also takes HEAD, and would open a session for it
            return Response(status_code=405, headers={"Allow": "GET"})
        async with sse.connect_sse(request.scope, request.receive, request._send) as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
        return Response()

    routes = [Route("/sse", endpoint=connect, methods=["GET"]), Mount("/messages/", app=sse.handle_post_message), file]

    @asynccontextmanager
    async def hinting(_: Starlette) -> AsyncIterator[None]:
        async with hints.running():
            yield

    return _strict(Starlette(routes=routes, middleware=[*first, own, *called, *checks], lifespan=hinting))


def _probes(health: Health | None, metrics: Metrics | None) -> list[Middleware]:
    """Return what answers probes and counts requests, before everything else."""
    from starlette.middleware import Middleware

    found = []
    if metrics:
        from triptych.server.metrics import Counted

        found.append(Middleware(Counted, metrics=metrics))
    if health:
        from triptych.server.health import Probes

        found.append(Middleware(Probes, health=health, metrics=metrics))
    return found


def _strict(app: Starlette) -> Starlette:
    """Return the application without redirects between `/path` and `/path/`."""
    app.router.redirect_slashes = False
    return app


def own_names(host: str) -> list[str]:
    """Return the names that are accepted in Host and Origin headers when bound to `host`, as URLs spell them."""
    others = [] if is_loopback(host) else _machine_names() if _is_wildcard(host) else [host]
    return [in_url(name) for name in (*LOOPBACK, *others)]


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a bind to `host`. Of names only localhost counts."""
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
    """Return this machine's name and its resolved addresses."""
    name = socket.gethostname()
    names = {name, name.lower()}
    with suppress(OSError):
        names |= {str(found[4][0]).partition("%")[0] for found in socket.getaddrinfo(name, None)}
    return sorted(names)


def in_url(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises: `OSError` for an address that is taken or not of this machine."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        systems.claim_address(listener)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host.strip("[]"), port))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


async def serve(
    holder: ServiceHolder,
    app: Starlette,
    listener: socket.socket,
    on_ready: Callable[[], None],
    on_stop: Callable[[], None] = lambda: None,
    metrics: Metrics | None = None,
) -> None:
    """Serve until a SIGTERM or SIGINT. Then no further step begins, and the requests in progress end (`draining`)."""
    import uvicorn

    from triptych.server import limits

    class Server(uvicorn.Server):
        _wake: Callable[[], object] = staticmethod(lambda: None)

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_ready()

        async def main_loop(self) -> None:
            # uvicorn's own looks ten times a second whether it should end, as much work as all else of an idle server.
            loop, told = asyncio.get_running_loop(), asyncio.Event()
            self._wake = lambda: loop.call_soon_threadsafe(told.set)
            while not await self.on_tick(0):  # renews the date of the answers
                with anyio.move_on_after(TICK_S):
                    await told.wait()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            holder.stop()
            on_stop()
            for listening in self.servers:
                listening.close()
            await anyio.sleep(LAST_REQUESTS_S)
            await super().shutdown(sockets)

        def handle_exit(self, sig: int, frame: object) -> None:
            # The signal is not raised again, so that an orderly end does not look like a death by signal.
            self.force_exit = self.should_exit
            self.should_exit = True
            self._wake()

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=DRAIN_LIMIT_S,
        **limits.uvicorn_options(limits.LIMITS),
    )
    async with holder.running(), metrics.running() if metrics else nullcontext():
        await Server(config).serve(sockets=[listener])
