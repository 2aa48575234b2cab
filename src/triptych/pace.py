"""When to ask which provider: polls, pauses it asked for, and looks at its list when many predictions run there.

What is known here is this process's own and need not survive; nothing is sent from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from triptych.clock import Clock
from triptych.lifecycle import USUAL_SPREAD, learned, poll_delay_s
from triptych.model import Offer, Prediction
from triptych.store import Store
from triptych.wire import Account

SWEEP_FROM = 3
"""With so many predictions running at a provider, one look at its list replaces most single polls."""
SWEEP_EVERY_S = 1.0
SWEEP_SHARE_S = 5.4
"""The time between two looks, times how many run: with fewer, looks are rarer, or they would cost more than polls."""
SWEEP_PAUSE_S = 60.0
"""How long a list that could not be had is left alone."""
UNSWEPT = 4
"""How many times rarer single polls are while the list is looked at."""
LONGEST_UNSWEPT_S = 20.0


@dataclass(slots=True)
class _Standing:
    hold_until: float = 0.0
    next_sweep: float | None = None
    sweeping: bool = False


class Pace:
    """The pace for every usable provider among `accounts`."""

    def __init__(self, store: Store, accounts: Mapping[str, Account], clock: Clock) -> None:
        self._store = store
        self._accounts = accounts
        self._clock = clock
        self._standing = {name: _Standing() for name in accounts}
        self._offers = {
            (offer.provider, name, offer.operation): offer
            for account in accounts.values()
            for offer in account.provider.offers
            # A prediction may have been made when its provider was at another base URL and had other ids.
            for name in (*offer.aliases, offer.endpoint)
        }

    def offer(self, prediction: Prediction) -> Offer | None:
        """Return the offer that a prediction was made under, if its provider still has it."""
        return self._offers.get((prediction.provider, prediction.endpoint, prediction.operation))

    def limits(self) -> dict[str, int]:
        """Return how many predictions may run at each provider now; none where it asked for patience."""
        now_s = self._clock.monotonic()
        return {
            name: 0 if standing.hold_until > now_s else self._accounts[name].provider.max_running
            for name, standing in self._standing.items()
        }

    def hold(self, provider: str, seconds: float) -> None:
        """Submit nothing more to a provider for a while."""
        self._standing[provider].hold_until = self._clock.monotonic() + seconds

    def poll_wait_s(self, prediction: Prediction, elapsed_s: float | None = None) -> float:
        """Return how long to wait before a prediction is polled (again)."""
        offer = self.offer(prediction)
        usual_s = offer.latency_s + offer.latency_per_image_s * (prediction.count - 1) if offer else 15.0
        known = learned(self._store.durations_s(prediction.endpoint, prediction.count))
        expected_s, spread = known or (usual_s, USUAL_SPREAD)
        if elapsed_s is None:
            elapsed_s = age_s(prediction, self._clock)
        wait_s = poll_delay_s(elapsed_s, max(expected_s, 0.5), spread)
        # The list may stop helping at any time, so a poll is never put off for long.
        return max(wait_s, min(wait_s * UNSWEPT, LONGEST_UNSWEPT_S)) if self._is_swept(prediction) else wait_s

    def _is_swept(self, prediction: Prediction) -> bool:
        return self._standing[prediction.provider].sweeping

    def next_sweep(self) -> float | None:
        """Return when the next look at a list is due on the monotonic clock, if any is."""
        due = [s.next_sweep for s in self._standing.values() if s.sweeping and s.next_sweep is not None]
        return min(due, default=None)

    def sweep_is_due(self, name: str) -> bool:
        """Return whether to look at a provider's list now; if so, the next look is planned."""
        standing, now_s = self._standing[name], self._clock.monotonic()
        if not self._accounts[name].provider.finished or (standing.next_sweep and standing.next_sweep > now_s):
            return False
        running = len(self._store.running_tickets(name))
        standing.sweeping = running >= SWEEP_FROM
        standing.next_sweep = now_s + max(SWEEP_EVERY_S, SWEEP_SHARE_S / running if standing.sweeping else 0.0)
        return standing.sweeping

    def sweep_failed(self, name: str) -> None:
        """Go back to single polls for a while."""
        standing = self._standing[name]
        standing.sweeping = False
        standing.next_sweep = self._clock.monotonic() + SWEEP_PAUSE_S


def slept_s(prediction: Prediction, clock: Clock) -> float:
    """Return by how much the wall clock makes a prediction older than `age_s`: the other one rests in a sleep."""
    if prediction.submitted_at is None:
        return 0.0
    return max((clock.now() - prediction.submitted_at).total_seconds() - age_s(prediction, clock), 0.0)


def age_s(prediction: Prediction, clock: Clock) -> float:
    """Return how long ago a prediction was submitted; by the wall clock once the machine has restarted."""
    if prediction.submitted_mono is not None:
        return max(clock.monotonic() - prediction.submitted_mono, 0.0)
    now = clock.now()
    return max((now - (prediction.submitted_at or now)).total_seconds(), 0.0)
