"""The stdio streams of a server that goes on after a thin start: nothing is lost, and nothing is answered twice."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from types import TracebackType
from typing import cast

import anyio
import mcp_types as types
from mcp.server.stdio import stdio_server
from mcp.shared._stream_protocols import ReadStream, WriteStream
from mcp.shared.message import SessionMessage
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY

from triptych.thin import HandedOver

Streams = tuple[ReadStream[SessionMessage | Exception], WriteStream[SessionMessage]]


def import_for_a_call() -> None:
    """Import the modules that the first call needs, while garbage collection is off."""
    import triptych.jobs.service
    import triptych.server.tools  # noqa: F401


@asynccontextmanager
async def stdio(handed: HandedOver | None) -> AsyncIterator[Streams]:
    """Yield the streams of stdin and stdout; with `handed`, stdin is what a thin start hands over."""
    async with AsyncExitStack() as stack:
        if handed is None:
            yield await stack.enter_async_context(stdio_server())
            return
        _leave_stdin()
        text = io.TextIOWrapper(io.BufferedReader(handed), encoding="utf-8", errors="replace")
        incoming, outgoing = await stack.enter_async_context(stdio_server(stdin=anyio.wrap_file(text)))
        yield incoming, cast(WriteStream[SessionMessage], _WithoutRepeats(outgoing, handed))


def _leave_stdin() -> None:
    """Point fd 0 at nothing, as the SDK does, so that no other reader takes a byte of the client's."""
    with suppress(OSError):
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        if sys.platform == "win32":
            from mcp.os.win32.utilities import rebind_std_handle_to_fd

            rebind_std_handle_to_fd(0)


class _WithoutRepeats:
    """A write stream that leaves out the answers that the client has already."""

    def __init__(self, stream: WriteStream[SessionMessage], handed: HandedOver) -> None:
        self._stream = stream
        self._handed = handed

    async def send(self, item: SessionMessage, /) -> None:
        if not self._handed.drops(_answered(item.message)):
            await self._stream.send(item)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> _WithoutRepeats:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._stream.__aexit__(kind, error, traceback)


def _answered(message: types.JSONRPCMessage) -> types.RequestId | None:
    """Return the id of the request that a message answers, or whose stream it begins."""
    if isinstance(message, types.JSONRPCResponse | types.JSONRPCError):
        return message.id
    if isinstance(message, types.JSONRPCNotification) and message.method == "notifications/subscriptions/acknowledged":
        found: types.RequestId | None = ((message.params or {}).get("_meta") or {}).get(SUBSCRIPTION_ID_META_KEY)
        return found
    return None
