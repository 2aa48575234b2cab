"""When to ask which provider: polls, pauses it asked for, and looks at its list when many predictions run there.

What is known here is this process's own and need not survive; nothing is sent from here.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from triptych.core.clock import Clock
from triptych.core.models import Prediction
from triptych.core.offers import Offer
from triptych.core.states import poll_delay_s, retry_delay_s
from triptych.providers.client import Account
from triptych.storage.async_store import AsyncStore
from triptych.storage.jobs import Store

log = logging.getLogger(__name__)

SWEEP_FROM = 3
"""With so many predictions running at a provider, one look at its list replaces most single polls."""
COUNT_EVERY_S = 1.0
"""How often it is counted how many predictions run at a provider."""
SWEEP_PAUSE_S = 60.0
"""How long a list that could not be had, or did not show an end, is left alone."""
UNSWEPT = 10
"""How many times rarer single polls are while the list is looked at."""
LONGEST_UNSWEPT_S = 20.0


@dataclass(slots=True)
class _ProviderState:
    hold_until: float = 0.0
    """No submit leaves before."""
    quiet_until: float = 0.0
    """No poll and no look leaves before."""
    next_sweep: float = 0.0
    sweeping: bool = False
    polls_are_rare: bool = False
    """Some polls were put off because the list is looked at."""
    told: frozenset[str] = frozenset()
    """The tickets that the last look showed as ended."""
    untold: frozenset[str] = frozenset()
    """The tickets whose end a poll found first; the next look has to show them."""


class Polling:
    """The pace for every usable provider among `accounts`."""

    def __init__(self, store: AsyncStore, accounts: Mapping[str, Account], clock: Clock) -> None:
        self._store = store
        self._accounts = accounts
        self._clock = clock
        self._standing = {name: _ProviderState() for name in accounts}
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

    async def heed(self, provider: str, wish_s: float) -> None:
        """Send nothing to a provider that asked for so many seconds of patience when it was polled."""
        self._be_quiet(provider, wish_s)
        await self._store.poll_not_before(provider, self._standing[provider].quiet_until)

    def _be_quiet(self, name: str, seconds: float) -> None:
        standing, until = self._standing[name], self._clock.monotonic() + seconds
        standing.hold_until = max(standing.hold_until, until)
        standing.quiet_until = max(standing.quiet_until, until)

    def poll_wait_s(self, prediction: Prediction, elapsed_s: float | None = None) -> float:
        """Return how long to wait before a prediction is polled (again)."""
        standing, now_s = self._standing[prediction.provider], self._clock.monotonic()
        wait_s = poll_delay_s(age_s(prediction, self._clock) if elapsed_s is None else elapsed_s)
        if standing.sweeping and prediction.ticket not in standing.told:
            standing.next_sweep = min(standing.next_sweep, now_s + wait_s)
            # The list may stop helping at any time, so a poll is never put off for long.
            wait_s = max(wait_s, min(wait_s * UNSWEPT, LONGEST_UNSWEPT_S))
        return max(wait_s, standing.quiet_until - now_s)

    def next_sweep(self, but: Collection[str] = ()) -> float | None:
        """Return when the next look at a list is due on the monotonic clock, if any is."""
        due = [
            max(standing.next_sweep, standing.quiet_until)
            for name, standing in self._standing.items()
            if standing.sweeping and name not in but
        ]
        return min(due, default=None)

    async def sweep_is_due(self, name: str) -> bool:
        """Return whether to look at a provider's list now; if so, the next look is planned.

        A look comes when the youngest of all that run would be polled, so it is in time for each of them.
        """
        standing, now_s = self._standing[name], self._clock.monotonic()
        if standing.polls_are_rare and not standing.sweeping:
            await self._poll_all(name)
        if not self._accounts[name].provider.finished or max(standing.next_sweep, standing.quiet_until) > now_s:
            return False
        running = await self._store.running_at(name)
        standing.next_sweep = now_s + COUNT_EVERY_S
        standing.sweeping = len(running) >= SWEEP_FROM
        if standing.sweeping:
            standing.polls_are_rare = True
            standing.next_sweep = now_s + min(poll_delay_s(age_s(one, self._clock)) for one in running)
        else:
            standing.told = standing.untold = frozenset()
            if standing.polls_are_rare:
                await self._poll_all(name)
        return standing.sweeping

    async def _poll_all(self, name: str) -> None:
        """Poll all that run at a provider now: they were polled rarely, and the list is not read any more."""
        standing = self._standing[name]
        await self._poll_now(name, [one.ticket for one in await self._store.running_at(name) if one.ticket])
        standing.polls_are_rare = False

    async def _poll_now(self, name: str, tickets: Sequence[str]) -> None:
        quiet_until, now_s = self._standing[name].quiet_until, self._clock.monotonic()

        def make_due(store: Store) -> None:  # at once, so that no claim comes between
            store.poll_now(name, tickets)
            if quiet_until > now_s:
                store.poll_not_before(name, quiet_until)

        await self._store.run(make_due)

    async def to_sweep(self, name: str) -> frozenset[str]:
        """Return the tickets that a look asks for: of all that run, and of those whose end it should have shown."""
        running = frozenset(one.ticket for one in await self._store.running_at(name) if one.ticket)
        return running | self._standing[name].untold

    async def swept(self, name: str, asked: frozenset[str], ended: frozenset[str]) -> None:
        """Make due what a look showed as ended. A list that does not show an end which is known is left alone."""
        standing = self._standing[name]
        news = sorted(ended - standing.told)
        behind = (standing.untold & asked) - ended
        standing.told, standing.untold = ended, standing.untold - asked
        if news:
            await self._poll_now(name, news)
        if behind:
            log.info("the list of %s does not show what has ended", name)
            self.sweep_failed(name)

    def sweep_failed(self, name: str, wish_s: float | None = None) -> None:
        """Go back to single polls for a while; after the time for which the provider wishes to be left alone."""
        standing = self._standing[name]
        if wish_s is not None:
            self._be_quiet(name, retry_delay_s(1, wish_s))
        standing.sweeping, standing.told, standing.untold = False, frozenset(), frozenset()
        standing.next_sweep = max(self._clock.monotonic(), standing.quiet_until) + SWEEP_PAUSE_S

    def ended(self, prediction: Prediction) -> None:
        """Note that a poll found the end of a prediction."""
        standing = self._standing[prediction.provider]
        if standing.sweeping and prediction.ticket and prediction.ticket not in standing.told:
            standing.untold |= {prediction.ticket}


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
