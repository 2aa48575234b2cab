"""Who is on the other end: the clients of one connection, what they asked to hear about, and their directories.

A `ClientSessions` lives as long as the SDK's server lifespan: one connection on stdio and SSE, the whole process on
streamable HTTP. The service outlives it.

Rules: the service is opened when something needs it, never by a connection's start. Changes are told from one task,
many changes at once count as one, and a client that stops reading delays nobody for long. 2026-07-28 clients hear
through `subscriptions/listen`; earlier ones through their own session, which is known from `notifications/initialized`
on. Whoever came with a token hears of that owner's jobs alone, and another's job cannot be subscribed to, like none at
all.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
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
    from triptych.jobs.service import ImageService

logger = logging.getLogger(__name__)

JOBS_URI = "triptych://jobs"
SESSIONS_KEPT = 256
"""Streamable HTTP does not say when an early session ends, so an owner's oldest is forgotten when there are more."""
NOBODY = ""
"""The owner of a remote message that did not say whose it is: it owns nothing and sees nothing."""
WITHOUT_LINKS = ("claude-code", "codex")
"""How the names of clients begin to which links are of no use: Claude Code shows them to its model as a second copy of
the JSON, Codex drops them (seen in November 2026, with 2.1.329 and 0.169.0)."""
SEND_LIMIT_S = 5
ROOTS_LIMIT_S = 5


@dataclass(slots=True)
class _Listener:
    """A client of an earlier era: its session, and the resources it subscribed to."""

    session: ServerSession
    owner: str | None
    uris: set[str] = field(default_factory=set)


class _Channel:
    """The 2026-07-28 streams of one owner."""

    def __init__(self) -> None:
        self.bus = InMemorySubscriptionBus()
        self.listen = ListenHandler(self.bus)


class ClientSessions:
    """The clients of one connection; open it with `async with ClientSessions(...).running()`."""

    def __init__(self, open_service: Callable[[], Awaitable[ImageService]], *, remote: bool = False) -> None:
        self._open_studio = open_service
        self._remote = remote
        self._watched: ImageService | None = None
        self._unwatch: Callable[[], None] = lambda: None
        self._changed: set[str] = set()
        self._returned: dict[str, int] = {}
        self._news, self._news_in = anyio.create_memory_object_stream[None](1)
        self._channels: defaultdict[str | None, _Channel] = defaultdict(_Channel)
        self._listeners: OrderedDict[tuple[str | None, str], _Listener] = OrderedDict()
        self._roots: tuple[Path, ...] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ClientSessions]:
        """Tell changes for as long as the block runs."""
        with self._news, self._news_in:
            async with anyio.create_task_group() as group:
                group.start_soon(self._tell)
                try:
                    yield self
                finally:
                    self._unwatch()
                    group.cancel_scope.cancel()

    async def service(self) -> ImageService:
        """Return the service, opening it if this is the first need of it; from here on its changes are told."""
        service = await self._open_studio()
        if service is not self._watched:
            self._unwatch()
            self._watched, self._unwatch = service, service.watch(self._hear)
        return service

    def owner(self, ctx: ServerRequestContext[Any, Any]) -> str | None:
        """Return whose request it is: its token's owner; None for the person at the machine, who has none."""
        if ctx.request is None:
            return NOBODY if self._remote else None
        user = ctx.request.scope.get("user")
        return str(user.username) if user else None

    def client(self, ctx: ServerRequestContext[Any, Any]) -> tuple[str | None, str]:
        """Return what tells clients apart: the owner with the session, or with name and version where there is none.

        On stdio there is one client, and since 2026-07-28 its notifications do not say its name.
        """
        params = ctx.session.client_params
        info = params.client_info if params and ctx.request is not None else None
        return self.owner(ctx), _session_id(ctx) or (f"{info.name}/{info.version}" if info else "")

    # -- changes -------------------------------------------------------------------------------------------------

    def _hear(self, job_id: str) -> None:
        self._changed.add(job_id)
        with suppress(anyio.WouldBlock):  # The task has been told already and not looked yet.
            self._news.send_nowait(None)

    async def _tell(self) -> None:
        async for _ in self._news_in:
            changed, self._changed = self._changed, set()
            jobs = [(job_id, *self._look_at(job_id)) for job_id in sorted(changed)]
            for owner, channel in list(self._channels.items()):
                uris, more = _news_for(owner, jobs)
                for uri in uris:
                    await channel.bus.publish(ResourceUpdated(uri))
                if more:
                    await channel.bus.publish(ResourcesListChanged())
            async with anyio.create_task_group() as group:
                for listener in list(self._listeners.values()):
                    group.start_soon(_tell_one, listener, *_news_for(listener.owner, jobs))

    def _look_at(self, job_id: str) -> tuple[str | None, bool]:
        """Return whose job it is, and whether it has more images than when it was last looked at.

        Images are resources of their own. A job that cannot be read is told of to the person at the machine alone.
        """
        assert self._watched is not None
        try:
            owner, returned = self._watched.owner(job_id), self._watched.job(job_id).returned
        except Exception:  # A change must be told even if the job cannot be read this moment.
            logger.exception("job %s changed and could not be read", job_id)
            return None, False
        before, self._returned[job_id] = self._returned.get(job_id, 0), returned
        return owner, returned > before

    # -- the two ways to ask for them ------------------------------------------------------------------------------

    async def listen(
        self, ctx: ServerRequestContext[Any, Any], params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """Serve one 2026-07-28 listen stream; jobs that are not there for this client are left out of it."""
        owner = self.owner(ctx)
        asked_for = [uri for uri in params.notifications.resource_subscriptions or () if await self._shows(owner, uri)]
        notifications = params.notifications.model_copy(update={"resource_subscriptions": asked_for})
        await self._service_or_mcp_error()
        return await self._channels[owner].listen(ctx, params.model_copy(update={"notifications": notifications}))

    def register(self, ctx: ServerRequestContext[Any, Any]) -> _Listener:
        """Return the listener behind an earlier era's session, made at its first message after the handshake."""
        owner = self.owner(ctx)
        key = (owner, _session_id(ctx))
        if key not in self._listeners:
            self._listeners[key] = _Listener(ctx.session, owner)
            for oldest in [other for other in self._listeners if other[0] == owner][:-SESSIONS_KEPT]:
                del self._listeners[oldest]
        self._listeners.move_to_end(key)
        return self._listeners[key]

    async def subscribe(self, ctx: ServerRequestContext[Any, Any], uri: str) -> None:
        """Tell this session from now on when the resource changes.

        Raises: `MCPError` for a job that is not there for this client.
        """
        if not await self._shows(self.owner(ctx), uri):
            raise MCPError(types.INVALID_PARAMS, "There is no such job; triptych://jobs lists the recent ones.")
        self.register(ctx).uris.add(uri)

    def unsubscribe(self, ctx: ServerRequestContext[Any, Any], uri: str) -> None:
        """Stop telling this session about the resource."""
        self.register(ctx).uris.discard(uri)

    async def _shows(self, owner: str | None, uri: str) -> bool:
        """Whether a resource is there for this owner; only jobs are looked for, for nothing else tells changes."""
        from triptych.core.errors import UnknownHandle
        from triptych.jobs.service import Caller

        service = await self._service_or_mcp_error()
        job_id = uri.removeprefix(f"{JOBS_URI}/")
        try:
            return job_id == uri or Caller(owner=owner).sees(service.owner(job_id))
        except UnknownHandle:
            return False

    async def _service_or_mcp_error(self) -> ImageService:
        from triptych.core.errors import TriptychError

        try:
            return await self.service()
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


def takes_links(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether links in results are of use to this client, by its name."""
    params = ctx.session.client_params
    return not (params and params.client_info.name.lower().startswith(WITHOUT_LINKS))


def _news_for(owner: str | None, jobs: Sequence[tuple[str, str | None, bool]]) -> tuple[list[str], bool]:
    """Return which resources changed for this owner, and whether there are more of them; None sees every job."""
    own = [(job_id, more) for job_id, whose, more in jobs if owner is None or owner == whose]
    return [JOBS_URI, *(f"{JOBS_URI}/{job_id}" for job_id, _ in own)] if own else [], any(more for _, more in own)


async def _tell_one(listener: _Listener, uris: Sequence[str], more: bool) -> None:
    with anyio.move_on_after(SEND_LIMIT_S):
        for uri in uris:
            if uri in listener.uris:
                await listener.session.send_resource_updated(uri)
        if more:
            await listener.session.send_resource_list_changed()


def _session_id(ctx: ServerRequestContext[Any, Any]) -> str:
    """Return the id of a session; empty on stdio, where there is only one, and on streamable HTTP since 2026-07-28."""
    headers = getattr(ctx.request, "headers", None) or {}
    over_sse = getattr(ctx.request, "query_params", None) or {}
    return str(headers.get("mcp-session-id") or over_sse.get("session_id") or "")


def _directories(roots: types.ListRootsResult) -> tuple[Path, ...]:
    """Return the local directories among the roots; a root on another host is not ours to read."""
    parts = [urlsplit(str(root.uri)) for root in roots.roots]
    return tuple(
        Path(url2pathname(part.path)) for part in parts if part.scheme == "file" and part.netloc in ("", "localhost")
    )
