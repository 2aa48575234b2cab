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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import anyio.abc
import anyio.to_thread

from triptych import errors
from triptych.assets import Assets
from triptych.clock import Bell, Clock
from triptych.lifecycle import HEARTBEAT_S, LEASE_S, poll_delay_s, retry_delay_s
from triptych.model import (
    Done,
    Edit,
    Fault,
    Frame,
    Image,
    Offer,
    Output,
    Pending,
    Prediction,
    Reference,
    State,
)
from triptych.store import SETTLE_TRIES, Claim, Store
from triptych.wire import Account, Wire

log = logging.getLogger(__name__)

MAX_STEPS_AT_ONCE = 32
OTHERS_LOOK_S = 1.0
"""How often the database is looked at for what other processes wrote."""
SHUTDOWN_GRACE_S = 8.0
"""How long a stopping process still waits for the answer to a submit that has left."""
PREPARE_TRIES = 8
SUBMIT_TRIES = 10
FETCH_TRIES = 6
LOOK_TRIES = 5
UNSENT_AFTER_S = 60.0
SWEEP_FROM = 3
"""With so many predictions running at a provider, one look at its list replaces most single polls."""
SWEEP_EVERY_S = 1.5
SETTLE_DELAYS_S = (1.5, 4.0, 15.0, 60.0, 300.0, 1800.0)


@dataclass(slots=True)
class _Standing:
    """What this process knows about a provider for the moment; nothing that must survive."""

    hold_until: datetime | None = None
    next_sweep: datetime | None = None
    sweeping: bool = False


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
        self._store = store
        self._assets = assets
        self._wire = wire
        self._accounts = {name: account for name, account in accounts.items() if account.usable}
        self._clock = clock
        self._changed = changed
        self._offers = {
            (offer.provider, offer.endpoint): offer for a in accounts.values() for offer in a.provider.offers
        }
        self._held: set[str] = set()
        self._standing = {name: _Standing() for name in self._accounts}
        self.bell = Bell()
        """Rung when there may be something to do, and when something was done."""

    # -- the loop

    async def run(self) -> None:
        """Work until cancelled; a submit that has left still gets a few seconds for its answer."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_leases)
            while True:
                claim = self._claim() if len(self._held) < MAX_STEPS_AT_ONCE else None
                if claim:
                    tasks.start_soon(self._work, claim)
                else:
                    self._start_sweeps(tasks)
                    await self._clock.wait(self.bell, self._idle_s())

    async def step(self) -> bool:
        """Do the one step that is most urgent now; return whether there was one."""
        claim = self._claim()
        if claim:
            await self._work(claim)
        return claim is not None

    def next_due(self) -> datetime | None:
        """Return when there will be a step to do, as far as it is known."""
        return self._store.next_due(now=self._clock.now(), **self._who())

    def _claim(self) -> Claim | None:
        lease = uuid4().hex
        claim = self._store.claim(now=self._clock.now(), lease=lease, lease_s=LEASE_S, **self._who())
        if claim:
            self._held.add(lease)
        return claim

    def _who(self) -> dict[str, Any]:
        now = self._clock.now()
        limits = {name: account.provider.max_running for name, account in self._accounts.items()}
        for name, standing in self._standing.items():
            if standing.hold_until and standing.hold_until > now:
                limits[name] = 0
        return {"providers": list(self._accounts), "max_running": limits}

    def _idle_s(self) -> float:
        sweeps = [s.next_sweep for s in self._standing.values() if s.sweeping and s.next_sweep]
        due = min([at for at in [self.next_due(), *sweeps] if at], default=None)
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
            await self._advance(claim)
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
        try:
            self._move(claim, claim.prediction.state, wait_s=LEASE_S)
        except errors.Outage:
            pass  # its lease runs out by itself

    # -- one step

    async def _advance(self, claim: Claim) -> None:
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
        async with anyio.create_task_group() as tasks:
            shield = anyio.CancelScope(shield=True)
            tasks.start_soon(_limit_when_cancelled, shield)
            with shield:
                await self._send_and_write(account, claim, edit, again)
            tasks.cancel_scope.cancel()

    async def _send_and_write(self, account: Account, claim: Claim, edit: Edit, again: bool) -> None:
        try:
            answer = await self._wire.run(account, account.provider.submit(edit))
        except (errors.RateLimited, errors.NotSent) as error:
            if isinstance(error, errors.RateLimited):
                wish_s = error.retry_after_s or retry_delay_s(claim.prediction.attempts + 1)
                self._standing[claim.prediction.provider].hold_until = self._clock.now() + timedelta(seconds=wish_s)
            if again:  # this try was not accepted, but the one before may have been
                self._lose_answer(claim, error, again)
            else:
                self._again_later(claim, error, SUBMIT_TRIES)
        except errors.Outage as error:
            self._lose_answer(claim, error, again)
        except errors.TriptychError as error:
            self._end(claim, State.FAILED, _fault(error), free=True)
        else:
            await self._take(claim, answer)

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
        if (provider.client_ids or provider.offline) and attempts < 2 * LOOK_TRIES:
            # The same id, or no money at all: sending it again is the same request.
            await self._send(account, claim, await self._prepare(account, prediction), again=True)
            return
        if not provider.find:
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
            unsent = False
        else:
            # A process that died before it heard anything may never have sent the request. When the provider's own
            # list, read again and again for a minute, does not have it, it surely was not accepted.
            unsent = prediction.fault is None
            looked_s = (self._clock.now() - prediction.submitted_at).total_seconds()
            enough = attempts >= LOOK_TRIES and (not unsent or looked_s >= UNSENT_AFTER_S)
        if found:
            await self._take(claim, found)
        elif not enough:
            self._move(claim, State.SUBMITTING, wait_s=retry_delay_s(attempts), attempts=attempts)
        elif unsent:
            self._move(claim, State.QUEUED, wait_s=0, attempts=0)
        else:
            self._end(claim, State.UNCERTAIN, lost)

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
            wait_s = max(retry_delay_s(attempts), self._poll_wait_s(prediction))
            self._move(claim, State.RUNNING, wait_s=wait_s, attempts=attempts)
            return
        if isinstance(answer, Done):
            await self._take(claim, answer)
        elif prediction.deadline_at and now >= prediction.deadline_at:
            self._miss_deadline(claim, "it was still running when last asked")
        else:
            self._move(claim, State.RUNNING, wait_s=self._poll_wait_s(prediction), attempts=0)

    def _miss_deadline(self, claim: Claim, why: str) -> None:
        minutes = self._accounts[claim.prediction.provider].provider.deadline_s / 60
        message = f"No result within {minutes:.0f} minutes: {why} The provider's ticket is kept; get_status asks again."
        self._end(claim, State.FAILED, Fault("deadline", message, retryable=True))

    async def _take(self, claim: Claim, answer: Pending | Done) -> None:
        """Write down what the provider answered; go on to fetch where it is finished."""
        if isinstance(answer, Pending):
            prediction = claim.prediction
            self._move(
                claim,
                State.RUNNING,
                wait_s=self._poll_wait_s(prediction, elapsed_s=0.0),
                ticket=answer.ticket,
                poll_url=answer.poll_url,
                attempts=0,
                fault=None,
            )
            return
        frames, warnings = await self._frames(claim.prediction, answer)
        if warnings:
            self._store.warn(claim.prediction.job_id, warnings)
        fetching = self._move(
            claim,
            State.FETCHING,
            wait_s=0,
            keep_lease=True,
            frames=frames,
            charged_usd=answer.charged_usd,
            finished_at=self._clock.now(),
            attempts=0,
            fault=None,
        )
        if fetching:
            await self._bring_home(fetching)

    async def _frames(self, prediction: Prediction, done: Done) -> tuple[list[Frame], list[str]]:
        account = self._accounts[prediction.provider]
        lifetime_s = done.url_lifetime_s or account.provider.result_lifetime_s
        expires = self._clock.now() + timedelta(seconds=lifetime_s) if lifetime_s else None
        warnings = list(done.warnings)
        # In a chain the next place belongs to the next step.
        outputs = done.outputs if prediction.lane == 0 and prediction.step == 0 else done.outputs[: prediction.count]
        frames = []
        for i, output in enumerate(outputs):
            frames.append(
                Frame(
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
            )
            if output.error:
                warnings.append(f"{frames[-1].handle} is missing: {output.error}")
        came = sum(1 for output in outputs if output.url or output.data)
        if came < prediction.count:
            warnings.append(
                f"{prediction.count} images were requested, {came} came back; only those that came are charged, as a rule."
            )
        return frames, warnings

    async def _keep_inline(self, output: Output) -> str | None:
        if output.data is None:
            return None
        image = await self._assets.keep(output.data)
        return self._store.add_image(image, self._clock.now()).sha256

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
        self.bell.ring()

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
        references = [await self._reference(account, handle) for handle in prediction.inputs]
        return edit_of(prediction, self._offer(prediction), references)

    async def _reference(self, account: Account, handle: str) -> Reference:
        image = self._store.image_by_handle(handle)
        if not image:
            raise errors.UnknownHandle(f"The input {handle} is not here any more.")
        return await refer(self._store, self._wire, self._clock, account, image)

    def _offer(self, prediction: Prediction) -> Offer:
        offer = self._offers.get((prediction.provider, prediction.endpoint))
        if not offer:
            raise errors.UnknownModel(f"{prediction.provider} does not offer {prediction.endpoint} any more.")
        return offer

    def _poll_wait_s(self, prediction: Prediction, elapsed_s: float | None = None) -> float:
        offer = self._offers.get((prediction.provider, prediction.endpoint))
        usual = offer.latency_s + offer.latency_per_image_s * (prediction.count - 1) if offer else 15.0
        expected_s = self._store.expected_s(prediction.endpoint, prediction.count) or usual
        if elapsed_s is None:
            started = prediction.submitted_at or self._clock.now()
            elapsed_s = (self._clock.now() - started).total_seconds()
        wait_s = poll_delay_s(elapsed_s, max(expected_s, 0.5))
        return wait_s * 4 if self._standing[prediction.provider].sweeping else wait_s

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

    # -- many at once

    def _start_sweeps(self, tasks: anyio.abc.TaskGroup) -> None:
        for name in self._accounts:
            if self.sweep_is_due(name):
                tasks.start_soon(self.sweep, name)

    def sweep_is_due(self, name: str) -> bool:
        """Return whether enough runs at a provider to look at all of it at once, now."""
        account, standing = self._accounts[name], self._standing[name]
        if not account.provider.finished:
            return False
        now = self._clock.now()
        if standing.next_sweep and standing.next_sweep > now:
            return False
        standing.sweeping = len(self._store.running_tickets(name)) >= SWEEP_FROM
        if standing.sweeping:
            standing.next_sweep = now + timedelta(seconds=SWEEP_EVERY_S)
        return standing.sweeping

    async def sweep(self, name: str) -> None:
        """Ask a provider once which of all running predictions have ended, and poll just those.

        It is a hint, never an answer: the single poll decides, and goes on by itself when the list does not help.
        """
        account, standing = self._accounts[name], self._standing[name]
        assert account.provider.finished
        tickets = self._store.running_tickets(name)
        try:
            ended = await self._wire.run(account, account.provider.finished(tickets))
        except errors.TriptychError as error:
            log.info("the list of %s is not to be had: %s", name, error.message)
            standing.sweeping = False
            standing.next_sweep = self._clock.now() + timedelta(seconds=60)
            return
        if ended:
            self._store.poll_now(name, [ticket for ticket in tickets if ticket in ended], self._clock.now())
            self.bell.ring()


def edit_of(prediction: Prediction, offer: Offer, references: Sequence[Reference]) -> Edit:
    """Return a prediction as the request that its provider turns into its own words."""
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


async def refer(store: Store, wire: Wire, clock: Clock, account: Account, image: Image) -> Reference:
    """Return an image as a provider can read it: its bytes, or a URL there, uploaded if it has none.

    Raises: what the upload raises; `errors.UnreadableImage` when the file is gone.
    """
    provider = account.provider
    if provider.inline:
        return Reference(image.sha256, image.mime_type, data=await _bytes_of(image))
    known = store.copy(image.sha256, provider.name, clock.now())
    if known:
        return Reference(image.sha256, image.mime_type, url=known[0])
    assert provider.upload
    data = await _bytes_of(image)
    hosted = await wire.run(account, provider.upload(data, image.mime_type, image.path.name), tries=3)
    store.set_copy(image.sha256, provider.name, hosted.url, clock.now() + timedelta(seconds=hosted.lifetime_s))
    return Reference(image.sha256, image.mime_type, url=hosted.url)


async def _bytes_of(image: Image) -> bytes:
    try:
        return await anyio.to_thread.run_sync(image.path.read_bytes)
    except OSError as error:
        raise errors.UnreadableImage(
            f"The file of {image.handle} is gone ({error.strerror}); upload it again."
        ) from error


async def _limit_when_cancelled(shield: anyio.CancelScope) -> None:
    """Give a shielded submit a few more seconds once the process is being stopped."""
    try:
        await anyio.sleep_forever()
    finally:
        shield.deadline = anyio.current_time() + SHUTDOWN_GRACE_S


def _fault(error: errors.TriptychError) -> Fault:
    return Fault(error.kind, error.message, error.retryable, error.request_id)
