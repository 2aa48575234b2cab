"""The end of an HTTP server: requests in progress get their answers, and open streams end in order.

After `stop`, streams that wait for news (a GET of `/mcp` or `/sse`) end at once. Every other request may go on for
`LIMIT_S`; then it gets a 503, or its stream ends. Imported for HTTP and SSE alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import anyio
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LIMIT_S = 1.5
STREAMS = ("/mcp", "/mcp/", "/sse")


class Drain:
    """When the requests of a server end."""

    def __init__(self) -> None:
        self._end_s = math.inf
        self._in_progress: set[anyio.CancelScope] = set()
        self._streams: set[anyio.CancelScope] = set()

    def stop(self) -> None:
        """Let the requests in progress end."""
        self._end_s = anyio.current_time() + LIMIT_S
        for request in self._in_progress:
            request.deadline = self._end_s
        for stream in list(self._streams):
            stream.cancel()

    def begin(self, request: anyio.CancelScope, *, is_stream: bool) -> None:
        """Note a request in progress."""
        (self._streams if is_stream else self._in_progress).add(request)
        request.deadline = self._end_s

    def end(self, request: anyio.CancelScope) -> None:
        """Forget a request."""
        self._in_progress.discard(request)
        self._streams.discard(request)


class Draining:
    """Middleware: ends requests in order once the server stops."""

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = ended = False

        async def sent(message: Message) -> None:
            nonlocal begun, ended
            await send(message)
            begun = True
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)

        with anyio.CancelScope() as request:
            self._drain.begin(request, is_stream=scope["method"] == "GET" and scope["path"] in STREAMS)
            try:
                await self._app(scope, receive, sent)
            finally:
                self._drain.end(request)
        if request.cancelled_caught and not ended:
            if begun:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                stops = "Triptych: this server stops; send the request again.\n"
                await PlainTextResponse(stops, 503, {"Retry-After": "1"})(scope, receive, send)
