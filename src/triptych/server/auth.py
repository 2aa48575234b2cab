"""Authentication over HTTP: a bearer token on every request, and the owner that it stands for.

The MCP SDK's `BearerAuthBackend` reads the header and calls a `TokenVerifier`: `Tokens` for the server's own tokens,
then `oauth.OAuth` for those of an identity provider, if there is one. Own tokens are compared as hashes, in constant
time and all of them. The request goes on with the owner, an id that does not reveal the token, and with its scopes.
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

from triptych.jobs.caller import READ, SPEND
from triptych.server import scopes

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from triptych.server.oauth import OAuth

SIGNED = "triptych.signed"
"""The key in a request's scope for the file that its signed URL allows it to read (`files`)."""
_THE_PERSON = ""
"""The client id of the person at the machine, who has no owner."""
_SIGN_IN = "Sign in at the identity provider that the header WWW-Authenticate leads to, or send a token."
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
    return AccessToken(token="", client_id=client_id, scopes=[READ, SPEND])


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


class _Tokens(Tokens):
    """The server's own tokens, then those of the identity provider."""

    def __init__(self, tokens: Iterable[str], own: str | None, oauth: OAuth | None) -> None:
        super().__init__(tokens, own)
        self._oauth = oauth

    async def verify_token(self, token: str) -> AccessToken | None:
        found = await super().verify_token(token)
        return await self._oauth.verify_token(token) if self._oauth and not found else found


class RequireToken:
    """Middleware: passes requests on that carry one of the tokens, with its owner as their user; all others get 401.

    The SDK's sessions then belong to that owner: other owners cannot use them. Requests with the token `own` have no
    user, and see everything. With `oauth`, access tokens of its issuer count too: 403 for one without the scope to
    read, 503 while the issuer is needed and does not answer. The addresses at which clients look for an authorization
    server answer 404, because clients take a 401 there for a failed sign-in. A file's signed URL needs no token.

    The SDK's `RequireAuthMiddleware` is not used: its 401 names `invalid_token` even where no token was sent (against
    RFC 6750, 3.1), and its body does not say which token is meant.
    """

    def __init__(self, app: ASGIApp, tokens: Iterable[str], own: str | None = None, oauth: OAuth | None = None) -> None:
        self._app = app
        self._backend = BearerAuthBackend(_Tokens(tokens, own, oauth))
        self._resource = oauth.resource if oauth else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or SIGNED in scope:
            await self._app(scope, receive, send)
            return
        refused, reason = None, ""
        try:
            user = await self._user(scope)
        except scopes.Rejected as error:
            user, reason = None, str(error)
        except scopes.IssuerAway as error:
            user, later = None, {"Retry-After": str(error.retry_after_s)}
            text = "Triptych: The identity provider does not answer, so nobody can sign in now. Try again soon.\n"
            refused = PlainTextResponse(text, 503, later)
        if user and self._resource and READ not in user.scopes:
            refused = _forbidden(self._resource)
        if refused or not user:
            await (refused or self._unauthorized(scope, reason))(scope, receive, send)
            return
        known = {} if user.username == _THE_PERSON else {"user": user}
        await self._app({**scope, **known}, receive, send)

    async def _user(self, scope: Scope) -> AuthenticatedUser | None:
        # The backend reads the first of several headers, a proxy in front may have read another.
        if sum(name == b"authorization" for name, _ in scope["headers"]) != 1:
            return None
        authenticated = await self._backend.authenticate(HTTPConnection(scope))
        return authenticated[1] if authenticated else None

    def _unauthorized(self, scope: Scope, reason: str) -> PlainTextResponse:
        """Return the response to a request without a token that counts."""
        send = _SIGN_IN if self._resource else _SEND_A_TOKEN
        if _LOOKS_FOR_OAUTH.fullmatch(scope.get("path", "")):
            where = "It has no authorization server of its own" if self._resource else "There is no OAuth here"
            return PlainTextResponse(f"Triptych: {where}. {send}\n", 404)
        sent = any(_BEARER.match(value) for name, value in scope["headers"] if name == b"authorization")
        error = "invalid_token" if sent else None  # RFC 6750, 3.1: no error code where no token was sent
        if self._resource:
            return PlainTextResponse(
                f"Triptych: {f'{reason} ' if reason else ''}{send}\n", 401, self._resource.challenge(error, reason)
            )
        wrong = f', error="{error}"' if error else ""
        return PlainTextResponse(f"Triptych: {send}\n", 401, {"WWW-Authenticate": f'Bearer realm="triptych"{wrong}'})


def _forbidden(resource: scopes.Resource) -> PlainTextResponse:
    text = f"The token lacks the scope {READ}."
    return PlainTextResponse(f"Triptych: {text} {_SIGN_IN}\n", 403, resource.challenge("insufficient_scope", text))
