"""Images as callers name them: by handle, path, URL or data URI; looked at, saved, and kept apart from who may not.

Every outside image comes home through `Assets.bring_in` before anything else happens to it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import anyio.to_thread

from triptych import errors, views
from triptych.assets import Assets
from triptych.clock import Clock
from triptych.model import Image
from triptych.planning import Input
from triptych.results import ImageResult, Preview, Saved, SaveResult
from triptych.store import Store

MAX_SHEET_IMAGES = 40
MAX_SAVED_IMAGES = 2000

Report = Callable[[float, float, str], Awaitable[None]]
"""Told of progress: done, total, one line of text."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: further directories this caller may use, and where to report progress."""

    roots: tuple[Path, ...] = ()
    report: Report | None = None

    async def told(self, done: float, total: float, message: str) -> None:
        """Report progress, if this caller wants to hear of it."""
        if self.report:
            await self.report(done, total, message)


class Library:
    """The images of one home; `allowed_dirs` may be used by every caller."""

    def __init__(self, store: Store, assets: Assets, clock: Clock, allowed_dirs: tuple[Path, ...]) -> None:
        self._store = store
        self._assets = assets
        self._clock = clock
        self._allowed_dirs = allowed_dirs

    async def bring_in(self, items: Sequence[str], caller: Caller) -> list[Input]:
        """Return the images behind handles, paths and URLs, in order; outside ones are brought home first.

        Raises: `errors.UnknownHandle`, and as `Assets.bring_in`.
        """
        found = []
        for i, item in enumerate(items):
            text = item.strip()
            if text.startswith("triptych:"):  # a handle and nothing else
                text = unquote(text.removeprefix("triptych://images/"))
                found.append(Input(text, self.by_handle(text)))
                continue
            if text.startswith(("img_", "job_")):
                found.append(Input(text, self.by_handle(text)))
                continue
            if len(items) > 1:
                await caller.told(i, len(items), f"reading image {i + 1} of {len(items)}")
            if not text:
                raise errors.UnreadableImage(
                    "An image is an empty string; pass a handle, a path, a URL or a data: URI."
                )
            image = await self._assets.bring_in(text, self.allowed(caller))
            image = self._store.add_image(image, self._clock.now())
            found.append(Input(image.handle, image))
        return found

    def by_handle(self, handle: str) -> Image:
        """Return the image behind a handle.

        Raises: `errors.UnknownHandle`, saying what would be right.
        """
        image = self._store.image_by_handle(handle)
        if image and image.path.exists():
            return image
        if image:
            raise errors.UnknownHandle(f"The file of {handle} is gone from TRIPTYCH_HOME; upload or make it again.")
        frame = self._store.frame(handle) if handle.startswith("job_") else None
        if frame or (handle.startswith("job_") and self._store.job(handle.partition("/")[0])):
            job_id, _, n = handle.partition("/")
            if not n:
                raise errors.UnknownHandle(f'{handle} is a job; name one of its images, such as "{handle}/1".')
            raise errors.UnknownHandle(
                f'{errors.quoted(handle, 40)} is not here (yet): get_status(job_id="{job_id}") lists what the job has.'
            )
        raise errors.UnknownHandle(
            f"There is no image {errors.quoted(handle, 40)}. Handles look like img_1a2b3c4d or job_1a2b3c4d/2; "
            "list_jobs and upload_images give them out."
        )

    def allowed(self, caller: Caller) -> tuple[Path, ...]:
        """Return the directories that a caller may read and write."""
        return (*self._allowed_dirs, *caller.roots)

    def directory(self, directory: str, caller: Caller) -> Path:
        """Return a directory that a caller may write into.

        Raises: `errors.NotAllowed`.
        """
        return self._assets.allowed_directory(directory, self.allowed(caller))

    async def show(self, images: Sequence[str], caller: Caller) -> Preview:
        """Return one image as a preview, several as a labelled contact sheet; a JPEG either way.

        Raises: `errors.BadRequest` for what cannot be shown.
        """
        if not 1 <= len(images) <= MAX_SHEET_IMAGES:
            raise errors.OutOfLimits(f"view_images shows 1 to {MAX_SHEET_IMAGES} images; {len(images)} were given.")
        inputs = await self.bring_in(images, caller)
        notes = [self._note(item) for item in inputs]
        return await anyio.to_thread.run_sync(_draw, inputs, notes)

    async def save(self, images: Sequence[str], directory: str, name: str | None, caller: Caller) -> SaveResult:
        """Copy images at full resolution into an allowed directory, overwriting nothing.

        Raises: `errors.NotAllowed`, and as `bring_in`.
        """
        if not 1 <= len(images) <= MAX_SAVED_IMAGES:
            raise errors.OutOfLimits(f"save_images takes 1 to {MAX_SAVED_IMAGES} images; {len(images)} were given.")
        target = self.directory(directory, caller)
        saved = []
        for i, item in enumerate(await self.bring_in(images, caller), 1):
            stem = item.handle.replace("/", "-")
            if name:
                stem = name if len(images) == 1 else f"{name}-{i:02d}"
            path = await anyio.to_thread.run_sync(self._assets.save, item.image, target, stem)
            saved.append(Saved(handle=item.handle, path=str(path)))
        return SaveResult(saved=saved)

    async def preview(self, handle: str) -> tuple[bytes, ImageResult]:
        """Return a JPEG of at most 100 KB and the facts of the image behind a handle.

        Raises: `errors.UnknownHandle`.
        """
        image = self.by_handle(handle)
        frame = self._store.frame(handle)
        facts = views.image_of_frame(frame, image) if frame else views.image_of_upload(image)
        return await anyio.to_thread.run_sync(_preview, image.path), facts

    def _note(self, item: Input) -> str:
        frame = self._store.frame(item.handle)
        size = f"{item.image.width}x{item.image.height}"
        return f"{size} from {', '.join(frame.source)}" if frame and frame.source else size


def _draw(inputs: Sequence[Input], notes: Sequence[str]) -> Preview:
    from triptych import imaging

    if len(inputs) == 1:
        caption = f"{inputs[0].handle}, {notes[0]}"
        return Preview(jpeg=imaging.preview(inputs[0].image.path.read_bytes(), max_bytes=300_000), caption=caption)
    panels = [
        imaging.Panel(item.image.path.read_bytes(), item.handle, note) for item, note in zip(inputs, notes, strict=True)
    ]
    handles = ", ".join(item.handle for item in inputs)
    return Preview(jpeg=imaging.contact_sheet(panels), caption=f"Contact sheet, in reading order: {handles}")


def _preview(path: Path) -> bytes:
    from triptych import imaging

    return imaging.preview(path.read_bytes(), max_bytes=90_000)
