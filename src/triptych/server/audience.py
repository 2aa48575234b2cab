"""Who is on the other end: the clients of one connection, what they asked to hear about, and their directories.

An `Audience` lives as long as the SDK's server lifespan: one connection on stdio and SSE, the whole process on
streamable HTTP. The studio outlives it.

Rules: the studio is opened when something needs it, never by a connection's start. Changes are told from one task, many
changes at once count as one, and a client that stops reading delays nobody for long. 2026-07-28 clients hear through
`subscriptions/listen`; earlier ones through their own session, which is known from `notifications/initialized` on.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourcesListChanged, ResourceUpdated
from mcp.shared.exceptions import MCPError

if TYPE_CHECKING:
    from triptych.studio import Studio

logger = logging.getLogger(__name__)

JOBS_URI = "triptych://jobs"
SESSIONS_KEPT = 256
"""Streamable HTTP does not say when an early session ends, so the oldest is forgotten when there are more than this."""
SEND_LIMIT_S = 5
ROOTS_LIMIT_S = 5


@dataclass(slots=True)
class _Listener:
    """A client of an earlier era: its session, and the resources it subscribed to."""

    session: ServerSession
    uris: set[str] = field(default_factory=set)


class Audience:
    """The clients of one connection; open it with `async with Audience(...).gathered()`."""

    def __init__(self, open_studio: Callable[[], Awaitable[Studio]]) -> None:
        self._open_studio = open_studio
        self._watched: Studio | None = None
        self._unwatch: Callable[[], None] = lambda: None
        self._changed: set[str] = set()
        self._returned: dict[str, int] = {}
        self._news, self._news_in = anyio.create_memory_object_stream[None](1)
        self._bus = InMemorySubscriptionBus()
        self._listen = ListenHandler(self._bus)
        self._listeners: OrderedDict[str, _Listener] = OrderedDict()
        self._roots: tuple[Path, ...] | None = None

    @asynccontextmanager
    async def gathered(self) -> AsyncIterator[Audience]:
        """Tell changes for as long as the block runs."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._tell)
            try:
                yield self
            finally:
                self._unwatch()
                group.cancel_scope.cancel()
        self._news.close()
        self._news_in.close()

    async def studio(self) -> Studio:
        """Return the studio, opening it if this is the first need of it; from here on its changes are told."""
        studio = await self._open_studio()
        if studio is not self._watched:
            self._unwatch()
            self._watched, self._unwatch = studio, studio.watch(self._hear)
        return studio

    # -- changes -------------------------------------------------------------------------------------------------

    def _hear(self, job_id: str) -> None:
        self._changed.add(job_id)
        with suppress(anyio.WouldBlock):  # The task has been told already and not looked yet.
            self._news.send_nowait(None)

    async def _tell(self) -> None:
        async for _ in self._news_in:
            changed, self._changed = self._changed, set()
            uris = [JOBS_URI, *(f"{JOBS_URI}/{job_id}" for job_id in sorted(changed))]
            more = [job_id for job_id in changed if self._has_more(job_id)]
            for uri in uris:
                await self._bus.publish(ResourceUpdated(uri))
            if more:
                await self._bus.publish(ResourcesListChanged())
            for listener in list(self._listeners.values()):
                with anyio.move_on_after(SEND_LIMIT_S):
                    for uri in uris:
                        if uri in listener.uris:
                            await listener.session.send_resource_updated(uri)
                    if more:
                        await listener.session.send_resource_list_changed()

    def _has_more(self, job_id: str) -> bool:
        """Whether the job has more images than when it was last looked at: they are resources of their own."""
        assert self._watched is not None
        try:
            returned = self._watched.job(job_id).returned
        except Exception:  # A change must be told even if the job cannot be read this moment.
            logger.exception("job %s changed and could not be read", job_id)
            return False
        before, self._returned[job_id] = self._returned.get(job_id, 0), returned
        return returned > before

    # -- the two ways to ask for them ------------------------------------------------------------------------------

    async def listen(
        self, ctx: ServerRequestContext[Any, Any], params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """Serve one 2026-07-28 listen stream."""
        await self._studio_or_mcp_error()
        return await self._listen(ctx, params)

    def met(self, ctx: ServerRequestContext[Any, Any]) -> _Listener:
        """Return the listener behind an earlier era's session, made at its first message after the handshake."""
        key = _session_id(ctx)
        if key not in self._listeners:
            self._listeners[key] = _Listener(ctx.session)
            while len(self._listeners) > SESSIONS_KEPT:
                self._listeners.popitem(last=False)
        self._listeners.move_to_end(key)
        return self._listeners[key]

    async def subscribe(self, ctx: ServerRequestContext[Any, Any], uri: str) -> None:
        """Tell this session from now on when the resource changes."""
        await self._studio_or_mcp_error()
        self.met(ctx).uris.add(uri)

    def unsubscribe(self, ctx: ServerRequestContext[Any, Any], uri: str) -> None:
        """Stop telling this session about the resource."""
        self.met(ctx).uris.discard(uri)

    async def _studio_or_mcp_error(self) -> None:
        from triptych.errors import TriptychError

        try:
            await self.studio()
        except TriptychError as error:
            raise MCPError(types.INTERNAL_ERROR, error.message) from error

    # -- the client's directories ----------------------------------------------------------------------------------

    async def roots(self, ctx: ServerRequestContext[Any, Any], given: types.InputResponses | None) -> tuple[Path, ...]:
        """Return the client's root directories as far as they are known.

        `given` are the answers that came with a repeated 2026-07-28 call. An earlier client is asked once, until it
        says that they changed; a 2026-07-28 client is only asked by the caller of this, when a path was refused.
        """
        answered = (given or {}).get("roots")
        if isinstance(answered, types.ListRootsResult):
            self._roots = _directories(answered)
        if self._roots is None and ctx.session.can_send_request and self.has_roots(ctx):
            self._roots = ()
            try:
                # Not session.list_roots(): it warns that roots are deprecated, which they are not in this era.
                self._roots = _directories(
                    await ctx.session.send_request(types.ListRootsRequest(), types.ListRootsResult, ROOTS_LIMIT_S)
                )
            except (MCPError, ValueError) as error:
                logger.warning("the client declares roots and did not list them: %s", error)
        return self._roots or ()

    def has_roots(self, ctx: ServerRequestContext[Any, Any]) -> bool:
        """Whether the client declares that it can list its roots."""
        capabilities = ctx.session.client_capabilities
        return capabilities is not None and capabilities.roots is not None

    def forget_roots(self) -> None:
        """Ask again at the next need: the client said that its roots changed."""
        self._roots = None


def _session_id(ctx: ServerRequestContext[Any, Any]) -> str:
    """Return what tells sessions of one lifespan apart: streamable HTTP has an id, elsewhere there is only one."""
    headers = getattr(ctx.request, "headers", None) or {}
    return str(headers.get("mcp-session-id", ""))


def _directories(roots: types.ListRootsResult) -> tuple[Path, ...]:
    """Return the local directories among the roots; a root on another host is not ours to read."""
    parts = [urlsplit(str(root.uri)) for root in roots.roots]
    return tuple(
        Path(url2pathname(part.path)) for part in parts if part.scheme == "file" and part.netloc in ("", "localhost")
    )
