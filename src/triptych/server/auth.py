"""Authentication over HTTP: one of the server's bearer tokens on every request, and the owner that it stands for.

The MCP SDK's `BearerAuthBackend` reads the header and calls `Tokens`, our `TokenVerifier`. Tokens are compared as
hashes, in constant time and all of them. The request goes on with the owner, an id that does not reveal the token.
Imported for HTTP and SSE alone.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, BearerAuthBackend
from mcp.server.auth.provider import AccessToken
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

SIGNED = "triptych.signed"
"""The key in a request's scope for the file that its signed URL allows it to read (`files`)."""
_THE_PERSON = ""
"""The client id of the person at the machine, who has no owner."""
_SEND_A_TOKEN = "Send `Authorization: Bearer …` with a token of the server's TRIPTYCH_AUTH_TOKEN."  # noqa: S105
_BEARER = re.compile(rb"bearer +[^ ]", re.IGNORECASE)
_LOOKS_FOR_OAUTH = re.compile(
    r"(/mcp|/sse)?(/\.well-known(/.*)?|/(register|authorize|token|revoke)(/mcp|/sse)?/?)", re.DOTALL
)
"""Where clients look for OAuth: metadata (RFC 8414, RFC 9728, OpenID Connect) and the endpoints used without any."""


def owner_of(token: str) -> str:
    """Return the owner of a token: always the same id, from which the token cannot be computed."""
    return hashlib.sha256(b"triptych owner\0" + token.encode()).hexdigest()[:32]


def user_of(owner: str) -> AuthenticatedUser:
    """Return an owner as the user in a request's scope."""
    return AuthenticatedUser(_access(owner))


def _access(client_id: str) -> AccessToken:
    return AccessToken(token="", client_id=client_id, scopes=[])


class Tokens:
    """The SDK's `TokenVerifier` for a fixed list of tokens; `own` is the token of the person at the machine."""

    def __init__(self, tokens: Iterable[str], own: str | None = None) -> None:
        self._known = [(_digest(token.encode()), _access(owner_of(token))) for token in tokens]
        if own:
            self._known.append((_digest(own.encode()), _access(_THE_PERSON)))

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return the access of one of the tokens, None for any other text; `token` is the header's text, in Latin-1."""
        digest, found = _digest(token.strip().encode("latin-1")), None
        for expected, access in self._known:
            if hmac.compare_digest(digest, expected):
                found = access
        return found


def _digest(token: bytes) -> bytes:
    """Return the hash that is compared: of equal length for every token, so that the time reveals nothing."""
    return hashlib.sha256(token).digest()


class RequireToken:
    """Middleware: passes requests on that carry one of the tokens, with its owner as their user; all others get 401.

    The SDK's sessions then belong to that owner: other owners cannot use them. Requests with the token `own` have no
    user, and see everything. The addresses at which clients look for OAuth answer 404, because clients take a 401
    there for a failed sign-in. A file's signed URL needs no token.

    The SDK's `RequireAuthMiddleware` is not used: its 401 names `invalid_token` even where no token was sent (against
    RFC 6750, 3.1), and its body does not say which token is meant.
    """

    def __init__(self, app: ASGIApp, tokens: Iterable[str], own: str | None = None) -> None:
        self._app = app
        self._backend = BearerAuthBackend(Tokens(tokens, own))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or SIGNED in scope:
            await self._app(scope, receive, send)
        elif user := await self._user(scope):
            known = {} if user.username == _THE_PERSON else {"user": user}
            await self._app({**scope, **known}, receive, send)
        else:
            await _unauthorized(scope)(scope, receive, send)

    async def _user(self, scope: Scope) -> AuthenticatedUser | None:
        # The backend reads the first of several headers, a proxy in front may have read another.
        if sum(name == b"authorization" for name, _ in scope["headers"]) != 1:
            return None
        authenticated = await self._backend.authenticate(HTTPConnection(scope))
        return authenticated[1] if authenticated else None


def _unauthorized(scope: Scope) -> PlainTextResponse:
    """Return the response to a request without one of our tokens."""
    if _LOOKS_FOR_OAUTH.fullmatch(scope.get("path", "")):
        return PlainTextResponse(f"Triptych: There is no OAuth here. {_SEND_A_TOKEN}\n", 404)
    sent = any(_BEARER.match(value) for name, value in scope["headers"] if name == b"authorization")
    wrong = ', error="invalid_token"' if sent else ""  # RFC 6750, 3.1: no error code where no token was sent
    headers = {"WWW-Authenticate": f'Bearer realm="triptych"{wrong}'}
    return PlainTextResponse(f"Triptych: {_SEND_A_TOKEN}\n", 401, headers)
