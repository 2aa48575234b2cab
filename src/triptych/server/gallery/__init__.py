"""The gallery: one page that shows a job's images to a person, in the chat (MCP Apps) and in a browser.

    ui://triptych/gallery   the page as a resource, for hosts that declare `io.modelcontextprotocol/ui` (SEP-1865)
    GET /gallery            the same page over HTTP; its script then sends MCP requests to `/mcp`

`index.html`, `style.css` and the scripts beside this file become one document (`page`). The page is static and holds no
data, so `/gallery` needs no token: the page reads the token from the URL's fragment or asks for it, and sends it with
every request to `/mcp`. A host that does not declare the extension sees the same tools and resources as without it.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mcp_types as types
from mcp.server.context import ServerRequestContext

from triptych.server import icons

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

EXTENSION = "io.modelcontextprotocol/ui"
MIME_TYPE = "text/html;profile=mcp-app"
URI = "ui://triptych/gallery"
ROUTE = "/gallery"
LINKED = frozenset({"edit_sequence", "edit_chain", "generate_sequence", "get_status"})
"""The tools whose result a host shows in the gallery."""
_STYLE_LINK = re.compile(r'<link rel="stylesheet" href="(.*?)">')
_ICON = f"../icons/{icons.SIZE_PX}.png"
_SCRIPT_LINKS = re.compile(r'(?:<script src=".*?"></script>\n)+')
"""All scripts together, which become one: the policy names the hash of a single script."""


def is_shown_by(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Return True if the client declares that it shows MCP Apps written in HTML."""
    capabilities = ctx.session.client_capabilities
    settings = ((capabilities.extensions if capabilities else None) or {}).get(EXTENSION) or {}
    kinds = settings.get("mimeTypes")
    return isinstance(kinds, list | tuple) and MIME_TYPE in kinds


def linked(listing: types.ListToolsResult) -> types.ListToolsResult:
    """Return the list of tools with the gallery named in those that show a job; a cache may not share it."""
    link = {"ui": {"resourceUri": URI}}
    tools = [tool.model_copy(update={"meta": link}) if tool.name in LINKED else tool for tool in listing.tools]
    return listing.model_copy(update={"tools": tools, "cache_scope": "private"})


def listed() -> types.Resource:
    """Return the gallery as an entry of `resources/list`."""
    return types.Resource(
        uri=URI,
        name="gallery",
        title="Gallery",
        description="A job's images as they come, before and after, and what can be done with them",
        mime_type=MIME_TYPE,
    )


def read() -> types.ReadResourceResult:
    """Return the page as a resource. It declares no domains, so the host's policy forbids it every load."""
    contents = types.TextResourceContents(
        uri=URI, mime_type=MIME_TYPE, text=page(), _meta={"ui": {"prefersBorder": True}}
    )
    return types.ReadResourceResult(contents=[contents], ttl_ms=3_600_000, cache_scope="public")


@functools.cache
def page() -> str:
    """Return the page as one HTML document: `index.html` with its style sheet, scripts and icon written into it."""
    html = _STYLE_LINK.sub(lambda link: f"<style>\n{_read(link[1])}</style>", _read("index.html"))
    html = html.replace(_ICON, icons.data_url())
    return _SCRIPT_LINKS.sub(lambda links: f"<script>\n{_scripts(links[0])}</script>\n", html)


def _scripts(links: str) -> str:
    return "".join(_read(name) for name in re.findall(r'src="(.*?)"', links))


def _read(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


@functools.cache
def headers() -> dict[str, str]:
    """Return the page's HTTP headers; the policy allows its own script and style, and requests to this server."""
    allowed = {kind: _hash_of(kind) for kind in ("script", "style")}
    policy = (
        f"default-src 'none'; script-src {allowed['script']}; style-src {allowed['style']}; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-cache",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def _hash_of(kind: str) -> str:
    found = re.search(rf"<{kind}>(.*?)</{kind}>", page(), re.DOTALL)
    assert found, f"the page has no {kind}"
    return f"'sha256-{base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode('ascii')}'"


class Page:
    """Middleware in front of the token check: it answers `GET /gallery` with the page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != ROUTE or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        from starlette.responses import HTMLResponse

        await HTMLResponse(page(), headers=headers())(scope, receive, send)
