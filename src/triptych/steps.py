"""One step of one prediction: submit it, look for a lost submit, poll it, bring its images home, settle its charge.

Each step is handed a claim, does one thing, and writes it down. The rules are those of `engine`, which calls them; what
happens here between two writes may be lost with the process at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread

from triptych import errors
from triptych.assets import Assets
from triptych.clock import Bell, Clock
from triptych.lifecycle import retry_delay_s
from triptych.model import Done, Edit, Fault, Frame, Output, Pending, Prediction, Reference, Route, State
from triptych.pace import Pace
from triptych.providers import Came
from triptych.references import refer
from triptych.store import SETTLE_TRIES, Claim, Store
from triptych.tasks import unwrapped
from triptych.wire import Account, Wire

log = logging.getLogger(__name__)

SHUTDOWN_GRACE_S = 8.0
"""How long a stopping process still waits for the answer to a submit that has left."""
PREPARE_TRIES = 8
SUBMIT_TRIES = 10
SUBMIT_TRIES_WITH_A_WAY_OUT = 3
FETCH_TRIES = 6
LOOK_TRIES = 5
UNSENT_AFTER_S = 60.0
WRITE_TRIES = 60
SETTLE_DELAYS_S = (1.5, 4.0, 15.0, 60.0, 300.0, 1800.0)


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
        self._assets = assets
        self._wire = wire
        self._accounts = accounts
        self._clock = clock
        self._pace = pace
        self._changed = changed
        self._bell = bell

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
                await self._poll(claim)
            case State.FETCHING:
                await self._bring_home(claim)
            case State.DONE:
                await self._settle(claim)
            case other:
                raise AssertionError(f"{other} is never claimed")

    def put_back(self, claim: Claim, wait_s: float) -> None:
        """Leave a prediction as it was, to be tried again later."""
        self._move(claim, claim.prediction.state, wait_s=wait_s)

    # -- submit

    async def _submit(self, claim: Claim) -> None:
        prediction = claim.prediction
        account = self._accounts[prediction.provider]
        try:
            edit = await self._prepare(account, prediction)
        except (errors.Outage, errors.RateLimited) as error:
            self._again_later(claim, error, PREPARE_TRIES)
            return
        except errors.TriptychError as error:
            self._end(claim, State.FAILED, _fault(error), free=True)
            return
        if self._store.cancel_requested(prediction.job_id):
            self._end(claim, State.CANCELLED, Fault("cancelled", "Cancelled before it was submitted."), free=True)
            return
        now = self._clock.now()
        sent = self._move(
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
            self._end(claim, State.FAILED, _fault(error), free=True)
        else:
            await self._take(claim, answer)

    async def _sent(self, account: Account, prediction: Prediction, edit: Edit) -> Pending | Done:
        """Return the answer to a submit; frames that a stream brings early are fetched while it goes on.

        When the stream breaks off, what it brought still comes home before the error is raised.
        """
        outcome: Pending | Done | errors.TriptychError
        with unwrapped():
            async with anyio.create_task_group() as fetches:

                async def came(frame: Came) -> None:
                    await self._take_early(prediction, frame, fetches)

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
                self._pace.hold(prediction.provider, error.retry_after_s or retry_delay_s(prediction.attempts + 1))
            if prediction.attempts + 1 < (SUBMIT_TRIES_WITH_A_WAY_OUT if routes else SUBMIT_TRIES):
                self._again_later(claim, error, SUBMIT_TRIES)
                return
        elif not isinstance(error, errors.KeyRejected | errors.NoFunds | errors.NotOffered):
            routes = ()  # the request itself was refused; elsewhere it would be too
        if not routes or not self._reroute(claim, routes[0], error):
            self._end(claim, State.FAILED, _fault(error), free=True)

    def _reroute(self, claim: Claim, route: Route, error: errors.TriptychError) -> bool:
        refused = self._accounts[claim.prediction.provider].provider.title
        warning = (
            f"{refused} refused before accepting ({error.kind}); sent to {route.provider} instead: {error.message}"
        )
        moved = self._store.reroute(claim, route, warning, now=self._clock.now())
        self._changed(claim.prediction.job_id)
        return moved

    def _lose_answer(self, claim: Claim, error: errors.TriptychError, again: bool) -> None:
        log.warning("the answer to %s was lost: %s", claim.prediction.id, error.message)
        attempts = claim.prediction.attempts + 1 if again else 0
        self._move(claim, State.SUBMITTING, wait_s=retry_delay_s(attempts + 1), fault=_fault(error), attempts=attempts)

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
        repeatable = provider.client_ids or provider.offline  # the same id, or no money: it is the same request
        if not provider.find:
            if repeatable and attempts < 2 * LOOK_TRIES:
                await self._send(account, claim, await self._prepare(account, prediction), again=True)
            else:
                self._end(claim, State.UNCERTAIN, lost)
            return
        assert prediction.submitted_at
        try:
            edit = await self._prepare(account, prediction)
            known = self._store.tickets(provider.name)
            found = await self._wire.run(account, provider.find(edit, prediction, prediction.submitted_at, known))
        except errors.TriptychError as error:
            log.info("looking for %s: %s", prediction.id, error.message)
            found, enough = None, attempts >= 2 * LOOK_TRIES
            readable = unsent = False
        else:
            readable = True
            # A process that died before it heard anything may never have sent the request. When the provider's own
            # list, read again and again for a minute, does not have it, it surely was not accepted.
            unsent = prediction.fault is None
            looked_s = (self._clock.now() - prediction.submitted_at).total_seconds()
            enough = attempts >= LOOK_TRIES and (not unsent or looked_s >= UNSENT_AFTER_S)
        if found:
            await self._take(claim, found)
        elif repeatable and readable and attempts < 2 * LOOK_TRIES:
            await self._send(account, claim, edit, again=True)
        elif not enough:
            self._move(claim, State.SUBMITTING, wait_s=retry_delay_s(attempts), attempts=attempts)
        elif unsent:
            self._move(claim, State.QUEUED, wait_s=0, attempts=0)
        else:
            self._end(claim, State.UNCERTAIN, lost)

    # -- poll

    async def _poll(self, claim: Claim) -> None:
        prediction = claim.prediction
        account = self._accounts[prediction.provider]
        now = self._clock.now()
        assert account.provider.poll and prediction.ticket
        try:
            answer = await self._wire.run(account, account.provider.poll(prediction.ticket, prediction.poll_url))
        except errors.Failed as error:
            self._end(claim, State.FAILED, _fault(error), free=True)
            return
        except errors.TriptychError as error:  # an outage, however it looks: the prediction lives on
            if prediction.deadline_at and now >= prediction.deadline_at:
                self._miss_deadline(claim, error.message)
                return
            attempts = prediction.attempts + 1
            wait_s = max(retry_delay_s(attempts), self._pace.poll_wait_s(prediction))
            self._move(claim, State.RUNNING, wait_s=wait_s, attempts=attempts)
            return
        if isinstance(answer, Done):
            await self._take(claim, answer)
        elif prediction.deadline_at and now >= prediction.deadline_at:
            self._miss_deadline(claim, "it was still running when last asked")
        else:
            poll_url = answer.poll_url or prediction.poll_url
            self._move(claim, State.RUNNING, wait_s=self._pace.poll_wait_s(prediction), attempts=0, poll_url=poll_url)

    def _miss_deadline(self, claim: Claim, why: str) -> None:
        minutes = self._accounts[claim.prediction.provider].provider.deadline_s / 60
        message = f"No result within {minutes:.0f} minutes: {why} The provider's ticket is kept; get_status asks again."
        self._end(claim, State.FAILED, Fault("deadline", message, retryable=True))

    async def _take(self, claim: Claim, answer: Pending | Done) -> None:
        """Write down what the provider answered; go on to fetch where it is finished."""
        taken = await self._insist(claim, answer)
        if taken and taken.prediction.state is State.FETCHING:
            await self._bring_home(taken)

    async def _insist(self, claim: Claim, answer: Pending | Done) -> Claim | None:
        """Write an answer down, however often the disk says no: it is all that leads back to what was paid."""
        for left in reversed(range(WRITE_TRIES)):
            try:
                if isinstance(answer, Pending):
                    return self._write_ticket(claim, answer)
                return await self._write_frames(claim, answer)
            except errors.Outage as error:
                log.error("what came of %s is not written yet (%s): %s", claim.prediction.id, answer, error)
                if not left:
                    raise
                await self._clock.wait(Bell(), 1.0)
        raise AssertionError("the last try returns or raises")

    def _write_ticket(self, claim: Claim, pending: Pending) -> Claim | None:
        return self._move(
            claim,
            State.RUNNING,
            wait_s=self._pace.poll_wait_s(claim.prediction, elapsed_s=0.0),
            ticket=pending.ticket,
            poll_url=pending.poll_url,
            attempts=0,
            fault=None,
        )

    async def _write_frames(self, claim: Claim, done: Done) -> Claim | None:
        frames, warnings = await self._frames(claim.prediction, done)
        if warnings:
            self._store.warn(claim.prediction.job_id, warnings)
        return self._move(
            claim,
            State.FETCHING,
            wait_s=0,
            keep_lease=True,
            frames=frames,
            charged_usd=self._charge(claim.prediction, done),
            finished_at=self._clock.now(),
            attempts=0,
            fault=None,
        )

    def _charge(self, prediction: Prediction, done: Done) -> Decimal | None:
        """Return what the provider said it charged; one that never says charges what came, at the price quoted."""
        if done.charged_usd is not None or self._accounts[prediction.provider].provider.charge:
            return done.charged_usd
        came = sum(1 for output in done.outputs if output.url or output.data)
        return prediction.quoted_usd * came / prediction.count

    async def _frames(self, prediction: Prediction, done: Done) -> tuple[list[Frame], list[str]]:
        warnings = list(done.warnings)
        row = self._store.job(prediction.job_id)
        # In a chain the next place belongs to the next step.
        alone = row is not None and row.job.lanes * row.job.steps == 1
        outputs = done.outputs if alone else done.outputs[: prediction.count]
        frames = []
        for i, output in enumerate(outputs):
            frames.append(await self._frame(prediction, i, output, done.url_lifetime_s))
            if output.error:
                warnings.append(f"{frames[-1].handle} is missing: {output.error}")
        came = sum(1 for output in outputs if output.url or output.data)
        if came < prediction.count:
            warnings.append(f"{prediction.count} images were requested, {came} came back.")
        return frames, warnings

    async def _frame(self, prediction: Prediction, i: int, output: Output, lifetime_s: float | None = None) -> Frame:
        lifetime_s = lifetime_s or self._accounts[prediction.provider].provider.result_lifetime_s
        expires = self._clock.now() + timedelta(seconds=lifetime_s) if lifetime_s else None
        return Frame(
            job_id=prediction.job_id,
            n=prediction.first_output + i,
            prediction_id=prediction.id,
            url=output.url,
            url_expires_at=expires if output.url else None,
            sha256=await self._keep_inline(output),
            saved_path=None,
            source=prediction.inputs,
            error=output.error,
        )

    async def _take_early(self, prediction: Prediction, came: Came, fetches: anyio.abc.TaskGroup) -> None:
        """Write down a frame of a stream that goes on, and fetch it meanwhile."""
        frame = await self._frame(prediction, came.index, came.output)
        self._store.add_frames([frame], now=self._clock.now())
        self._changed(prediction.job_id)
        self._bell.ring()
        if frame.url:
            fetches.start_soon(self._fetch, prediction, frame)

    async def _keep_inline(self, output: Output) -> str | None:
        if output.data is None:
            return None
        image = await self._assets.keep(output.data)
        return self._store.add_image(image, self._clock.now()).sha256

    # -- bring home

    async def _bring_home(self, claim: Claim) -> None:
        """Fetch, verify and keep what is not home yet; then the prediction is done."""
        prediction = claim.prediction
        frames = self._store.frames_of(prediction.id)
        missing = [frame for frame in frames if frame.url and not frame.sha256]
        async with anyio.create_task_group() as tasks:
            for frame in missing:
                tasks.start_soon(self._fetch, prediction, frame)
        frames = self._store.frames_of(prediction.id)
        missing = [frame for frame in frames if frame.url and not frame.sha256]
        attempts = prediction.attempts + 1
        if missing and attempts < FETCH_TRIES:
            self._move(claim, State.FETCHING, wait_s=retry_delay_s(attempts), attempts=attempts)
            return
        await self._save(prediction.job_id, frames)
        if missing:
            message = (
                f"{len(missing)} finished image(s) could not be fetched: {missing[0].error} The URL is reported; "
                "get_status tries again."
            )
            self._end(claim, State.FAILED, Fault("fetch_failed", message, retryable=True))
        elif not any(frame.sha256 for frame in frames):
            reason = next((frame.error for frame in frames if frame.error), "the provider returned no images")
            self._end(claim, State.FAILED, Fault("failed", f"No image came: {reason}"))
        else:
            settled = self._accounts[prediction.provider].provider.charge is None
            self._move(
                claim, State.DONE, wait_s=SETTLE_DELAYS_S[0], attempts=SETTLE_TRIES if settled else 0, fault=None
            )

    async def _fetch(self, prediction: Prediction, frame: Frame) -> None:
        account = self._accounts[prediction.provider]
        assert frame.url
        try:
            data = await self._wire.fetch(frame.url, origins=account.loopback_origins())
            image = await self._assets.keep(data)
        except errors.TriptychError as error:
            self._store.frame_failed(frame, error.message)
            return
        now = self._clock.now()
        kept = self._store.add_image(image, now)
        self._store.frame_home(frame, kept.sha256)
        if frame.url_expires_at:
            self._store.set_copy(kept.sha256, prediction.provider, frame.url, frame.url_expires_at)
        self._changed(prediction.job_id)
        self._bell.ring()

    async def _save(self, job_id: str, frames: Sequence[Frame]) -> None:
        row = self._store.job(job_id)
        if not row or not row.job.save_to:
            return
        for frame in frames:
            image = self._store.image_by_sha256(frame.sha256) if frame.sha256 else None
            if image and not frame.saved_path:
                name = f"{job_id}-{frame.n:02d}"
                try:
                    path = await anyio.to_thread.run_sync(self._assets.save, image, Path(row.job.save_to), name)
                except errors.TriptychError as error:
                    self._store.warn(job_id, [f"Not saved: {error.message}"])
                    return
                self._store.frame_saved(frame, str(path))

    async def _settle(self, claim: Claim) -> None:
        """Pick up a charge that the provider tells late."""
        prediction = claim.prediction
        account = self._accounts[prediction.provider]
        attempts = prediction.attempts + 1
        charged = None
        assert prediction.ticket
        if account.provider.charge:
            try:
                charged = await self._wire.run(account, account.provider.charge(prediction.ticket, prediction.poll_url))
            except errors.TriptychError as error:
                log.info("the charge of %s is not known yet: %s", prediction.id, error.message)
        wait_s = SETTLE_DELAYS_S[min(attempts, len(SETTLE_DELAYS_S) - 1)]
        self._move(claim, State.DONE, wait_s=wait_s, attempts=attempts, charged_usd=charged)

    # -- what a step needs

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

    # -- writing down

    def _move(self, claim: Claim, state: State, *, wait_s: float, free: bool = False, **changes: Any) -> Claim | None:
        now = self._clock.now()
        moved = self._store.move(
            claim, state, now=now, due_at=now + timedelta(seconds=wait_s), release_money=free, **changes
        )
        if moved is None:
            log.warning("%s was taken over by another process", claim.prediction.id)
        self._changed(claim.prediction.job_id)
        return moved

    def _end(self, claim: Claim, state: State, fault: Fault, *, free: bool = False) -> None:
        self._move(claim, state, wait_s=0, free=free, fault=fault, finished_at=self._clock.now())

    def _again_later(self, claim: Claim, error: errors.TriptychError, tries: int) -> None:
        """Queue what surely was not accepted once more, or give up after so many tries."""
        attempts = claim.prediction.attempts + 1
        if attempts >= tries:
            self._end(claim, State.FAILED, _fault(error), free=True)
            return
        wish_s = error.retry_after_s if isinstance(error, errors.RateLimited) else None
        self._move(claim, State.QUEUED, wait_s=retry_delay_s(attempts, wish_s), attempts=attempts, fault=_fault(error))


async def _limit_when_cancelled(shield: anyio.CancelScope) -> None:
    """Give a shielded submit a few more seconds once the process is being stopped."""
    try:
        await anyio.sleep_forever()
    finally:
        shield.deadline = anyio.current_time() + SHUTDOWN_GRACE_S


def _fault(error: errors.TriptychError) -> Fault:
    return Fault(error.kind, error.message, error.retryable, error.request_id)
