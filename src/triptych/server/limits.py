"""Limits of the HTTP transports: how many requests at once, and how long each part of a request may take.

A request's head, its body and every response have a time limit; a connection that exceeds it is closed. Requests above
a limit get a plain sentence and `Retry-After`. Imported for HTTP and SSE alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
from starlette.responses import PlainTextResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """Numbers and seconds. An open stream counts as a request in progress, even if it is idle."""

    requests_per_owner: int = 64
    requests: int = 192
    connections: int = 256
    head_s: float = 15
    """From the start of a connection, or the first byte of a request, to the end of its headers."""
    body_s: float = 120
    """From a request's headers to the end of its body."""
    stalled_s: float = 30
    """How long a client may leave bytes unread."""
    idle_s: int = 5
    """How long a connection is kept between two requests."""
    retry_after_s: int = 5


LIMITS = Limits()


class CallsInProgress:
    """Middleware: refuses requests above the limits, and a body that is not complete in time."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._busy: Counter[str | None] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        user = scope.get("user")
        owner = user.username if user else None
        if refused := self._refusal(owner):
            await refused(scope, receive, send)
            return
        self._busy[owner] += 1
        try:
            await self._app(scope, self._in_time(receive), send)
        except _TooSlow:
            text = f"The request's body did not come within {self._limits.body_s:g} s; send it again, all at once."
            await _plain(408, text, {"Connection": "close"})(scope, receive, send)
        except _Gone:
            pass  # the client is gone, and the request was never complete
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            log.info("a message came for an SSE session that was just closed")  # its response, 202, was sent before
        finally:
            self._busy[owner] -= 1
            if not self._busy[owner]:
                del self._busy[owner]

    def _refusal(self, owner: str | None) -> PlainTextResponse | None:
        later = {"Retry-After": str(self._limits.retry_after_s)}
        if self._busy[owner] >= self._limits.requests_per_owner:
            most = self._limits.requests_per_owner
            return _plain(429, f"You have {most} requests in work, the most at once; let one of them end first.", later)
        if self._busy.total() >= self._limits.requests:
            return _plain(503, "The server has all the requests in work that it takes at once; come back soon.", later)
        return None

    def _in_time(self, receive: Receive) -> Receive:
        """Return `receive` with a limit on the time of the whole body; messages after the body have no limit."""
        end_s: float | None = None
        ended = False

        async def timed() -> Message:
            nonlocal end_s, ended
            if ended:
                return await receive()
            end_s = end_s or anyio.current_time() + self._limits.body_s
            try:
                with anyio.fail_after(end_s - anyio.current_time()):
                    message = await receive()
            except TimeoutError:
                raise _TooSlow from None
            if message["type"] == "http.disconnect":
                raise _Gone
            ended = not message.get("more_body", False)
            return message

        return timed


class _TooSlow(Exception):
    """A request's body was not complete in time."""


class _Gone(Exception):
    """The client closed the connection before its request's body was complete."""


def _plain(status: int, text: str, headers: dict[str, str]) -> PlainTextResponse:
    return PlainTextResponse(f"Triptych: {text}\n", status, headers)


def timeout_protocol(limits: Limits) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with timeouts.

    uvicorn's own has no limit for a request's head, for the rest of an unread body, or for a client that does not
    read.
    """

    class TimeoutProtocol(H11Protocol):
        _head_timer: asyncio.TimerHandle | None = None
        _read_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=0)  # so that one unread byte already pauses writing
            self._time_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._time_head()

        def _time_head(self) -> None:
            """Run the head's timer while no request is in progress: every byte received then belongs to a head."""
            if self.cycle is not None and not self.cycle.response_complete:
                if self._head_timer:
                    self._head_timer.cancel()
                    self._head_timer = None
            elif self._head_timer is None:
                self._head_timer = self.loop.call_later(limits.head_s, self.transport.abort)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._read_timer = self._read_timer or self.loop.call_later(limits.stalled_s, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._read_timer:
                self._read_timer.cancel()
                self._read_timer = None

        def connection_lost(self, exc: Exception | None) -> None:
            for timer in filter(None, (self._head_timer, self._read_timer)):
                timer.cancel()
            super().connection_lost(exc)

    return TimeoutProtocol


def uvicorn_options(limits: Limits) -> dict[str, Any]:
    """Return the options of `uvicorn.Config`."""
    return {
        "http": timeout_protocol(limits),
        "ws": "none",
        "limit_concurrency": limits.connections,
        "timeout_keep_alive": limits.idle_s,
        "server_header": False,
    }
