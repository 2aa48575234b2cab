"""The claims of the store: which prediction is due, and the leases of those that a process works on.

Rules: each look takes the same time in a job of 2,000 predictions as in a job of one; the indexes of `0010_looks.sql`
are for these statements. The methods block.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from triptych.core.clock import Moment
from triptych.core.models import Failure, Prediction
from triptych.core.states import LEASE_S, MAX_WAIT_S
from triptych.storage import rows
from triptych.storage.summaries import Summaries

SETTLE_TRIES = 6
"""How often the charge of a finished prediction is requested."""
_TRIES = json.dumps(list(range(SETTLE_TRIES)))


@dataclass(frozen=True, slots=True)
class Claim:
    """A prediction that this process holds until the lease expires."""

    prediction: Prediction
    lease: str


class Claims(Summaries):
    """The reads of one database, and the claims on its predictions."""

    def claim(
        self,
        *,
        now: Moment,
        lease: str,
        providers: Sequence[str],
        max_running: Mapping[str, int],
        held: Sequence[str] = (),
    ) -> Claim | None:
        """Claim the most urgent due prediction, if there is one; running predictions come before queued ones.

        A queued prediction is skipped while its provider runs `max_running` predictions. The ids in `held` are skipped:
        this process works on them, even if their leases have expired.

        Raises: `errors.Outdated` after a newer Triptych has changed the database; `move` still works then.
        """
        with self._db.without_fsync(), self._db.transaction():
            self._db.require_current()
            # `now` may be older than the wait for this transaction, and a lease of another process newer than `now`.
            now_s = max(now.mono_s, self._clock.monotonic())
            row = self._db.one(
                "claim",
                lease=lease,
                until=now_s + LEASE_S,
                now=now_s,
                most_wait_s=MAX_WAIT_S,
                most_lease_s=LEASE_S,
                providers=providers,
                free=self._free(now, providers, max_running),
                held=held,
                tries=_TRIES,
            )
        return Claim(self._prediction(row), lease) if row else None

    def next_due(
        self, *, now: Moment, providers: Sequence[str], max_running: Mapping[str, int], held: Sequence[str] = ()
    ) -> float | None:
        """Return when the next claim can succeed on the monotonic clock, None if that is not known."""
        row = self._db.one(
            "next_due",
            now=now.mono_s,
            most_wait_s=MAX_WAIT_S,
            most_lease_s=LEASE_S,
            providers=providers,
            free=self._free(now, providers, max_running),
            held=held,
            tries=_TRIES,
        )
        return row["due"] if row else None

    def _free(self, now: Moment, providers: Sequence[str], max_running: Mapping[str, int]) -> str:
        """Return the providers that may get another request, as a JSON list."""
        running = {}
        if max_running:
            running = {row["provider"]: row["running"] for row in self._db.all("busy", now=now.mono_s)}
        return json.dumps([one for one in providers if running.get(one, 0) < max_running.get(one, math.inf)])

    def heartbeat(self, leases: Sequence[str], until_s: float) -> None:
        """Extend leases."""
        if leases:
            with self._db.without_fsync():
                self._db.run("heartbeat", leases=leases, until=until_s)

    def renew(self, claim: Claim, now_s: float) -> bool:
        """Renew the lease of a prediction that is about to be sent; return False if it is lost."""
        with self._db.without_fsync():
            done = self._db.run("renew", id=claim.prediction.id, lease=claim.lease, until=now_s + LEASE_S)
        return done.rowcount == 1

    def put_back(self, claim: Claim, due_at: float) -> None:
        """Release a claim. The state stays as the last move wrote it."""
        self._db.run("put_back", id=claim.prediction.id, lease=claim.lease, due_at=due_at)

    def note_loss(self, prediction_id: str, fault: Failure) -> None:
        """Store that the response to a submit was lost, under any lease; an existing failure stays."""
        self._db.run("note_loss", id=prediction_id, fault=rows.column(fault))
