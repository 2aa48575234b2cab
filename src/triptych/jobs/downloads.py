"""Downloads the images of predictions, and stores them: decoded to the last pixel, hashed, on disk.

The error of one image is written to its output, and a later step downloads that image again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread

from triptych.core import errors
from triptych.core.clock import Clock, Notifier
from triptych.core.concurrency import unwrap_group
from triptych.core.models import Image, Output, Prediction, ReturnedImage
from triptych.images.files import ImageFiles
from triptych.jobs import file_names
from triptych.providers import FrameReceived
from triptych.providers.accounts import Account
from triptych.providers.client import ProviderClient
from triptych.storage.async_store import AsyncStore

log = logging.getLogger(__name__)


class Downloads:
    """Downloads for one store. Each stored image calls `changed` with its job's id, and notifies `notifier`."""

    def __init__(
        self,
        store: AsyncStore,
        image_files: ImageFiles,
        provider_client: ProviderClient,
        accounts: Mapping[str, Account],
        clock: Clock,
        changed: Callable[[str], None],
        notifier: Notifier,
    ) -> None:
        self._store = store
        self._files = image_files
        self._client = provider_client
        self._accounts = accounts
        self._clock = clock
        self._changed = changed
        self._notifier = notifier
        self._unstored: set[str] = set()
        """The predictions with an image that came and that our own disk or object store did not take last time."""

    async def create_output(
        self, prediction: Prediction, i: int, image: ReturnedImage, lifetime_s: float | None = None
    ) -> Output:
        """Return output number `i` (from 0) of a prediction; bytes in the response are stored."""
        lifetime_s = lifetime_s or self._accounts[prediction.provider].provider.result_lifetime_s
        expires = self._clock.now() + timedelta(seconds=lifetime_s) if lifetime_s else None
        sha256, error = None, image.error
        if image.data is not None:
            try:
                sha256 = (await self._keep(image.data)).sha256
            except errors.UnreadableImage as unreadable:
                error = f"the provider's image cannot be decoded: {unreadable.message}"
        return Output(
            job_id=prediction.job_id,
            n=prediction.first_output + i,
            prediction_id=prediction.id,
            url=image.url,
            url_expires_at=expires if image.url else None,
            sha256=sha256,
            saved_path=None,
            source=prediction.inputs,
            error=error,
            layer=image.layer,
        )

    async def store_early(self, prediction: Prediction, frame: FrameReceived, fetches: anyio.abc.TaskGroup) -> None:
        """Store the output for a frame of a stream that goes on, and start its download."""
        output = await self.create_output(prediction, frame.index, frame.output)
        await self._store.add_outputs([output], now=self._clock.now())
        self._changed(prediction.job_id)
        self._notifier.notify()
        if output.url:
            fetches.start_soon(self._fetch, prediction, output)

    async def fetch_missing(self, prediction: Prediction) -> tuple[list[Output], list[Output]]:
        """Download the missing images; return all outputs, and those that are still missing."""
        self._unstored.discard(prediction.id)
        with unwrap_group():
            async with anyio.create_task_group() as tasks:
                for output in await self._store.outputs_of(prediction.id):
                    if output.url and not output.sha256:
                        tasks.start_soon(self._fetch, prediction, output)
        outputs = await self._store.outputs_of(prediction.id)
        return outputs, [output for output in outputs if output.url and not output.sha256]

    def waits_for_storage(self, prediction: Prediction) -> bool:
        """Return whether an image came at the last `fetch_missing`, and could not be stored."""
        return prediction.id in self._unstored

    async def _fetch(self, prediction: Prediction, output: Output) -> None:
        """Download one image; an error is written to its output, and a later step tries again."""
        account = self._accounts[prediction.provider]
        assert output.url
        try:
            data = await self._client.fetch(output.url, origins=account.loopback_origins(), pool=account.provider.name)
            stored = await self._keep(data)
            await self._store.output_stored(output, stored.sha256)
            if output.url_expires_at:
                await self._store.set_copy(stored.sha256, prediction.provider, output.url, output.url_expires_at)
        except Exception as error:
            if not isinstance(error, errors.TriptychError):
                log.exception("internal error while downloading %s", output.handle)
            if isinstance(error, errors.NotStored):
                self._unstored.add(prediction.id)
                log.warning("%s is not stored yet: %s", output.handle, error.for_operator)
            message = error.message if isinstance(error, errors.TriptychError) else type(error).__name__
            with suppress(errors.Outage):
                await self._store.output_failed(output, message)
            return
        self._changed(prediction.job_id)
        self._notifier.notify()

    async def _keep(self, data: bytes) -> Image:
        """Store a result, then its row. Raises: as `ImageFiles.store_result`."""
        image = await self._files.store_result(data)
        stored = await self._store.add_image(image, self._clock.now())
        if stored.pruned_at:
            await anyio.to_thread.run_sync(self._files.confirm, [stored])
        return stored

    async def save(self, job_id: str, outputs: Sequence[Output]) -> None:
        """Copy outputs into the directory that the job's call named, if it named one."""
        seen = await self._store.seen(job_id)
        job = await self._store.job(job_id) if seen and seen.save_to else None
        if not job or not job.save_to:
            return
        for output in outputs:
            image = await self._store.image_by_sha256(output.sha256) if output.sha256 else None
            if image and not output.saved_path:
                name = file_names.of_copy(job, output.n)
                try:
                    path = await anyio.to_thread.run_sync(self._files.save, image, Path(job.save_to), name)
                except errors.TriptychError as error:
                    await self._store.warn(job_id, [f"Not saved: {error.message}"])
                    return
                except Exception as error:
                    log.exception("internal error while saving an image of %s", job_id)
                    await self._store.warn(job_id, [f"Not saved: an internal error ({type(error).__name__})."])
                    return
                await self._store.note_saved_file(path)
                await self._store.output_saved(output, str(path))
