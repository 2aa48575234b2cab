"""Completes a submitted prediction: poll it, write the response, download its images, settle its charge.

An image counts as a result once it is downloaded, decoded to the last pixel, hashed, and on disk or in the object
store. The response to a paid request is written again and again until the database and the disk accept it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from decimal import Decimal

from triptych.core import errors
from triptych.core.clock import Clock
from triptych.core.models import Done, Failure, Output, Pending, Prediction, State
from triptych.core.offers import Operation
from triptych.core.states import retry_delay_s
from triptych.jobs.downloads import Downloads
from triptych.jobs.polling import Polling
from triptych.jobs.transitions import Transitions, fault_of
from triptych.providers.accounts import Account
from triptych.providers.client import ProviderClient
from triptych.storage.async_store import AsyncStore
from triptych.storage.claims import SETTLE_TRIES, Claim

log = logging.getLogger(__name__)

FETCH_TRIES = 6
Charge = tuple[Decimal | None, bool]
"""The charge, None while it is unknown, and whether it is an estimate."""
UNKNOWN: Charge = (None, False)
CHARGE_WARNING_RATIO = 2
"""A charge above its quote times this ratio gives a warning."""
LATE_LOOK_S = 120.0
"""The wait before a prediction whose end was assumed is polled once more."""
LATE_LOOKS = 2
SETTLE_DELAYS_S = (1.5, 4.0, 15.0, 60.0, 300.0, 1800.0)


class Completion:
    """The steps after a submit: poll, write the response, download, settle the charge."""

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
        """By prediction id: the number of images in its latest response, and since when (monotonic) it is the same.

        For responses that may not be the last. The number only grows, so one process may count for itself: another
        process starts at its own first poll, and at most waits longer.
        """

    async def poll(self, claim: Claim) -> None:
        """Poll a running prediction. Only the provider's decision or the deadline ends it."""
        prediction = claim.prediction
        account = self._accounts[prediction.provider]
        now_s = self._clock.monotonic()
        # A restart of the machine removes the deadline: the prediction gets its whole time again.
        deadline_at = prediction.deadline_at or now_s + account.provider.deadline_s
        assert account.provider.poll and prediction.ticket
        try:
            response = await self._client.run(account, account.provider.poll(prediction.ticket, prediction.poll_url))
        except errors.Failed as error:
            self._polling.note_end(prediction)
            await self._transitions.end(claim, State.FAILED, fault_of(error), free=True)
            return
        except Exception as error:  # any other error counts as an outage: the prediction goes on
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
                await self._polling.pause_provider(prediction.provider, pause_s)
            wait_s = max(pause_s, self._polling.poll_wait_s(prediction))
            await self._transitions.move(
                claim, State.RUNNING, wait_s=wait_s, attempts=attempts, deadline_at=deadline_at
            )
            return
        if isinstance(response, Done) and (now_s >= deadline_at or self._is_settled(prediction, response)):
            self._quiet_since.pop(prediction.id, None)
            self._polling.note_end(prediction)
            await self.accept_response(claim, response)
        elif isinstance(response, Done):
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
                poll_url=response.poll_url or prediction.poll_url,
                deadline_at=deadline_at,
            )

    def _is_settled(self, prediction: Prediction, done: Done) -> bool:
        """Return whether no more images will come. A slow model gets its own `latency_s` if that is longer."""
        if done.settle_s is None:
            return True
        now_s, image_count = self._clock.monotonic(), len(done.outputs)
        known_count, since_s = self._quiet_since.get(prediction.id, (-1, now_s))
        if image_count != known_count:
            self._quiet_since[prediction.id] = (image_count, now_s)
            return False
        offer = self._polling.offer(prediction)
        return now_s - since_s >= max(done.settle_s, offer.latency_s if offer else 0.0)

    async def _miss_deadline(self, claim: Claim, why: str) -> None:
        minutes = self._accounts[claim.prediction.provider].provider.deadline_s / 60
        message = f"No result within {minutes:.0f} minutes: {why} The provider's ticket is kept; get_status asks again."
        await self._transitions.end(claim, State.FAILED, Failure("deadline", message, retryable=True))

    async def accept_response(self, claim: Claim, response: Pending | Done) -> None:
        """Write a provider's response; download the images if the prediction is finished."""
        moved = await self._transitions.write_with_retry(
            claim, "the answer", lambda: self.write_response(claim, response)
        )
        if moved and moved.prediction.state is State.FETCHING:
            await self.download(moved)

    async def write_response(self, claim: Claim, response: Pending | Done, *, found: bool = False) -> Claim | None:
        """Write a response once. Return the claim after it; None if another response is stored already.

        `found`: the response comes from the provider's list, and may belong to another prediction by now.
        """
        if isinstance(response, Pending):
            return await self._write_ticket(claim, response, found)
        return await self._write_outputs(claim, response)

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
        outputs, warnings = await self._outputs(claim.prediction, done)
        # A response that may not be the last is polled once more, and the charge is read then.
        may_grow = done.settle_s is not None and any(image.has_image for image in done.outputs)
        charged, is_estimate = UNKNOWN if may_grow else self._charge(claim.prediction, done)
        warnings += self._charge_warnings(claim.prediction, charged)
        if warnings:
            await self._store.warn(claim.prediction.job_id, warnings)
        return await self._transitions.move(
            claim,
            State.FETCHING,
            wait_s=0,
            keep_lease=True,
            outputs=outputs,
            charged_usd=charged,
            charge_is_estimate=is_estimate,
            finished_at=self._clock.now(),
            attempts=0,
            fault=None,
        )

    def _charge(self, prediction: Prediction, done: Done) -> Charge:
        """Return the charge, and whether it is an estimate.

        Where the provider reports no charge, each image in the response costs its share of the quote.
        """
        if done.charged_usd is not None or self._accounts[prediction.provider].provider.charge:
            return done.charged_usd, done.charge_is_estimate
        return _estimated_usd(prediction, sum(1 for image in done.outputs if image.has_image)), True

    def _charge_warnings(self, prediction: Prediction, charged_usd: Decimal | None) -> list[str]:
        """Return a warning if a charge is far above its quote. The budget counts the charge all the same."""
        if charged_usd is None or charged_usd <= CHARGE_WARNING_RATIO * prediction.quoted_usd:
            return []
        title = self._accounts[prediction.provider].provider.title
        return [
            f"{title} reports a charge of ${errors.format_usd(charged_usd)}; the quote was "
            f"${errors.format_usd(prediction.quoted_usd)}. The budget counts the charge; ask the provider if it "
            "is wrong."
        ]

    async def _outputs(self, prediction: Prediction, done: Done) -> tuple[list[Output], list[str]]:
        warnings = list(done.warnings)
        # In a chain the next place belongs to the next step.
        is_whole_job = prediction.request.lanes * prediction.request.steps == 1
        images = done.outputs if is_whole_job else done.outputs[: prediction.count]
        early = {output.n: output for output in await self._store.outputs_of(prediction.id)}
        outputs, missing_count = [], 0
        for i, image in enumerate(images):
            output = early.get(prediction.first_output + i) if image.handed_over else None
            if not output:
                output = await self._downloads.create_output(prediction, i, image, done.url_lifetime_s)
                outputs.append(output)
            if not (output.url or output.sha256):
                missing_count += 1
                warnings.append(f"{output.handle} is missing: {output.error}")
        image_count = len(images) - missing_count
        if image_count < prediction.count:
            warnings.append(f"{prediction.count} images were requested; {image_count} returned.")
        return outputs, warnings

    async def download(self, claim: Claim) -> None:
        """Download, verify and store the missing images; then the prediction is done."""
        prediction = claim.prediction
        outputs, missing = await self._downloads.fetch_missing(prediction)
        attempts = prediction.attempts + 1
        if missing and (attempts < FETCH_TRIES or self._downloads.waits_for_storage(prediction)):
            await self._transitions.move(claim, State.FETCHING, wait_s=retry_delay_s(attempts), attempts=attempts)
            return
        await self._downloads.save(prediction.job_id, outputs)
        if missing:
            message = (
                f"{len(missing)} finished image(s) could not be fetched: {missing[0].error} The URL is reported; "
                "get_status tries again."
            )
            await self._transitions.end(claim, State.FAILED, Failure("fetch_failed", message, retryable=True))
        elif not any(output.sha256 for output in outputs):
            reason = next((output.error for output in outputs if output.error), "the provider's answer has no images")
            await self._transitions.end(claim, State.FAILED, Failure("failed", f"No image returned: {reason}", False))
        else:
            wait_s, attempts = SETTLE_DELAYS_S[0], 0
            if self._accounts[prediction.provider].provider.charge is None:
                wait_s, attempts = LATE_LOOK_S, SETTLE_TRIES - (LATE_LOOKS if prediction.charged_usd is None else 0)
            await self._transitions.move(claim, State.DONE, wait_s=wait_s, attempts=attempts, fault=None)

    async def finish_uncertain(self, claim: Claim, fault: Failure) -> None:
        """End a submit whose outcome cannot be found; images received before the response was lost are downloaded.

        If all of its images were received, nothing is uncertain: it is done, and charged at its quote.
        """
        prediction = claim.prediction
        if len(await self._store.outputs_of(prediction.id)) >= prediction.count:
            moved = await self._transitions.move(
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
            if moved:
                await self.download(moved)
            return
        outputs, missing = await self._downloads.fetch_missing(prediction)
        attempts = prediction.attempts + 1
        if missing and (attempts < FETCH_TRIES or self._downloads.waits_for_storage(prediction)):
            await self._transitions.move(claim, State.SUBMITTING, wait_s=retry_delay_s(attempts), attempts=attempts)
            return
        await self._downloads.save(prediction.job_id, outputs)
        await self._transitions.end(claim, State.UNCERTAIN, fault)

    async def settle(self, claim: Claim) -> None:
        """Read a charge that the provider reports late, and images that came after the assumed end."""
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
                response = await self._client.run(
                    account, account.provider.poll(prediction.ticket, prediction.poll_url)
                )
                charged, is_estimate = await self._look_again(prediction, response)
        except errors.TriptychError as error:
            log.info("the charge of %s is not known yet: %s", prediction.id, error.for_operator)
        except Exception:
            log.exception("internal error while asking for the charge of %s", prediction.id)
        if charged is None and not account.provider.charge and attempts >= SETTLE_TRIES:
            stored_count = sum(1 for output in await self._store.outputs_of(prediction.id) if output.sha256)
            charged, is_estimate = _estimated_usd(prediction, stored_count), True
        if warnings := self._charge_warnings(prediction, charged):
            await self._store.warn(prediction.job_id, warnings)
        wait_s = SETTLE_DELAYS_S[min(attempts, len(SETTLE_DELAYS_S) - 1)]
        await self._transitions.move(
            claim, State.DONE, wait_s=wait_s, attempts=attempts, charged_usd=charged, charge_is_estimate=is_estimate
        )

    async def _look_again(self, prediction: Prediction, response: Pending | Done) -> Charge:
        """Download images that came after the assumed end; return the charge, unknown while one is missing."""
        if isinstance(response, Pending):
            return UNKNOWN
        known = await self._store.outputs_of(prediction.id)
        urls = {output.url for output in known}
        late = [image for image in response.outputs if image.url and image.url not in urls]
        late = late[: max(prediction.count - len(known), 0)]
        if late:
            outputs = [
                await self._downloads.create_output(prediction, len(known) + i, image, response.url_lifetime_s)
                for i, image in enumerate(late)
            ]
            await self._store.add_outputs(outputs, now=self._clock.now())
            await self._store.warn(prediction.job_id, [f"{output.handle} arrived late." for output in outputs])
        outputs, missing = await self._downloads.fetch_missing(prediction)
        await self._downloads.save(prediction.job_id, outputs)
        return UNKNOWN if missing else self._charge(prediction, response)


def _estimated_usd(prediction: Prediction, image_count: int) -> Decimal:
    """Return the list price of the images that came: each costs its share of the quote.

    Layers cost the whole quote: it is for the most layers, and some providers charge them all.
    """
    if prediction.operation is Operation.LAYERS:
        return prediction.quoted_usd
    return errors.six_decimals(prediction.quoted_usd * image_count / prediction.count)
