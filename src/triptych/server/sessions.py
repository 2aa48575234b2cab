"""The clients of one connection: their owners, their subscriptions, their root directories.

A `ClientSessions` lives as long as the SDK's server lifespan: one connection on stdio and SSE, the whole process on
streamable HTTP. The service outlives it.

Rules: the first use opens the service, not the start of a connection. One task publishes changes, merges several into
one, and gives up on a client that does not read. 2026-07-28 clients receive changes through `subscriptions/listen`,
earlier ones through their own session, known since `notifications/initialized`. A client with a token receives changes
of its owner's jobs alone; subscribing to another owner's job fails like subscribing to a missing one.
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
JOBS_KEPT = 10_000
"""The most jobs whose number of images is kept, to notice more."""
READ_AGAIN_S = 1.0
"""How long a change waits whose job cannot be read, because the database is away."""
SESSIONS_KEPT = 256
"""Streamable HTTP does not report the end of an early session, so an owner's oldest sessions are dropped above this
number."""
NO_SESSIONS = (
    "This server keeps no sessions for clients before 2026-07-28 and sends them no changes: "
    "call get_status with wait_s."
)
NOBODY = ""
"""The owner of a remote message without an owner: it owns nothing and sees nothing."""
WITHOUT_LINKS = ("claude-code", "codex")
"""Prefixes of client names that do not use links: Claude Code shows them to its model as a second copy of the JSON,
Codex drops them (seen in November 2026, with 2.1.329 and 0.169.0)."""
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
    """The clients of one connection; use it with `async with ClientSessions(...).running()`."""

    def __init__(
        self, open_service: Callable[[], Awaitable[ImageService]], *, remote: bool = False, stateless: bool = False
    ) -> None:
        self._open_service = open_service
        self._remote = remote
        self._stateless = stateless
        self._watched: ImageService | None = None
        self._unwatch: Callable[[], None] = lambda: None
        self._changed: set[str] = set()
        self._returned: dict[str, int] = {}
        self._wake, self._wake_receiver = anyio.create_memory_object_stream[None](1)
        self._channels: defaultdict[str | None, _Channel] = defaultdict(_Channel)
        self._listeners: OrderedDict[tuple[str | None, str], _Listener] = OrderedDict()
        self._roots: tuple[Path, ...] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ClientSessions]:
        """Publish changes for as long as the block runs."""
        with self._wake, self._wake_receiver:
            async with anyio.create_task_group() as group:
                group.start_soon(self._publish_changes)
                try:
                    yield self
                finally:
                    self._unwatch()
                    group.cancel_scope.cancel()

    async def service(self) -> ImageService:
        """Return the service, opened at the first use; from then on its changes are published."""
        service = await self._open_service()
        if service is not self._watched:
            self._unwatch()
            self._watched, self._unwatch = service, service.watch(self._note_change)
        return service

    def owner(self, ctx: ServerRequestContext[Any, Any]) -> str | None:
        """Return the owner of a request: of its token; None for the person at the machine, who has no token."""
        if ctx.request is None:
            return NOBODY if self._remote else None
        user = ctx.request.scope.get("user")
        return str(user.username) if user else None

    def client(self, ctx: ServerRequestContext[Any, Any]) -> tuple[str | None, str]:
        """Return the key of a client: its owner and session, or its owner, name and version without a session.

        A client of an earlier era without a session has the name in its User-Agent header.
        On stdio there is one client, and since 2026-07-28 its notifications do not carry its name.
        """
        params = ctx.session.client_params
        info = params.client_info if params and ctx.request is not None else None
        named = f"{info.name}/{info.version}" if info else getattr(ctx.request, "headers", {}).get("user-agent", "")
        return self.owner(ctx), _session_id(ctx) or named

    # -- changes -------------------------------------------------------------------------------------------------

    def end_streams(self) -> None:
        """End every open listen stream in order: its client learns that it ended, and listens again elsewhere."""
        for channel in self._channels.values():
            channel.listen.close()

    def _note_change(self, job_id: str) -> None:
        self._changed.add(job_id)
        with suppress(anyio.WouldBlock):  # The task has been woken already.
            self._wake.send_nowait(None)

    async def _publish_changes(self) -> None:
        async for _ in self._wake_receiver:
            changed, self._changed = self._changed, set()
            if not (self._channels or self._listeners):  # nobody has ever asked for changes
                continue
            jobs = await self._read_changes(sorted(changed))
            if jobs is None:  # their owners must hear of it, and are not known yet
                await anyio.sleep(READ_AGAIN_S)
                for job_id in changed:
                    self._note_change(job_id)
                continue
            for owner, channel in list(self._channels.items()):
                uris, more = _changes_for(owner, jobs)
                for uri in uris:
                    await channel.bus.publish(ResourceUpdated(uri))
                if more:
                    await channel.bus.publish(ResourcesListChanged())
            async with anyio.create_task_group() as group:
                for listener in list(self._listeners.values()):
                    group.start_soon(_notify_listener, listener, *_changes_for(listener.owner, jobs))

    async def _read_changes(self, job_ids: Sequence[str]) -> list[tuple[str, str | None, bool]] | None:
        """Return each job with its owner, and whether it has more images than at the last change; None in an outage.

        Images are resources of their own. A change of a job that is not there, or cannot be read, is published to the
        person at the machine alone.
        """
        from triptych.core.errors import Outage

        service = self._watched
        assert service is not None
        try:
            found = await service.changed(job_ids)
        except Outage as error:  # the store logs it
            logger.debug("%s jobs changed; clients hear of it after the outage: %s", len(job_ids), error.for_operator)
            return None
        except Exception:  # the change must be published even if the jobs cannot be read now
            logger.exception("%s jobs changed and could not be read", len(job_ids))
            return [(job_id, None, False) for job_id in job_ids]
        jobs = []
        for job_id in job_ids:
            owner, returned = found.get(job_id, (None, 0))
            jobs.append((job_id, owner, returned > self._returned.pop(job_id, 0)))
            self._returned[job_id] = returned
            if len(self._returned) > JOBS_KEPT:
                del self._returned[next(iter(self._returned))]
        return jobs

    # -- the two ways to ask for them ------------------------------------------------------------------------------

    async def listen(
        self, ctx: ServerRequestContext[Any, Any], params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        """Serve one 2026-07-28 listen stream, without the jobs that this client cannot see."""
        owner = self.owner(ctx)
        visible = [
            uri for uri in params.notifications.resource_subscriptions or () if await self._is_visible(owner, uri)
        ]
        notifications = params.notifications.model_copy(update={"resource_subscriptions": visible})
        await self.service()
        return await self._channels[owner].listen(ctx, params.model_copy(update={"notifications": notifications}))

    def register(self, ctx: ServerRequestContext[Any, Any]) -> _Listener:
        """Return the listener of an earlier era's session, created at its first message after the handshake."""
        owner = self.owner(ctx)
        key = (owner, _session_id(ctx))
        if key not in self._listeners:
            self._listeners[key] = _Listener(ctx.session, owner)
            for oldest in [other for other in self._listeners if other[0] == owner][:-SESSIONS_KEPT]:
                del self._listeners[oldest]
        self._listeners.move_to_end(key)
        return self._listeners[key]

    async def subscribe(self, ctx: ServerRequestContext[Any, Any], uri: str) -> None:
        """Notify this session of later changes of the resource.

        Raises: `MCPError` for a job that this client cannot see, and on a server without sessions.
        """
        if self._stateless:
            raise MCPError(types.METHOD_NOT_FOUND, NO_SESSIONS)
        if not await self._is_visible(self.owner(ctx), uri):
            raise MCPError(types.INVALID_PARAMS, "There is no such job; triptych://jobs lists the recent ones.")
        self.register(ctx).uris.add(uri)

    def unsubscribe(self, ctx: ServerRequestContext[Any, Any], uri: str) -> None:
        """Stop notifying this session of changes of the resource."""
        if self._stateless:
            return
        self.register(ctx).uris.discard(uri)

    async def _is_visible(self, owner: str | None, uri: str) -> bool:
        """Return whether this owner can see a resource. Only jobs are checked: no other resource reports changes."""
        from triptych.core.errors import UnknownHandle
        from triptych.jobs.service import Caller

        service = await self.service()
        job_id = uri.removeprefix(f"{JOBS_URI}/")
        try:
            return job_id == uri or Caller(owner=owner).sees((await service.seen(job_id)).owner)
        except UnknownHandle:
            return False

    # -- the client's directories ----------------------------------------------------------------------------------

    async def roots(self, ctx: ServerRequestContext[Any, Any], given: types.InputResponses | None) -> tuple[Path, ...]:
        """Return the client's root directories, as far as they are known.

        `given` are the responses in a repeated 2026-07-28 call. An earlier client is asked once, and again after it
        reports a change; a 2026-07-28 client is asked only by this function's caller, after a refused path.
        """
        response = (given or {}).get("roots")
        if isinstance(response, types.ListRootsResult):
            self._roots = _directories(response)
        if self._roots is None and ctx.session.can_send_request and self.has_roots(ctx):
            self._roots = ()
            try:
                # session.list_roots() warns that roots are deprecated, which is not true for this era.
                self._roots = _directories(
                    await ctx.session.send_request(types.ListRootsRequest(), types.ListRootsResult, ROOTS_LIMIT_S)
                )
            except (MCPError, ValueError) as error:
                logger.warning("the client declares roots and did not list them: %s", error)
        return self._roots or ()

    def has_roots(self, ctx: ServerRequestContext[Any, Any]) -> bool:
        """Return whether the client declares that it can list its roots."""
        capabilities = ctx.session.client_capabilities
        return capabilities is not None and capabilities.roots is not None

    def forget_roots(self) -> None:
        """Ask again at the next use: the client reported a change of its roots."""
        self._roots = None


def takes_links(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Return whether this client uses links in results, by its name."""
    params = ctx.session.client_params
    return not (params and params.client_info.name.lower().startswith(WITHOUT_LINKS))


def _changes_for(owner: str | None, jobs: Sequence[tuple[str, str | None, bool]]) -> tuple[list[str], bool]:
    """Return the changed resources for this owner, and whether there are new images; None sees every job."""
    own = [(job_id, more) for job_id, job_owner, more in jobs if owner is None or owner == job_owner]
    return [JOBS_URI, *(f"{JOBS_URI}/{job_id}" for job_id, _ in own)] if own else [], any(more for _, more in own)


async def _notify_listener(listener: _Listener, uris: Sequence[str], more: bool) -> None:
    with anyio.move_on_after(SEND_LIMIT_S):
        for uri in uris:
            if uri in listener.uris:
                await listener.session.send_resource_updated(uri)
        if more:
            await listener.session.send_resource_list_changed()


def _session_id(ctx: ServerRequestContext[Any, Any]) -> str:
    """Return the id of a session; empty on stdio, which has one, and on streamable HTTP since 2026-07-28."""
    headers = getattr(ctx.request, "headers", None) or {}
    over_sse = getattr(ctx.request, "query_params", None) or {}
    return str(headers.get("mcp-session-id") or over_sse.get("session_id") or "")


def _directories(roots: types.ListRootsResult) -> tuple[Path, ...]:
    """Return the local directories among the roots; a root on another host is skipped."""
    parts = [urlsplit(str(root.uri)) for root in roots.roots]
    return tuple(
        Path(url2pathname(part.path)) for part in parts if part.scheme == "file" and part.netloc in ("", "localhost")
    )
