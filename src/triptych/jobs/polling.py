"""The polling schedule: waits between polls, pauses that a provider asks for, and sweeps.

A sweep reads a provider's list once and replaces most single polls while many predictions run there. The state here
belongs to this process and need not survive it. Nothing is sent from here.
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
    hold_until: float = 0.0
    """Monotonic; no submit is sent before."""
    quiet_until: float = 0.0
    """Monotonic; no poll and no sweep is sent before."""
    next_sweep: float = 0.0
    sweeping: bool = False
    polls_are_rare: bool = False
    """Some polls were delayed because of sweeps."""
    listed_ended: frozenset[str] = frozenset()
    """The tickets that the last sweep showed as ended."""
    unlisted_ended: frozenset[str] = frozenset()
    """The tickets whose end a poll found first; the next sweep has to show them."""


class Polling:
    """The schedule for every usable provider in `accounts`."""

    def __init__(self, store: AsyncStore, accounts: Mapping[str, Account], clock: Clock) -> None:
        self._store = store
        self._accounts = accounts
        self._clock = clock
        self._states = {name: _ProviderState() for name in accounts}
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

    def limits(self) -> dict[str, int]:
        """Return how many predictions may run at each provider now: 0 during a pause."""
        now_s = self._clock.monotonic()
        return {
            name: 0 if state.hold_until > now_s else self._accounts[name].provider.max_running
            for name, state in self._states.items()
        }

    def pause_submits(self, provider: str, seconds: float) -> None:
        """Submit nothing to a provider for so many seconds."""
        self._states[provider].hold_until = self._clock.monotonic() + seconds

    async def pause_provider(self, provider: str, wish_s: float) -> None:
        """Send nothing to a provider for so many seconds, because its response to a poll asked for that."""
        self._pause(provider, wish_s)
        await self._store.poll_not_before(provider, self._states[provider].quiet_until)

    def _pause(self, name: str, seconds: float) -> None:
        state, until = self._states[name], self._clock.monotonic() + seconds
        state.hold_until = max(state.hold_until, until)
        state.quiet_until = max(state.quiet_until, until)

    def poll_wait_s(self, prediction: Prediction, elapsed_s: float | None = None) -> float:
        """Return how long to wait before a prediction is polled (again)."""
        state, now_s = self._states[prediction.provider], self._clock.monotonic()
        wait_s = poll_delay_s(age_s(prediction, self._clock) if elapsed_s is None else elapsed_s)
        if state.sweeping and prediction.ticket not in state.listed_ended:
            state.next_sweep = min(state.next_sweep, now_s + wait_s)
            # A sweep may fail at any time, so a poll is never delayed for long.
            wait_s = max(wait_s, min(wait_s * POLL_SLOWDOWN_WHILE_SWEEPING, MAX_SLOWED_POLL_S))
        return max(wait_s, state.quiet_until - now_s)

    def next_sweep(self, except_for: Collection[str] = ()) -> float | None:
        """Return when the next sweep is due on the monotonic clock, None without one."""
        due = [
            max(state.next_sweep, state.quiet_until)
            for name, state in self._states.items()
            if state.sweeping and name not in except_for
        ]
        return min(due, default=None)

    async def sweep_is_due(self, name: str) -> bool:
        """Return whether to sweep a provider now; if so, the next sweep is scheduled.

        A sweep is due when the youngest running prediction would be polled, so it is in time for all of them.
        """
        state, now_s = self._states[name], self._clock.monotonic()
        if state.polls_are_rare and not state.sweeping:
            await self._poll_all(name)
        if not self._accounts[name].provider.finished or max(state.next_sweep, state.quiet_until) > now_s:
            return False
        running = await self._store.running_at(name)
        state.next_sweep = now_s + COUNT_EVERY_S
        state.sweeping = len(running) >= SWEEP_FROM
        if state.sweeping:
            state.polls_are_rare = True
            state.next_sweep = now_s + min(poll_delay_s(age_s(prediction, self._clock)) for prediction in running)
        else:
            state.listed_ended = state.unlisted_ended = frozenset()
            if state.polls_are_rare:
                await self._poll_all(name)
        return state.sweeping

    async def _poll_all(self, name: str) -> None:
        """Poll all predictions that run at a provider now: sweeps delayed their polls, and have stopped."""
        state = self._states[name]
        await self._poll_now(
            name, [prediction.ticket for prediction in await self._store.running_at(name) if prediction.ticket]
        )
        state.polls_are_rare = False

    async def _poll_now(self, name: str, tickets: Sequence[str]) -> None:
        quiet_until, now_s = self._states[name].quiet_until, self._clock.monotonic()

        def make_due(store: Store) -> None:  # one call, so that no claim comes between
            store.poll_now(name, tickets)
            if quiet_until > now_s:
                store.poll_not_before(name, quiet_until)

        await self._store.run(make_due)

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
            await self._poll_now(name, news)
        if unseen:
            log.info("the list of %s does not show what has ended", name)
            self.sweep_failed(name)

    def sweep_failed(self, name: str, wish_s: float | None = None) -> None:
        """Return to single polls for a while. `wish_s` is the pause that the provider asked for."""
        state = self._states[name]
        if wish_s is not None:
            self._pause(name, retry_delay_s(1, wish_s))
        state.sweeping, state.listed_ended, state.unlisted_ended = False, frozenset(), frozenset()
        state.next_sweep = max(self._clock.monotonic(), state.quiet_until) + SWEEP_PAUSE_S

    def note_end(self, prediction: Prediction) -> None:
        """Record that a poll found the end of a prediction."""
        state = self._states[prediction.provider]
        if state.sweeping and prediction.ticket and prediction.ticket not in state.listed_ended:
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
