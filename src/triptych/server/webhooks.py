"""`POST /webhooks/<provider>/<prediction>.<key>`: a provider calls back, and the prediction is polled now.

Rules: a call is a hint and nothing more: its content and its signature are not read, and the poll decides. Every POST
gets the same 202, so nobody learns which predictions exist. A prediction is hinted once in two seconds (`Store.hint`),
and at most `WAITING` hints wait; further ones are dropped, because polling goes on without them. The route is open
without a token. Imported for HTTP and SSE alone.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from starlette.responses import PlainTextResponse, Response

from triptych.core.errors import TriptychError
from triptych.jobs import callbacks

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from triptych.jobs.service import ImageService

log = logging.getLogger(__name__)

BODY_LIMIT_BYTES = 1024 * 1024
BODY_LIMIT_S = 5.0
CALLS_AT_ONCE = 64
WAITING = 256
PAUSE_S = 0.05
"""The pause between two uses of the database: a flood takes a small part of its time."""
_CALL = re.compile(rf"{callbacks.ROUTE}/[a-z0-9_]{{1,40}}/([A-Za-z0-9_-]{{1,80}})\.([a-f0-9-]{{36}})")


class Webhooks:
    """Middleware: answers calls of providers, and passes everything else on."""

    def __init__(self, app: ASGIApp, hints: Hints) -> None:
        self._app = app
        self._hints = hints
        self._calls = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(f"{callbacks.ROUTE}/"):
            await self._app(scope, receive, send)
        elif scope["method"] != "POST":
            text = "Triptych: providers call this address with POST.\n"
            await PlainTextResponse(text, 405, {"Allow": "POST"})(scope, receive, send)
        elif self._calls >= CALLS_AT_ONCE:
            await PlainTextResponse("", 503, {"Retry-After": "2"})(scope, receive, send)
        else:
            self._calls += 1
            try:
                await self._answer(scope, receive, send)
            finally:
                self._calls -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if found := _CALL.fullmatch(scope["path"]):
            self._hints.add(found[1], found[2])
        status = 413
        with anyio.move_on_after(BODY_LIMIT_S):
            status = 202 if await _read(receive) else 413
        await Response(status_code=status, headers={} if status == 202 else {"Connection": "close"})(
            scope, receive, send
        )


async def _read(receive: Receive) -> bool:
    """Read and drop a body; return False if it is too large."""
    size = 0
    while size <= BODY_LIMIT_BYTES:
        message = await receive()
        size += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return True
    return False


class Hints:
    """The hints that wait for the database."""

    def __init__(self, open_service: Callable[[], Awaitable[ImageService]]) -> None:
        self._open_service = open_service
        self._waiting: dict[tuple[str, str], None] = {}
        self._added = anyio.Event()

    def add(self, prediction_id: str, key: str) -> None:
        """Hint a prediction soon. It is dropped if it waits already, or if too many wait."""
        if len(self._waiting) < WAITING:
            self._waiting[prediction_id, key] = None
            self._added.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Give the hints to the service for as long as the block runs."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._run)
            yield
            tasks.cancel_scope.cancel()

    async def _run(self) -> None:
        while True:
            await self._added.wait()
            self._added = anyio.Event()
            while self._waiting:
                calls, self._waiting = list(self._waiting), {}
                try:
                    await (await self._open_service()).hint(calls)
                except TriptychError as error:  # a later poll sees the end
                    log.debug("a provider's call is lost: %s", error.for_operator)
                except Exception:
                    log.exception("internal error while a provider calls; polling goes on")
                await anyio.sleep(PAUSE_S)
