"""The time each client waits for a call, learned from the calls that it gave up.

Some hosts give up a call after 5 s without a word. A call that is cancelled with a time-out as its reason, or two calls
that end at about the same age, set a limit for that client: its later calls return a second earlier. A client is its
session, or its name and version where requests have no session (streamable HTTP, 2026-07-28).
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import anyio

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MARGIN_S = 1.0
SHORTEST_S = 1.0
SAME_AGE_S = 0.5
"""Two ages are equal if they differ by less than this, or by less than a tenth."""
ONE_GESTURE_S = 1.0
"""Ends within this time of another end do not count: one click ends all calls in progress, and one call can end twice
(by a notice and by a closed connection)."""
CLIENTS_KEPT = 256
CALLS_KEPT = 1024

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_TIMED_OUT = re.compile(r"timeout|\btime[sd]?[\s_-]+out\b|deadline", re.IGNORECASE)


@dataclass(slots=True)
class _Client:
    limit_s: float | None = None
    last_age_s: float | None = None
    last_end_s: float = -ONE_GESTURE_S


class Patience:
    """The time limits of one server's clients. `clock` returns seconds and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._clients: OrderedDict[Hashable, _Client] = OrderedDict()
        self._begun: OrderedDict[tuple[Hashable, str], float] = OrderedDict()

    @contextmanager
    def call(self, client: Hashable, request: Hashable) -> Iterator[Callable[[], float]]:
        """Watch one call for as long as the block runs; yield a function that returns the seconds left for it."""
        begun, key = self._clock(), (client, str(request))
        _keep(self._begun, key, begun, CALLS_KEPT)
        try:
            yield lambda: self.limit_s(client) - (self._clock() - begun)
        except anyio.get_cancelled_exc_class():
            self.client_left(client, self._clock() - begun)
            raise  # its begin is kept: the reason may arrive after the end
        except BaseException:
            self._begun.pop(key, None)
            raise
        self._begun.pop(key, None)

    def limit_s(self, client: Hashable) -> float:
        """Return how long a call of this client may take; infinity without a known limit."""
        limit_s = self._clients[client].limit_s if client in self._clients else None
        return float("inf") if limit_s is None else limit_s

    def cancelled(self, client: Hashable, request: Hashable, reason: str | None) -> None:
        """Note the reason with which a client cancelled a call."""
        begun = self._begun.get((client, str(request)))
        if begun is not None and reason and _TIMED_OUT.search(reason):
            self._limit(self._client(client), self._clock() - begun)

    def client_left(self, client: Hashable, age_s: float) -> None:
        """Note that a client left a call of this age without its response."""
        known, now = self._client(client), self._clock()
        if now - known.last_end_s < ONE_GESTURE_S:
            return
        if known.last_age_s is not None and abs(age_s - known.last_age_s) <= max(SAME_AGE_S, age_s / 10):
            self._limit(known, min(age_s, known.last_age_s))
        known.last_age_s, known.last_end_s = age_s, now

    def _limit(self, known: _Client, age_s: float) -> None:
        limit_s = max(age_s - MARGIN_S, SHORTEST_S)
        known.limit_s = min(limit_s, known.limit_s or limit_s)

    def _client(self, client: Hashable) -> _Client:
        return _keep(self._clients, client, self._clients.get(client) or _Client(), CLIENTS_KEPT)


class DisconnectWatcher:
    """Middleware: records each client with a session that closes a connection before its answer was sent.

    The SDK lets the calls of such a client run on, so this is the only sign of its time limit.
    """

    def __init__(self, app: ASGIApp, patience: Patience) -> None:
        self._app = app
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = next((value for name, value in scope.get("headers", ()) if name == b"mcp-session-id"), b"")
        if not session or scope.get("method") != "POST":
            await self._app(scope, receive, send)
            return
        begun, answered, user = time.monotonic(), False, scope.get("user")

        async def sent(message: Message) -> None:
            nonlocal answered
            answered = answered or (message["type"] == "http.response.body" and not message.get("more_body", False))
            await send(message)

        async def received() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and not answered:
                client = (str(user.username) if user else None, session.decode("latin-1"))
                self._patience.client_left(client, time.monotonic() - begun)
            return message

        await self._app(scope, received, sent)


def _keep(kept: OrderedDict[_Key, _Value], key: _Key, value: _Value, most: int) -> _Value:
    """Store a value as the newest, and remove the oldest above `most`."""
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
    return value
