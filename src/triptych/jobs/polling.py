"""The polling schedule: waits between polls, pauses that a provider asks for, and sweeps.

A sweep reads a provider's list once and replaces most single polls while many predictions run there. Pauses and the
time of the next sweep are in the database, for every process with the same key. What a list showed belongs to this
process and need not survive it. Nothing is sent from here.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from triptych.core.clock import Clock
from triptych.core.models import Prediction
from triptych.core.offers import Offer
from triptych.core.states import poll_delay_s, retry_delay_s
from triptych.providers.accounts import Account
from triptych.storage.async_store import AsyncStore
from triptych.storage.claims import AccountState, Look
from triptych.storage.jobs import Store

log = logging.getLogger(__name__)

SWEEP_FROM = 3
"""Sweep a provider from so many running predictions on."""
COUNT_EVERY_S = 1.0
"""How often the predictions that run at a provider are counted."""
SWEEP_PAUSE_S = 60.0
"""The pause after a sweep that failed or did not show a known end."""
POLL_SLOWDOWN_WHILE_SWEEPING = 10
"""Poll single predictions this many times less often while sweeps work."""
MAX_SLOWED_POLL_S = 20.0


@dataclass(slots=True)
class _ProviderState:
    shared: AccountState
    """As the last look at the database found it."""
    wished_at: float = math.inf
    """Monotonic; when a prediction whose polls are rare would be polled. The next sweep is due then at the latest."""
    listed_ended: frozenset[str] = frozenset()
    """The tickets that the last sweep showed as ended."""
    unlisted_ended: frozenset[str] = frozenset()
    """The tickets whose end a poll found first; the next sweep has to show them."""

    def set_sweeps(self, next_sweep: float, sweeping: bool) -> None:
        """Set when the list is read next; what it showed is forgotten when it is read no more."""
        if next_sweep != self.shared.next_sweep:
            self.wished_at = math.inf
        self.shared = replace(self.shared, next_sweep=next_sweep, sweeping=sweeping)
        if not sweeping:
            self.listed_ended = self.unlisted_ended = frozenset()


class Polling:
    """The schedule for every usable provider in `accounts`."""

    def __init__(self, store: AsyncStore, accounts: Mapping[str, Account], clock: Clock) -> None:
        self._store = store
        self._accounts = accounts
        self._clock = clock
        self._states = {name: _ProviderState(AccountState(one.id)) for name, one in accounts.items()}
        self._offers = {
            (offer.provider, name, offer.operation): offer
            for account in accounts.values()
            for offer in account.provider.offers
            # At another base URL the provider may have had other ids when the prediction was made.
            for name in (*offer.aliases, offer.endpoint)
        }

    def offer(self, prediction: Prediction) -> Offer | None:
        """Return the offer that a prediction was made under, if its provider still has it."""
        return prediction.live_offer or self._offers.get(
            (prediction.provider, prediction.endpoint, prediction.operation)
        )

    def update(self, look: Look) -> None:
        """Take over what a look at the database found."""
        for state in self._states.values():
            if found := look.accounts.get(state.shared.account):
                state.set_sweeps(found.next_sweep, found.sweeping)
                state.shared = found

    async def pause_submits(self, provider: str, seconds: float) -> None:
        """Submit nothing to a provider for so many seconds."""
        await self._store.hold_account(self._accounts[provider].id, self._clock.monotonic() + seconds)

    async def pause_provider(self, provider: str, seconds: float) -> None:
        """Send nothing to a provider for so many seconds, because its response to a poll asked for that."""
        await self._store.hold_account(self._accounts[provider].id, self._clock.monotonic() + seconds, quiet=True)

    def poll_wait_s(self, prediction: Prediction, elapsed_s: float | None = None) -> float:
        """Return how long to wait before a prediction is polled (again)."""
        state = self._states[prediction.provider]
        wait_s = poll_delay_s(age_s(prediction, self._clock) if elapsed_s is None else elapsed_s)
        if state.shared.sweeping and prediction.ticket not in state.listed_ended:
            state.wished_at = min(state.wished_at, self._clock.monotonic() + wait_s)
            # A sweep may fail at any time, so a poll is never delayed for long.
            wait_s = max(wait_s, min(wait_s * POLL_SLOWDOWN_WHILE_SWEEPING, MAX_SLOWED_POLL_S))
        return wait_s

    def next_sweep(self, except_for: Collection[str] = ()) -> float | None:
        """Return when the next sweep is due on the monotonic clock, None without one."""
        due = [self._sweep_at(name) for name in self._states if name not in except_for]
        return min([at for at in due if at is not None], default=None)

    def _sweep_at(self, name: str) -> float | None:
        state, shared = self._states[name], self._states[name].shared
        if not self._accounts[name].provider.finished or not (shared.sweeping or shared.running >= SWEEP_FROM):
            return None
        return max(min(shared.next_sweep, state.wished_at), shared.quiet_until)

    async def sweep_is_due(self, name: str) -> bool:
        """Return whether to sweep a provider now; if so, the next sweep is scheduled, for all processes.

        A sweep is due when the youngest running prediction would be polled, so it is in time for all of them.
        """
        at, now_s = self._sweep_at(name), self._clock.monotonic()
        if at is None or at > now_s:
            return False
        running = await self._store.running_at(name)
        wait_s = COUNT_EVERY_S
        if sweeping := len(running) >= SWEEP_FROM:
            wait_s = min(poll_delay_s(age_s(prediction, self._clock)) for prediction in running)
        return await self._schedule(name, now_s + wait_s, sweeping) and sweeping

    async def _schedule(self, name: str, at_s: float, sweeping: bool) -> bool:
        """Schedule the next sweep unless another process has; if sweeps stop, poll what runs: its polls were rare."""
        state, seen = self._states[name], self._states[name].shared

        def schedule(store: Store) -> bool:
            if not store.schedule_sweep(seen.account, seen=seen.next_sweep, at_s=at_s, sweeping=sweeping):
                return False
            if seen.sweeping and not sweeping:
                store.poll_now(name, [one.ticket for one in store.running_at(name) if one.ticket])
            return True

        if not await self._store.run(schedule):
            return False
        state.set_sweeps(at_s, sweeping)
        return True

    async def tickets_to_sweep(self, name: str) -> frozenset[str]:
        """Return the tickets that a sweep asks for: of all that run, and those in `unlisted_ended`."""
        running = frozenset(prediction.ticket for prediction in await self._store.running_at(name) if prediction.ticket)
        return running | self._states[name].unlisted_ended

    async def record_sweep(self, name: str, swept: frozenset[str], ended: frozenset[str]) -> None:
        """Poll now the predictions that a sweep showed as ended. Pause sweeps if the list lacks a known end."""
        state = self._states[name]
        news = sorted(ended - state.listed_ended)
        unseen = (state.unlisted_ended & swept) - ended
        state.listed_ended, state.unlisted_ended = ended, state.unlisted_ended - swept
        if news:
            await self._store.run(lambda store: store.poll_now(name, news))
        if unseen:
            log.info("the list of %s does not show what has ended", name)
            await self.sweep_failed(name)

    async def sweep_failed(self, name: str, wish_s: float | None = None) -> None:
        """Return to single polls for a while. `wish_s` is the pause that the provider asked for.

        If that cannot be written, the next sweep is in its time.
        """
        pause_s = 0.0 if wish_s is None else retry_delay_s(1, wish_s)
        try:
            if wish_s is not None:
                await self.pause_provider(name, pause_s)
            await self._schedule(name, self._clock.monotonic() + pause_s + SWEEP_PAUSE_S, sweeping=False)
        except Exception as error:
            log.warning("sweeps of %s go on, as their pause is not stored: %s", name, error)

    def note_end(self, prediction: Prediction) -> None:
        """Record that a poll found the end of a prediction."""
        state = self._states[prediction.provider]
        if state.shared.sweeping and prediction.ticket and prediction.ticket not in state.listed_ended:
            state.unlisted_ended |= {prediction.ticket}


def slept_s(prediction: Prediction, clock: Clock) -> float:
    """Return by how much a prediction is older by the wall clock: the monotonic clock may stop while asleep."""
    if prediction.submitted_at is None:
        return 0.0
    return max((clock.now() - prediction.submitted_at).total_seconds() - age_s(prediction, clock), 0.0)


def age_s(prediction: Prediction, clock: Clock) -> float:
    """Return how long ago a prediction was submitted; by the wall clock after a restart of the machine."""
    if prediction.submitted_mono is not None:
        return max(clock.monotonic() - prediction.submitted_mono, 0.0)
    now = clock.now()
    return max((now - (prediction.submitted_at or now)).total_seconds(), 0.0)
