"""Responses that go wrong on the wire, and the function that turns a response into a faulty one.

Rules: this module has no API's bodies; `refuse` makes an error in the provider's own shape. A connection that closes
early is a response that closes the transport, which the loopback server puts into the scope of the request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from triptych_emulators.kit.faults import ActiveFault

GATEWAY_PAGE = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


class DroppedConnection(Response):
    """The connection closes without a response."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _close(scope)


class HangingResponse(Response):
    """No response until the caller disconnects, `seconds` have passed, or the emulator stops."""

    def __init__(self, seconds: float, stopping: asyncio.Event) -> None:
        super().__init__()
        self._seconds = seconds
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        waits = [asyncio.ensure_future(_disconnected(receive)), asyncio.ensure_future(self._stopping.wait())]
        await asyncio.wait(waits, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        await _close(scope)


class TruncatedResponse(Response):
    """Headers for the whole body and half of its bytes; then the connection closes."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        await _close(scope)


class SlowResponse(Response):
    """The whole body in four pieces, spread over `seconds`."""

    seconds = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        data = bytes(self.body)
        step = max(1, -(-len(data) // 4))
        for start in range(0, len(data), step):
            await asyncio.sleep(self.seconds / 4)
            await send({"type": "http.response.body", "body": data[start : start + step], "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class EventStream(Response):
    """Server-sent events. Each waits for `due`; after `cut` of them the connection closes, or ends if `quietly`."""

    media_type = "text/event-stream"

    def __init__(
        self,
        events: Sequence[str],
        due: Callable[[int], Awaitable[object]],
        *,
        cut: int | None = None,
        quietly: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__("".join(events), headers=headers)
        self._events = [event.encode() for event in events][:cut]
        self._due = due
        self._closes = cut is not None and not quietly

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        for index, event in enumerate(self._events):
            await self._due(index)
            await send({"type": "http.response.body", "body": event, "more_body": True})
        if self._closes:
            await _close(scope)
        else:
            await send({"type": "http.response.body", "body": b""})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _close(scope: Scope) -> None:
    transport: asyncio.Transport = scope["state"]["transport"]
    transport.close()
    await scope["state"]["closed"].wait()


Refuse = Callable[[int, dict[str, Any]], Response]
"""Return an error of this status in the provider's own shape, with the options of the fault."""


def faulty(active: ActiveFault, request: Request, whole: Response, refuse: Refuse, stopping: asyncio.Event) -> Response:
    """Return the response that replaces `whole`, which is empty when the request was not handled."""
    name, options = active.type.name, active.options
    status = int(name) if name.isdigit() else active.type.refuses
    if status is not None:
        return refuse(status, {**options, "fault": name})
    body = bytes(whole.body)
    response: Response
    match name:
        case "html-502":
            response = Response(GATEWAY_PAGE, 502, media_type="text/html")
        case "broken-json":
            response = Response(body[: max(1, len(body) // 2)] or b'{"code":20', 200, media_type="application/json")
        case "empty-body":
            response = Response(b"", 200, media_type="application/json")
        case "drop" | "lost-answer":
            response = DroppedConnection()
        case "hang":
            response = HangingResponse(float(options["seconds"]), stopping)
        case "code-500-null":
            response = Response(b'{"code":500,"data":null}', 200, media_type="application/json")
        case "truncated":
            response = TruncatedResponse(body, 200, media_type=whole.media_type)
        case "not-an-image":
            response = Response(b"<Error><Code>AccessDenied</Code></Error>", 200, media_type="image/png")
        case "redirect":
            response = RedirectResponse(options.get("to") or f"{request.url.path}?again=1", 302)
        case "slow":
            response = SlowResponse(body, 200, media_type=whole.media_type)
            response.seconds = float(options["seconds"])
        case _:
            raise LookupError(f"{name} is declared, but no response is made for it")
    return response
