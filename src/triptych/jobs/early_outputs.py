"""Stores the images of a stream before the stream ends."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from functools import partial
from tempfile import TemporaryFile
from typing import IO

import anyio.abc

from triptych.jobs.downloads import Downloads
from triptych.jobs.transitions import Transitions
from triptych.providers import FrameReceived
from triptych.storage.claims import Claim

log = logging.getLogger(__name__)

HELD_LIMIT_BYTES = 64 * 1024 * 1024


class EarlyOutputs:
    """Stores the frames of one stream as they arrive; a frame that cannot be stored yet is held for later.

    A full disk must not stop the reading: the stream is paid for, and its last event has the charge. Bytes are held in
    memory up to `HELD_LIMIT_BYTES`, then in the system's directory for temporary files if that has space.
    """

    def __init__(self, downloads: Downloads, claim: Claim, transitions: Transitions) -> None:
        self._downloads = downloads
        self._claim = claim
        self._transitions = transitions
        self._held: list[tuple[FrameReceived, IO[bytes] | None]] = []
        self._held_bytes = 0

    async def add(self, frame: FrameReceived, fetches: anyio.abc.TaskGroup) -> None:
        """Store a frame; hold it if that fails, or if earlier ones are held: a slow store must not stop the stream."""
        try:
            if not self._held:
                await self._downloads.store_early(self._claim.prediction, frame, fetches)
                return
        except Exception as error:
            log.warning("image %s of %s is not stored yet: %s", frame.index + 1, self._claim.prediction.id, error)
        self._held.append(self._bounded(frame))

    def _bounded(self, frame: FrameReceived) -> tuple[FrameReceived, IO[bytes] | None]:
        size = len(frame.output.data or b"")
        if self._held_bytes + size > HELD_LIMIT_BYTES and frame.output.data:
            with suppress(OSError):
                spill = TemporaryFile()  # noqa: SIM115 - closed once it is stored
                spill.write(frame.output.data)
                return replace(frame, output=replace(frame.output, data=None)), spill
        self._held_bytes += size
        return frame, None

    async def store_rest(self, fetches: anyio.abc.TaskGroup) -> None:
        """Store the held frames, again and again until the disk accepts them."""
        while self._held:
            frame, spill = self._held[0]
            if spill:
                spill.seek(0)
                frame = replace(frame, output=replace(frame.output, data=spill.read()))
            store = partial(self._downloads.store_early, self._claim.prediction, frame, fetches)
            await self._transitions.write_with_retry(self._claim, f"image {frame.index + 1}", store)
            if spill:
                spill.close()
            self._held.pop(0)
