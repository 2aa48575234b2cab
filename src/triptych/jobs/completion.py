"""What comes back from a provider: a ticket, frames, a charge. Polled for, written down, downloaded, settled.

A result is a result when it is stored: downloaded, decoded to its last pixel, hashed, on disk. What a paid request
answered is written however often the disk says no.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from decimal import Decimal

from triptych.core import errors
from triptych.core.clock import Clock
from triptych.core.models import Done, Failure, Output, Pending, Prediction, State
from triptych.core.states import retry_delay_s
from triptych.jobs.downloads import Downloads
from triptych.jobs.polling import Polling
from triptych.jobs.transitions import Transitions, fault_of
from triptych.providers.client import Account, ProviderClient
from triptych.storage.async_store import AsyncStore
from triptych.storage.jobs import SETTLE_TRIES, Claim

log = logging.getLogger(__name__)

FETCH_TRIES = 6
Charge = tuple[Decimal | None, bool]
"""What was charged, as far as it is known, and whether that is an estimate."""
UNKNOWN: Charge = (None, False)
CHARGE_WARNING_RATIO = 2
"""A charge of so many times its quote is warned of."""
LATE_LOOK_S = 120.0
"""How long after an assumed end it is looked at once more."""
LATE_LOOKS = 2
SETTLE_DELAYS_S = (1.5, 4.0, 15.0, 60.0, 300.0, 1800.0)


class Completion:
    """The steps after a submit: polling, writing the answer, downloading, settling the charge."""

    def __init__(
        self,
        store: AsyncStore,
        provider_client: ProviderClient,
        accounts: Mapping[str, Account],
        clock: Clock,
        polling: Polling,
        transitions: Transitions,
        downloads: Downloads,
    ) -> None:
        self._store = store
        self._client = provider_client
        self._accounts = accounts
        self._clock = clock
        self._polling = polling
        self._transitions = transitions
        self._downloads = downloads
        self._quiet_since: dict[str, tuple[int, float]] = {}
        """How many frames an answer that may not be the end had, and since when (monotonic), by prediction.

        Frames only become more, so what this process has seen is enough: another one that polls too, or the next one,
        counts from its own first look, and waits longer at most.
        """

    async def poll(self, claim: Claim) -> None:
        """Ask how a running prediction stands; nothing but the provider's decision or the deadline ends it."""
        prediction = claim.prediction
        account = self._accounts[prediction.provider]
        now_s = self._clock.monotonic()
        # After a restart of the machine the old deadline means nothing; the prediction gets the whole time again.
        deadline_at = prediction.deadline_at or now_s + account.provider.deadline_s
        assert account.provider.poll and prediction.ticket
        try:
            answer = await self._client.run(account, account.provider.poll(prediction.ticket, prediction.poll_url))
        except errors.Failed as error:
            self._polling.ended(prediction)
            await self._transitions.end(claim, State.FAILED, fault_of(error), free=True)
            return
        except Exception as error:  # an outage, however it looks: the prediction lives on
            if not isinstance(error, errors.TriptychError):
                log.exception("internal error while polling %s", prediction.id)
            message = error.message if isinstance(error, errors.TriptychError) else type(error).__name__
            if now_s >= deadline_at:
                await self._miss_deadline(claim, message)
                return
            attempts = prediction.attempts + 1
            wish_s = error.retry_after_s if isinstance(error, errors.TriptychError) else None
            pause_s = retry_delay_s(attempts, wish_s)
            if wish_s is not None:
                await self._polling.heed(prediction.provider, pause_s)
            wait_s = max(pause_s, self._polling.poll_wait_s(prediction))
            await self._transitions.move(
                claim, State.RUNNING, wait_s=wait_s, attempts=attempts, deadline_at=deadline_at
            )
            return
        if isinstance(answer, Done) and (now_s >= deadline_at or self._is_settled(prediction, answer)):
            self._quiet_since.pop(prediction.id, None)
            self._polling.ended(prediction)
            await self.take(claim, answer)
        elif isinstance(answer, Done):
            await self._transitions.move(
                claim,
                State.RUNNING,
                wait_s=self._polling.poll_wait_s(prediction),
                attempts=0,
                deadline_at=deadline_at,
            )
        elif now_s >= deadline_at:
            await self._miss_deadline(claim, "the last poll found it still running.")
        else:
            await self._transitions.move(
                claim,
                State.RUNNING,
                wait_s=self._polling.poll_wait_s(prediction),
                attempts=0,
                poll_url=answer.poll_url or prediction.poll_url,
                deadline_at=deadline_at,
            )

    def _is_settled(self, prediction: Prediction, done: Done) -> bool:
        """Return whether no more frames are to be expected; a model that is slower than usual gets its own time."""
        if done.settle_s is None:
            return True
        now_s, came = self._clock.monotonic(), len(done.outputs)
        before, since_s = self._quiet_since.get(prediction.id, (-1, now_s))
        if came != before:
            self._quiet_since[prediction.id] = (came, now_s)
            return False
        offer = self._polling.offer(prediction)
        return now_s - since_s >= max(done.settle_s, offer.latency_s if offer else 0.0)

    async def _miss_deadline(self, claim: Claim, why: str) -> None:
        minutes = self._accounts[claim.prediction.provider].provider.deadline_s / 60
        message = f"No result within {minutes:.0f} minutes: {why} The provider's ticket is kept; get_status asks again."
        await self._transitions.end(claim, State.FAILED, Failure("deadline", message, retryable=True))

    async def take(self, claim: Claim, answer: Pending | Done) -> None:
        """Write down what the provider answered; go on to download where it is finished."""
        taken = await self._transitions.write_with_retry(claim, "the answer", lambda: self.write(claim, answer))
        if taken and taken.prediction.state is State.FETCHING:
            await self.download(taken)

    async def write(self, claim: Claim, answer: Pending | Done, *, found: bool = False) -> Claim | None:
        """Write an answer down once; return the claim as it then stands, None where another answer is there.

        With `found`, it was looked for in the provider's list, and may be another prediction's by now.
        """
        if isinstance(answer, Pending):
            return await self._write_ticket(claim, answer, found)
        return await self._write_outputs(claim, answer)

    async def _write_ticket(self, claim: Claim, pending: Pending, found: bool) -> Claim | None:
        return await self._transitions.move(
            claim,
            State.RUNNING,
            wait_s=self._polling.poll_wait_s(claim.prediction, elapsed_s=0.0),
            found=found,
            ticket=pending.ticket,
            poll_url=pending.poll_url,
            attempts=0,
            fault=None,
        )

    async def _write_outputs(self, claim: Claim, done: Done) -> Claim | None:
        frames, warnings = await self._frames(claim.prediction, done)
        # What may not have been the end is looked at once more, and its charge is known then.
        came = any(output.came for output in done.outputs)
        held = done.settle_s is not None and came
        charged, is_estimate = UNKNOWN if held else self._charge(claim.prediction, done)
        warnings += self._charge_warnings(claim.prediction, charged)
        if warnings:
            await self._store.warn(claim.prediction.job_id, warnings)
        return await self._transitions.move(
            claim,
            State.FETCHING,
            wait_s=0,
            keep_lease=True,
            frames=frames,
            charged_usd=charged,
            charge_is_estimate=is_estimate,
            finished_at=self._clock.now(),
            attempts=0,
            fault=None,
        )

    def _charge(self, prediction: Prediction, done: Done) -> Charge:
        """Return the charge and whether it is an estimate: what came, at the price quoted, where none is reported."""
        if done.charged_usd is not None or self._accounts[prediction.provider].provider.charge:
            return done.charged_usd, done.charge_is_estimate
        came = sum(1 for output in done.outputs if output.came)
        return errors.six_decimals(prediction.quoted_usd * came / prediction.count), True

    def _charge_warnings(self, prediction: Prediction, charged_usd: Decimal | None) -> list[str]:
        """Return a warning of a charge far above its quote: it counts, for it may be true, but nobody shall miss it."""
        if charged_usd is None or charged_usd <= CHARGE_WARNING_RATIO * prediction.quoted_usd:
            return []
        title = self._accounts[prediction.provider].provider.title
        return [
            f"{title} reports a charge of ${errors.format_usd(charged_usd)}; the quote was "
            f"${errors.format_usd(prediction.quoted_usd)}. The budget counts the charge; ask the provider if it "
            "is wrong."
        ]

    async def _frames(self, prediction: Prediction, done: Done) -> tuple[list[Output], list[str]]:
        warnings = list(done.warnings)
        row = await self._store.job(prediction.job_id)
        # In a chain the next place belongs to the next step.
        alone = row is not None and row.request.lanes * row.request.steps == 1
        outputs = done.outputs if alone else done.outputs[: prediction.count]
        early = {frame.n: frame for frame in await self._store.outputs_of(prediction.id)}
        frames, lost = [], 0
        for i, output in enumerate(outputs):
            frame = early.get(prediction.first_output + i) if output.handed_over else None
            if not frame:
                frame = await self._downloads.output(prediction, i, output, done.url_lifetime_s)
                frames.append(frame)
            if not (frame.url or frame.sha256):
                lost += 1
                warnings.append(f"{frame.handle} is missing: {frame.error}")
        came = len(outputs) - lost
        if came < prediction.count:
            warnings.append(f"{prediction.count} images were requested; {came} returned.")
        return frames, warnings

    async def download(self, claim: Claim) -> None:
        """Fetch, verify and keep what is not home yet; then the prediction is done."""
        prediction = claim.prediction
        frames, missing = await self._downloads.fetch_missing(prediction)
        attempts = prediction.attempts + 1
        if missing and attempts < FETCH_TRIES:
            await self._transitions.move(claim, State.FETCHING, wait_s=retry_delay_s(attempts), attempts=attempts)
            return
        await self._downloads.save(prediction.job_id, frames)
        if missing:
            message = (
                f"{len(missing)} finished image(s) could not be fetched: {missing[0].error} The URL is reported; "
                "get_status tries again."
            )
            await self._transitions.end(claim, State.FAILED, Failure("fetch_failed", message, retryable=True))
        elif not any(frame.sha256 for frame in frames):
            reason = next((frame.error for frame in frames if frame.error), "the provider's answer has no images")
            await self._transitions.end(claim, State.FAILED, Failure("failed", f"No image returned: {reason}", False))
        else:
            wait_s, attempts = SETTLE_DELAYS_S[0], 0
            if self._accounts[prediction.provider].provider.charge is None:
                wait_s, attempts = LATE_LOOK_S, SETTLE_TRIES - (LATE_LOOKS if prediction.charged_usd is None else 0)
            await self._transitions.move(claim, State.DONE, wait_s=wait_s, attempts=attempts, fault=None)

    async def finish_uncertain(self, claim: Claim, fault: Failure) -> None:
        """End a submit of which nobody can say what became; what it brought before its answer was lost comes home.

        When it brought all of its frames, nothing is uncertain: it is done, and charged at its quote.
        """
        prediction = claim.prediction
        if len(await self._store.outputs_of(prediction.id)) >= prediction.count:
            whole = await self._transitions.move(
                claim,
                State.FETCHING,
                wait_s=0,
                keep_lease=True,
                charged_usd=prediction.quoted_usd,
                charge_is_estimate=True,
                finished_at=self._clock.now(),
                attempts=0,
                fault=None,
            )
            if whole:
                await self.download(whole)
            return
        frames, missing = await self._downloads.fetch_missing(prediction)
        attempts = prediction.attempts + 1
        if missing and attempts < FETCH_TRIES:
            await self._transitions.move(claim, State.SUBMITTING, wait_s=retry_delay_s(attempts), attempts=attempts)
            return
        await self._downloads.save(prediction.job_id, frames)
        await self._transitions.end(claim, State.UNCERTAIN, fault)

    async def settle(self, claim: Claim) -> None:
        """Pick up a charge that the provider tells late, and frames that came after the end was assumed."""
        prediction = claim.prediction
        account = self._accounts[prediction.provider]
        attempts = prediction.attempts + 1
        charged, is_estimate = UNKNOWN
        assert prediction.ticket
        try:
            if account.provider.charge:
                charged = await self._client.run(
                    account, account.provider.charge(prediction.ticket, prediction.poll_url)
                )
            elif account.provider.poll:
                answer = await self._client.run(account, account.provider.poll(prediction.ticket, prediction.poll_url))
                charged, is_estimate = await self._look_again(prediction, answer)
        except errors.TriptychError as error:
            log.info("the charge of %s is not known yet: %s", prediction.id, error.message)
        except Exception:
            log.exception("internal error while asking for the charge of %s", prediction.id)
        if charged is None and not account.provider.charge and attempts >= SETTLE_TRIES:
            home = sum(1 for frame in await self._store.outputs_of(prediction.id) if frame.sha256)
            charged, is_estimate = errors.six_decimals(prediction.quoted_usd * home / prediction.count), True
        if surprise := self._charge_warnings(prediction, charged):
            await self._store.warn(prediction.job_id, surprise)
        wait_s = SETTLE_DELAYS_S[min(attempts, len(SETTLE_DELAYS_S) - 1)]
        await self._transitions.move(
            claim, State.DONE, wait_s=wait_s, attempts=attempts, charged_usd=charged, charge_is_estimate=is_estimate
        )

    async def _look_again(self, prediction: Prediction, answer: Pending | Done) -> Charge:
        """Fetch the frames that came after the end was assumed; return the charge, unknown while some are missing."""
        if isinstance(answer, Pending):
            return UNKNOWN
        known = await self._store.outputs_of(prediction.id)
        urls = {frame.url for frame in known}
        late = [output for output in answer.outputs if output.url and output.url not in urls]
        late = late[: max(prediction.count - len(known), 0)]
        if late:
            frames = [
                await self._downloads.output(prediction, len(known) + i, output, answer.url_lifetime_s)
                for i, output in enumerate(late)
            ]
            await self._store.add_outputs(frames, now=self._clock.now())
            await self._store.warn(prediction.job_id, [f"{frame.handle} arrived late." for frame in frames])
        frames, missing = await self._downloads.fetch_missing(prediction)
        await self._downloads.save(prediction.job_id, frames)
        return UNKNOWN if missing else self._charge(prediction, answer)
