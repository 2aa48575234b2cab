"""Makes the probes and metrics of a server or a worker, as the settings ask for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio

from triptych.core import errors

if TYPE_CHECKING:
    from triptych.jobs.service import ImageService
    from triptych.server.health import Health
    from triptych.server.metrics import Metrics
    from triptych.settings import Settings

OpenService = Callable[[], Awaitable["ImageService"]]


def metrics(settings: Settings, health: Health, open_service: OpenService, host: str) -> Metrics | None:
    """Return the metrics of a process that is bound to `host`; None if the settings do not ask for them.

    Raises: `errors.BadRequest` if other machines can reach them without a token, or the extra is not installed.
    """
    from triptych.server import http

    if not settings.metrics:
        return None
    token = settings.metrics_token
    reached = not http.is_loopback(host) or not http.is_loopback(urlsplit(settings.public_url or "").hostname or "::1")
    if token is None and reached:
        raise errors.BadRequest(
            "TRIPTYCH_METRICS is on and other machines can reach /metrics, which shows spending: set "
            "TRIPTYCH_METRICS_TOKEN to a long random text, which Prometheus then sends, or unset TRIPTYCH_METRICS."
        )
    try:
        from triptych.server.metrics import Metrics
    except ImportError as error:
        raise errors.BadRequest("TRIPTYCH_METRICS needs the extra otel: pip install 'triptych[otel]'") from error
    return Metrics(health.checks, open_service, token.get_secret_value() if token else None)


@asynccontextmanager
async def probed(service: ImageService, settings: Settings, at: tuple[str, int] | None) -> AsyncIterator[Health]:
    """Answer probes and metrics of a worker at a host and port for as long as the block runs; None is nowhere.

    Raises: `errors.BadRequest` if they cannot be served there.
    """
    from triptych.server import health as probes

    async def opened() -> ImageService:
        return service

    health = probes.Health(opened)
    if at is None:
        yield health
        return
    from triptych.server import http

    shown = metrics(settings, health, opened, at[0])
    try:
        listener = http.bind(*at)
    except OSError as error:
        raise errors.BadRequest(f"{at[0]}:{at[1]} cannot be listened on: {error}.") from error
    async with shown.running() if shown else nullcontext(), anyio.create_task_group() as tasks:
        tasks.start_soon(probes.serve, probes.app(health, shown), listener)
        try:
            yield health
        finally:
            tasks.cancel_scope.cancel()
