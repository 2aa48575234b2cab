"""The use-cases behind tools and commands: what a person or an assistant can ask for.

Rules: the worker works on a job, not the call that made it; every call answers in bounded time. This file must not know
MCP, the command line or the environment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

import anyio

from triptych.core import errors
from triptych.core.clock import Clock, SystemClock, moment
from triptych.core.concurrency import unwrap_group
from triptych.core.models import Job, Output, Request, State, Status
from triptych.images.files import ImageFiles
from triptych.jobs import presenters, resumption
from triptych.jobs.image_access import Caller, ImageAccess, SignedFile
from triptych.jobs.job_creation import CreatedJob, JobCreation, ServiceConfig
from triptych.jobs.planning import MAX_LANES, Terms
from triptych.jobs.pricing import Pricing
from triptych.jobs.results import (
    ImageResult,
    JobRequest,
    JobResult,
    JobsResult,
    JobSummary,
    ModelsResult,
    Preview,
    SaveResult,
    SpendResult,
    UploadResult,
)
from triptych.jobs.uploads import upload_reference
from triptych.jobs.worker import Worker
from triptych.providers.client import ProviderClient
from triptych.storage.async_store import AsyncStore, Hop, one_thread
from triptych.storage.jobs import Store

__all__ = ["Caller", "ImageService", "Request", "ServiceConfig", "SignedFile", "Terms", "open_service"]

MAX_WAIT_S = 55.0
LOOK_AGAIN_S = 0.2
"""How often the database is looked at for what another process wrote about a job that is waited for."""
OVERVIEW_BYTES = 4000
"""The whole list of models is cut to this; it is paid for in the conversation."""
MODELS_BYTES = 9000
"""A list that was narrowed by query, operation or provider is cut to this."""
MOST_SPEND_DAYS = 366


ANYONE = Caller()
PLAIN = Terms()


@asynccontextmanager
async def open_service(
    config: ServiceConfig, *, work: bool = True, hop: Hop | None = None
) -> AsyncIterator[ImageService]:
    """Open the database, take up what was left unfinished, and work until the block ends.

    Without `work`, nothing that was left unfinished is taken up: for a short look around. `hop` runs what may block; by
    default it runs in worker threads.

    Raises: `errors.Outage` when the database in TRIPTYCH_HOME cannot be used.
    """
    hop = hop or one_thread()
    service = await hop(partial(ImageService, config, SystemClock(), hop))  # a big or locked database opens slowly
    try:
        with unwrap_group():
            async with anyio.create_task_group() as tasks:
                if work:
                    tasks.start_soon(service.worker.run)
                    tasks.start_soon(service.image_access.keep_saving)
                yield service
                tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await service.provider_client.aclose()
            await service.store.close()


class ImageService:
    """The ten use-cases, over one store, one engine and one set of connections.

    To make one opens the database, which may block; what is called on it later does not.
    """

    def __init__(self, config: ServiceConfig, clock: Clock, hop: Hop | None = None) -> None:
        self.config = config
        self._clock = clock
        self._listeners: dict[object, Callable[[str], None]] = {}
        self.provider_client = ProviderClient(proxy_resolves=config.proxy_resolves)
        self._files = ImageFiles(config.home, self.provider_client.fetch)
        self._files.remove_stale_parts(clock.now())
        plain = Store(config.home / "triptych.db", self._files.images_dir, config.budget_usd, clock)
        self.store = AsyncStore(plain, hop or one_thread())
        self.image_access = ImageAccess(self.store, self._files, clock, config.allowed_dirs)
        self._pricing = Pricing(self.store, self.provider_client, config.accounts, config.default_provider, clock)
        self._creation = JobCreation(config, self.store, self._pricing, self.image_access, clock)
        self.worker = Worker(
            self.store, self._files, self.provider_client, config.accounts, clock, self._notify_listeners
        )

    # -- the tools

    async def upload_images(self, images: Sequence[str], caller: Caller = ANYONE) -> UploadResult:
        """Bring images home and to the default provider's storage; return their handles.

        Raises: `errors.BadRequest` for what cannot be read. An upload that fails leaves the handle, with a warning.
        """
        if not 1 <= len(images) <= MAX_LANES:
            raise errors.OutOfLimits(f"upload_images takes 1 to {MAX_LANES} images; {len(images)} were given.")
        inputs = await self.image_access.import_images(images, caller)
        account = self.config.accounts[self.config.default_provider]
        shown, warnings = [], []
        for done, image in enumerate(inputs):
            await caller.report_progress(done, len(inputs), f"uploading {image.handle}")
            hosted = None
            if account.usable and not account.provider.inline:
                try:
                    await upload_reference(self.store, self.provider_client, self._clock, account, image)
                    hosted = await self.store.copy(image.sha256, account.provider.name, self._clock.now())
                except errors.TriptychError as error:
                    warnings.append(f"{image.handle} is stored, not yet at {account.provider.title}: {error.message}")
            shown.append(await self.store.run(self.image_access.uploaded, image, hosted, caller))
        handles = ", ".join(f'"{one.handle}"' for one in shown[:14])
        return UploadResult(
            images=shown,
            provider=account.provider.name,
            warnings=warnings,
            next=f'edit_sequence(images=[{handles}], prompt="…", count=4)',
        )

    async def make(self, request: Request, terms: Terms = PLAIN, caller: Caller = ANYONE) -> JobResult:
        """Return the job that the same request has made already, or make one; return it once it has ended, or in time.

        Raises: `errors.BadRequest` and below when the request cannot be right; nothing was sent then.
        """
        if terms.dry_run:
            return await self._creation.dry_run(request, terms, caller)
        created = await self._creation.create(request, terms, caller)
        if not created.is_new:
            return await self._attached(created, caller)
        self._notify_listeners(created.job.id)
        self.worker.notifier.notify()
        return await self._wait(created.job.id, created.until_s - self._clock.monotonic(), caller)

    async def get_status(
        self, job_id: str, wait_s: float = 0, caller: Caller = ANYONE, *, page: int | None = None
    ) -> JobResult:
        """Return a job once it has ended, or as it stands after `wait_s`.

        Without a page, a missed deadline, a failed fetch and an uncertain submit are looked at again; nothing paid is
        sent for it. With one, that page of an ended job's images is read, and nothing else is done.
        Raises: `errors.UnknownHandle`; `errors.OutOfLimits` for a page that is not there.
        """
        job = await self._job(job_id, caller)
        if page is None:
            await self._resume(job)
        return await self._wait(job.id, min(wait_s, caller.left_s()), caller, page or 1)

    async def list_jobs(self, limit: int = 20, status: str | None = None, caller: Caller = ANYONE) -> JobsResult:
        """Return recent jobs, newest first."""
        if not 1 <= limit <= 100:
            raise errors.OutOfLimits(f"limit is 1 to 100; it was {limit}.")
        if status is not None and status not in set(Status):
            raise errors.OutOfLimits(f"status is one of {', '.join(Status)}; it was {errors.quoted(status, 40)}.")

        def read(store: Store) -> tuple[list[Job], list[JobSummary]]:
            found = store.jobs(limit, status, caller.owner)
            return found, [presenters.job_summary(job, store.predictions(job.id)) for job in found]

        jobs, summaries = await self.store.run(read)
        unfinished = next((job.id for job in jobs if job.status in (Status.QUEUED, Status.RUNNING)), None)
        return JobsResult(
            jobs=summaries,
            next=f'get_status(job_id="{unfinished}", wait_s=50)' if unfinished else None,
        )

    async def cancel_job(self, job_id: str, caller: Caller = ANYONE) -> JobResult:
        """Stop what has not been submitted; say what is still at the provider and will be charged.

        Raises: `errors.UnknownHandle`.
        """
        job = await self._job(job_id, caller)
        await self.store.cancel(job.id, moment(self._clock))
        self._notify_listeners(job.id)
        self.worker.notifier.notify()
        at_provider = [
            p
            for p in await self.store.predictions(job.id)
            if p.state in (State.SUBMITTING, State.RUNNING, State.FETCHING)
        ]
        result = await self.job(job.id, caller)
        if not at_provider:
            return result
        cost = sum((p.quoted_usd for p in at_provider), Decimal(0))
        provider = self.config.accounts[job.provider].provider.title
        warning = (
            f"{len(at_provider)} request(s) are already at {provider}, which cannot cancel them: "
            f"about ${errors.format_usd(cost)} will be charged, and their images are still fetched."
        )
        return result.model_copy(update={"warnings": [*result.warnings, warning]})

    async def list_models(
        self,
        query: str = "",
        operation: str | None = None,
        provider: str | None = None,
        *,
        every: bool = False,
    ) -> ModelsResult:
        """Return models × providers with price, limits, lifecycle, and whether each is usable now.

        The list is cut to a few thousand bytes unless `every` row is asked for.

        Raises: `errors.OutOfLimits` for an unknown operation, `errors.UnknownModel` for an unknown provider.
        """
        limit = MODELS_BYTES if query or operation or provider else OVERVIEW_BYTES
        return await self._pricing.list_models(query, operation, provider, None if every else limit)

    async def view_images(self, images: Sequence[str], caller: Caller = ANYONE, *, detail: bool = False) -> Preview:
        """Return one image as a preview, several as a labelled contact sheet, a job as its set beside its sources.

        With `detail` the picture is larger. Raises: `errors.BadRequest` for what cannot be shown.
        """
        return await self.image_access.show(images, caller, detail=detail)

    async def save_images(
        self, images: Sequence[str], directory: str, name: str | None = None, caller: Caller = ANYONE
    ) -> SaveResult:
        """Copy images at full resolution into an allowed directory, overwriting nothing.

        Raises: `errors.NotAllowed`, and as `view_images`.
        """
        return await self.image_access.save(images, directory, name, caller)

    # -- what resources show

    async def owner(self, job_id: str) -> str | None:
        """Return whose job it is; None for the person at the machine.

        Raises: `errors.UnknownHandle`.
        """
        return (await self._job(job_id, ANYONE)).owner

    async def job(self, job_id: str, caller: Caller = ANYONE, *, page: int = 1, every: bool = False) -> JobResult:
        """Return a job as it stands, with one page of its images once it has ended; with `every`, all that came.

        Raises: `errors.UnknownHandle`, for another owner's job as for none; `errors.OutOfLimits` for a page that is
        not there.
        """
        return await self.store.run(self._job_result, job_id, caller, page, every)

    def _job_result(self, store: Store, job_id: str, caller: Caller, page: int, every: bool) -> JobResult:
        job = _visible_job(store, job_id, caller)
        predictions, outputs = store.predictions(job.id), store.outputs(job.id)
        return presenters.job_result(
            job,
            predictions,
            outputs,
            store.image_by_sha256,
            page=page,
            page_size=None if every else _page_size(store, job, outputs),
            findable=any(resumption.state_after(p, self.config.accounts) is State.SUBMITTING for p in predictions),
            link=self.image_access.link(store, caller),
        )

    async def times(self, job_id: str, caller: Caller = ANYONE) -> tuple[datetime, datetime, datetime]:
        """Return when a job was made, when it last moved, as far as that is kept, and the time now.

        Raises: `errors.UnknownHandle`.
        """
        job = await self._job(job_id, caller)
        moves = [at for p in await self.store.predictions(job.id) for at in (p.submitted_at, p.finished_at) if at]
        return job.created_at, max([job.created_at, *moves]), self._clock.now()

    async def spend(self, days: int = 7, caller: Caller = ANYONE) -> SpendResult:
        """Return the ledger of so many days (UTC, with today) by day, provider and model, and the budget's state.

        An owner sees its own jobs; the budget is everybody's.

        Raises: `errors.OutOfLimits`.
        """
        if not 1 <= days <= MOST_SPEND_DAYS:
            raise errors.OutOfLimits(f"days is 1 to {MOST_SPEND_DAYS}; it was {days}.")
        now = moment(self._clock)
        since = now.at.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days - 1)

        def read(store: Store) -> SpendResult:
            days_spent, total = store.ledger.spending(since, caller.owner)
            return SpendResult(days=days, rows=days_spent, total=total, budget=store.balance(now))

        return await self.store.run(read)

    async def making(self, job_id: str, caller: Caller = ANYONE) -> JobRequest:
        """Return how a job was asked for.

        Raises: `errors.UnknownHandle`.
        """
        job = await self._job(job_id, caller)
        return presenters.making(job, await self.store.predictions(job.id))

    async def made_from(self, handle: str, caller: Caller = ANYONE) -> list[str]:
        """Return the handles of what a caller made from an image, oldest first."""
        return [output.handle for output in await self.store.outputs_made_from(handle, caller.owner)]

    async def recent_images(self, limit: int = 20, caller: Caller = ANYONE) -> list[ImageResult]:
        """Return the newest outputs that are home."""

        def read(store: Store) -> list[ImageResult]:
            link = self.image_access.link(store, caller)
            outputs = store.recent_outputs(limit, caller.owner)
            return [presenters.image_of_output(f, store.image_by_sha256(f.sha256 or ""), link) for f in outputs]

        return await self.store.run(read)

    async def recent_handles(self, limit: int, caller: Caller = ANYONE) -> list[str]:
        """Return the handles of the newest outputs that are home, and after them of the newest uploads."""

        def read(store: Store) -> list[str]:
            outputs = [output.handle for output in store.recent_outputs(limit, caller.owner)]
            return outputs + [image.handle for image in store.recent_uploads(limit, caller.owner)]

        return await self.store.run(read)

    async def preview(self, handle: str, caller: Caller = ANYONE) -> tuple[bytes, ImageResult]:
        """Return a JPEG of at most 100 KB and the facts of the image behind a handle.

        Raises: `errors.UnknownHandle`.
        """
        return await self.image_access.preview(handle, caller)

    def watch(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Tell `listener` the id of each job that moves, until the returned function is called."""
        token = object()
        self._listeners[token] = listener
        return lambda: self._listeners.pop(token, None) and None

    # -- how a job starts and is waited for

    async def _attached(self, created: CreatedJob, caller: Caller) -> JobResult:
        """Return a job that was made earlier; it was agreed to then, so nothing is asked, quoted or sent."""
        job, left_s = created.job, created.until_s - self._clock.monotonic()
        if created.save_to:
            await self.store.save_also(job.id, created.save_to)
        result = await self._wait(job.id, min(left_s, caller.left_s()), caller)
        if created.save_to:
            await self.image_access.save_copies(job.id)
            result = await self.job(job.id, caller)
        age = presenters.ago(self._clock.now() - job.created_at)
        note = (
            f"The same request was made {age}: this is its job, and this call pays nothing. again=true pays for "
            "another variation."
        )
        return result.model_copy(update={"warnings": [*result.warnings, note]})

    async def _wait(self, job_id: str, wait_s: float, caller: Caller, page: int = 1) -> JobResult:
        """Return the job when it has ended, images stored, or when `wait_s` is over; report what changes meanwhile."""
        end_s = self._clock.monotonic() + min(max(wait_s, 0), MAX_WAIT_S)
        reported = None
        while True:
            changed = self.worker.notifier.next
            job = await self._job(job_id, caller)
            seen = (job.status, job.returned)
            if caller.report and seen != reported:
                reported = seen
                message = f"{job_id} {job.status}, {job.returned} of {job.request.requested} images"
                await caller.report_progress(job.returned, job.request.requested, message)
            left_s = end_s - self._clock.monotonic()
            if left_s <= 0 or job.status not in (Status.QUEUED, Status.RUNNING):
                return await self.job(job_id, caller, page=page)
            await self._clock.wait(changed, min(left_s, LOOK_AGAIN_S))

    async def _resume(self, job: Job) -> None:
        """Look again at what had ended without its images, where looking costs nothing."""
        if job.status in (Status.PARTIAL, Status.FAILED, Status.UNCERTAIN):
            await self.store.run(resumption.resume, job.id, self.config.accounts, moment(self._clock))
            self.worker.notifier.notify()

    async def _job(self, job_id: str, caller: Caller) -> Job:
        return await self.store.run(_visible_job, job_id, caller)

    def _notify_listeners(self, job_id: str) -> None:
        for listener in list(self._listeners.values()):
            listener(job_id)


# What follows reads and writes the store: it runs where it may block.


def _visible_job(store: Store, job_id: str, caller: Caller) -> Job:
    job = store.job(job_id.strip().partition("/")[0])
    if not job or not caller.sees(job.owner):
        raise errors.UnknownHandle(f"There is no job {errors.quoted(job_id, 40)}; list_jobs shows the recent ones.")
    return job


def _page_size(store: Store, job: Job, outputs: Sequence[Output]) -> int:
    """Return how many images of a job a page lists: what was first said of an ended job that has several pages."""
    size = job.page_size or presenters.page_size(outputs, store.image_by_sha256)
    if job.page_size is None and len(outputs) > size and job.status not in (Status.QUEUED, Status.RUNNING):
        with suppress(errors.Outage):  # another program locks the database: the next listing fixes the same size
            store.fix_page_size(job.id, size)
    return size
