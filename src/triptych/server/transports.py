"""Start the server: stdio, streamable HTTP at `/mcp`, or SSE at `/sse` (messages at `/messages/`).

Rules: the service is opened once per process and outlives every connection. Host and Origin are always checked. A bind
or a public URL that other machines can reach needs `TRIPTYCH_AUTH_TOKEN` or `TRIPTYCH_OAUTH_ISSUER`. If one is set,
every route but `/gallery`, `/files` and the metadata of RFC 9728 needs a token, on loopback too, and each owner sees
only its own jobs. stdout belongs to the protocol; messages for people go to stderr.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn
from urllib.parse import urlsplit

import anyio

from triptych.server import taking_over
from triptych.server.app import build
from triptych.server.service_holder import ServiceHolder, SettingsSource, service_opener, traced
from triptych.server.worker_process import stop_signals
from triptych.thin import environment

if TYPE_CHECKING:
    from triptych.server.oauth import OAuth
    from triptych.settings import Settings
    from triptych.thin import HandedOver

Transport = Literal["stdio", "http", "sse"]

logger = logging.getLogger(__name__)

KEEP_AFTER_S = 5.0
"""By then the first requests of a client are answered."""


def announce(url: str) -> None:
    """Write the server's URL to stderr."""
    sys.stderr.write(f"Triptych is listening on {url}\n")
    sys.stderr.flush()


@traced()
def serve(
    settings: Settings | SettingsSource,
    transport: Transport = "stdio",
    host: str = "127.0.0.1",
    port: int = 8765,
    on_ready: Callable[[str], None] = announce,
    own_token: str | None = None,
    *,
    worker: bool = True,
    stateless: bool | None = None,
    handed: HandedOver | None = None,
) -> None:
    """Serve until stdin closes (stdio) or a SIGTERM or SIGINT arrives; `port` 0 takes a free one.

    `on_ready` gets the URL once HTTP or SSE is ready. Over HTTP, requests with `own_token` are those of the person at
    the machine, who sees every job.

    Without `worker`, other processes advance the jobs. `stateless`: clients before 2026-07-28 get no session, so a
    balancer may send each request to another process; by default with a database that other machines share.

    `handed` is stdin with the conversation of a thin start, which this server continues.

    Settings given as a function are read at the first use: over stdio each tool call then reports a mistake in them,
    and the server keeps running. For HTTP and SSE read them with `read(environ, remote=True)`, so that clients cannot
    use the directory the server was started in.

    Raises: `SystemExit` (2) if other machines can reach the bind or the public URL and no token is set, or if the bind
    fails, or for `stateless` with SSE, whose sessions are in this process.
    """
    if logging.lastResort:  # for log lines before the settings are read
        logging.lastResort.setFormatter(_CleanLines())
    if transport == "stdio":
        holder = ServiceHolder(service_opener(settings, worker=worker))
        anyio.run(_serve_stdio, holder, cache(lambda: (settings() if callable(settings) else settings).links), handed)
        return
    from triptych.server import draining, http, monitoring
    from triptych.server.health import Health

    read = settings() if callable(settings) else settings
    tokens = [token.get_secret_value() for token in read.auth_tokens]
    if not tokens and not read.oauth and not http.is_loopback(host):
        _refuse(
            f"{host} is reachable from other machines: set TRIPTYCH_AUTH_TOKEN to a long random text, which clients "
            "then send as `Authorization: Bearer …`, or bind to 127.0.0.1."
        )
    public = read.public_url
    locally = http.is_loopback(urlsplit(public).hostname or "") if public else http.is_loopback(host)
    if read.oauth and not locally and not (public or "").startswith("https://"):
        _refuse(
            "With TRIPTYCH_OAUTH_ISSUER set, TRIPTYCH_PUBLIC_URL must be the https:// address at which clients reach "
            "this server: tokens are issued for it."
        )
    if public and not tokens and not own_token and not read.oauth and not locally:
        _refuse(
            f"TRIPTYCH_PUBLIC_URL is {public}, which is reachable from other machines: set TRIPTYCH_AUTH_TOKEN to a "
            "long random text, which clients then send as `Authorization: Bearer …`, or unset TRIPTYCH_PUBLIC_URL."
        )
    try:
        listener = http.bind(host, port)
    except OSError as error:
        _refuse(
            f"{host}:{port} cannot be listened on ({error.strerror or error}). Use --port with a free port, "
            "or stop the program that has this one."
        )
    if stateless and transport == "sse":
        _refuse(
            "SSE keeps each client's session in one process, so it cannot be stateless. Use --transport http, or a "
            "balancer that sends a client always to the same process."
        )
    if stateless is None:
        stateless = transport == "http" and read.shared
    holder = ServiceHolder(service_opener(read, worker=worker))
    listens = f"http://{http.in_url(host)}:{listener.getsockname()[1]}"
    reached = public or (listens if http.is_loopback(host) else None)
    files_url = f"{reached}/files" if reached else None
    server = build(holder, remote=True, links=lambda: read.links, files_url=files_url, stateless=stateless)
    drain, health = draining.Drain(), Health(holder, works=worker)
    metrics = monitoring.metrics(read, health, holder, host)
    path = "sse" if transport == "sse" else "mcp"
    oauth = _oauth(read, f"{reached}/{path}")
    app = http.http_app(
        server,
        transport,
        host,
        tokens,
        own_token,
        public,
        stateless=stateless,
        drain=drain,
        health=health,
        metrics=metrics,
        oauth=oauth,
    )

    def ready() -> None:
        if transport == "sse" and read.shared:
            sys.stderr.write("SSE: a balancer must send each client always to the same replica (http needs no such).\n")
        if public:
            sys.stderr.write(f"Clients reach it at {public}/{path}\n")
        on_ready(f"{listens}/{path}")

    def stop() -> None:
        health.draining = True
        drain.stop()
        server.end_streams()

    anyio.run(http.serve, holder, app, listener, ready, stop, metrics)


class _CleanLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        from triptych.core.text import block

        return block(super().format(record))


def _oauth(settings: Settings, url: str) -> OAuth | None:
    """Return the sign-in at the server's URL; None without an identity provider."""
    if not settings.oauth:
        return None
    from triptych.server.oauth import OAuth
    from triptych.server.scopes import Resource

    resource = Resource(url, settings.oauth.issuer, settings.oauth.scope_prefix)
    return OAuth(settings.oauth, resource, tuple(settings.setup.group_budgets_usd))


def _refuse(message: str) -> NoReturn:
    from triptych.core.text import line

    sys.stderr.write(f"triptych: {line(message)}\n")
    raise SystemExit(2)


async def _serve_stdio(holder: ServiceHolder, links: Callable[[], bool | None], handed: HandedOver | None) -> None:
    server = build(holder, remote=False, links=links)
    looked = 0.0 if handed and handed.has_work else None
    async with holder.running(looked), anyio.create_task_group() as tasks:
        tasks.start_soon(_leave_when_told, holder)
        if handed is None:
            tasks.start_soon(_keep_answers)
        async with taking_over.stdio(handed) as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
        tasks.cancel_scope.cancel()


async def _keep_answers() -> None:
    """Write down the answers of this server for the next thin start, if there are none."""
    await anyio.sleep(KEEP_AFTER_S)
    from triptych.server import snapshots

    home = environment.home(os.environ)
    if home:
        try:
            await anyio.to_thread.run_sync(snapshots.keep, Path(home), abandon_on_cancel=True)
        except Exception:  # then the next start is slow again
            logger.exception("the answers for the next start were not written")


async def _leave_when_told(holder: ServiceHolder) -> None:
    """End the process on a signal.

    A thread of the SDK then blocks reading stdin and only another line would wake it. So this closes the service in
    order and ends the process without that thread.
    """
    told = anyio.Event()
    with stop_signals(told.set):
        await told.wait()
        await holder.close()
        logging.shutdown()
        sys.stderr.flush()
        os._exit(0)
