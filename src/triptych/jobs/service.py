"""The use-cases behind tools and commands.

Rules: the worker advances a job, not the call that made it; every call returns in bounded time. This file must not know
MCP, the command line or the environment.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from triptych.core import errors
from triptych.core.clock import Clock, moment
from triptych.core.concurrency import unwrap_group
from triptych.core.models import Job, Status
from triptych.core.requests import Request
from triptych.images.object_files import open_files
from triptych.images.objects import ObjectsPlace
from triptych.jobs import presenters, request_facts, resumption
from triptych.jobs.caller import Caller
from triptych.jobs.catalogues import Catalogues
from triptych.jobs.database_opening import hop_for, keep_clock, keep_listening, open_with_clock
from triptych.jobs.image_access import ImageAccess, SignedFile
from triptych.jobs.inputs import Inputs
from triptych.jobs.job_creation import JobCreation, ServiceConfig
from triptych.jobs.job_reads import (
    job_id_in,
    job_result,
    job_stages,
    jobs_listed,
    recent_handles,
    seen_job,
    spent,
    visible_job,
)
from triptych.jobs.looks import Looks
from triptych.jobs.model_results import ModelsResult
from triptych.jobs.other_processes import OtherProcesses
from triptych.jobs.planning import MAX_REQUESTS, Terms
from triptych.jobs.pricing import Pricing
from triptych.jobs.reading import Reading
from triptych.jobs.remaining import remaining_s
from triptych.jobs.results import (
    ImageResult,
    JobResult,
    JobsResult,
    JobStages,
    Preview,
    SaveResult,
    SpendResult,
    UploadResult,
)
from triptych.jobs.save_plan import Asked
from triptych.jobs.saving import Saving
from triptych.jobs.uploads import upload_all
from triptych.jobs.waiting import Waiting
from triptych.jobs.worker import Worker
from triptych.providers.client import ProviderClient
from triptych.storage.async_store import AsyncStore, Hop
from triptych.storage.budget import Caps
from triptych.storage.database import Database
from triptych.storage.jobs import Store
from triptych.storage.summaries import ListedImage, Overview, Seen

__all__ = ["Caller", "ImageService", "ObjectsPlace", "Request", "ServiceConfig", "SignedFile", "Terms", "open_service"]

OVERVIEW_BYTES = 4000
"""The limit of the whole list of models: its bytes cost tokens in the conversation."""
MODELS_BYTES = 9000
"""The limit of a list narrowed by query, operation or provider."""
ANYONE = Caller()
PLAIN = Terms()


@asynccontextmanager
async def open_service(
    config: ServiceConfig, *, work: bool = True, worker: bool = True, hop: Hop | None = None
) -> AsyncIterator[ImageService]:
    """Open the database, continue unfinished jobs, and work until the block ends.

    Without `work`, no job advances: for short reads. Without `worker`, other processes advance the jobs, and all else
    runs as with it. `hop` runs calls that may block; by default in worker threads.

    Raises: `errors.Outage` when the database in TRIPTYCH_HOME cannot be used.
    """
    hop = hop or hop_for(config)
    opened = await hop(partial(open_with_clock, config))  # a big or locked database opens slowly
    service = await hop(partial(ImageService, config, opened.clock, hop, opened.database))
    try:
        with unwrap_group():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(service.reading.run)
                tasks.start_soon(keep_clock, opened, hop)
                tasks.start_soon(keep_listening, opened, hop, service.changed_elsewhere)
                if work and worker:
                    tasks.start_soon(service.worker.run)
                if work:
                    tasks.start_soon(service.other_processes.run)
                    tasks.start_soon(service.image_access.keep_saving)
                    tasks.start_soon(service.catalogues.keep)
                yield service
                tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            service.saving.close()
            await service.provider_client.aclose()
            await service.store.close()


class ImageService:
    """The use-cases of one store, one worker and one set of connections.

    The constructor opens the database and may block; the methods do not block.
    """

    def __init__(
        self, config: ServiceConfig, clock: Clock, hop: Hop | None = None, database: Database | None = None
    ) -> None:
        self.config = config
        self._clock = clock
        self._began_at = clock.now()
        self._listeners: dict[object, Callable[[str], None]] = {}
        self.provider_client = client = ProviderClient(proxy_resolves=config.proxy_resolves)
        self._files = open_files(config.home, self.provider_client.fetch, config.objects, clock)
        self._files.remove_stale_parts(clock.now())
        caps = Caps(config.budget_usd, config.owner_budget_usd, config.group_budgets_usd)
        plain = Store(database or config.open_database(), self._files.images_dir, caps, clock)
        self.store = AsyncStore(plain, hop or hop_for(config))
        self.reading = Reading(self._files, clock)
        self.image_access = ImageAccess(self.store, self._files, self.reading, clock, config.allowed_dirs)
        accounts = config.accounts
        self.catalogues = Catalogues(config.home, accounts if config.live_models else {}, self.provider_client, clock)
        self._pricing = Pricing(self.store, client, accounts, config.default_provider, self.catalogues, clock)
        self.looks = Looks(self.store, clock)
        self.inputs = Inputs(self.store, self._files, self.image_access)
        self.saving = Saving(self.store, self._files, self.image_access, self.inputs, clock)
        self._creation = JobCreation(
            config, self.store, self._pricing, self.catalogues, self.image_access, self.inputs, clock
        )
        self.worker = Worker(self.store, self._files, client, accounts, clock, self._notify_listeners)

        self._waiting = Waiting(self.store, self.image_access, clock, self._began_at, self.job)
        self.other_processes = OtherProcesses(
            self.store, clock, self._notify_listeners, lambda: bool(self._listeners), lambda: self._waiting.any
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
        tools = (self.store, self._files, self.provider_client, self._clock)
        hosted, failed = await upload_all(*tools, account, inputs, caller, end_s)
        shown = [
            await self.store.run(self.image_access.uploaded, image, hosted.get(image.sha256), caller)
            for image in inputs
        ]
        return presenters.upload_result(shown, account.provider.name, kept, [*warnings, *notes, *failed])

    async def make(self, request: Request, terms: Terms = PLAIN, caller: Caller = ANYONE) -> JobResult:
        """Make a job, or attach to the job of the same request; return it when it has ended or `wait_s` is over.

        Raises: `errors.BadRequest` and below for an invalid request; nothing is sent then.
        """
        if terms.dry_run:
            return await self._creation.dry_run(request, terms, caller)
        created = await self._creation.create(request, terms, caller)
        if not created.is_new:
            return await self._waiting.attach(created, caller)
        self._notify_listeners(created.job.id)
        self.worker.notifier.notify()
        return await self._waiting.wait(created.job.id, created.until_s - self._clock.monotonic(), caller)

    async def get_status(
        self, job_id: str, wait_s: float = 0, caller: Caller = ANYONE, *, page: int | None = None
    ) -> JobResult:
        """Return a job when it has ended or `wait_s` is over.

        Without a page, a job with a missed deadline, a failed download or an uncertain submit is resumed; this pays
        nothing. With a page, only that page of an ended job's images is read.
        Raises: `errors.UnknownHandle`; `errors.OutOfLimits` for a page that does not exist.
        """
        job_id, job = job_id_in(job_id), await self.seen(job_id, caller)
        if page is None and job.status in (Status.PARTIAL, Status.FAILED, Status.UNCERTAIN):
            await self._resume(job_id)
        return await self._waiting.wait(job_id, min(wait_s, caller.left_s()), caller, page or 1)

    async def reach_images(self) -> None:
        """Raise `errors.Outage` if images cannot be stored now."""
        await anyio.to_thread.run_sync(self._files.reach, abandon_on_cancel=True)

    async def list_jobs(self, limit: int = 20, status: str | None = None, caller: Caller = ANYONE) -> JobsResult:
        """Return recent jobs, newest first."""
        if not 1 <= limit <= 100:
            raise errors.OutOfLimits(f"limit is 1 to 100; it was {limit}.")
        if status is not None and status not in set(Status):
            raise errors.OutOfLimits(f"status is one of {', '.join(Status)}; it was {errors.quoted(status, 40)}.")
        return await self.store.run(jobs_listed, limit, status, caller)

    async def cancel_job(self, job_id: str, caller: Caller = ANYONE) -> JobResult:
        """Cancel the requests that are not submitted; a warning names those that the provider will still charge.

        Raises: `errors.UnknownHandle`.
        """
        job = await self._job(job_id, caller)
        await self.store.cancel(job.id, moment(self._clock))
        self._notify_listeners(job.id)
        self.worker.notifier.notify()
        title = self.config.accounts[job.provider].provider.title
        warnings = presenters.still_charged(await self.store.predictions(job.id), title)
        result = await self.job(job.id, caller)
        return result.model_copy(update={"warnings": [*result.warnings, *warnings]})

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

        Raises: as `Saving.save`.
        """
        return await self.saving.save(Asked(images, directory, name, size, format), caller, within_s)

    # -- the resources

    async def seen(self, job_id: str, caller: Caller = ANYONE) -> Seen:
        """Return a job's status, owner, and number of images.

        Raises: `errors.UnknownHandle`, also for another owner's job.
        """
        return await self.store.run(seen_job, job_id, caller)

    async def job(self, job_id: str, caller: Caller = ANYONE, *, page: int = 1, every: bool = False) -> JobResult:
        """Return a job now, with one page of its images if it has ended; with `every`, all its images.

        Raises: `errors.UnknownHandle`, also for another owner's job; `errors.OutOfLimits` for a page that does not
        exist.
        """

        def read(store: Store) -> JobResult:
            found, link = visible_job(store, job_id, caller), self.image_access.link(store, caller)
            left_s = remaining_s(store.pace(found.id), self._clock.now(), self._began_at)
            return job_result(store, found, self.config.accounts, link, page=page, every=every, remaining_s=left_s)

        return await self.store.run(read)

    async def stages(self, job_id: str, caller: Caller = ANYONE) -> JobStages:
        """Return how far each step of a job is, and the cost so far.

        Raises: `errors.UnknownHandle`.
        """
        return await self.store.run(job_stages, job_id, caller)

    async def times(self, job_id: str, caller: Caller = ANYONE) -> tuple[datetime, datetime, datetime]:
        """Return when a job was made, the time of its last stored change, and the time now.

        Raises: `errors.UnknownHandle`.
        """
        made_at, moved_at = await self.store.run(lambda store: store.times(visible_job(store, job_id, caller).id))
        return made_at, moved_at, self._clock.now()

    async def spend(self, days: int = 7, caller: Caller = ANYONE) -> SpendResult:
        """Return the ledger of so many days (UTC, with today) by day, provider and model, and the budget.

        An owner sees the costs of its own jobs. `budget` is shared by all owners; `owner_budget` and `group_budget` are
        the caller's, where there are such.

        Raises: `errors.OutOfLimits`.
        """
        return await self.store.run(spent, days, caller, moment(self._clock))

    async def overview(self) -> Overview:
        """Return the numbers of the whole installation, for monitoring."""
        return await self.store.overview(moment(self._clock))

    async def making(self, job_id: str, caller: Caller = ANYONE) -> request_facts.JobRequest:
        """Return the request of a job.

        Raises: `errors.UnknownHandle`.
        """
        job = await self._job(job_id, caller)
        return request_facts.making(job, await self.store.predictions(job.id))

    async def image_facts(self, handle: str, caller: Caller = ANYONE) -> dict[str, Any]:
        """Return the prompt that made an image, and the handles of the outputs that the caller made from it."""
        return await self.store.run(request_facts.image_facts, handle, caller)

    async def recent_images(self, limit: int = 20, caller: Caller = ANYONE) -> list[ListedImage]:
        """Return the newest stored outputs."""
        return await self.store.run(lambda store: store.recent_images(limit, caller.owner))

    async def recent_handles(self, limit: int, caller: Caller = ANYONE) -> list[str]:
        """Return the handles of the newest stored outputs, then those of the newest uploads."""
        return await self.store.run(recent_handles, limit, caller)

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

    def stop(self) -> None:
        """Begin the orderly end of this process: claim nothing more, and let waiting calls return.

        The steps in progress go on until the service is closed, or a few seconds (`Worker.run`).
        """
        self._waiting.stop()
        self.worker.stop()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._waiting.stopping

    async def hint(self, calls: Sequence[tuple[str, str]]) -> None:
        """Poll running predictions now, because their providers called back; a wrong id or key does nothing."""
        at = moment(self._clock)
        if await self.store.run(lambda store: sum([store.hint(one, key, at) for one, key in calls])):
            self.worker.notifier.notify()

    # -- changes

    async def _resume(self, job_id: str) -> None:
        """Resume the predictions that ended without their images; this costs nothing."""
        await self.store.run(resumption.resume, job_id, self.config.accounts, moment(self._clock))
        self.worker.notifier.notify()

    async def _job(self, job_id: str, caller: Caller) -> Job:
        return await self.store.run(visible_job, job_id, caller)

    def changed_elsewhere(self, job_id: str | None) -> None:
        """Look again: another process has changed a job, or, without an id, may have changed some."""
        self.other_processes.hint()
        self.worker.notifier.notify()

    def _notify_listeners(self, job_id: str) -> None:
        self._waiting.tell(job_id)
        for listener in list(self._listeners.values()):
            listener(job_id)
