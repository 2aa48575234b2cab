"""The last check before a paid request leaves: this process still holds the prediction."""

from __future__ import annotations

import anyio

from triptych.core import errors
from triptych.core.clock import Clock
from triptych.core.states import LEASE_S
from triptych.storage.async_store import AsyncStore
from triptych.storage.jobs import Claim

RENEWED_WITHIN_S = LEASE_S / 2
"""A renewal that took longer is not relied on: the lease may be over."""


class SubmitGate:
    """The gate before a paid request leaves: it opens only for the process that still holds the prediction.

    Called right before the bytes leave. `left` says from then on that they may have.
    """

    def __init__(self, store: AsyncStore, claim: Claim, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.claim = claim
        """With the fault that was stored for it while its answer was waited for, if any."""
        self.writing = anyio.Lock()
        """Held while what became of the request is written: `claim` is what the store has then."""
        self.left = False
        self.stopping = False
        """This process is being stopped: what has not left yet stays."""

    async def __call__(self) -> None:
        """Renew the lease for the time that the request is on its way.

        Raises: `errors.NotSent` when another process has taken the prediction over, or nobody can say, and when this
        process is being stopped.
        """
        began_s = self._clock.monotonic()
        try:
            ours = await self._store.renew(self.claim, began_s)
        except errors.Outage as error:
            raise errors.NotSent(f"Not sent, because its lease cannot be renewed: {error.message}") from error
        if not ours:
            raise errors.NotSent("Not sent: another process has taken over the request.")
        if self._clock.monotonic() - began_s > RENEWED_WITHIN_S:
            raise errors.NotSent("Not sent: this process was suspended, and another may have taken over the request.")
        if self.stopping and not self.left:
            raise errors.NotSent("Not sent: this process is being stopped.")
        self.left = True
