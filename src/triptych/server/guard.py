"""What stands between the network and the server: whose token it is, how much at once, and for how long.

Rules: tokens are compared as hashes, in constant time and all of them; what goes on from here is an owner, an id that
the token cannot be told from. Nobody who is slow holds anything for long: a request's head, its body and every answer
have their time, and a connection that lets it pass is cut. What is too much at once is refused in a plain sentence,
with the time to come back. Imported for HTTP and SSE alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.responses import PlainTextResponse
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from triptych.server.patience import Patience

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much at once, and for how long. A stream that is open, idle or not, is a request in work."""

    requests_per_owner: int = 64
    requests: int = 192
    connections: int = 256
    head_s: float = 15
    """From a connection's first moment, or a request's first byte, to the end of its headers."""
    body_s: float = 120
    """From a request's headers to the end of its body."""
    stalled_s: float = 30
    """How long a client may leave bytes unread."""
    idle_s: int = 5
    """How long a connection is kept between two requests."""
    retry_after_s: int = 5


LIMITS = Limits()
SIGNED = "triptych.signed"
"""The key in a request's scope for the file that it may read, once its signature was found right (`files`)."""
_SEND_A_TOKEN = "Send `Authorization: Bearer …` with a token of the server's TRIPTYCH_AUTH_TOKEN."  # noqa: S105
_BEARER = re.compile(rb"bearer +[^ ]", re.IGNORECASE)
_LOOKS_FOR_OAUTH = re.compile(
    r"(/mcp|/sse)?(/\.well-known(/.*)?|/(register|authorize|token|revoke)(/mcp|/sse)?/?)", re.DOTALL
)
"""Where clients look for OAuth: metadata (RFC 8414, RFC 9728, OpenID Connect) and the endpoints used without any."""


def owner_of(token: str) -> str:
    """Return the owner that a token stands for: always the same, and the token cannot be had from it."""
    return hashlib.sha256(b"triptych owner\0" + token.encode()).hexdigest()[:32]


def user_of(owner: str) -> AuthenticatedUser:
    """Return what stands for an owner in a request's scope."""
    return AuthenticatedUser(AccessToken(token="", client_id=owner, scopes=[]))


class BearerToken:
    """Lets requests through that carry one of the tokens, as its owner's, and answers 401 to all others.

    The SDK's sessions then belong to that owner: to anybody else, one that it has begun is not there. `own` is a token
    of the person at the machine, who sees everything and has no owner. The addresses at which clients look for OAuth
    are 404: a 401 there reads as a sign-in that was refused. A file's signed URL needs no token.
    """

    def __init__(self, app: ASGIApp, tokens: Iterable[str], own: str | None = None) -> None:
        self._app = app
        self._scopes: list[tuple[bytes, dict[str, Any]]] = [
            (_digest(token.encode()), {"user": user_of(owner_of(token))}) for token in tokens
        ]
        if own:
            self._scopes.append((_digest(own.encode()), {}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or SIGNED in scope:
            await self._app(scope, receive, send)
        elif (known := self._known(scope)) is not None:
            await self._app({**scope, **known}, receive, send)
        else:
            await _unknown(scope)(scope, receive, send)

    def _known(self, scope: Scope) -> dict[str, Any] | None:
        """Return what the request's token adds to its scope; None for a token that is none of ours."""
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        digest, found = _digest(token.strip()), None
        for expected, known in self._scopes:
            if hmac.compare_digest(digest, expected):
                found = known
        return found if scheme.lower() == b"bearer" else None


def _unknown(scope: Scope) -> PlainTextResponse:
    """Return the answer to a request without one of our tokens."""
    if _LOOKS_FOR_OAUTH.fullmatch(scope.get("path", "")):
        return _plain(404, f"There is no OAuth here. {_SEND_A_TOKEN}", {})
    sent = any(_BEARER.match(value) for name, value in scope["headers"] if name == b"authorization")
    wrong = ', error="invalid_token"' if sent else ""  # RFC 6750, 3.1: no error code where no token was sent
    return _plain(401, _SEND_A_TOKEN, {"WWW-Authenticate": f'Bearer realm="triptych"{wrong}'})


def _digest(token: bytes) -> bytes:
    """Return what is compared: of the same length for every token, so that time tells nothing of it."""
    return hashlib.sha256(token).digest()


class CallsInProgress:
    """Refuses what is too much at once, and a body that does not come to its end in time."""

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
            said = f"The request's body did not come within {self._limits.body_s:g} s; send it again, all at once."
            await _plain(408, said, {"Connection": "close"})(scope, receive, send)
        except _Gone:
            pass  # nobody is left to be answered, and nothing was begun
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            log.info("a message came for an SSE session that was just closed")  # it has been answered with 202
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
        """Return `receive` with an end to the body's time; what comes after the body may take any."""
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


class Leaving:
    """Notes clients of the eras with sessions that close a connection before its answer came.

    The SDK lets their calls run on, so nothing else tells.
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


class _TooSlow(Exception):
    """A request's body did not come to its end in time."""


class _Gone(Exception):
    """The client left before its request's body came to its end."""


def _plain(status: int, said: str, headers: dict[str, str]) -> PlainTextResponse:
    return PlainTextResponse(f"Triptych: {said}\n", status, headers)


def patient(limits: Limits) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with an end to its patience.

    By itself it waits for ever for a request's head, for the rest of a body that nobody reads, for a client to read.
    """

    class TimeoutProtocol(H11Protocol):
        _unasked: asyncio.TimerHandle | None = None
        _unread: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=0)  # so that a single byte left unread is told
            self._look()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._look()

        def _look(self) -> None:
            """Let the time for a request's head run while none is in work; every byte that comes is one of a head."""
            if self.cycle is not None and not self.cycle.response_complete:
                if self._unasked:
                    self._unasked.cancel()
                    self._unasked = None
            elif self._unasked is None:
                self._unasked = self.loop.call_later(limits.head_s, self.transport.abort)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._unread = self._unread or self.loop.call_later(limits.stalled_s, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._unread:
                self._unread.cancel()
                self._unread = None

        def connection_lost(self, exc: Exception | None) -> None:
            for timer in filter(None, (self._unasked, self._unread)):
                timer.cancel()
            super().connection_lost(exc)

    return TimeoutProtocol


def uvicorn_options(limits: Limits) -> dict[str, Any]:
    """Return what uvicorn is configured with."""
    return {
        "http": patient(limits),
        "ws": "none",
        "limit_concurrency": limits.connections,
        "timeout_keep_alive": limits.idle_s,
        "server_header": False,
    }
