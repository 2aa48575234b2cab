"""Stores the images of a stream while it goes on."""

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
from triptych.storage.jobs import Claim

log = logging.getLogger(__name__)

HELD_LIMIT_BYTES = 64 * 1024 * 1024


class EarlyOutputs:
    """The frames of one stream, stored as they come; those that the disk does not take are held for later.

    A frame is never a reason to stop reading: the stream is paid for, and its end says more than this. Bytes are held
    in memory up to `HELD_LIMIT_BYTES`, then in the system's directory for temporary files, where that takes them.
    """

    def __init__(self, downloads: Downloads, claim: Claim, transitions: Transitions) -> None:
        self._downloads = downloads
        self._claim = claim
        self._transitions = transitions
        self._held: list[tuple[FrameReceived, IO[bytes] | None]] = []
        self._held_bytes = 0

    async def take(self, came: FrameReceived, fetches: anyio.abc.TaskGroup) -> None:
        """Store a frame if that works now; hold it otherwise."""
        try:
            await self._downloads.store_early(self._claim.prediction, came, fetches)
        except Exception as error:
            log.warning("image %s of %s is not stored yet: %s", came.index + 1, self._claim.prediction.id, error)
            self._held.append(self._bounded(came))

    def _bounded(self, came: FrameReceived) -> tuple[FrameReceived, IO[bytes] | None]:
        size = len(came.output.data or b"")
        if self._held_bytes + size > HELD_LIMIT_BYTES and came.output.data:
            with suppress(OSError):
                spill = TemporaryFile()  # noqa: SIM115 - closed once it is stored
                spill.write(came.output.data)
                return replace(came, output=replace(came.output, data=None)), spill
        self._held_bytes += size
        return came, None

    async def store_rest(self, fetches: anyio.abc.TaskGroup) -> None:
        """Store what is held, however often the disk says no."""
        while self._held:
            came, spill = self._held[0]
            if spill:
                spill.seek(0)
                came = replace(came, output=replace(came.output, data=spill.read()))
            store = partial(self._downloads.store_early, self._claim.prediction, came, fetches)
            await self._transitions.write_with_retry(self._claim, f"image {came.index + 1}", store)
            if spill:
                spill.close()
            self._held.pop(0)
