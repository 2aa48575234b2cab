"""The rights of a sign-in by OAuth, and how the server names a missing one (RFC 9728, RFC 6750).

`triptych:read` allows everything that pays nothing, `triptych:spend` also what may pay or sends images to a provider
(`tools.SPENDING`). Every request needs the first. Tokens of `TRIPTYCH_AUTH_TOKEN` have both.

    GET /.well-known/oauth-protected-resource[/mcp]   `ResourceMetadata`: where to sign in, for every origin
    401, 403                                          `Resource.challenge` in WWW-Authenticate names that address

Imported for HTTP and SSE alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import mcp_types as types
from starlette.responses import JSONResponse, PlainTextResponse, Response

from triptych.jobs.caller import READ, SPEND, lacks_spend

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

WELL_KNOWN = "/.well-known/oauth-protected-resource"
BODY_LIMIT_BYTES = 4 * 1024 * 1024
"""The limit of a body whose sender may only read: it is parsed twice."""
ANY_ORIGIN = {"Access-Control-Allow-Origin": "*"}


class Rejected(Exception):
    """A token does not count here; the text says why and is safe to show."""


class IssuerAway(Exception):
    """Nobody can say now whether a token counts: the identity provider does not answer."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__()
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Resource:
    """This server as a protected resource: its URL, its issuer, and what stands before each scope at that issuer."""

    url: str
    issuer: str
    prefix: str = ""

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    @property
    def metadata_paths(self) -> frozenset[str]:
        return frozenset((WELL_KNOWN, WELL_KNOWN + self.path))

    def scopes(self) -> list[str]:
        """Return both scopes as the issuer spells them."""
        return [self.prefix + READ, self.prefix + SPEND]

    def metadata(self) -> dict[str, Any]:
        """Return the metadata of RFC 9728."""
        return {
            "resource": self.url,
            "authorization_servers": [self.issuer],
            "scopes_supported": self.scopes(),
            "bearer_methods_supported": ["header"],
            "resource_name": "Triptych",
        }

    def challenge(self, error: str | None = None, description: str = "") -> dict[str, str]:
        """Return the WWW-Authenticate header; both scopes are named, because a new sign-in replaces the old one."""
        fields = {
            "error": error,
            "error_description": description,
            "resource_metadata": self.url.removesuffix(self.path) + WELL_KNOWN + self.path,
            "scope": " ".join(self.scopes()),
        }
        written = ", ".join(f'{name}="{value}"' for name, value in fields.items() if value)
        return {"WWW-Authenticate": f"Bearer {written}"}


class ResourceMetadata:
    """Middleware in front of the token check: it answers the well-known addresses."""

    def __init__(self, app: ASGIApp, resource: Resource) -> None:
        self._app = app
        self._resource = resource

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in self._resource.metadata_paths:
            await self._app(scope, receive, send)
            return
        methods = "GET, HEAD, OPTIONS"
        response: Response
        if scope["method"] in ("GET", "HEAD"):
            response = JSONResponse(self._resource.metadata(), headers={**ANY_ORIGIN, "Cache-Control": "max-age=300"})
        elif scope["method"] == "OPTIONS":
            allowed = {"Access-Control-Allow-Methods": methods, "Access-Control-Allow-Headers": "*"}
            response = Response(status_code=204, headers={**ANY_ORIGIN, **allowed})
        else:
            response = PlainTextResponse("Triptych: Metadata is read with GET.\n", 405, {"Allow": methods})
        await response(scope, receive, send)


class RequireSpend:
    """Middleware: answers 403 to a message that may pay from a caller who may only read, so that its host can ask.

    The tools refuse such a caller by themselves; this is the answer that lets a client ask its user for the scope.
    Only the bodies of callers without that scope are read here; they bring no images to upload, and so are small.
    """

    def __init__(self, app: ASGIApp, resource: Resource) -> None:
        self._app = app
        self._resource = resource

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        user = scope.get("user")
        posted = scope["type"] == "http" and scope["method"] == "POST"
        if not posted or user is None or SPEND in user.scopes:
            await self._app(scope, receive, send)
            return
        body = await _body(receive)
        if body is None:
            text = f"Triptych: Without {SPEND} a body may have {BODY_LIMIT_BYTES >> 20} MiB at most.\n"
            await PlainTextResponse(text, 413)(scope, receive, send)
        elif spending := _spending(body):
            await self._refusal(*spending)(scope, receive, send)
        else:
            await self._app(scope, _again(body, receive), send)

    def _refusal(self, message_id: str | int | None, what: str) -> Response:
        error = {"code": types.INVALID_REQUEST, "message": lacks_spend(what).message}
        headers = self._resource.challenge("insufficient_scope", f"{what} needs the scope {SPEND}.")
        return JSONResponse({"jsonrpc": "2.0", "id": message_id, "error": error}, 403, headers)


def _spending(body: bytes) -> tuple[str | int | None, str] | None:
    """Return the id and the tool of a message that may pay; None for any other body."""
    from triptych.server.tools import SPENDING

    try:
        read = json.loads(body)
    except (ValueError, RecursionError):
        return None
    for message in read if isinstance(read, list) else [read]:
        if not isinstance(message, dict):
            continue
        method, params, message_id = message.get("method"), message.get("params"), message.get("id")
        what = params.get("name") if method == "tools/call" and isinstance(params, dict) else method
        if isinstance(what, str) and what in {*SPENDING, "tasks/cancel"}:
            return message_id if isinstance(message_id, str | int) else None, what
    return None


async def _body(receive: Receive) -> bytes | None:
    """Return a whole body; None for one above the limit. A client that left has an empty one."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        body += message.get("body", b"")
        if len(body) > BODY_LIMIT_BYTES:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return `receive` with a body that was read already in front."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
