"""`GET /files/<handle>?…`: image files at full size, for who has a signed URL (`links`) and no token.

Rules: what is wrong with a URL (signature, end, handle, owner, a file that was removed) is one and the same 404, and
nothing is looked up before the signature is found right. There is no list. A request counts as one of the owner who
signed. No query is logged, here or anywhere. Imported for HTTP and SSE alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import anyio.to_thread
from starlette.responses import FileResponse, PlainTextResponse, Response

from triptych.core import errors
from triptych.jobs import file_links
from triptych.server.auth import SIGNED, user_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from triptych.jobs.service import ImageService, SignedFile

ROUTE = "/files"

_ONE_RANGE = re.compile(rb"bytes=[0-9]{0,18}-[0-9]{0,18}")
_HEADERS = {
    # The policy that lets browsers show a bare image, and nothing else.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Signed:
    """Lets requests for files through that carry a right signature, as the signer's; other paths pass untouched.

    `owners` are those whose signatures count: None is the person at the machine.
    """

    def __init__(
        self, app: ASGIApp, open_service: Callable[[], Awaitable[ImageService]], owners: Sequence[str | None]
    ) -> None:
        self._app = app
        self._open_studio = open_service
        self._owners = tuple(owners)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(f"{ROUTE}/"):
            await self._app(scope, receive, send)
        elif scope["method"] not in ("GET", "HEAD"):
            await _answer(405, "Files are read with GET.", {"Allow": "GET, HEAD"})(scope, receive, send)
        else:
            try:
                found = await self._found(scope)
            except errors.TriptychError:
                later = {"Retry-After": "5"}
                await _answer(503, "Files cannot be read now; try again soon.", later)(scope, receive, send)
                return
            if not found:
                await _not_there()(scope, receive, send)
                return
            user = {"user": user_of(found.owner)} if found.owner is not None else {}
            await self._app({**scope, **user, SIGNED: found}, receive, send)

    async def _found(self, scope: Scope) -> SignedFile | None:
        read = file_links.read(scope["query_string"])
        if not read:
            return None
        service = await self._open_studio()
        return await service.image_access.signed_file(scope["path"].removeprefix(f"{ROUTE}/"), *read, self._owners)


async def answer(request: Request) -> Response:
    """Return the file of a request that `Signed` let through, in pieces from the disk, or a part that is asked for."""
    found: SignedFile = request.scope[SIGNED]
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        return _answer(400, "A request for a file has no body.", {})  # nobody would wait for it in time
    try:
        facts = await anyio.to_thread.run_sync(os.stat, found.image.path)
    except OSError:
        return _not_there()
    # One part at a time; a request for many gets the whole.
    scope_headers = request.scope["headers"]
    scope_headers[:] = [h for h in scope_headers if h[0] != b"range" or _ONE_RANGE.fullmatch(h[1])]
    return FileResponse(
        found.image.path,
        media_type=found.image.mime_type,
        filename=f"{found.handle.replace('/', '-')}{found.image.path.suffix}",
        content_disposition_type="inline",
        stat_result=facts,
        headers={
            **_HEADERS,
            "Cache-Control": f"private, max-age={found.left_s}",
            "ETag": f'"{found.image.sha256[:32]}"',
        },
    )


def _not_there() -> PlainTextResponse:
    return _answer(
        404, "There is no file at this address, or the address has expired. Read the result again for a new one.", {}
    )


def _answer(status: int, said: str, headers: dict[str, str]) -> PlainTextResponse:
    return PlainTextResponse(f"Triptych: {said}\n", status, {**_HEADERS, "Cache-Control": "no-store", **headers})
