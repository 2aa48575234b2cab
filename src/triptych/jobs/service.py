"""The use-cases behind tools and commands.

Rules: the worker advances a job, not the call that made it; every call returns in bounded time. This file must not know
MCP, the command line or the environment.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import anyio

from triptych.core import errors
from triptych.core.clock import Clock, SystemClock, moment
from triptych.core.concurrency import unwrap_group
from triptych.core.models import Job, State, Status
from triptych.core.requests import Request
from triptych.images.files import ImageFiles
from triptych.jobs import presenters, request_facts, resumption
from triptych.jobs.catalogues import Catalogues
from triptych.jobs.delivery import Deliveries
from triptych.jobs.image_access import Caller, ImageAccess, SignedFile
from triptych.jobs.inputs import Inputs
from triptych.jobs.job_creation import CreatedJob, JobCreation, ServiceConfig
from triptych.jobs.job_reads import job_result, visible_job
from triptych.jobs.looks import Looks
from triptych.jobs.planning import MAX_REQUESTS, Terms
from triptych.jobs.pricing import Pricing
from triptych.jobs.reading import Reading
from triptych.jobs.results import (
    ImageResult,
    JobResult,
    JobsResult,
    JobSummary,
    ModelsResult,
    Preview,
    SaveResult,
    SpendResult,
    UploadResult,
)
from triptych.jobs.save_plan import Asked
from triptych.jobs.uploads import upload_all
from triptych.jobs.worker import Worker
from triptych.providers.client import ProviderClient
from triptych.storage.async_store import AsyncStore, Hop, one_thread
from triptych.storage.jobs import Store

__all__ = ["Caller", "ImageService", "Request", "ServiceConfig", "SignedFile", "Terms", "open_service"]

MAX_WAIT_S = 55.0
LOOK_AGAIN_S = 0.2
"""How often a waiting call reads its job again, for changes by other processes."""
OVERVIEW_BYTES = 4000
"""The limit of the whole list of models: its bytes cost tokens in the conversation."""
MODELS_BYTES = 9000
"""The limit of a list narrowed by query, operation or provider."""
MOST_SPEND_DAYS = 366


ANYONE = Caller()
PLAIN = Terms()


@asynccontextmanager
async def open_service(
    config: ServiceConfig, *, work: bool = True, hop: Hop | None = None
) -> AsyncIterator[ImageService]:
    """Open the database, continue unfinished jobs, and work until the block ends.

    Without `work`, no job advances: for short reads. `hop` runs calls that may block; by default in worker threads.

    Raises: `errors.Outage` when the database in TRIPTYCH_HOME cannot be used.
    """
    hop = hop or one_thread()
    service = await hop(partial(ImageService, config, SystemClock(), hop))  # a big or locked database opens slowly
    try:
        with unwrap_group():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(service.reading.run)
                if work:
                    tasks.start_soon(service.worker.run)
                    tasks.start_soon(service.image_access.keep_saving)
                    tasks.start_soon(service.catalogues.keep)
                yield service
                tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            service.deliveries.close()
            await service.provider_client.aclose()
            await service.store.close()


class ImageService:
    """The use-cases of one store, one worker and one set of connections.

    The constructor opens the database and may block; the methods do not block.
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
        self.reading = Reading(self._files, clock)
        self.image_access = ImageAccess(self.store, self._files, self.reading, clock, config.allowed_dirs)
        accounts = config.accounts
        self.catalogues = Catalogues(config.home, accounts if config.live_models else {}, self.provider_client, clock)
        self._pricing = Pricing(
            self.store, self.provider_client, accounts, config.default_provider, self.catalogues, clock
        )
        self.looks = Looks(self.store, clock)
        self.inputs = Inputs(self.store, self._files, self.image_access)
        self.deliveries = Deliveries(self.store, self._files, self.image_access, self.inputs, clock)
        self._creation = JobCreation(
            config, self.store, self._pricing, self.catalogues, self.image_access, self.inputs, clock
        )
        self.worker = Worker(
            self.store, self._files, self.provider_client, config.accounts, clock, self._notify_listeners
        )

    # -- the tools

    async def upload_images(
        self, images: Sequence[str], caller: Caller = ANYONE, look: str | None = None, words: str | None = None
    ) -> UploadResult:
        """Store images here and upload them to the default provider; return their handles.

        With `look`, they and `words` are the next version of that look. An upload that fails, or for which the caller
        does not wait, gives a warning; its handle is valid. Raises: `errors.BadRequest` for an unreadable image.
        """
        end_s = self._clock.monotonic() + min(caller.left_s(), caller.read_limit_s)
        images, warnings = await self.inputs.expand_items(images, caller)
        name = self.looks.check(look, words, images)
        if not 1 <= len(images) <= MAX_REQUESTS:
            raise errors.OutOfLimits(f"upload_images takes 1 to {MAX_REQUESTS} images; {len(images)} were given.")
        inputs = await self.image_access.import_images(images, caller)
        account = self.config.accounts[self.config.default_provider]
        kept, notes = await self.looks.keep(name, words, inputs, caller) if name else (None, [])
        hosted, failed = await upload_all(self.store, self.provider_client, self._clock, account, inputs, caller, end_s)
        shown = [
            await self.store.run(self.image_access.uploaded, image, hosted.get(image.sha256), caller)
            for image in inputs
        ]
        named = ["img_…", f"look:{kept.name}"] if kept else [one.handle for one in shown[:14]]
        handles = ", ".join(f'"{one}"' for one in named)
        return UploadResult(
            images=shown,
            provider=account.provider.name,
            look=kept.label() if kept else None,
            warnings=[*warnings, *notes, *failed],
            next=f'edit_sequence(images=[{handles}], prompt="…", count=4)',
        )

    async def make(self, request: Request, terms: Terms = PLAIN, caller: Caller = ANYONE) -> JobResult:
        """Make a job, or attach to the job of the same request; return it when it has ended or `wait_s` is over.

        Raises: `errors.BadRequest` and below for an invalid request; nothing is sent then.
        """
        if terms.dry_run:
            return await self._creation.dry_run(request, terms, caller)
        created = await self._creation.create(request, terms, caller)
        if not created.is_new:
            return await self._attach(created, caller)
        self._notify_listeners(created.job.id)
        self.worker.notifier.notify()
        return await self._wait(created.job.id, created.until_s - self._clock.monotonic(), caller)

    async def get_status(
        self, job_id: str, wait_s: float = 0, caller: Caller = ANYONE, *, page: int | None = None
    ) -> JobResult:
        """Return a job when it has ended or `wait_s` is over.

        Without a page, a job with a missed deadline, a failed download or an uncertain submit is resumed; this pays
        nothing. With a page, only that page of an ended job's images is read.
        Raises: `errors.UnknownHandle`; `errors.OutOfLimits` for a page that does not exist.
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
        """Cancel the requests that are not submitted; a warning names those that the provider will still charge.

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

        The list is cut to a few thousand bytes; with `every` it is complete.

        Raises: `errors.OutOfLimits` for an unknown operation, `errors.UnknownModel` for an unknown provider.
        """
        limit = MODELS_BYTES if query or operation or provider else OVERVIEW_BYTES
        return await self._pricing.list_models(query, operation, provider, None if every else limit)

    async def view_images(self, images: Sequence[str], caller: Caller = ANYONE, *, detail: bool = False) -> Preview:
        """Return one image as a preview, several as a labelled contact sheet, a job as its set beside its sources.

        With `detail` the picture is larger. Raises: `errors.BadRequest` for an image that cannot be shown.
        """
        images, counts = await self.inputs.expand_items(images, caller)
        preview = await self.image_access.show(images, caller, detail=detail)
        return preview.model_copy(update={"caption": " ".join([preview.caption, *counts])})

    async def save_images(
        self,
        images: Sequence[str],
        directory: str,
        name: str | None = None,
        caller: Caller = ANYONE,
        *,
        size: str | None = None,
        format: str | None = None,
        within_s: float = math.inf,
    ) -> SaveResult:
        """Save images into an allowed directory or archive, overwriting nothing, until `within_s` is over.

        Raises: as `Deliveries.save`.
        """
        return await self.deliveries.save(Asked(images, directory, name, size, format), caller, within_s)

    # -- the resources

    async def owner(self, job_id: str) -> str | None:
        """Return the owner of a job; None for the person at the machine.

        Raises: `errors.UnknownHandle`.
        """
        return (await self._job(job_id, ANYONE)).owner

    async def job(self, job_id: str, caller: Caller = ANYONE, *, page: int = 1, every: bool = False) -> JobResult:
        """Return a job now, with one page of its images if it has ended; with `every`, all its images.

        Raises: `errors.UnknownHandle`, also for another owner's job; `errors.OutOfLimits` for a page that does not
        exist.
        """

        def read(store: Store) -> JobResult:
            found, link = visible_job(store, job_id, caller), self.image_access.link(store, caller)
            return job_result(store, found, self.config.accounts, link, page=page, every=every)

        return await self.store.run(read)

    async def times(self, job_id: str, caller: Caller = ANYONE) -> tuple[datetime, datetime, datetime]:
        """Return when a job was made, the time of its last stored change, and the time now.

        Raises: `errors.UnknownHandle`.
        """
        job = await self._job(job_id, caller)
        moves = [at for p in await self.store.predictions(job.id) for at in (p.submitted_at, p.finished_at) if at]
        return job.created_at, max([job.created_at, *moves]), self._clock.now()

    async def spend(self, days: int = 7, caller: Caller = ANYONE) -> SpendResult:
        """Return the ledger of so many days (UTC, with today) by day, provider and model, and the budget.

        An owner sees the costs of its own jobs; the budget is shared by all owners.

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

    async def making(self, job_id: str, caller: Caller = ANYONE) -> request_facts.JobRequest:
        """Return the request of a job.

        Raises: `errors.UnknownHandle`.
        """
        job = await self._job(job_id, caller)
        return request_facts.making(job, await self.store.predictions(job.id))

    async def image_facts(self, handle: str, caller: Caller = ANYONE) -> dict[str, Any]:
        """Return the prompt that made an image, and the handles of the outputs that the caller made from it."""
        return await self.store.run(request_facts.image_facts, handle, caller)

    async def recent_images(self, limit: int = 20, caller: Caller = ANYONE) -> list[ImageResult]:
        """Return the newest stored outputs."""

        def read(store: Store) -> list[ImageResult]:
            link = self.image_access.link(store, caller)
            outputs = store.recent_outputs(limit, caller.owner)
            return [presenters.image_of_output(f, store.image_by_sha256(f.sha256 or ""), link) for f in outputs]

        return await self.store.run(read)

    async def recent_handles(self, limit: int, caller: Caller = ANYONE) -> list[str]:
        """Return the handles of the newest stored outputs, then those of the newest uploads."""

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
        """Call `listener` with the id of each job that changes, until the returned function is called."""
        token = object()
        self._listeners[token] = listener
        return lambda: self._listeners.pop(token, None) and None

    # -- starting a job, and waiting for it

    async def _attach(self, created: CreatedJob, caller: Caller) -> JobResult:
        """Return the earlier job of the same request; nothing is confirmed, quoted or sent again."""
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
        """Return the job when it has ended or `wait_s` is over; report its progress meanwhile."""
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
            if job.status not in (Status.QUEUED, Status.RUNNING):
                await self.image_access.save_copies(job_id)
                return await self.job(job_id, caller, page=page)
            if left_s <= 0:
                return await self.job(job_id, caller, page=page)
            await self._clock.wait(changed, min(left_s, LOOK_AGAIN_S))

    async def _resume(self, job: Job) -> None:
        """Resume the predictions that ended without their images; this costs nothing."""
        if job.status in (Status.PARTIAL, Status.FAILED, Status.UNCERTAIN):
            await self.store.run(resumption.resume, job.id, self.config.accounts, moment(self._clock))
            self.worker.notifier.notify()

    async def _job(self, job_id: str, caller: Caller) -> Job:
        return await self.store.run(visible_job, job_id, caller)

    def _notify_listeners(self, job_id: str) -> None:
        for listener in list(self._listeners.values()):
            listener(job_id)
