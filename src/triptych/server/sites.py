"""Which Host and Origin headers are accepted: the server's own names, and the site of its public URL.

Own names must match exactly, on any port, because ports are mapped. Of the public URL the host and the port must match,
and in an Origin the scheme too.

A page on another site can point its own name at this machine (DNS rebinding), or send requests from the user's browser.
These two headers show both. Imported for HTTP and SSE alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse

from triptych.providers.url_safety import site

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
    """Lets requests pass that name this server in Host, and come from its own pages or from no page.

    `public` is one more site, as `url_safety.site` spells it. The paths in `open_paths` may be read by every page.
    """

    def __init__(
        self,
        app: ASGIApp,
        names: Iterable[str],
        public: str | None = None,
        open_paths: frozenset[str] = frozenset(),
    ) -> None:
        self._app = app
        self._open_paths = open_paths
        self._names = frozenset(name.lower() for name in names)
        self._public = public
        self._scheme = (public or "").partition(":")[0].encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = None if scope["type"] == "lifespan" else self._refusal(scope)
        await (refused or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return PlainTextResponse(
                "Triptych: the Host header is not a name of this server. Use 127.0.0.1, localhost or the address that "
                "it listens on; for another name, as behind a proxy or tunnel, set TRIPTYCH_PUBLIC_URL.\n",
                421,
            )
        if scope.get("path") in self._open_paths:
            return None
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        if origins and (len(origins) != 1 or not self._is_our_page(origins[0])):
            return PlainTextResponse("Triptych: the Origin header names another site, whose pages are refused.\n", 403)
        return None

    def _is_ours(self, host: bytes) -> bool:
        if name_of(host) in self._names:
            return True
        return bool(self._public) and _site(self._scheme, host) == self._public

    def _is_our_page(self, origin: bytes) -> bool:
        scheme, _, host = origin.partition(b"://")
        if scheme not in (b"http", b"https"):
            return False
        return name_of(host) in self._names or (bool(self._public) and _site(scheme, host) == self._public)


def _site(scheme: bytes, host: bytes) -> str | None:
    """Return the site of these headers; headers spell hosts in ASCII."""
    return site((scheme + b"://" + host).decode("ascii")) if host.isascii() else None
