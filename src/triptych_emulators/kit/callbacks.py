"""Callbacks of an emulated API: it reports the end of a job at the URL of its submit.

Rules: only URLs on loopback are called; others are noted and left alone. A failed call is repeated twice. Each call is
noted with the status of its response, 0 without one. `FAULTS` are the ways in which real callbacks go wrong.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from triptych_emulators.kit.faults import ActiveFault, FaultType

FAULTS = (
    FaultType("callback", "never", "the end is not reported"),
    FaultType("callback", "late", "the end is reported `seconds` later", options={"seconds": 5.0}),
    FaultType("callback", "twice", "the end is reported two times"),
    FaultType("callback", "early", "a report before the response to the submit, and none at the end"),
    FaultType("callback", "forged", "beside the right report, one for an id that does not exist"),
)
TRIES = 3
RETRY_S = 0.25
TIMEOUT_S = 5.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def may_be_called(url: Any) -> bool:
    """Return whether providers accept a URL: https, or for an emulator http on loopback."""
    parts = urlsplit(url) if isinstance(url, str) else None
    return bool(parts and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)))


class Callbacks:
    """The calls of one emulator; `wait` sleeps on its clock and returns False once it stops."""

    def __init__(self, wait: Callable[[float], Awaitable[bool]]) -> None:
        self._wait = wait
        self._tasks: set[asyncio.Task[None]] = set()
        self._made: list[tuple[str, int]] = []
        self._lock = threading.Lock()

    @property
    def made(self) -> list[tuple[str, int]]:
        """Every call so far, in order: its URL and the status of its response."""
        with self._lock:
            return list(self._made)

    async def expect(
        self, url: str, body: Mapping[str, Any], fault: ActiveFault | None, ended: Callable[[], Awaitable[object]]
    ) -> None:
        """Report the end of a job when `ended` returns; an `early` report is made before this returns."""
        name = fault.type.name if fault else ""
        if name == "early":
            await self._call(url, body)
        elif name != "never":
            task = asyncio.ensure_future(self._report(url, body, fault, ended))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _report(
        self, url: str, body: Mapping[str, Any], fault: ActiveFault | None, ended: Callable[[], Awaitable[object]]
    ) -> None:
        name = fault.type.name if fault else ""
        await ended()
        if fault and name == "late" and not await self._wait(float(fault.options["seconds"])):
            return
        if name == "forged":
            await self._call(f"{url[:-12]}{'0' * 12}", body)
        for _ in range(2 if name == "twice" else 1):
            await self._call(url, body)

    async def _call(self, url: str, body: Mapping[str, Any]) -> None:
        status = 0
        if urlsplit(url).hostname in _LOOPBACK:
            for tried in range(TRIES):
                status = await asyncio.to_thread(_post, url, json.dumps(dict(body)).encode())
                if 200 <= status < 300 or tried == TRIES - 1:
                    break
                await asyncio.sleep(RETRY_S)
        with self._lock:
            self._made.append((url, status))


def _post(url: str, body: bytes) -> int:
    """Send a body of JSON; return the status of the response, 0 without one."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", parts.path, body, {"Content-Type": "application/json"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
