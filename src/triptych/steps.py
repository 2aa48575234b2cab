"""One step of one prediction: submit it, look for a lost submit, or take up what comes back (`arrivals`).

Each step is handed a claim, does one thing, and writes it down. The rules are those of `engine`, which calls them; what
happens here between two writes may be lost with the process at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta

import anyio
import anyio.abc
import anyio.to_thread

from triptych import errors
from triptych.arrivals import Arrivals
from triptych.assets import Assets
from triptych.clock import Bell, Clock
from triptych.lifecycle import retry_delay_s
from triptych.model import Done, Edit, Fault, Pending, Prediction, Reference, Route, State
from triptych.notes import Notes, fault_of
from triptych.pace import Pace
from triptych.providers import Came, Sent
from triptych.references import refer
from triptych.store import Claim, Store
from triptych.tasks import unwrapped
from triptych.wire import Account, Wire

log = logging.getLogger(__name__)

SHUTDOWN_GRACE_S = 8.0
"""How long a stopping process still waits for the answer to a submit that has left."""
PREPARE_TRIES = 8
SUBMIT_TRIES = 10
SUBMIT_TRIES_WITH_A_WAY_OUT = 3
LOOK_TRIES = 5
UNSENT_AFTER_S = 60.0
RIVALS_WITHIN_S = 900.0
"""So long before a lost submit another one can have left whose answer is taken for it."""


class Steps:
    """The steps, over one store, one set of files and one set of connections.

    `changed` is told the id of each job that moved; the bell is rung when an image came home.
    """

    def __init__(
        self,
        store: Store,
        assets: Assets,
        wire: Wire,
        accounts: Mapping[str, Account],
        clock: Clock,
        pace: Pace,
        changed: Callable[[str], None],
        bell: Bell,
    ) -> None:
        self._store = store
        self._wire = wire
        self._accounts = accounts
        self._clock = clock
        self._pace = pace
        self._notes = Notes(store, clock, changed)
        self._arrivals = Arrivals(store, assets, wire, accounts, clock, pace, self._notes, bell)

    async def advance(self, claim: Claim) -> None:
        """Do the one step that the prediction's state calls for, and write down what came of it.

        Raises: `errors.Outage` when nothing could be written.
        """
        match claim.prediction.state:
            case State.QUEUED:
                await self._submit(claim)
            case State.SUBMITTING:
                await self._look_for(claim)
            case State.RUNNING:
                await self._arrivals.poll(claim)
            case State.FETCHING:
                await self._arrivals.bring_home(claim)
            case State.DONE:
                await self._arrivals.settle(claim)
            case other:
                raise AssertionError(f"{other} is never claimed")

    def put_back(self, claim: Claim, wait_s: float) -> None:
        """Leave a prediction as it was, to be tried again later."""
        self._notes.move(claim, claim.prediction.state, wait_s=wait_s)

    async def _submit(self, claim: Claim) -> None:
        prediction = claim.prediction
        account = self._accounts[prediction.provider]
        try:
            edit = await self._prepare(account, prediction)
        except (errors.Outage, errors.RateLimited) as error:
            self._notes.again_later(claim, error, PREPARE_TRIES)
            return
        except errors.TriptychError as error:
            self._notes.end(claim, State.FAILED, fault_of(error), free=True)
            return
        if self._store.cancel_requested(prediction.job_id):
            self._notes.end(claim, State.CANCELLED, Fault("cancelled", "Cancelled before it was submitted."), free=True)
            return
        now = self._clock.now()
        sent = self._notes.move(
            claim,
            State.SUBMITTING,
            wait_s=0,
            keep_lease=True,
            submitted_at=now,
            deadline_at=now + timedelta(seconds=account.provider.deadline_s),
            fault=None,
        )
        if sent:
            await self._send(account, sent, edit)

    async def _send(self, account: Account, claim: Claim, edit: Edit, *, again: bool = False) -> None:
        """Send the request that costs money, and write down what came of it even if this process is being stopped."""
        with unwrapped():
            async with anyio.create_task_group() as tasks:
                shield = anyio.CancelScope(shield=True)
                tasks.start_soon(_limit_when_cancelled, shield)
                with shield:
                    await self._send_and_write(account, claim, edit, again)
                tasks.cancel_scope.cancel()

    async def _send_and_write(self, account: Account, claim: Claim, edit: Edit, again: bool) -> None:
        try:
            answer = await self._sent(account, claim.prediction, edit)
        except (errors.Refused, errors.NotSent) as error:
            if again:  # this try was not accepted, but the one before may have been
                self._lose_answer(claim, error, again)
            else:
                self._refused(claim, error)
        except errors.Outage as error:
            self._lose_answer(claim, error, again)
        except errors.TriptychError as error:
            self._notes.end(claim, State.FAILED, fault_of(error), free=True)
        else:
            await self._arrivals.take(claim, answer)

    async def _sent(self, account: Account, prediction: Prediction, edit: Edit) -> Pending | Done:
        """Return the answer to a submit; frames that a stream brings early are fetched while it goes on.

        When the stream breaks off, what it brought still comes home before the error is raised.
        """
        outcome: Pending | Done | errors.TriptychError
        with unwrapped():
            async with anyio.create_task_group() as fetches:

                async def came(frame: Came) -> None:
                    await self._arrivals.take_early(prediction, frame, fetches)

                try:
                    outcome = await self._wire.run(account, account.provider.submit(edit), came=came)
                except errors.TriptychError as error:
                    outcome = error
        if isinstance(outcome, errors.TriptychError):
            raise outcome
        return outcome

    def _refused(self, claim: Claim, error: errors.Refused | errors.NotSent) -> None:
        """Try what surely was not accepted again, there or at the next provider of the job's routes; or give up."""
        prediction = claim.prediction
        row = self._store.job(prediction.job_id)
        routes = row.job.routes if row else ()
        if isinstance(error, errors.RateLimited | errors.NotSent):
            if isinstance(error, errors.RateLimited):
                self._pace.hold(prediction.provider, retry_delay_s(prediction.attempts + 1, error.retry_after_s))
            if prediction.attempts + 1 < (SUBMIT_TRIES_WITH_A_WAY_OUT if routes else SUBMIT_TRIES):
                self._notes.again_later(claim, error, SUBMIT_TRIES)
                return
        elif not isinstance(error, errors.KeyRejected | errors.NoFunds | errors.NotOffered):
            routes = ()  # the request itself was refused; elsewhere it would be too
        if not routes or not self._reroute(claim, routes[0], error):
            self._notes.end(claim, State.FAILED, fault_of(error), free=True)

    def _reroute(self, claim: Claim, route: Route, error: errors.TriptychError) -> bool:
        refused = self._accounts[claim.prediction.provider].provider.title
        warning = (
            f"{refused} refused before accepting ({error.kind}); sent to {route.provider} instead: {error.message}"
        )
        moved = self._store.reroute(claim, route, warning, now=self._clock.now())
        self._notes.changed(claim.prediction.job_id)
        return moved

    def _lose_answer(self, claim: Claim, error: errors.TriptychError, again: bool) -> None:
        log.warning("the answer to %s was lost: %s", claim.prediction.id, error.message)
        attempts = claim.prediction.attempts + 1 if again else 0
        self._notes.move(
            claim, State.SUBMITTING, wait_s=retry_delay_s(attempts + 1), fault=fault_of(error), attempts=attempts
        )

    async def _look_for(self, claim: Claim) -> None:
        """Find out what became of a submit whose answer was lost, without paying twice."""
        prediction = claim.prediction
        account = self._accounts[prediction.provider]
        provider = account.provider
        lost = Fault(
            "uncertain",
            f"The answer to a paid request was lost, and {provider.title} could not say what became of it. "
            "It is not sent again by itself.",
            retryable=True,
        )
        attempts = prediction.attempts + 1
        assert prediction.submitted_at
        sent = Sent(prediction.submitted_at, (self._clock.now() - prediction.submitted_at).total_seconds())
        # What was uncertain is only looked for again: nobody who asks how a job stands may pay for it.
        only_looked_for = prediction.fault is not None and prediction.fault.kind == lost.kind
        honoured = provider.honours_ids_s is not None and sent.age_s < provider.honours_ids_s
        repeatable = (honoured and not only_looked_for) or provider.offline
        if not provider.find and not repeatable:
            await self._arrivals.leave_uncertain(claim, lost)
            return
        found = None
        readable = unsent = False
        try:
            edit = await self._prepare(account, prediction)
            if provider.find:
                known = self._store.tickets(provider.name)
                seen = await self._wire.run(account, provider.find(edit, prediction, sent, known))
                self._require_ours(account, prediction, seen)
                found = seen
        except errors.TriptychError as error:
            log.info("looking for %s: %s", prediction.id, error.message)
            readable = isinstance(error, errors.Unclear)
            enough = attempts >= 2 * LOOK_TRIES
        else:
            readable = True
            # A process that died before it heard anything may never have sent the request. When the provider's own
            # list, read again and again for a minute, does not have it, it surely was not accepted.
            unsent = prediction.fault is None and provider.find is not None
            enough = attempts >= LOOK_TRIES and (not unsent or sent.age_s >= UNSENT_AFTER_S)
        if found:
            await self._arrivals.take(claim, found)
        elif repeatable and readable and attempts < 2 * LOOK_TRIES:
            await self._send(account, claim, edit, again=True)
        elif not enough:
            self._notes.move(claim, State.SUBMITTING, wait_s=retry_delay_s(attempts), attempts=attempts)
        elif unsent:
            self._notes.move(claim, State.QUEUED, wait_s=0, attempts=0)
        else:
            self._notes.end(claim, State.UNCERTAIN, lost)

    def _require_ours(self, account: Account, prediction: Prediction, found: Pending | None) -> None:
        """Raise `errors.Outage` when what was found may be another prediction's, whose ticket is not written (yet)."""
        if not found or account.provider.honours_ids_s is not None:
            return
        assert prediction.submitted_at
        now, since = self._clock.now(), prediction.submitted_at - timedelta(seconds=RIVALS_WITHIN_S)
        for other, worked_on in self._store.unaccounted(prediction, since=since, now=now):
            # Of requests that were both lost, one can have the other's answer if they are the same in every word.
            same = (other.prompt, other.inputs, other.size) == (prediction.prompt, prediction.inputs, prediction.size)
            if same and worked_on and other.fault is None:
                raise errors.Outage(f"What the provider's list shows may be {other.id}.")
        if found.ticket in self._store.tickets(account.provider.name):
            raise errors.Outage("What the provider's list shows belongs to another prediction by now.")

    async def _prepare(self, account: Account, prediction: Prediction) -> Edit:
        """Return the request in our words, its inputs where the provider can read them."""
        offer = self._pace.offer(prediction)
        if not offer:
            raise errors.UnknownModel(f"{prediction.provider} does not offer {prediction.endpoint} any more.")
        references: list[Reference] = []
        warnings: list[str] = []
        for handle in prediction.inputs:
            image = self._store.image_by_handle(handle)
            if not image:
                raise errors.UnknownHandle(f"The input {handle} is not here any more.")
            reference, said = await refer(
                self._store, self._wire, self._clock, account, image, of=len(prediction.inputs)
            )
            references.append(reference)
            warnings += said
        if warnings:
            self._store.warn(prediction.job_id, warnings)
        return Edit(
            offer=offer,
            prompt=prediction.prompt,
            count=prediction.count,
            size=prediction.size,
            format=prediction.format,
            references=tuple(references),
            client_id=prediction.client_id,
            variation=prediction.variation,
        )


async def _limit_when_cancelled(shield: anyio.CancelScope) -> None:
    """Give a shielded submit a few more seconds once the process is being stopped."""
    try:
        await anyio.sleep_forever()
    finally:
        shield.deadline = anyio.current_time() + SHUTDOWN_GRACE_S
