"""The last check before a paid request is sent: does this process still hold the prediction?"""

from __future__ import annotations

import anyio

from triptych.core import errors
from triptych.core.clock import Clock
from triptych.core.states import LEASE_S
from triptych.storage.async_store import AsyncStore
from triptych.storage.claims import Claim

RENEWED_WITHIN_S = LEASE_S / 2
"""A renewal that took longer does not count: the lease may have expired."""


class SubmitGate:
    """Lets a paid request pass only if this process still holds the prediction.

    The client calls it right before it writes the bytes. From then on `left` is true: the bytes may have been sent.
    """

    def __init__(self, store: AsyncStore, claim: Claim, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.claim = claim
        """Has the failure that was stored during the request, if one was."""
        self.writing = anyio.Lock()
        """Held while the outcome of the request is written; `claim` is then equal to the store's."""
        self.left = False
        self.stopping = False
        """This process is being stopped: a request that was not sent yet is not sent any more."""

    async def __call__(self) -> None:
        """Renew the lease for the duration of the request.

        Raises: `errors.NotSent` if another process has the prediction, if the lease cannot be renewed in time, or if
        this process is being stopped.
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
