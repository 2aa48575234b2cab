"""Moves predictions along: claim one, do ONE step, write it down; again when it is due.

Rules (each is a promise of the whole product):
- A prediction is written as `submitting` before its request leaves, and its ticket right after the answer.
- A submit is sent again only when it surely was not accepted, or when the provider knows it by an id of ours. Otherwise
  it is looked for (`find`), and if it cannot be found it is `uncertain`, never repeated.
- Nothing that happens while polling ends a prediction but the provider's own decision or the deadline; even then the
  ticket is kept.
- Any process may die between any two lines here, and any other may go on: whatever must survive is in the store.

This file must not know any provider by name, nor what a tool or a command is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import uuid4

import anyio
import anyio.abc

from triptych import errors
from triptych.assets import Assets
from triptych.clock import Bell, Clock
from triptych.lifecycle import HEARTBEAT_S, LEASE_S
from triptych.pace import Pace
from triptych.steps import Steps
from triptych.store import Claim, Store
from triptych.wire import Account, Wire

log = logging.getLogger(__name__)

MAX_STEPS_AT_ONCE = 32
OTHERS_LOOK_S = 1.0
"""How often the database is looked at for what other processes wrote."""


class Engine:
    """Advances every prediction whose provider is among `accounts`; several engines may share one store.

    `changed` is told the id of each job that moved.
    """

    def __init__(
        self,
        store: Store,
        assets: Assets,
        wire: Wire,
        accounts: Mapping[str, Account],
        clock: Clock,
        changed: Callable[[str], None],
    ) -> None:
        self.bell = Bell()
        """Rung when there may be something to do, and when something was done."""
        self._store = store
        self._wire = wire
        self._accounts = {name: account for name, account in accounts.items() if account.usable}
        self._clock = clock
        self._pace = Pace(store, self._accounts, clock)
        self._steps = Steps(store, assets, wire, self._accounts, clock, self._pace, changed, self.bell)
        self._held: set[str] = set()

    async def run(self) -> None:
        """Work until cancelled; a submit that has left still gets a few seconds for its answer."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_leases)
            while True:
                try:
                    claim = self._claim() if len(self._held) < MAX_STEPS_AT_ONCE else None
                    if claim:
                        tasks.start_soon(self._work, claim)
                        continue
                    for name in self._accounts:
                        if self._pace.sweep_is_due(name):
                            tasks.start_soon(self.sweep, name)
                    idle_s = self._idle_s()
                except errors.Outage as error:
                    log.warning("nothing can be claimed: %s", error.message)
                    idle_s = OTHERS_LOOK_S
                await self._clock.wait(self.bell, idle_s)

    async def step(self) -> bool:
        """Do the one step that is most urgent now; return whether there was one."""
        claim = self._claim()
        if claim:
            await self._work(claim)
        return claim is not None

    def next_due(self) -> datetime | None:
        """Return when there will be a step to do, as far as it is known."""
        now, limits = self._clock.now(), self._pace.limits()
        return self._store.next_due(now=now, providers=list(limits), max_running=limits)

    async def sweep(self, name: str) -> None:
        """Ask a provider once which of all running predictions have ended, and poll just those.

        It is a hint, never an answer: the single poll decides, and goes on by itself when the list does not help.
        """
        account = self._accounts[name]
        assert account.provider.finished
        tickets = self._store.running_tickets(name)
        try:
            ended = await self._wire.run(account, account.provider.finished(tickets))
        except errors.TriptychError as error:
            log.info("the list of %s is not to be had: %s", name, error.message)
            self._pace.sweep_failed(name)
            return
        if ended:
            self._store.poll_now(name, [ticket for ticket in tickets if ticket in ended], self._clock.now())
            self.bell.ring()

    def sweep_is_due(self, name: str) -> bool:
        """Return whether enough runs at a provider to look at all of it at once, now."""
        return self._pace.sweep_is_due(name)

    def _claim(self) -> Claim | None:
        lease, limits = uuid4().hex, self._pace.limits()
        claim = self._store.claim(
            now=self._clock.now(), lease=lease, lease_s=LEASE_S, providers=list(limits), max_running=limits
        )
        if claim:
            self._held.add(lease)
        return claim

    def _idle_s(self) -> float:
        due = min([at for at in (self.next_due(), self._pace.next_sweep()) if at], default=None)
        if due is None:
            return OTHERS_LOOK_S
        return min(max((due - self._clock.now()).total_seconds(), 0.01), OTHERS_LOOK_S)

    async def _keep_leases(self) -> None:
        quiet = Bell()
        while True:
            await self._clock.wait(quiet, HEARTBEAT_S)
            try:
                self._store.heartbeat(list(self._held), self._clock.now() + timedelta(seconds=LEASE_S))
            except errors.Outage as error:
                log.warning("leases were not kept: %s", error.message)

    async def _work(self, claim: Claim) -> None:
        try:
            await self._steps.advance(claim)
        except errors.Outage as error:  # the database or the disk: nothing was written, it stays as it was
            log.warning("%s waits: %s", claim.prediction.id, error.message)
            self._put_back(claim)
        except Exception:
            log.exception("%s met a bug of ours; it is tried again later", claim.prediction.id)
            self._put_back(claim)
        finally:
            self._held.discard(claim.lease)
            self.bell.ring()

    def _put_back(self, claim: Claim) -> None:
        with suppress(errors.Outage):  # else its lease runs out by itself
            self._steps.put_back(claim, LEASE_S)
