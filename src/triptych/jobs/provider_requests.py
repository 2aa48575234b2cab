"""Builds the request of a prediction for its provider, with its images."""

from __future__ import annotations

from dataclasses import replace

from triptych import catalog
from triptych.core import errors
from triptych.core.clock import Clock
from triptych.core.models import Prediction, ProviderRequest, Reference
from triptych.core.offers import Offer
from triptych.images.files import ImageFiles
from triptych.jobs import callbacks
from triptych.jobs.planning import provider_request
from triptych.jobs.polling import Polling
from triptych.jobs.uploads import as_sent, upload_reference
from triptych.providers.accounts import Account
from triptych.providers.client import ProviderClient
from triptych.storage.async_store import AsyncStore


class ProviderRequests:
    """The requests of the predictions in one store."""

    def __init__(
        self, store: AsyncStore, files: ImageFiles, provider_client: ProviderClient, clock: Clock, polling: Polling
    ) -> None:
        self._store = store
        self._files = files
        self._client = provider_client
        self._clock = clock
        self._polling = polling

    async def prepare(self, account: Account, prediction: Prediction) -> ProviderRequest:
        """Return the request, with its inputs uploaded to the provider."""
        offer = self._offer(prediction)
        references: list[Reference] = []
        warnings: list[str] = []
        handles = _inputs(offer, prediction)
        for handle in handles:
            image = await self._store.image_by_handle(handle)
            if not image:
                raise errors.UnknownHandle(f"The input {handle} no longer exists.")
            reference, notes = await upload_reference(
                self._store, self._files, self._client, self._clock, account, image, of=len(handles)
            )
            references.append(reference)
            warnings += notes
        if warnings:
            await self._store.warn(prediction.job_id, warnings)
        return _provider_request(offer, account, prediction, references)

    async def as_sent(self, account: Account, prediction: Prediction) -> ProviderRequest:
        """Return a request as it was sent, to search for it or repeat it; nothing is uploaded.

        Raises: `errors.Outage` if its content is not stored.
        """
        offer = self._offer(prediction)
        images = [await self._store.image_by_handle(handle) for handle in _inputs(offer, prediction)]
        urls = prediction.sent_urls
        if len(urls) != len(images):
            raise errors.Outage("An earlier version of Triptych sent the request without storing its content.")
        references = [
            await as_sent(self._files, account, image, url, of=len(images))
            for image, url in zip(images, urls, strict=True)
        ]
        return _provider_request(offer, account, prediction, references)

    def _offer(self, prediction: Prediction) -> Offer:
        offer = self._polling.offer(prediction)
        if not offer:
            raise errors.UnknownModel(f"{prediction.provider} no longer offers {prediction.endpoint}.")
        return offer


def _inputs(offer: Offer, prediction: Prediction) -> tuple[str, ...]:
    """Return the handles of all images in the request: its inputs, then those among its parameters."""
    return (*prediction.inputs, *catalog.image_params(offer, prediction.request))


def _provider_request(
    offer: Offer, account: Account, prediction: Prediction, references: list[Reference]
) -> ProviderRequest:
    request = provider_request(
        offer,
        prediction.request,
        prediction.prompt,
        prediction.size,
        references,
        client_id=prediction.client_id,
        variation=prediction.variation,
    )
    return replace(request, callback_url=callbacks.url_of(account, prediction))
