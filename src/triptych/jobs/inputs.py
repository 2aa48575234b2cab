"""Expands the items of a call before an image is read: folders, patterns, tables, looks, failed lanes of a job.

Rules: sends and writes nothing, and reads no image. A mistake is refused here. An item with a meaning of its own
(`look:NAME`, `original`, `job_…/failed`) stands for a file of that name only with its directory: `./original`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio.to_thread

from triptych.core import errors
from triptych.core.requests import ORIGINAL, Request, Row
from triptych.images import folders
from triptych.images.files import ImageFiles
from triptych.jobs import looks, retries, tables
from triptych.jobs.caller import Caller
from triptych.jobs.expanded import Expanded, source_of
from triptych.jobs.image_access import ImageAccess
from triptych.jobs.planning import MAX_REQUESTS
from triptych.jobs.table_cells import MANIFEST_LIMIT_BYTES, Mistakes, shown
from triptych.storage.async_store import AsyncStore

MOST_PICTURES = MAX_REQUESTS
"""The most pictures that the folders and patterns of one call stand for: a chain makes a request for each."""

_URLS = ("http://", "https://", "data:", "triptych:")


class Inputs:
    """Expands the items of calls to one store."""

    def __init__(self, store: AsyncStore, image_files: ImageFiles, image_access: ImageAccess) -> None:
        self._store = store
        self._files = image_files
        self._image_access = image_access

    async def expand(self, request: Request, caller: Caller) -> Expanded:
        """Return a paid call's request with every item expanded.

        Raises: `errors.BadRequest` for an item that cannot be expanded; no image was read then.
        """
        images = [item.strip() for item in request.images]
        references = [item.strip() for item in request.references]
        is_chain = request.tool == "edit_chain"
        _refuse_misplaced(images, may_be_look=request.tool == "edit_sequence", may_be_lanes=is_chain)
        _refuse_misplaced(references, may_be_look=is_chain, may_be_original=is_chain)
        failed = next(filter(retries.is_failed, images), None)
        if failed and len(images) > 1:
            raise errors.BadRequest(
                f"{errors.quoted(failed, 60)} stands for a whole request: it must be the only item of images."
            )
        if is_chain and not failed and not any(step.strip() for step in request.prompts):
            raise errors.BadRequest(
                'edit_chain needs steps: 1 to 10 instructions. Only images=["job_…/failed"] takes those of its job.'
            )
        request = await self._with_look(request, images, references, caller)
        images, references = ([one for one in items if not looks.is_look(one)] for items in (images, references))
        listed = await self._listed([*images, *references], caller)
        references = [one for item in references for one in _texts(listed.get(item, item))]
        request = replace(request, references=tuple(references))
        warnings = [listing.sentence for listing in listed.values()]
        counts = tuple(listing.count for listing in listed.values())
        if failed:
            retry = await retries.failed(self._store, failed, request, caller)
            return replace(retry, warnings=(*warnings, *retry.warnings), counts=counts)
        if not any(map(_is_table, images)):
            images = [one for item in images for one in _texts(listed.get(item, item))]
            sources = tuple(map(source_of, images))
            if is_chain and (names := [name for name in tables.columns_in(request.prompts) if name.isidentifier()]):
                warnings.append(f"{{{names[0]}}} in a step is sent as it is: only a table among the images fills it.")
            return Expanded(replace(request, images=tuple(images)), sources, tuple(warnings), counts)
        rows: list[Row] = []
        places: dict[str, str] = {}
        for item in images:
            if _is_table(item):
                table = await self._table(item, request.prompts, caller)
                rows += table.rows
                warnings += table.warnings
                places |= {text: f"{shown(item)}, {place}" for text, place in table.places.items()}
            else:
                if used := tables.columns_in(request.prompts):
                    raise errors.BadRequest(
                        f"{errors.quoted(item, 120)} has no columns, and a step has {{{used[0]}}}: name it in a row of "
                        "a table. Nothing was sent."
                    )
                rows += [Row((one,)) for one in _texts(listed.get(item, item))]
        sources = tuple(source_of(row.images[0]) if row.images else "" for row in rows)
        return Expanded(replace(request, images=(), rows=tuple(rows)), sources, tuple(warnings), counts, places)

    async def expand_items(self, items: Sequence[str], caller: Caller) -> tuple[list[str], list[str]]:
        """Return the items with the pictures of each folder, pattern and look in its place, and counts as sentences.

        Raises: as `expand`.
        """
        items = [item.strip() for item in items]
        _refuse_misplaced(items, may_be_look=True)
        listed = await self._listed(items, caller)
        of_looks = {item: (await looks.find(self._store, item, caller)).images for item in items if looks.is_look(item)}
        expanded = [one for item in items for one in of_looks.get(item) or _texts(listed.get(item, item))]
        return expanded, [listing.sentence for listing in listed.values()]

    async def _with_look(
        self, request: Request, images: Sequence[str], references: Sequence[str], caller: Caller
    ) -> Request:
        """Return the request with the look that its images or references name.

        Raises: `errors.BadRequest` for several looks, or if a set would be made from no image.
        """
        named = [item for item in (*images, *references) if looks.is_look(item)]
        if len(named) > 1:
            raise errors.BadRequest(
                f"One look is used in a call; {', '.join(errors.quoted(one, 40) for one in named[:4])} were given."
            )
        if not named:
            return request
        look = await looks.find(self._store, named[0], caller)
        if request.tool == "edit_sequence" and len(images) == 1 and not look.images:
            raise errors.BadRequest(
                f"{errors.quoted(named[0], 60)} has words and no images, and edit_sequence edits images: add an image."
            )
        return replace(request, look=look)

    async def _listed(self, items: Sequence[str], caller: Caller) -> dict[str, folders.Listing]:
        """Return the listing of each folder and pattern among the items.

        Raises: `errors.BadRequest` for one without pictures, or if all have more than `MOST_PICTURES`.
        """
        if len(items) > MOST_PICTURES:
            raise errors.OutOfLimits(
                f"{len(items)} images are too many for one call, which takes at most {MOST_PICTURES}. Nothing was read."
            )
        many = [item for item in dict.fromkeys(items) if _may_be_many(item, caller)]
        if not many:
            return {}
        allowed = self._image_access.allowed(caller)
        found = await anyio.to_thread.run_sync(folders.look_at, many, allowed, self._files.home)
        for item, listing in found.items():
            saved = await self._store.saved_among(listing.pictures)
            found[item] = listing.without({Path(path) for path in saved})
            found[item].require_some()
        number = sum(len(found[item].pictures) for item in items if item in found)
        if number > MOST_PICTURES:
            counts = ", ".join(listing.count for listing in list(found.values())[:3])
            raise errors.OutOfLimits(
                f"{number} pictures are too many for one call, which takes at most {MOST_PICTURES}: {counts}. "
                "Nothing was read. Name a part of them with a pattern."
            )
        return found

    async def _table(self, item: str, steps: Sequence[str], caller: Caller) -> tables.Table:
        """Return the rows of a table, checked and read like an image."""
        real, data = await self._files.read(
            item,
            self._image_access.allowed(caller),
            lambda sha256: self._image_access.may_use(sha256, caller),
            MANIFEST_LIMIT_BYTES,
        )

        def read() -> tables.Table:
            table = tables.read(item, data, steps, directory=str(real.parent))
            _check_pictures(table, self._files, self._image_access.allowed(caller))
            return table

        return await anyio.to_thread.run_sync(read)


def _check_pictures(table: tables.Table, files: ImageFiles, allowed: Sequence[Path]) -> None:
    """Raise `errors.BadRequest` for the paths in a table that may not be read, or where no file is: all at once."""
    faults = Mistakes(table.name)
    for item, place in table.places.items():
        if item[:5].lower() == "file:" or not tables.is_url_or_handle(item):
            try:
                files.require_file(item, allowed)
            except errors.BadRequest as error:
                faults.add(f"{place}: {error.message}")
    faults.stop()


def _refuse_misplaced(
    items: Sequence[str], *, may_be_look: bool = False, may_be_lanes: bool = False, may_be_original: bool = False
) -> None:
    """Raise `errors.BadRequest` for an item that has no meaning in this place."""
    for item in items:
        if looks.is_look(item) and not may_be_look:
            where = "goes among the references of edit_chain, or among the images of edit_sequence"
        elif retries.is_failed(item) and not may_be_lanes:
            where = "goes alone into the images of edit_chain"
        elif _is_table(item) and not may_be_lanes:
            where = "is a table, which goes into the images of edit_chain"
        elif item == ORIGINAL and not may_be_original:
            where = "goes into the references of edit_chain; a file of that name is ./original"
        else:
            continue
        raise errors.BadRequest(f"{errors.quoted(item, 80)} {where}. Nothing was sent.")


def _is_table(item: str) -> bool:
    return tables.is_table(item) and not item.lower().startswith(_URLS)


def _may_be_many(item: str, caller: Caller) -> bool:
    """Return whether an item may be a folder or a pattern: a path, and no table, look or handle."""
    if not item or item.lower().startswith(_URLS) or tables.is_table(item) or looks.is_look(item):
        return False
    if caller.files_url and item.startswith(f"{caller.files_url}/"):
        return False
    return not item.startswith(("img_", "job_")) or any(sign in item for sign in "*?[")


def _texts(item: str | folders.Listing) -> list[str]:
    """Return an item, or the path of each picture of a folder."""
    return [item] if isinstance(item, str) else list(map(str, item.pictures))
