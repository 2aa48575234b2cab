"""Writes the state transitions of predictions, and calls `changed` after each.

The outcome of a paid request is written until the database accepts it (`write_with_retry`), because it exists nowhere
else.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

from triptych.core import errors, telemetry
from triptych.core.clock import Clock, moment
from triptych.core.models import Failure, Prediction, State
from triptych.core.states import retry_delay_s
from triptych.storage.async_store import AsyncStore
from triptych.storage.claims import Claim

T = TypeVar("T")

log = logging.getLogger(__name__)

LONGEST_RETRY_S = 5.0
INTERNAL_ERRORS = 8
"""`write_with_retry` gives up after so many internal errors."""


class Transitions:
    """The state transitions of claimed predictions; each calls `changed` with its job's id."""

    def __init__(self, store: AsyncStore, clock: Clock, changed: Callable[[str], None]) -> None:
        self._store = store
        self._clock = clock
        self.changed = changed

    async def write_with_retry(self, claim: Claim, what: str, write: Callable[[], Awaitable[T]]) -> T:
        """Write the outcome of a paid request, again and again until the database and the disk accept it.

        Raises: an internal error that stays after several tries; the cancellation of this process.
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
                    error.for_operator,
                )
            except Exception as error:
                internal += 1
                if internal > INTERNAL_ERRORS:
                    raise
                log.error("%s of %s is not written yet: %s", what, claim.prediction.id, type(error).__name__)
            tries += 1
            await self._clock.wait(anyio.Event(), min(0.5 * 2 ** min(tries, 5), LONGEST_RETRY_S))

    async def record_lost_response(self, claim: Claim, fault: Failure) -> None:
        """Store that a response was lost, under any lease; otherwise a search assumes that nothing was sent.

        The write happens even while this process is being stopped.
        """
        with anyio.CancelScope(shield=True):
            await self._store.note_loss(claim.prediction.id, fault)

    async def move(
        self, claim: Claim, state: State, *, wait_s: float, free: bool = False, **changes: Any
    ) -> Claim | None:
        """Write a prediction's next state, due again after `wait_s`; return the claim with it.

        Returns None if the lease was lost. `free` releases the money reserved for the prediction.
        Raises: `errors.Outage` if nothing was written.
        """
        now = moment(self._clock)
        moved = await self._store.move(claim, state, now=now, due_at=now.mono_s + wait_s, release_money=free, **changes)
        if moved is None:
            log.warning("%s was taken over by another process", claim.prediction.id)
        else:
            _tell(claim.prediction, moved.prediction)
        self.changed(claim.prediction.job_id)
        return moved

    async def end(self, claim: Claim, state: State, fault: Failure, *, free: bool = False) -> None:
        """End a prediction with a failure."""
        await self.move(claim, state, wait_s=0, free=free, fault=fault, finished_at=self._clock.now())

    async def retry_later(self, claim: Claim, error: errors.TriptychError, tries: int) -> None:
        """Queue a submit that surely was not accepted again, or end it after `tries` attempts."""
        attempts = claim.prediction.attempts + 1
        if attempts >= tries:
            await self.end(claim, State.FAILED, fault_of(error), free=True)
            return
        wait_s = retry_delay_s(attempts, error.retry_after_s)
        await self.move(claim, State.QUEUED, wait_s=wait_s, attempts=attempts, fault=fault_of(error))


def _tell(before: Prediction, after: Prediction) -> None:
    if after.state != before.state:
        telemetry.value("moves", 1, provider=after.provider, state=after.state)
    if after.charged_usd is not None and before.charged_usd is None:
        telemetry.value("charged_usd", float(after.charged_usd), provider=after.provider)


def fault_of(error: errors.TriptychError) -> Failure:
    """Return an error as the value that is stored."""
    return Failure(error.kind, error.message, error.retryable, error.request_id)
