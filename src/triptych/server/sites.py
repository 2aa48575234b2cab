"""Which Host and Origin headers are answered: exactly the server's own names, on any port, for ports get mapped.

A page on another site can point its own name at this machine (DNS rebinding), or send requests from the user's browser.
Either shows in these two headers. Imported for HTTP and SSE alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_SITE = re.compile(rb"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([1-9][0-9]{0,4}))?", re.IGNORECASE)


def name_of(site: bytes) -> str | None:
    """Return the name in `name` or `name:port`, in lower case; None for anything else, user information included."""
    found = _SITE.fullmatch(site)
    if not found or int(found[2] or 1) > 65535:
        return None
    return found[1].decode("ascii").lower()


class OwnNames:
    """Lets through what is sent to one of the names, and from a page under one of them or from no page."""

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self._app = app
        self._names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = None if scope["type"] == "lifespan" else self._refusal(scope)
        await (refused or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or name_of(hosts[0]) not in self._names:
            return PlainTextResponse(
                "Triptych: the Host header is not a name of this server. Use 127.0.0.1, localhost or the address that "
                "it listens on; a reverse proxy has to send one of them.\n",
                421,
            )
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        if origins and (len(origins) != 1 or self._page_name(origins[0]) not in self._names):
            return PlainTextResponse("Triptych: the Origin header names another site; its pages are refused.\n", 403)
        return None

    def _page_name(self, origin: bytes) -> str | None:
        scheme, _, site = origin.partition(b"://")
        return name_of(site) if scheme in (b"http", b"https") else None
