"""`GET /files/<handle>?…`: image files at full size, by signed URL (`file_links`), without a token.

Rules: every wrong URL (signature, expiry, handle, owner, removed file) gives the same 404, and nothing is looked up
before the signature is verified. There is no list. A request counts as one of the owner who signed. No query is logged
anywhere. Imported for HTTP and SSE alone.
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
    # Lets browsers show a bare image, and nothing else.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Signed:
    """Middleware: passes requests for files on if their signature is valid, as requests of the signer.

    `owners` are the owners whose signatures are valid; None is the person at the machine.
    """

    def __init__(
        self, app: ASGIApp, open_service: Callable[[], Awaitable[ImageService]], owners: Sequence[str | None]
    ) -> None:
        self._app = app
        self._open_service = open_service
        self._owners = tuple(owners)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(f"{ROUTE}/"):
            await self._app(scope, receive, send)
        elif scope["method"] not in ("GET", "HEAD"):
            await _error_response(405, "Files are read with GET.", {"Allow": "GET, HEAD"})(scope, receive, send)
        else:
            try:
                file = await self._found(scope)
            except errors.TriptychError:
                await _later()(scope, receive, send)
                return
            if not file:
                await _not_there()(scope, receive, send)
                return
            user = {"user": user_of(file.owner)} if file.owner is not None else {}
            await self._app({**scope, **user, SIGNED: file}, receive, send)

    async def _found(self, scope: Scope) -> SignedFile | None:
        read = file_links.read(scope["query_string"])
        if not read:
            return None
        service = await self._open_service()
        return await service.image_access.signed_file(scope["path"].removeprefix(f"{ROUTE}/"), *read, self._owners)


async def serve_file(request: Request) -> Response:
    """Return the file of a request that `Signed` let through, streamed from disk; one range is supported."""
    file: SignedFile = request.scope[SIGNED]
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        return _error_response(400, "A request for a file has no body.", {})  # the body would never be read
    try:
        path = await anyio.to_thread.run_sync(file.files.local_file, file.image)
        facts = await anyio.to_thread.run_sync(os.stat, path)
    except errors.Outage:
        return _later()
    except (errors.UnreadableImage, OSError):
        return _not_there()
    # One range at a time; a request for several gets the whole file.
    scope_headers = request.scope["headers"]
    scope_headers[:] = [h for h in scope_headers if h[0] != b"range" or _ONE_RANGE.fullmatch(h[1])]
    return FileResponse(
        path,
        media_type=file.image.mime_type,
        filename=f"{file.handle.replace('/', '-')}{path.suffix}",
        content_disposition_type="inline",
        stat_result=facts,
        headers={
            **_HEADERS,
            "Cache-Control": f"private, max-age={file.left_s}",
            "ETag": f'"{file.image.sha256[:32]}"',
        },
    )


def _later() -> PlainTextResponse:
    return _error_response(503, "Files cannot be read now; try again soon.", {"Retry-After": "5"})


def _not_there() -> PlainTextResponse:
    return _error_response(
        404, "There is no file at this address, or the address has expired. Read the result again for a new one.", {}
    )


def _error_response(status: int, message: str, headers: dict[str, str]) -> PlainTextResponse:
    return PlainTextResponse(f"Triptych: {message}\n", status, {**_HEADERS, "Cache-Control": "no-store", **headers})
