"""The store for the event loop: the methods of `Store`, each run in a worker thread and awaited.

SQLite has one connection, so its calls run one at a time, in order (`one_thread`). PostgreSQL has several, whose calls
run side by side (`threads`). A call that has begun runs to its end, even if its caller is cancelled. A locked or slow
database delays only its own callers. An outage of the database is logged here, not by the callers.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import anyio
import anyio.to_thread

from triptych.core import errors, telemetry
from triptych.core.clock import Clock
from triptych.core.outages import OutageLog
from triptych.storage.jobs import Store

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class Hop(Protocol):
    """Runs calls that may block, each to its end."""

    async def __call__(self, call: Callable[[], T], /) -> T: ...


def one_thread() -> Hop:
    """Return a hop that uses one worker thread at a time."""
    limiter, lock = anyio.CapacityLimiter(1), threading.Lock()

    async def hop(call: Callable[[], T], /) -> T:
        def alone() -> T:
            with lock:  # an interrupt (Ctrl-C) ends the wait for a thread, not the thread
                return call()

        return await anyio.to_thread.run_sync(alone, limiter=limiter)

    return hop


def threads(most: int) -> Hop:
    """Return a hop that uses at most so many worker threads at a time."""
    limiter = anyio.CapacityLimiter(most)

    async def hop(call: Callable[[], T], /) -> T:
        return await anyio.to_thread.run_sync(call, limiter=limiter)

    return hop


def verb(plain: Callable[Concatenate[Store, P], T]) -> Callable[Concatenate[AsyncStore, P], Coroutine[Any, Any, T]]:
    """Return a method of `Store` as an awaitable one, with the same arguments."""
    name = plain.__name__

    @wraps(plain)
    async def awaited(store: AsyncStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        call: Callable[[], T] = partial(getattr(store.plain, name), *args, **kwargs)
        with telemetry.span("database", call=name):
            return await store.ask(call)

    return awaited


class AsyncStore:
    """The methods of one store. Each raises the same errors as the plain method."""

    def __init__(self, plain: Store, hop: Hop, clock: Clock) -> None:
        self.plain = plain
        """For code that may block, such as a test."""
        self.hop = hop
        self._outage = OutageLog(log, clock, "the database cannot be used, and what needs it waits")

    async def run(self, work: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` on the plain store as one call; only a transaction keeps other calls out."""
        call: Callable[[], T] = partial(work, self.plain, *args, **kwargs)
        with telemetry.span("database", call=getattr(work, "__name__", "run")):
            return await self.ask(call)

    async def ask(self, call: Callable[[], T]) -> T:
        """Run a call in a worker thread, and log an outage of the database."""
        before = self.plain.answers
        try:
            answer = await self.hop(call)
        except errors.Outage as error:
            self._outage.failed(error)
            raise
        if self.plain.answers != before:  # some calls need no statement, such as a renewal of no lease
            self._outage.answered()
        return answer

    add_image = verb(Store.add_image)
    add_images = verb(Store.add_images)
    add_job = verb(Store.add_job)
    add_outputs = verb(Store.add_outputs)
    cancel = verb(Store.cancel)
    changed = verb(Store.changed)
    changes_since = verb(Store.changes_since)
    close = verb(Store.close)
    copy = verb(Store.copy)
    outputs = verb(Store.outputs)
    heartbeat = verb(Store.heartbeat)
    owns = verb(Store.owns)
    hold_account = verb(Store.hold_account)
    image_by_handle = verb(Store.image_by_handle)
    image_by_sha256 = verb(Store.image_by_sha256)
    job = verb(Store.job)
    look = verb(Store.look)
    move = verb(Store.move)
    note_loss = verb(Store.note_loss)
    note_saved_file = verb(Store.note_saved_file)
    output_failed = verb(Store.output_failed)
    output_saved = verb(Store.output_saved)
    output_stored = verb(Store.output_stored)
    outputs_of = verb(Store.outputs_of)
    overview = verb(Store.overview)
    pace = verb(Store.pace)
    predictions = verb(Store.predictions)
    put_back = verb(Store.put_back)
    renew = verb(Store.renew)
    require_current = verb(Store.require_current)
    reroute = verb(Store.reroute)
    running_at = verb(Store.running_at)
    same_request = verb(Store.same_request)
    seen = verb(Store.seen)
    save_also = verb(Store.save_also)
    saved_also = verb(Store.saved_also)
    saved_among = verb(Store.saved_among)
    set_copy = verb(Store.set_copy)
    submits_without_ticket = verb(Store.submits_without_ticket)
    take_unused_uploads = verb(Store.take_unused_uploads)
    tickets = verb(Store.tickets)
    tightest_budget = verb(Store.tightest_budget)
    to_save = verb(Store.to_save)
    warn = verb(Store.warn)
