"""Access to images by handle, path, URL or data URI: import, show; each caller sees only its own images.

An outside image is first stored through `ImageFiles.import_image`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote

import anyio
import anyio.to_thread

from triptych.core import errors
from triptych.core.clock import Clock
from triptych.core.models import Image, Job, Output
from triptych.images.files import ELSEWHERE, ImageFiles, is_here
from triptych.jobs import comparison, file_links, file_names, image_preview, manifest, presenters, reading
from triptych.jobs.caller import Caller
from triptych.jobs.job_reads import job_if_visible, job_named, visible_job
from triptych.jobs.reading import Reading, Source
from triptych.jobs.results import ImageResult, Preview
from triptych.storage.async_store import AsyncStore
from triptych.storage.jobs import Store

log = logging.getLogger(__name__)

SAVE_EVERY_S = 2.0
LEAST_LIFE = timedelta(minutes=2)
"""A provider's URL that expires sooner is replaced by a signed URL, if the caller has `files_url`."""


@dataclass(frozen=True, slots=True)
class SignedFile:
    """The image of a signed URL, its signer, and the seconds until the URL expires; `files` has its bytes."""

    handle: str
    image: Image
    owner: str | None
    left_s: int
    files: ImageFiles


class ImageAccess:
    """The images of one home; `allowed_dirs` may be used by every caller."""

    def __init__(
        self,
        store: AsyncStore,
        image_files: ImageFiles,
        reading: Reading,
        clock: Clock,
        allowed_dirs: tuple[Path, ...],
    ) -> None:
        self._store = store
        self._files = image_files
        self._reading = reading
        self._clock = clock
        self._allowed_dirs = allowed_dirs

    async def import_images(
        self, items: Sequence[str], caller: Caller, places: Mapping[str, str] = MappingProxyType({})
    ) -> list[Image]:
        """Return the images behind handles, paths and URLs, in order; outside images are stored first.

        Raises: `errors.UnknownHandle`; `errors.StillReading` when the caller has waited for as long as it does; as
        `ImageFiles.import_image`. An error about an item that has one of the `places` begins with it. All unreadable
        images are named at once.
        """
        texts = [item.strip() for item in items]
        if not all(texts):
            raise errors.UnreadableImage("An image is an empty string; pass a handle, a path, a URL or a data: URI.")
        named = {text: handle for text in texts if (handle := _handle_in(text, caller)) is not None}
        objects = {text: sha256 for text in texts if (sha256 := self._files.sha256_in(text))}

        def stored(store: Store) -> dict[str, Image]:
            images = {}
            for text, sha256 in objects.items():
                image = store.image_by_sha256(sha256)
                if image and (caller.owner is None or store.owns(caller.owner, sha256)):
                    named[text] = image.handle
            for text, handle in named.items():
                with _located(text, places):
                    images[text] = self._by_handle(store, handle, caller)
            return images

        found = await self._store.run(stored)
        outside = [text for text in dict.fromkeys(texts) if text not in named]
        sources = await anyio.to_thread.run_sync(self._sources, outside, caller, places) if outside else {}
        within_s = min(caller.left_s(), caller.read_limit_s)
        read: dict[str, Image] = {}
        faults: dict[str, errors.UnreadableImage] = {}
        async with self._reading.batch(list(sources.values()), caller.owner, len(items), within_s) as batch:
            for i, text in enumerate(texts):
                if text in named or text in read:
                    continue
                if len(items) > 1:
                    await caller.report_progress(i, len(items), f"reading image {i + 1} of {len(items)}")
                try:
                    with _located(text, places):
                        if text in sources:
                            read[text] = await batch.image(sources[text])
                        else:
                            read[text] = await self._files.import_image(
                                text, self.allowed(caller), lambda sha256: self.may_use(sha256, caller)
                            )
                except errors.UnreadableImage as error:
                    faults.setdefault(text, error)
        if faults:
            raise reading.together(faults, places)
        if read:
            added = await self._store.add_images(list(read.values()), self._clock.now(), caller.owner)
            if any(image.pruned_at for image in added):
                await anyio.to_thread.run_sync(self._files.confirm, added)
                added = [replace(image, pruned_at=None) for image in added]
            found |= zip(read, added, strict=True)
        return [replace(found[text], handle=named[text]) if text in named else found[text] for text in texts]

    def _sources(self, texts: Iterable[str], caller: Caller, places: Mapping[str, str]) -> dict[str, Source]:
        """Return the source of each path and URL. A path inside our own directory and a data URI have none.

        Raises: as `ImageFiles.locate`.
        """
        allowed, sources = self.allowed(caller), dict[str, Source]()
        for text in texts:
            if text[:8].lower().startswith(("https://", "http://")):
                sources[text] = reading.source_of_url(text, caller.owner)
            elif text[:5].lower() != "data:":
                with _located(text, places):
                    real = self._files.locate(text, allowed)
                if real:
                    sources[text] = reading.source_of_file(text, real)
        return sources

    async def may_use(self, sha256: str, caller: Caller) -> bool:
        """Return whether a caller uploaded or made these bytes; the person at the machine may use all."""
        return caller.owner is None or await self._store.owns(caller.owner, sha256)

    async def by_handle(self, handle: str, caller: Caller) -> Image:
        """Return the image behind a handle.

        Raises: `errors.UnknownHandle`, also for another owner's image; its message says what is possible.
        """
        return await self._store.run(self._by_handle, handle, caller)

    def _by_handle(self, store: Store, handle: str, caller: Caller) -> Image:
        job_id, _, n = handle.partition("/")
        job = store.job(job_id) if handle.startswith("job_") else None
        image = store.image_by_handle(handle)
        if job and not caller.sees(job.owner):
            job = image = None
        elif image and not job and caller.owner is not None and not store.owns(caller.owner, image.sha256):
            image = None
        if image and is_here(image):
            return image
        if image and image.pruned_at:
            raise errors.UnknownHandle(
                f"The file of {handle} was pruned on {image.pruned_at:%Y-%m-%d}; upload a saved copy, or make it again."
            )
        if image:
            raise errors.UnknownHandle(
                f"The file of {handle} is missing in this server's TRIPTYCH_HOME. {ELSEWHERE}; else upload or make it "
                "again."
            )
        if job:
            if not n:
                raise errors.UnknownHandle(f'{handle} is a job; name one of its images, such as "{handle}/1".')
            raise errors.UnknownHandle(
                f'{errors.quoted(handle, 40)} is not here (yet): get_status(job_id="{job_id}") lists what the job has.'
            )
        raise errors.UnknownHandle(
            f"There is no image {errors.quoted(handle, 40)}. Handles look like img_1a2b3c4d or job_1a2b3c4d/2; "
            "upload_images, list_jobs and get_status return them."
        )

    def link(self, store: Store, caller: Caller) -> presenters.Link:
        """Return the `Link` of a caller: the provider's URL until it expires, then a signed URL.

        An image in an object store has a signed URL from the start, which lives longer: of this server, or of the
        store for a caller without `files_url`.
        """
        now, secret = self._clock.now(), functools.cache(store.file_secret)

        def chosen(
            image: Image, handle: str, url: str | None, expires_at: datetime | None
        ) -> tuple[str | None, datetime | None]:
            lives = url and (expires_at is None or expires_at - now > LEAST_LIFE)
            if caller.files_url:
                if lives and image.path:
                    return url, expires_at
                return self._file_link(secret(), image, handle, caller, now)
            ours = self._files.signed_url(image)
            if not ours or (lives and expires_at and expires_at >= ours[1]):
                return url, expires_at
            return ours

        return chosen

    def _file_link(self, secret: str, image: Image, handle: str, caller: Caller, now: datetime) -> tuple[str, datetime]:
        assert caller.files_url
        lifetime_s = file_links.LIFETIME_S if image.path else file_links.OBJECT_LIFETIME_S
        return file_links.make(secret, caller.files_url, handle, caller.owner, now, lifetime_s)

    async def signed_file(
        self, handle: str, until_s: int, signature: str, owners: Sequence[str | None]
    ) -> SignedFile | None:
        """Return the image of a signed URL, if one of these owners signed it and still has the image.

        For a wrong or expired signature nothing is read.
        """
        now = self._clock.now()

        def found(store: Store) -> SignedFile | None:
            for owner in file_links.signers(store.file_secret(), handle, owners, until_s, signature, now):
                with suppress(errors.UnknownHandle):
                    image = self._by_handle(store, handle, Caller(owner=owner))
                    return SignedFile(handle, image, owner, int(until_s - now.timestamp()), self._files)
            return None

        return await self._store.run(found)

    def uploaded(self, store: Store, image: Image, hosted: tuple[str, datetime] | None, caller: Caller) -> ImageResult:
        """Return an uploaded image under its own handle; `hosted` is its URL at a provider and when that expires."""
        stored = store.image_by_sha256(image.sha256) or image
        return presenters.image_of_upload(stored, hosted, link=self.link(store, caller))

    def allowed(self, caller: Caller) -> tuple[Path, ...]:
        """Return the directories that a caller may read and write."""
        return (*self._allowed_dirs, *caller.roots)

    async def directory(self, directory: str, caller: Caller) -> Path:
        """Return a directory that a caller may write into.

        Raises: `errors.NotAllowed`.
        """
        return await anyio.to_thread.run_sync(self._files.allowed_directory, directory, self.allowed(caller))

    async def show(self, images: Sequence[str], caller: Caller, *, detail: bool = False) -> Preview:
        """Return one image as a preview, several as a labelled contact sheet, a job as its set beside its sources.

        With `detail` the picture is larger. Raises: `errors.BadRequest` for an image that cannot be shown.
        """
        most = image_preview.MOST_PICTURES
        if not 1 <= len(images) <= most:
            raise errors.OutOfLimits(f"view_images shows 1 to {most} images; {len(images)} were given.")
        if len(images) == 1 and (job_id := job_named(images[0])):
            sheet = await self._store.run(_sheet_of_job, job_id, caller)
        elif compared := await self._store.run(_compared, images, caller):
            sheet = compared
        else:
            named = [handle for item in images for handle in await self._store.run(_unfolded, item, caller)]
            inputs = await self.import_images(named, caller)
            made = await self._store.run(lambda store: [_origin_of(store, image.handle) for image in inputs])
            sheet = image_preview.of_images([(i.handle, i, one) for i, one in zip(inputs, made, strict=True)])
            looks = {one.job.request.look for one in made if one}
            if len(looks) == 1 and (look := looks.pop()) and len(images) > 1:
                sheet = await self._store.run(lambda store: sheet.with_look(look, functools.partial(_stored, store)))
        return await anyio.to_thread.run_sync(image_preview.draw, sheet, self._files.bytes_of, detail)

    async def save_copies(self, job_id: str | None = None) -> None:
        """Copy the images of ended jobs into the directories that repeated calls named: of one job, or of all."""
        for ended, directory in await self._store.to_save(job_id):
            await self._save_job(ended, directory)

    async def keep_saving(self) -> None:
        """Run `save_copies` until cancelled: jobs may end, and calls may be repeated, in other processes."""
        while True:
            try:
                await self.save_copies()
            except errors.Outage:  # the store logs it
                pass
            except Exception:
                log.exception("copies for repeated calls are not saved yet; trying again")
            await self._clock.wait(anyio.Event(), SAVE_EVERY_S)

    async def _save_job(self, job_id: str, directory: str) -> None:
        """Copy a job's stored images into an allowed directory, and its manifest; an error becomes a warning."""
        job = await self._store.job(job_id)
        stored = [output for output in await self._store.outputs(job_id) if output.sha256]
        target, paths = Path(directory), dict[int, Path]()
        try:
            for output in stored:
                image = await self._store.image_by_sha256(output.sha256 or "")
                if image and job:
                    paths[output.n] = await self._saved(job, output, image, target)
            await manifest.write(self._store, self._files, job_id, target, paths)
        except errors.TriptychError as error:
            await self._store.warn(job_id, [f"Not saved: {error.message}"])
        await self._store.saved_also(job_id, directory, len(stored))

    async def _saved(self, job: Job, output: Output, image: Image, directory: Path) -> Path:
        """Return the copy of an output in a directory; make one if the job has not."""
        earlier = Path(output.saved_path) if output.saved_path else None
        if earlier and earlier.parent == directory and await anyio.to_thread.run_sync(earlier.exists):
            return earlier
        name = file_names.of_copy(job, output.n)
        path = await anyio.to_thread.run_sync(self._files.save, image, directory, name)
        await self._store.note_saved_file(path)
        return path

    async def preview(self, handle: str, caller: Caller) -> tuple[bytes, ImageResult]:
        """Return a JPEG of at most 100 KB and the facts of the image behind a handle.

        Raises: `errors.UnknownHandle`.
        """

        def facts_of(store: Store) -> tuple[Image, ImageResult]:
            image, output = self._by_handle(store, handle, caller), store.output(handle)
            link = self.link(store, caller)
            if output:
                return image, presenters.image_of_output(output, image, link)
            return image, presenters.image_of_upload(image, link=link)

        image, facts = await self._store.run(facts_of)
        data = await anyio.to_thread.run_sync(self._files.bytes_of, image)
        return await anyio.to_thread.run_sync(_preview, data), facts


def _handle_in(text: str, caller: Caller) -> str | None:
    """Return the handle that an item names, also by one of our URLs; None for an outside image."""
    if caller.files_url and text.startswith(f"{caller.files_url}/"):  # one of our signed URLs
        text = f"triptych://images/{text.removeprefix(f'{caller.files_url}/').partition('?')[0]}"
    if text.startswith("triptych:"):  # a handle and nothing else
        return unquote(text.removeprefix("triptych://images/"))
    return text if text.startswith(("img_", "job_")) else None


@contextmanager
def _located(text: str, places: Mapping[str, str]) -> Iterator[None]:
    """Put the place of an item before the message of an error about it."""
    try:
        yield
    except errors.TriptychError as error:
        if text in places and not isinstance(error, errors.StillReading):
            error.locate(places[text])
        raise


# The functions below use the plain store and may block: `AsyncStore.run` runs them.


def _sheet_of_job(store: Store, job_id: str, caller: Caller) -> image_preview.Sheet:
    job = visible_job(store, job_id, caller)
    at_home = functools.partial(_stored, store)
    return image_preview.of_job(job, store.predictions(job_id), store.outputs(job_id), at_home)


def _stored(store: Store, handle: str) -> Image | None:
    """Return the image behind a handle if its file is here."""
    image = store.image_by_handle(handle)
    return image if image and is_here(image) else None


def _unfolded(store: Store, item: str, caller: Caller) -> list[str]:
    """Return the handles of a job's images if the item names a job, else the item."""
    job_id = job_named(item)
    if not job_id or not job_if_visible(store, job_id, caller):
        return [item]
    return [output.handle for output in store.outputs(job_id) if output.sha256] or [item]


def _compared(store: Store, items: Sequence[str], caller: Caller) -> image_preview.Sheet | None:
    """Return the sheet of a comparison, if the items are jobs that made the same request on different models."""
    names = [job_named(item) for item in items]
    jobs = [job for name in names if name and (job := job_if_visible(store, name, caller))]
    return comparison.sheet(store, jobs, functools.partial(_stored, store)) if len(jobs) == len(items) else None


def _origin_of(store: Store, handle: str) -> image_preview.OutputOrigin | None:
    """Return the origin of an output; None for an upload."""
    output = store.output(handle) if handle.startswith("job_") else None
    job = store.job(output.job_id) if output else None
    if not output or not job:
        return None
    by_id = {prediction.id: prediction for prediction in store.predictions(output.job_id)}
    return image_preview.OutputOrigin(job, by_id[output.prediction_id], output)


def _preview(data: bytes) -> bytes:
    from triptych.images import processing

    return processing.preview(data, max_bytes=90_000)
