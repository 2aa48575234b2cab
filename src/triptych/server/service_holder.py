"""The process's one service, opened at the first use and kept open until the server ends."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

import anyio
import anyio.abc

if TYPE_CHECKING:
    from triptych.jobs.service import ImageService
    from triptych.settings import Settings

logger = logging.getLogger(__name__)

SettingsSource = Callable[[], "Settings"]

FIRST_LOOK_S = 1.0
"""Unfinished jobs are resumed after this time without a call. The client waits for the start itself."""
CLOSE_LIMIT_S = 9.0
"""Longer than a submit in progress may still wait for its response (`submission.SHUTDOWN_GRACE_S`)."""


def service_opener(
    settings: Settings | SettingsSource, *, worker: bool = True
) -> Callable[[], AbstractAsyncContextManager[ImageService]]:
    """Return a function that reads the settings and opens a service; it sends logging to stderr.

    Without `worker`, other processes advance its jobs.
    """

    def open_it() -> AbstractAsyncContextManager[ImageService]:
        from triptych import logs
        from triptych.jobs import service

        read = settings() if callable(settings) else settings
        logs.configure(read.log_level, read.log_format)
        return service.open_service(read.setup, worker=worker)

    return open_it


@contextmanager
def traced() -> Iterator[None]:
    """Send traces for as long as the block runs, if OTEL_… variables name a collector; else import nothing."""
    traces = None
    if any(name.startswith("OTEL_") for name in os.environ):
        from triptych.server import tracing

        traces = tracing.start(os.environ)
    try:
        yield
    finally:
        if traces:
            traces.shutdown()


class ServiceHolder:
    """The process's one service: opened at its first use, kept open until the server ends.

    `await holder()` returns the service. Each caller of a failed opening gets its error, and the next use tries again.
    A service that broke is opened again.
    """

    def __init__(self, open_service: Callable[[], AbstractAsyncContextManager[ImageService]]) -> None:
        self._open = open_service
        self._service: ImageService | None = None
        self._stopping = False
        self._closing = anyio.Event()
        self._closed = anyio.Event()
        self._opening = anyio.Lock()
        self._tasks: anyio.abc.TaskGroup | None = None

    async def __call__(self) -> ImageService:
        """Return the service.

        Raises: `errors.TriptychError` saying why it cannot be opened.
        """
        if self._service is not None:
            return self._service
        async with self._opening:
            if self._service is None:
                assert self._tasks is not None, "the service is requested outside `running`"
                try:
                    await self._tasks.start(self._keep_open)
                except Exception as error:
                    raise _why_not(error) from error
            assert self._service is not None
            return self._service

    @asynccontextmanager
    async def running(self, first_look_s: float | None = None) -> AsyncIterator[ServiceHolder]:
        """Keep the service for as long as the block runs, and open it soon even without a call."""
        async with anyio.create_task_group() as self._tasks:
            self._tasks.start_soon(self._open_soon, FIRST_LOOK_S if first_look_s is None else first_look_s)
            try:
                yield self
            finally:
                await self.close()
                self._tasks.cancel_scope.cancel()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping

    def stop(self) -> None:
        """Begin the orderly end: no further step begins, and waiting calls return. The service stays open."""
        self._stopping = True
        if self._service is not None:
            self._service.stop()

    async def close(self) -> None:
        """Close the service in order, or stop waiting for that after a few seconds."""
        self._closing.set()
        with anyio.move_on_after(CLOSE_LIMIT_S, shield=True):
            if self._service is not None:
                await self._closed.wait()

    async def _open_soon(self, first_look_s: float) -> None:
        with anyio.move_on_after(first_look_s):
            await self._closing.wait()
            return
        from triptych.core.errors import TriptychError

        with suppress(TriptychError):  # Logged where it was raised; the next call reports it.
            await self()

    async def _keep_open(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Open the service, signal the start, and keep it open until the end."""
        opened = False
        try:
            async with self._open() as self._service:
                opened = True
                if self._stopping:
                    self._service.stop()
                task_status.started()
                await self._closing.wait()
        except Exception:
            if not opened:
                raise
            logger.exception("the service broke; the next call opens it anew")
        finally:
            self._service = None
            if self._closing.is_set():
                self._closed.set()


def _why_not(error: Exception) -> Exception:
    """Return the refusal for a service that does not open, and log its cause."""
    from triptych.core.errors import TriptychError

    if isinstance(error, TriptychError):
        logger.error("Triptych cannot start working: %s", error.message)
        return error
    logger.error("Triptych cannot start working", exc_info=error)
    if isinstance(error, OSError) or type(error).__module__ == "sqlite3":
        return TriptychError(
            f"Triptych cannot use its data directory: {str(error)[:300]}. Set TRIPTYCH_HOME to a directory that it can "
            "write to, and restart the server."
        )
    return TriptychError("Triptych cannot start working; the server's log (stderr) has details.")
