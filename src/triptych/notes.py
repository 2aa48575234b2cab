"""What a step writes down: the move, what comes with it, and who is told.

One place for it, so that no step forgets to say that a job moved.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from triptych import errors
from triptych.clock import Clock
from triptych.lifecycle import retry_delay_s
from triptych.model import Fault, State
from triptych.store import Claim, Store

log = logging.getLogger(__name__)


class Notes:
    """The moves of claimed predictions; `changed` is told the id of each job that moved."""

    def __init__(self, store: Store, clock: Clock, changed: Callable[[str], None]) -> None:
        self._store = store
        self._clock = clock
        self.changed = changed

    def move(self, claim: Claim, state: State, *, wait_s: float, free: bool = False, **changes: Any) -> Claim | None:
        """Write a prediction's next state, due again after `wait_s`; return the claim as it now stands.

        None when the lease was lost. With `free`, the money held back for it is given back.
        Raises: `errors.Outage` when nothing could be written.
        """
        now = self._clock.now()
        moved = self._store.move(
            claim, state, now=now, due_at=now + timedelta(seconds=wait_s), release_money=free, **changes
        )
        if moved is None:
            log.warning("%s was taken over by another process", claim.prediction.id)
        self.changed(claim.prediction.job_id)
        return moved

    def end(self, claim: Claim, state: State, fault: Fault, *, free: bool = False) -> None:
        """End a prediction with the reason why."""
        self.move(claim, state, wait_s=0, free=free, fault=fault, finished_at=self._clock.now())

    def again_later(self, claim: Claim, error: errors.TriptychError, tries: int) -> None:
        """Queue what surely was not accepted once more, or give up after so many tries."""
        attempts = claim.prediction.attempts + 1
        if attempts >= tries:
            self.end(claim, State.FAILED, fault_of(error), free=True)
            return
        wish_s = error.retry_after_s if isinstance(error, errors.RateLimited) else None
        self.move(claim, State.QUEUED, wait_s=retry_delay_s(attempts, wish_s), attempts=attempts, fault=fault_of(error))


def fault_of(error: errors.TriptychError) -> Fault:
    """Return an error as it is kept."""
    return Fault(error.kind, error.message, error.retryable, error.request_id)
