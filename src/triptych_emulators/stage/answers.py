"""Answers that go wrong on the wire, and the one function that spoils an answer.

Rules: nothing here knows an API's bodies; an error in the provider's own shape is asked for through `refuse`. A
connection that closes early is a response whose call ends the transport, which the loopback server puts into the
request's scope.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from triptych_emulators.stage.faults import Armed

GATEWAY_PAGE = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


class Dropped(Response):
    """No answer: the connection closes."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _close(scope)


class Hanging(Response):
    """No answer until the caller gives up, `seconds` have passed, or the emulator stops."""

    def __init__(self, seconds: float, stopping: asyncio.Event) -> None:
        super().__init__()
        self._seconds = seconds
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ends = [asyncio.ensure_future(_gone(receive)), asyncio.ensure_future(self._stopping.wait())]
        await asyncio.wait(ends, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
        await _close(scope)


class Truncated(Response):
    """The headers promise all of the bytes; half of them come, then the connection closes."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        await _close(scope)


class Slow(Response):
    """All of the bytes, in four pieces, spread over `seconds`."""

    seconds = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        data = bytes(self.body)
        step = max(1, -(-len(data) // 4))
        for start in range(0, len(data), step):
            await asyncio.sleep(self.seconds / 4)
            await send({"type": "http.response.body", "body": data[start : start + step], "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class Events(Response):
    """Server-sent events, each sent once `due` lets it go; after `cut` of them the connection closes, or just ends."""

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


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _close(scope: Scope) -> None:
    transport: asyncio.Transport = scope["state"]["transport"]
    transport.close()
    await scope["state"]["closed"].wait()


Refuse = Callable[[int, dict[str, Any]], Response]
"""Give an error of this status in the provider's own shape, with the fault's options."""


def spoiled(armed: Armed, request: Request, answer: Response, refuse: Refuse, stopping: asyncio.Event) -> Response:
    """Return what is sent instead of `answer` (which is empty when the request was not looked at)."""
    name, options = armed.fault.name, armed.options
    status = int(name) if name.isdigit() else armed.fault.refuses
    if status is not None:
        return refuse(status, {**options, "fault": name})
    body = bytes(answer.body)
    made: Response
    match name:
        case "html-502":
            made = Response(GATEWAY_PAGE, 502, media_type="text/html")
        case "broken-json":
            made = Response(body[: max(1, len(body) // 2)] or b'{"code":20', 200, media_type="application/json")
        case "empty-body":
            made = Response(b"", 200, media_type="application/json")
        case "drop" | "lost-answer":
            made = Dropped()
        case "hang":
            made = Hanging(float(options["seconds"]), stopping)
        case "code-500-null":
            made = Response(b'{"code":500,"data":null}', 200, media_type="application/json")
        case "truncated":
            made = Truncated(body, 200, media_type=answer.media_type)
        case "not-an-image":
            made = Response(b"<Error><Code>AccessDenied</Code></Error>", 200, media_type="image/png")
        case "redirect":
            made = RedirectResponse(options.get("to") or f"{request.url.path}?again=1", 302)
        case "slow":
            made = Slow(body, 200, media_type=answer.media_type)
            made.seconds = float(options["seconds"])
        case _:
            raise LookupError(f"{name}: declared, but nothing spoils an answer that way")
    return made
