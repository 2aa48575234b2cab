"""What an emulated API was asked, in order of arrival.

Rules: a request is written down before it is looked at, with status 0 until its answer begins; 0 stays when the
connection closed without one. What is kept is bounded: the oldest go first. Safe to read from any thread.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

KEPT_REQUESTS = 20_000
KEPT_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Seen:
    """One request as it arrived; header names are lower-case; `json` is None when the body is none."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    json: Any
    status: int


class Log:
    """The requests seen so far."""

    def __init__(self) -> None:
        self._seen: dict[int, Seen] = {}
        self._count = 0
        self._bytes = 0
        self._lock = threading.Lock()

    def entries(self) -> list[Seen]:
        with self._lock:
            return list(self._seen.values())

    def clear(self) -> None:
        with self._lock:
            self._seen.clear()
            self._bytes = 0

    def write_down(self, seen: Seen) -> Callable[[int], None]:
        """Add a request; return what notes the status of its answer."""
        with self._lock:
            self._count += 1
            number = self._count
            self._seen[number] = seen
            self._bytes += len(seen.body)
            while len(self._seen) > 1 and (len(self._seen) > KEPT_REQUESTS or self._bytes > KEPT_BYTES):
                self._bytes -= len(self._seen.pop(next(iter(self._seen))).body)

        def answered(status: int) -> None:
            with self._lock:
                if number in self._seen:
                    self._seen[number] = replace(seen, status=status)

        return answered


class Recorder:
    """Reads a request to its end, writes it down, and hands it on; paths under `unlogged` are only handed on."""

    def __init__(self, app: ASGIApp, log: Log, unlogged: str) -> None:
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
        answered = self._log.write_down(_seen(scope, body))
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered(message["status"])
            await send(message)

        await self._app(scope, again, noting)


def _seen(scope: Scope, body: bytes) -> Seen:
    request = Request(scope)
    parsed: Any = None
    if body[:1] in (b"{", b"["):
        try:
            parsed = json.loads(body)
        except ValueError:
            parsed = None
    return Seen(scope["method"], scope["path"], dict(request.query_params), dict(request.headers), body, parsed, 0)
