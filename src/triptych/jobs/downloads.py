"""Downloads the images of predictions, and stores them: decoded to the last pixel, hashed, on disk.

What goes wrong with one image is written to its output, and it is fetched again later.
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
from triptych.core.models import Output, Prediction, ReturnedImage
from triptych.images.files import ImageFiles
from triptych.providers import FrameReceived
from triptych.providers.client import Account, ProviderClient
from triptych.storage.async_store import AsyncStore

log = logging.getLogger(__name__)


class Downloads:
    """The images of one store; for each one stored, `changed` is called with its job's id and `notifier` notified."""

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

    async def output(
        self, prediction: Prediction, i: int, output: ReturnedImage, lifetime_s: float | None = None
    ) -> Output:
        """Return output number `i` (from 0) of a prediction; bytes that came with the answer are stored."""
        lifetime_s = lifetime_s or self._accounts[prediction.provider].provider.result_lifetime_s
        expires = self._clock.now() + timedelta(seconds=lifetime_s) if lifetime_s else None
        sha256, error = None, output.error
        if output.data is not None:
            try:
                image = await self._files.store_result(output.data)
                sha256 = (await self._store.add_image(image, self._clock.now())).sha256
            except errors.UnreadableImage as unreadable:
                error = f"the provider's image cannot be decoded: {unreadable.message}"
        return Output(
            job_id=prediction.job_id,
            n=prediction.first_output + i,
            prediction_id=prediction.id,
            url=output.url,
            url_expires_at=expires if output.url else None,
            sha256=sha256,
            saved_path=None,
            source=prediction.inputs,
            error=error,
        )

    async def store_early(self, prediction: Prediction, came: FrameReceived, fetches: anyio.abc.TaskGroup) -> None:
        """Write down a frame of a stream that goes on, and download it meanwhile."""
        frame = await self.output(prediction, came.index, came.output)
        await self._store.add_outputs([frame], now=self._clock.now())
        self._changed(prediction.job_id)
        self._notifier.notify()
        if frame.url:
            fetches.start_soon(self._fetch, prediction, frame)

    async def fetch_missing(self, prediction: Prediction) -> tuple[list[Output], list[Output]]:
        """Fetch what is not home yet; return all frames, and those that still are not."""
        with unwrap_group():
            async with anyio.create_task_group() as tasks:
                for frame in await self._store.outputs_of(prediction.id):
                    if frame.url and not frame.sha256:
                        tasks.start_soon(self._fetch, prediction, frame)
        frames = await self._store.outputs_of(prediction.id)
        return frames, [frame for frame in frames if frame.url and not frame.sha256]

    async def _fetch(self, prediction: Prediction, frame: Output) -> None:
        """Download one image; what goes wrong is written to its frame, and it is tried again."""
        account = self._accounts[prediction.provider]
        assert frame.url
        try:
            data = await self._client.fetch(frame.url, origins=account.loopback_origins(), pool=account.provider.name)
            image = await self._files.store_result(data)
            kept = await self._store.add_image(image, self._clock.now())
            await self._store.output_stored(frame, kept.sha256)
            if frame.url_expires_at:
                await self._store.set_copy(kept.sha256, prediction.provider, frame.url, frame.url_expires_at)
        except Exception as error:
            if not isinstance(error, errors.TriptychError):
                log.exception("internal error while downloading %s", frame.handle)
            message = error.message if isinstance(error, errors.TriptychError) else type(error).__name__
            with suppress(errors.Outage):
                await self._store.output_failed(frame, message)
            return
        self._changed(prediction.job_id)
        self._notifier.notify()

    async def save(self, job_id: str, frames: Sequence[Output]) -> None:
        """Copy outputs into the directory that the job's call named, if any."""
        row = await self._store.job(job_id)
        if not row or not row.save_to:
            return
        for frame in frames:
            image = await self._store.image_by_sha256(frame.sha256) if frame.sha256 else None
            if image and not frame.saved_path:
                name = f"{job_id}-{frame.n:02d}"
                try:
                    path = await anyio.to_thread.run_sync(self._files.save, image, Path(row.save_to), name)
                except errors.TriptychError as error:
                    await self._store.warn(job_id, [f"Not saved: {error.message}"])
                    return
                except Exception as error:
                    log.exception("internal error while saving an image of %s", job_id)
                    await self._store.warn(job_id, [f"Not saved: an internal error ({type(error).__name__})."])
                    return
                await self._store.output_saved(frame, str(path))
