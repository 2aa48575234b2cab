"""The log of the requests that an emulated API receives, in order of arrival.

Rules: a request is logged before it is handled, with status 0 until its response begins; the status stays 0 when the
connection closes without a response. The log is bounded: the oldest entries go first. It is safe to read from any
thread.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_REQUESTS = 20_000
MAX_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class RecordedRequest:
    """One request as it arrived; header names are lower-case; `json` is None when the body is not JSON."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    json: Any
    status: int


class RequestLog:
    """The recorded requests."""

    def __init__(self) -> None:
        self._entries: dict[int, RecordedRequest] = {}
        self._count = 0
        self._bytes = 0
        self._lock = threading.Lock()

    def entries(self) -> list[RecordedRequest]:
        with self._lock:
            return list(self._entries.values())

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def add(self, request: RecordedRequest) -> Callable[[int], None]:
        """Add a request; return the function that sets the status of its response."""
        with self._lock:
            self._count += 1
            number = self._count
            self._entries[number] = request
            self._bytes += len(request.body)
            while len(self._entries) > 1 and (len(self._entries) > MAX_REQUESTS or self._bytes > MAX_BYTES):
                self._bytes -= len(self._entries.pop(next(iter(self._entries))).body)

        def set_status(status: int) -> None:
            with self._lock:
                if number in self._entries:
                    self._entries[number] = replace(request, status=status)

        return set_status


class RequestRecorder:
    """ASGI middleware that reads each request to its end, logs it and passes it on, but for paths under `unlogged`."""

    def __init__(self, app: ASGIApp, log: RequestLog, unlogged: str) -> None:
        self._app = app
        self._log = log
        self._unlogged = unlogged

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(self._unlogged):
            await self._app(scope, receive, send)
            return
        pieces: list[bytes] = []
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            pieces.append(message.get("body", b""))
            more = message.get("more_body", False)
        body = b"".join(pieces)
        set_status = self._log.add(_recorded(scope, body))
        replayed = False

        async def replay() -> Message:
            nonlocal replayed
            if replayed:
                return await receive()
            replayed = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send_and_log(message: Message) -> None:
            if message["type"] == "http.response.start":
                set_status(message["status"])
            await send(message)

        await self._app(scope, replay, send_and_log)


def _recorded(scope: Scope, body: bytes) -> RecordedRequest:
    request = Request(scope)
    parsed: Any = None
    if body[:1] in (b"{", b"["):
        try:
            parsed = json.loads(body)
        except ValueError:
            parsed = None
    query, headers = dict(request.query_params), dict(request.headers)
    return RecordedRequest(scope["method"], scope["path"], query, headers, body, parsed, 0)
