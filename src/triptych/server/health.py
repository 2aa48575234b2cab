"""`/healthz`, `/readyz` and `/metrics`, for balancers and monitoring, beside the routes of MCP.

`/healthz` says that the process answers; `/readyz`, whether it should get requests: 200, or 503 with the reasons. Both
need no token and no known Host, because balancers ask by address, and say nothing but these fixed words. The answer is
kept for a second, so that asking often costs nothing.

`app` has these routes alone, for a process without MCP, and `serve` runs it on a port of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import anyio
from starlette.responses import JSONResponse, PlainTextResponse, Response

from triptych.core import errors
from triptych.core.clock import SystemClock
from triptych.core.outages import OutageLog

if TYPE_CHECKING:
    import socket

    from starlette.types import ASGIApp, Receive, Scope, Send

    from triptych.jobs.service import ImageService
    from triptych.server.metrics import Metrics

log = logging.getLogger(__name__)

KEEP_S = 1.0
CHECK_LIMIT_S = 3.0
"""A database or a bucket that does not answer within this time is unreachable."""
NO_STORE = {"Cache-Control": "no-store"}


class Health:
    """The state of one process, for `/readyz`.

    `works` says whether this process advances jobs. Set `draining` before the process ends: balancers then send it
    nothing more.
    """

    def __init__(self, open_service: Callable[[], Awaitable[ImageService]], *, works: bool = True) -> None:
        self.draining = False
        self._open_service = open_service
        self._works = works
        self._images = OutageLog(log, SystemClock(), "images cannot be reached")
        self._checking = anyio.Lock()
        self._checks: dict[str, str] = {}
        self._checked_s: float | None = None

    async def checks(self) -> dict[str, str]:
        """Return the state of each part, `ok` where nothing is wrong."""
        async with self._checking:  # one check at a time, whoever asks
            if self._checked_s is None or anyio.current_time() - self._checked_s >= KEEP_S:
                self._checks = await self._check()
                self._checked_s = anyio.current_time()
        return {**self._checks, "draining": "yes" if self.draining else "ok"}

    async def _check(self) -> dict[str, str]:
        try:
            with anyio.fail_after(CHECK_LIMIT_S):
                service = await self._open_service()
                await service.store.require_current()
        except (errors.Outdated, errors.Unusable) as error:
            return {"database": error.kind}
        except Exception as error:  # it may also be a mistake in the settings, which the log has
            log.debug("not ready: %s", type(error).__name__)
            return {"database": "unreachable"}
        found = {"database": "ok", "objects": await self._objects(service)}
        if self._works:
            found["worker"] = "ok" if service.worker.is_alive else "stopped"
        return found

    async def _objects(self, service: ImageService) -> str:
        try:
            with anyio.fail_after(CHECK_LIMIT_S):
                await service.reach_images()
        except TimeoutError:
            self._images.failed(errors.Outage(f"no answer within {CHECK_LIMIT_S:g} s"))
            return "unreachable"
        except Exception as error:
            self._images.failed(error)
            return "unreachable"
        self._images.answered()
        return "ok"


def in_order(checks: Mapping[str, str]) -> bool:
    """Return whether every one of these parts is in order."""
    return all(state == "ok" for state in checks.values())


class Probes:
    """Middleware: answers the three paths, and passes every other request on."""

    def __init__(self, app: ASGIApp, health: Health, metrics: Metrics | None = None) -> None:
        self._app = app
        self._health = health
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path") if scope["type"] == "http" else None
        answer: Response
        if path not in ("/healthz", "/readyz", "/metrics") or (path == "/metrics" and not self._metrics):
            await self._app(scope, receive, send)
            return
        if scope["method"] not in ("GET", "HEAD"):
            answer = Response(status_code=405, headers={"Allow": "GET, HEAD"})
        elif path == "/healthz":
            answer = JSONResponse({"status": "ok"}, headers=NO_STORE)
        elif path == "/readyz":
            checks = await self._health.checks()
            ready = in_order(checks)
            answer = JSONResponse({"ready": ready, "checks": checks}, 200 if ready else 503, NO_STORE)
        else:
            assert self._metrics
            answer = await self._metrics.answer(scope)
        await answer(scope, receive, send)


def app(health: Health, metrics: Metrics | None = None) -> ASGIApp:
    """Return an application with the three routes alone; every other path is 404."""

    async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await PlainTextResponse("Triptych: only /healthz, /readyz and /metrics are here.\n", 404)(
                scope, receive, send
            )

    return Probes(nothing, health, metrics)


async def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Serve `app` on a bound socket until cancelled. Signals stay with the caller."""
    import uvicorn

    class Server(uvicorn.Server):
        def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
            return nullcontext()

    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    with listener:
        await Server(config).serve(sockets=[listener])
