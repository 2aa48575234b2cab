"""Advances predictions: claim one, do ONE step, write the result; again when it is due.

Rules (each is a promise of the whole product):
- A prediction is written as `submitting` before its request is sent, and its ticket right after the response.
- A submit is sent again only if it surely was not accepted, or if the provider recognises our id. Otherwise it is
  searched for (`find`); a submit that cannot be found is `uncertain`, and never repeated.
- While a prediction is polled, only the provider's decision or the deadline ends it. Its ticket is kept even then.
- A process may end between any two lines here, and another process continues: all durable state is in the store.
- Only its own cancellation ends the worker. A provider's errors never hold up the steps of other providers.

This file must not know any provider by name, nor tools and commands.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from uuid import uuid4

import anyio
import anyio.abc

from triptych.core import errors, telemetry
from triptych.core.clock import Clock, Notifier, moment
from triptych.core.models import Prediction, State
from triptych.core.states import HEARTBEAT_S, LEASE_S
from triptych.images.files import ImageFiles
from triptych.jobs.polling import Polling
from triptych.jobs.submission import Submission
from triptych.providers.accounts import Account
from triptych.providers.client import ProviderClient
from triptych.storage.async_store import AsyncStore
from triptych.storage.claims import Claim, Look, Slots
from triptych.storage.jobs import Store

log = logging.getLogger(__name__)

MAX_STEPS_AT_ONCE = 32
MAX_STEPS_PER_PROVIDER = 12
FINISH_S = 1.0
"""How long a stopping worker lets its steps go on. Work that is cut off goes on elsewhere when its lease has ended."""
TAKEN_PAUSE_S = 0.1
"""The wait after a claim that got nothing though something is due: another process has it in a transaction."""
DB_POLL_INTERVAL_S = 1.0
"""How often the database is read for changes by other processes."""


class Worker:
    """Advances every prediction whose provider is in `accounts`; several workers may share one store.

    `changed` is called with the id of each job that moved.
    """

    def __init__(
        self,
        store: AsyncStore,
        image_files: ImageFiles,
        provider_client: ProviderClient,
        accounts: Mapping[str, Account],
        clock: Clock,
        changed: Callable[[str], None],
    ) -> None:
        self.notifier = Notifier()
        """Notified when there may be a step to do, and after each step."""
        self._store = store
        self._client = provider_client
        self._accounts = {name: account for name, account in accounts.items() if account.usable}
        self._clock = clock
        self._polling = Polling(store, self._accounts, clock)
        self._submission = Submission(
            store, image_files, provider_client, self._accounts, clock, self._polling, changed, self.notifier
        )
        self._held: dict[str, Claim] = {}
        """The claims that this process works on, by prediction id."""
        self._stopping = False
        self._sweeping: set[str] = set()
        self._due_s: float | None = None
        """When the next step was due before the last `_claim`."""
        self._looked_s: float | None = None

    def stop(self) -> None:
        """Claim nothing more, and let `run` end."""
        self._stopping = True
        self.notifier.notify()

    async def run(self) -> None:
        """Work until `stop` or cancelled.

        After `stop` the steps in progress have `FINISH_S` to end. A submit that was sent gets a few more seconds for
        its response, also when cancelled.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_leases)
            while not self._stopping:
                changed = self.notifier.next
                self._looked_s = self._clock.monotonic()
                try:
                    await self._start_sweeps(tasks)  # it may make polls due
                    if await self._start_steps(tasks):
                        continue
                    idle_s = self._idle_s()
                except errors.Outage:  # the store logs it
                    idle_s = DB_POLL_INTERVAL_S
                except Exception:
                    log.exception("internal error while looking for work; the worker goes on")
                    idle_s = DB_POLL_INTERVAL_S
                await self._clock.wait(changed, idle_s)
            end_s = self._clock.monotonic() + FINISH_S
            while self._held and (left_s := end_s - self._clock.monotonic()) > 0:
                await self._clock.wait(self.notifier.next, left_s)
            tasks.cancel_scope.cancel()

    @property
    def is_alive(self) -> bool:
        """Whether the worker looks for work, and did so a short while ago."""
        return self._looked_s is not None and self._clock.monotonic() - self._looked_s < LEASE_S

    async def _start_steps(self, tasks: anyio.abc.TaskGroup) -> bool:
        claims = await self._claim(MAX_STEPS_AT_ONCE)
        for started, claim in enumerate(claims):
            try:
                tasks.start_soon(self._work, claim)
            except BaseException:
                for lost in claims[started:]:
                    self._held.pop(lost.prediction.id, None)
                raise
        return bool(claims)

    async def _start_sweeps(self, tasks: anyio.abc.TaskGroup) -> None:
        for name in self._accounts:
            if name not in self._sweeping and await self._polling.sweep_is_due(name):
                self._sweeping.add(name)
                try:
                    tasks.start_soon(self.sweep, name)
                except BaseException:
                    self._sweeping.discard(name)
                    raise

    async def step(self) -> bool:
        """Do the most urgent step; return whether there was one."""
        claims = await self._claim(1)
        for claim in claims:
            await self._work(claim)
        return bool(claims)

    async def next_due(self) -> float | None:
        """Return when the next step is due on the monotonic clock, None if none is known."""
        look = await self._store.look(now=moment(self._clock), slots=self._slots(), held=list(self._held))
        self._polling.update(look)
        return look.due_at

    async def sweep(self, name: str) -> None:
        """Ask a provider once which running predictions have ended, and poll those.

        The list is only a hint: the single poll decides, and goes on if the list does not help.
        """
        account = self._accounts[name]
        assert account.provider.finished
        try:
            try:
                tickets = await self._polling.tickets_to_sweep(name)
                ended = await self._client.run(account, account.provider.finished(sorted(tickets)))
                await self._polling.record_sweep(name, tickets, ended)
            except errors.TriptychError as error:
                log.info("the list of %s cannot be read: %s", name, error.for_operator)
                await self._polling.sweep_failed(name, error.retry_after_s)
        except Exception:
            log.exception("internal error while reading the list of %s; single polls go on", name)
            await self._polling.sweep_failed(name)
        finally:
            self._sweeping.discard(name)
            self.notifier.notify()

    async def sweep_is_due(self, name: str) -> bool:
        """Return whether to sweep a provider now."""
        await self.next_due()
        return await self._polling.sweep_is_due(name)

    def next_sweep(self) -> float | None:
        """Return when the next sweep is due on the monotonic clock, None without one."""
        return self._polling.next_sweep(except_for=self._sweeping)

    async def _claim(self, most: int) -> list[Claim]:
        slots, held, lease = self._slots(), list(self._held), uuid4().hex

        def claim_due(store: Store) -> tuple[list[Claim], Look]:
            now = moment(self._clock)
            look = store.look(now=now, slots=slots, held=held)  # an idle server takes no lock
            if look.due_at is None or look.due_at > now.mono_s:
                return [], look
            return store.claim(now=now, lease=lease, slots=slots, most=most, held=held), look

        claims, look = await self._store.run(claim_due)
        self._held.update({claim.prediction.id: claim for claim in claims})
        self._due_s, now_s = look.due_at, self._clock.monotonic()
        if not claims and look.due_at is not None and look.due_at <= now_s:
            self._due_s = now_s + TAKEN_PAUSE_S
        self._polling.update(look)
        for claim in claims:
            self._tell_lag(claim.prediction)
        return claims

    def _tell_lag(self, prediction: Prediction) -> None:
        """Tell how late a poll is. A queued prediction waits for its account; a due time of 0 has no age."""
        if prediction.state is State.RUNNING and prediction.due_at > 0:
            late_s = max(self._clock.monotonic() - prediction.due_at, 0.0)
            telemetry.value("poll_lag_s", late_s, provider=prediction.provider)

    def _slots(self) -> list[Slots]:
        """Return what this process may claim for each account."""
        if self._stopping:
            return []
        steps = Counter(claim.prediction.provider for claim in self._held.values())
        free = MAX_STEPS_AT_ONCE - len(self._held)
        return [
            Slots(one.id, name, one.provider.max_running, min(MAX_STEPS_PER_PROVIDER - steps[name], free))
            for name, one in self._accounts.items()
        ]

    def _idle_s(self) -> float:
        due = min([at for at in (self._due_s, self.next_sweep()) if at is not None], default=None)
        if due is None:
            return DB_POLL_INTERVAL_S
        return min(max(due - self._clock.monotonic(), 0.01), DB_POLL_INTERVAL_S)

    async def _keep_leases(self) -> None:
        while True:
            await self._clock.wait(anyio.Event(), HEARTBEAT_S)
            try:
                leases = [claim.lease for claim in self._held.values()]
                await self._store.heartbeat(leases, self._clock.monotonic() + LEASE_S)
            except errors.Outage:  # the store logs it
                continue
            except Exception:
                log.exception("internal error while renewing leases; the worker goes on")

    async def _work(self, claim: Claim) -> None:
        """Do one step. If its result cannot be written, the state stays, and a later claim repeats the step."""
        prediction = claim.prediction
        step = telemetry.span(
            "step",
            job_id=prediction.job_id,
            prediction_id=prediction.id,
            provider=prediction.provider,
            state=prediction.state,
        )
        try:
            with step:
                await self._submission.advance(claim)
        except errors.Outage as error:  # the database or the disk
            log.warning("%s waits: %s", claim.prediction.id, error.for_operator)
            await self._put_back(claim)
        except Exception:
            log.exception("internal error while processing %s; it is tried again later", claim.prediction.id)
            await self._put_back(claim)
        finally:
            self._held.pop(claim.prediction.id, None)
            self.notifier.notify()

    async def _put_back(self, claim: Claim) -> None:
        try:
            with anyio.CancelScope(shield=True):
                await self._store.put_back(claim, self._clock.monotonic() + LEASE_S)
        except Exception as error:
            log.info("%s cannot be released before its lease ends: %s", claim.prediction.id, error)
