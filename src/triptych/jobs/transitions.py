"""What a step writes down: the move, what comes with it, and the call that says that a job moved.

One place for it, so that no step forgets one of them. What a paid request came to is written however often the database
says no (`write_with_retry`): nothing else leads back to it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

from triptych.core import errors
from triptych.core.clock import Clock, moment
from triptych.core.models import Failure, State
from triptych.core.states import retry_delay_s
from triptych.storage.async_store import AsyncStore
from triptych.storage.jobs import Claim

T = TypeVar("T")

log = logging.getLogger(__name__)

LONGEST_RETRY_S = 5.0
INTERNAL_ERRORS = 8
"""So many errors of our own end the insisting: the ninth would be the same."""


class Transitions:
    """The moves of claimed predictions; `changed` is called with the id of each job that moved."""

    def __init__(self, store: AsyncStore, clock: Clock, changed: Callable[[str], None]) -> None:
        self._store = store
        self._clock = clock
        self.changed = changed

    async def write_with_retry(self, claim: Claim, what: str, write: Callable[[], Awaitable[T]]) -> T:
        """Write what a paid request came to, again and again until the database and the disk take it.

        Raises: the error of our own that stays after several tries; what cancels this process.
        """
        tries = internal = 0
        while True:
            try:
                return await write()
            except errors.Outage as error:
                log.log(
                    logging.INFO if tries else logging.WARNING,
                    "%s of %s is not written yet: %s",
                    what,
                    claim.prediction.id,
                    error.message,
                )
            except Exception as error:
                internal += 1
                if internal > INTERNAL_ERRORS:
                    raise
                log.error("%s of %s is not written yet: %s", what, claim.prediction.id, type(error).__name__)
            tries += 1
            await self._clock.wait(anyio.Event(), min(0.5 * 2 ** min(tries, 5), LONGEST_RETRY_S))

    async def lose(self, claim: Claim, fault: Failure) -> None:
        """Remember that an answer was lost, under any lease: a look must not take the request for one never sent.

        It is written even while this process is being stopped.
        """
        with anyio.CancelScope(shield=True):
            await self._store.note_loss(claim.prediction.id, fault)

    async def move(
        self, claim: Claim, state: State, *, wait_s: float, free: bool = False, **changes: Any
    ) -> Claim | None:
        """Write a prediction's next state, due again after `wait_s`; return the claim as it now stands.

        None when the lease was lost. With `free`, the money held back for it is given back.
        Raises: `errors.Outage` when nothing could be written.
        """
        now = moment(self._clock)
        moved = await self._store.move(claim, state, now=now, due_at=now.mono_s + wait_s, release_money=free, **changes)
        if moved is None:
            log.warning("%s was taken over by another process", claim.prediction.id)
        self.changed(claim.prediction.job_id)
        return moved

    async def end(self, claim: Claim, state: State, fault: Failure, *, free: bool = False) -> None:
        """End a prediction with the reason why."""
        await self.move(claim, state, wait_s=0, free=free, fault=fault, finished_at=self._clock.now())

    async def again_later(self, claim: Claim, error: errors.TriptychError, tries: int) -> None:
        """Queue what surely was not accepted once more, or give up after so many tries."""
        attempts = claim.prediction.attempts + 1
        if attempts >= tries:
            await self.end(claim, State.FAILED, fault_of(error), free=True)
            return
        wait_s = retry_delay_s(attempts, error.retry_after_s)
        await self.move(claim, State.QUEUED, wait_s=wait_s, attempts=attempts, fault=fault_of(error))


def fault_of(error: errors.TriptychError) -> Failure:
    """Return an error as it is kept."""
    return Failure(error.kind, error.message, error.retryable, error.request_id)
