"""One step of one prediction: submit it, find a lost submit, or continue in `completion`.

Each step gets a claim, does one thing, and writes the result. The rules are in `worker`, which calls the steps. The
process may end between any two writes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import anyio
import anyio.abc
import anyio.to_thread

from triptych.core import errors
from triptych.core.clock import Clock, Notifier, moment
from triptych.core.concurrency import unwrap_group
from triptych.core.models import Done, Failure, Pending, Prediction, ProviderRequest, Route, State
from triptych.core.states import retry_delay_s
from triptych.images.files import ImageFiles
from triptych.jobs.completion import Completion
from triptych.jobs.downloads import Downloads
from triptych.jobs.early_outputs import EarlyOutputs
from triptych.jobs.polling import Polling, age_s, slept_s
from triptych.jobs.provider_requests import ProviderRequests
from triptych.jobs.submit_gate import SubmitGate
from triptych.jobs.transitions import Transitions, fault_of
from triptych.providers import SubmitTimes
from triptych.providers.accounts import Account
from triptych.providers.client import ProviderClient
from triptych.storage.async_store import AsyncStore
from triptych.storage.base import RESTARTED
from triptych.storage.claims import Claim

log = logging.getLogger(__name__)

SHUTDOWN_GRACE_S = 8.0
"""How long a stopping process waits for the response to a submit that was sent."""
PREPARE_TRIES = 8
SUBMIT_TRIES = 10
MAX_SUBMITS_BEFORE_REROUTE = 3
LOOK_TRIES = 5
LOOK_FOR_S = 60.0
"""The search for a submit without a stored outcome goes on for this long after its first attempt."""
AMBIGUOUS_SUBMIT_WINDOW_S = 900.0
"""A submit sent within this time before a lost one could be mistaken for it."""


class Submission:
    """The steps of predictions in one store, with its image files and its connections.

    `changed` is called with the id of each job that moved; the notifier is notified when an image is stored.
    """

    def __init__(
        self,
        store: AsyncStore,
        image_files: ImageFiles,
        provider_client: ProviderClient,
        accounts: Mapping[str, Account],
        clock: Clock,
        polling: Polling,
        changed: Callable[[str], None],
        notifier: Notifier,
    ) -> None:
        self._store = store
        self._client = provider_client
        self._accounts = accounts
        self._clock = clock
        self._polling = polling
        self._requests = ProviderRequests(store, image_files, provider_client, clock, polling)
        self._transitions = Transitions(store, clock, changed)
        self._downloads = Downloads(store, image_files, provider_client, accounts, clock, changed, notifier)
        self._completion = Completion(
            store, provider_client, accounts, clock, polling, self._transitions, self._downloads
        )

    async def advance(self, claim: Claim) -> None:
        """Do the next step of a prediction by its state, and write the result.

        Raises: `errors.Outage` when nothing could be written.
        """
        match claim.prediction.state:
            case State.QUEUED:
                await self._submit(claim)
            case State.SUBMITTING:
                await self._look_for(claim)
            case State.RUNNING:
                await self._completion.poll(claim)
            case State.FETCHING:
                await self._completion.download(claim)
            case State.DONE:
                await self._completion.settle(claim)
            case other:
                raise AssertionError(f"{other} is never claimed")

    async def _submit(self, claim: Claim) -> None:
        prediction = claim.prediction
        account = self._accounts[prediction.provider]
        try:
            request = await self._requests.prepare(account, prediction)
        except (errors.Outage, errors.RateLimited) as error:
            await self._transitions.retry_later(claim, error, PREPARE_TRIES)
            return
        except errors.TriptychError as error:
            await self._transitions.end(claim, State.FAILED, fault_of(error), free=True)
            return
        except Exception as error:
            log.exception("internal error while preparing %s", prediction.id)
            await self._transitions.retry_later(claim, _internal(error), PREPARE_TRIES)
            return
        now = moment(self._clock)
        sent = await self._transitions.move(
            claim,
            State.SUBMITTING,
            wait_s=0,
            keep_lease=True,
            submitted_at=now.at,
            submitted_mono=now.mono_s,
            deadline_at=now.mono_s + account.provider.deadline_s,
            looked_mono=None,
            sent_urls=tuple(reference.url for reference in request.references),
            fault=None,
        )
        if sent and sent.prediction.state is State.SUBMITTING:  # not if its job was cancelled
            await self._send(account, sent, request)

    async def _send(self, account: Account, claim: Claim, request: ProviderRequest, *, again: bool = False) -> None:
        """Send the paid request, and write its outcome even if this process is being stopped."""
        gate = SubmitGate(self._store, claim, self._clock)
        shield, ended = anyio.CancelScope(shield=True), False

        async def limit_when_cancelled() -> None:
            """Give the submit a few more seconds. The caller that stops this process may not wait for them."""
            try:
                await anyio.sleep_forever()
            finally:
                if not ended:
                    gate.stopping = True
                    shield.deadline = anyio.current_time() + SHUTDOWN_GRACE_S
                    with anyio.CancelScope(shield=True):
                        await self._record_unanswered(claim, gate)

        with unwrap_group():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(limit_when_cancelled)
                with shield:
                    await self._send_and_write(account, claim, request, again, gate)
                ended = True
                tasks.cancel_scope.cancel()

    async def _record_unanswered(self, claim: Claim, gate: SubmitGate) -> None:
        """Store that a request was sent whose response may be lost."""
        async with gate.writing:
            if gate.left and claim.prediction.fault is None:
                with suppress(Exception):
                    await self._transitions.record_lost_response(claim, _STOPPED)
                    gate.claim = replace(claim, prediction=replace(claim.prediction, fault=_STOPPED))

    async def _send_and_write(
        self, account: Account, claim: Claim, request: ProviderRequest, again: bool, gate: SubmitGate
    ) -> None:
        async def write() -> Claim | None:
            async with gate.writing:
                return await self._write_outcome(gate.claim, outcome, again=again)

        try:
            outcome = await self._submit_and_read(account, claim, request, gate)
            moved = await self._transitions.write_with_retry(claim, "the answer", write)
        except BaseException as error:
            # Without this failure a later search takes the request for one that was never sent.
            if gate.left:
                with suppress(Exception):
                    await self._transitions.record_lost_response(claim, _lost_response(error))
            raise
        if moved and moved.prediction.state is State.FETCHING:
            await self._completion.download(moved)

    async def _submit_and_read(
        self, account: Account, claim: Claim, request: ProviderRequest, gate: SubmitGate
    ) -> Pending | Done | errors.TriptychError:
        """Send a submit, and return its outcome; early frames of a stream are stored while the stream goes on.

        A stream is read to its end even if the disk is full. If it breaks off, its frames are stored first.
        """
        outcome: Pending | Done | errors.TriptychError
        early = EarlyOutputs(self._downloads, claim, self._transitions)
        with unwrap_group():
            async with anyio.create_task_group() as fetches:
                try:
                    outcome = await self._client.run(
                        account,
                        account.provider.submit(request),
                        on_frame=lambda frame: early.add(frame, fetches),
                        before_send=gate,
                    )
                except errors.TriptychError as error:
                    outcome = error
                except Exception as error:
                    log.exception("internal error while sending %s", claim.prediction.id)
                    outcome = _internal(error) if gate.left else errors.NotSent(_internal(error).message)
                await early.store_rest(fetches)
        return outcome

    async def _write_outcome(
        self, claim: Claim, outcome: Pending | Done | errors.TriptychError, *, again: bool
    ) -> Claim | None:
        """Write the outcome of a submit; return the claim if its images are to be downloaded now."""
        match outcome:
            case Pending():
                # The provider's time counts from here: sending a large image may take long.
                now = moment(self._clock)
                accepted = replace(claim.prediction, submitted_at=now.at, submitted_mono=now.mono_s)
                return await self._completion.write_response(replace(claim, prediction=accepted), outcome)
            case Done():
                return await self._completion.write_response(claim, outcome)
            case _ if again:  # the earlier submit may have been accepted, whatever the outcome of this one
                await self._record_lost_response(claim, outcome, again)
            case errors.Refused() | errors.NotSent():
                await self._retry_or_reroute(claim, outcome)
            case errors.Outage():
                await self._record_lost_response(claim, outcome, again)
            case _:
                await self._transitions.end(claim, State.FAILED, fault_of(outcome), free=True)
        return None

    async def _retry_or_reroute(self, claim: Claim, error: errors.Refused | errors.NotSent) -> None:
        """Retry a submit that surely was not accepted, there or at the job's next route; or end it."""
        prediction = claim.prediction
        job = await self._store.job(prediction.job_id)
        routes = job.routes if job else ()
        if isinstance(error, errors.RateLimited | errors.NotSent):
            if isinstance(error, errors.RateLimited):
                await self._polling.pause_submits(
                    prediction.provider, retry_delay_s(prediction.attempts + 1, error.retry_after_s)
                )
            if prediction.attempts + 1 < (MAX_SUBMITS_BEFORE_REROUTE if routes else SUBMIT_TRIES):
                await self._transitions.retry_later(claim, error, SUBMIT_TRIES)
                return
        elif not isinstance(error, errors.KeyRejected | errors.NoFunds | errors.NotOffered):
            routes = ()  # the request itself is refused: another provider would refuse it too
        if not routes or not await self._reroute(claim, routes[0], error):
            await self._transitions.end(claim, State.FAILED, fault_of(error), free=True)

    async def _reroute(self, claim: Claim, route: Route, error: errors.TriptychError) -> bool:
        refused = self._accounts[claim.prediction.provider].provider.title
        warning = (
            f"{refused} refused before accepting ({error.kind}); sent to {route.provider} instead: {error.message}"
        )
        moved = await self._store.reroute(claim, route, warning, now=moment(self._clock))
        self._transitions.changed(claim.prediction.job_id)
        return moved

    async def _record_lost_response(self, claim: Claim, error: errors.TriptychError, again: bool) -> None:
        log.warning("the answer to %s was lost: %s", claim.prediction.id, error.for_operator)
        attempts = claim.prediction.attempts + 1 if again else 0
        moved = await self._transitions.move(
            claim, State.SUBMITTING, wait_s=retry_delay_s(attempts + 1), fault=fault_of(error), attempts=attempts
        )
        if moved is None:
            await self._transitions.record_lost_response(claim, fault_of(error))

    async def _look_for(self, claim: Claim) -> None:
        """Find the outcome of a submit whose response was lost, without paying twice."""
        prediction = claim.prediction
        account = self._accounts[prediction.provider]
        provider = account.provider
        attempts = prediction.attempts + 1
        now_s = self._clock.monotonic()
        looked_mono = now_s if prediction.looked_mono is None else prediction.looked_mono
        found, read, absent = None, False, False
        tries = LOOK_TRIES if provider.find else 0
        if provider.find:
            try:
                found = await self._find(account, prediction)
                read = absent = True
            except errors.Unclear as error:
                read = True
                log.info("looking for %s: %s", prediction.id, error.for_operator)
            except errors.TriptychError as error:
                tries = 2 * LOOK_TRIES
                log.info("looking for %s: %s", prediction.id, error.for_operator)
            except Exception:
                log.exception("internal error while looking for %s", prediction.id)
        # Without a stored failure the process may have ended before it sent the request, or may be suspended and still
        # wait for the response. With one, the request was sent and its response was lost.
        no_failure_stored = prediction.fault is None
        patient = no_failure_stored and now_s - looked_mono < LOOK_FOR_S
        if found:
            response = found
            moved = await self._transitions.write_with_retry(
                claim, "the ticket", lambda: self._completion.write_response(claim, response, found=True)
            )
            if moved and moved.prediction.state is State.FETCHING:
                await self._completion.download(moved)
        elif (read or not provider.find) and self._may_send_again(account, prediction) and attempts < 2 * LOOK_TRIES:
            await self._send(account, claim, await self._requests.as_sent(account, prediction), again=True)
        elif attempts < tries or patient:
            await self._transitions.move(
                claim, State.SUBMITTING, wait_s=retry_delay_s(attempts), attempts=attempts, looked_mono=looked_mono
            )
        elif no_failure_stored and absent:
            # The provider's list, read repeatedly for a minute, does not have it: it was not accepted.
            await self._transitions.move(claim, State.QUEUED, wait_s=0, attempts=0)
        else:
            fault = Failure(
                "uncertain",
                f"The answer to a paid request was lost, and {provider.title} has no certain record of it. "
                "Triptych does not send it again without a call that asks for it.",
                retryable=True,
            )
            await self._completion.finish_uncertain(claim, fault)

    async def _find(self, account: Account, prediction: Prediction) -> Pending | Done | None:
        provider = account.provider
        assert provider.find and prediction.submitted_at
        known = await self._store.tickets(provider.name)
        sent = SubmitTimes(prediction.submitted_at, age_s(prediction, self._clock), slept_s(prediction, self._clock))
        request = await self._requests.as_sent(account, prediction)
        found = await self._client.run(account, provider.find(request, prediction, sent, known))
        await self._require_ours(account, prediction, found)
        return found

    def _may_send_again(self, account: Account, prediction: Prediction) -> bool:
        """Return whether the provider still recognises our id of the request, so that a repetition is not paid twice.

        False for an uncertain request: asking for its status must not pay. False for a request sent before the machine
        restarted: its age is not certain.
        """
        provider = account.provider
        if provider.offline:
            return True
        if prediction.fault and prediction.fault.kind in ("uncertain", RESTARTED.kind):
            return False
        oldest_s = age_s(prediction, self._clock) + slept_s(prediction, self._clock)
        return provider.honours_ids_s is not None and oldest_s < provider.honours_ids_s

    async def _require_ours(self, account: Account, prediction: Prediction, found: Pending | None) -> None:
        """Raise `errors.Outage` if the entry may belong to another prediction, whose ticket is not written yet."""
        if not found or account.provider.honours_ids_s is not None:
            return
        assert prediction.submitted_at
        now, since = moment(self._clock), prediction.submitted_at - timedelta(seconds=AMBIGUOUS_SUBMIT_WINDOW_S)
        for other, worked_on in await self._store.submits_without_ticket(prediction, since=since, now=now):
            # Two lost requests can be mistaken for each other only if their content is the same.
            same = (other.prompt, other.inputs, other.size) == (prediction.prompt, prediction.inputs, prediction.size)
            if same and worked_on and other.fault is None:
                raise errors.Outage(f"The entry in the provider's list may belong to {other.id}.")
        if found.ticket in await self._store.tickets(account.provider.name):
            raise errors.Outage("The entry in the provider's list now belongs to another prediction.")


_STOPPED = Failure("answer_lost", "The server was stopped before the provider answered.", True)


def _internal(error: Exception) -> errors.Outage:
    return errors.Outage(f"An internal error ({type(error).__name__}) interrupted the request.")


def _lost_response(error: BaseException) -> Failure:
    if isinstance(error, Exception):
        return Failure("answer_lost", f"The provider's answer could not be written ({type(error).__name__}).", True)
    return _STOPPED
