"""The use-cases behind tools and commands: what a person or an assistant can ask for.

Rules: a refusal costs nothing and leaves nothing behind; a paid request is written down (`Store.add_job`) before
anybody hears of it, and worked on by the worker, not by the call; every call answers in bounded time. This file must
not know MCP, the command line or the environment.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import anyio

from triptych import catalog
from triptych.core import errors
from triptych.core.clock import Clock, Notifier, SystemClock, moment
from triptych.core.concurrency import unwrap_group
from triptych.core.models import Job, Offer, Operation, Output, Prediction, Reference, State, Status
from triptych.images.files import ImageFiles
from triptych.jobs import planning, presenters
from triptych.jobs.image_access import Caller, ImageAccess, SignedFile
from triptych.jobs.planning import MAX_LANES, MAX_STEPS, Ask, Options, Plan
from triptych.jobs.pricing import Pricing
from triptych.jobs.results import (
    Cost,
    ImageResult,
    JobRequest,
    JobResult,
    JobsResult,
    ModelsResult,
    Preview,
    Progress,
    SaveResult,
    SpendResult,
    UploadResult,
)
from triptych.jobs.uploads import upload_reference
from triptych.jobs.worker import Worker
from triptych.providers.client import Account, ProviderClient, first_call
from triptych.storage.jobs import Store
from triptych.storage.rows import JobRow

T = TypeVar("T")

log = logging.getLogger(__name__)

__all__ = ["Caller", "ImageService", "Options", "ServiceConfig", "SignedFile", "open_service"]

MAX_WAIT_S = 55.0
LOOK_AGAIN_S = 0.2
"""How often the database is looked at for what another process wrote about a job that is waited for."""
BUSY_PAUSE_S = 0.25
LEAST_QUOTE_S = 0.8
"""A call that does not wait still asks the provider for its price this long."""
LOOK_AGAIN_FOR_S = 600.0
"""What missed its deadline is polled this long once more when somebody asks for it."""
OVERVIEW_BYTES = 4000
"""The whole list of models is cut to this; it is paid for in the conversation."""
MODELS_BYTES = 9000
"""A list that was narrowed by query, operation or provider is cut to this."""
MOST_SPEND_DAYS = 366


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """What a service is opened with; `settings` reads it from the environment.

    `accounts` are all known providers, usable or not, in order of preference. `allowed_dirs` may be read and written by
    every caller; `budget_usd` None is no cap; `proxy_resolves` is explained in `ProviderClient`.
    """

    home: Path
    accounts: Mapping[str, Account]
    default_provider: str
    allowed_dirs: tuple[Path, ...] = ()
    budget_usd: Decimal | None = Decimal(10)
    confirm_usd: Decimal = Decimal(1)
    proxy_resolves: bool = False


ANYONE = Caller()
PLAIN = Options()


@asynccontextmanager
async def open_service(setup: ServiceConfig, *, work: bool = True) -> AsyncIterator[ImageService]:
    """Open the database, take up what was left unfinished, and work until the block ends.

    Without `work`, nothing that was left unfinished is taken up: for a short look around.

    Raises: `errors.Outage` when the database in TRIPTYCH_HOME cannot be used.
    """
    service = ImageService(setup, SystemClock())
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
        service.store.close()


class ImageService:
    """The ten use-cases, over one store, one engine and one set of connections."""

    def __init__(self, setup: ServiceConfig, clock: Clock) -> None:
        self.setup = setup
        self._clock = clock
        self._listeners: dict[object, Callable[[str], None]] = {}
        self.provider_client = ProviderClient(proxy_resolves=setup.proxy_resolves)
        self._files = ImageFiles(setup.home, self.provider_client.fetch)
        self._files.remove_stale_parts(clock.now())
        self.store = Store(setup.home / "triptych.db", self._files.images_dir, setup.budget_usd, clock)
        self.image_access = ImageAccess(self.store, self._files, clock, setup.allowed_dirs)
        self._pricing = Pricing(self.store, self.provider_client, setup.accounts, setup.default_provider, clock)
        self.worker = Worker(self.store, self._files, self.provider_client, setup.accounts, clock, self._tell)

    # -- the tools

    async def upload_images(self, images: Sequence[str], caller: Caller = ANYONE) -> UploadResult:
        """Bring images home and to the default provider's storage; return their handles.

        Raises: `errors.BadRequest` for what cannot be read. An upload that fails leaves the handle, with a warning.
        """
        if not 1 <= len(images) <= MAX_LANES:
            raise errors.OutOfLimits(f"upload_images takes 1 to {MAX_LANES} images; {len(images)} were given.")
        inputs = await self.image_access.import_images(images, caller)
        account = self.setup.accounts[self.setup.default_provider]
        shown, warnings = [], []
        for done, item in enumerate(inputs):
            await caller.told(done, len(inputs), f"uploading {item.handle}")
            hosted = None
            if account.usable and not account.provider.inline:
                try:
                    await upload_reference(self.store, self.provider_client, self._clock, account, item.image)
                    hosted = self.store.copy(item.image.sha256, account.provider.name, self._clock.now())
                except errors.TriptychError as error:
                    warnings.append(f"{item.handle} is here but not at {account.provider.title} yet: {error.message}")
            shown.append(presenters.image_of_upload(item.image, hosted, link=self.image_access.link(caller)))
        handles = ", ".join(f'"{image.handle}"' for image in shown[:14])
        return UploadResult(
            images=shown,
            provider=account.provider.name,
            warnings=warnings,
            next=f'edit_sequence(images=[{handles}], prompt="…", count=4)',
        )

    async def edit_sequence(
        self,
        images: Sequence[str],
        prompt: str,
        count: int = 1,
        options: Options = PLAIN,
        caller: Caller = ANYONE,
    ) -> JobResult:
        """Ask for `count` coherent images from references and an instruction, in one prediction.

        Raises: `errors.BadRequest` and below when the request cannot be right; nothing was sent then.
        """
        ask = Ask("edit_sequence", caller.owner, (planning.check_prompt(prompt),), count, options)
        return await self._make(ask, Operation.EDIT_SEQUENTIAL, images, (), caller)

    async def generate_sequence(
        self, prompt: str, count: int = 1, options: Options = PLAIN, caller: Caller = ANYONE
    ) -> JobResult:
        """Ask for `count` coherent images from a prompt alone, in one prediction.

        Raises: as `edit_sequence`.
        """
        ask = Ask("generate_sequence", caller.owner, (planning.check_prompt(prompt),), count, options)
        return await self._make(ask, Operation.GENERATE_SEQUENTIAL, (), (), caller)

    async def edit_chain(
        self,
        images: Sequence[str],
        steps: Sequence[str],
        references: Sequence[str] = (),
        options: Options = PLAIN,
        caller: Caller = ANYONE,
    ) -> JobResult:
        """Take each image through the steps, each on the last one's output; `references` go into every request.

        Raises: as `edit_sequence`.
        """
        if not 1 <= len(images) <= MAX_LANES:
            raise errors.OutOfLimits(f"edit_chain takes 1 to {MAX_LANES} images; {len(images)} were given.")
        if not 1 <= len(steps) <= MAX_STEPS:
            raise errors.OutOfLimits(f"edit_chain takes 1 to {MAX_STEPS} steps; {len(steps)} were given.")
        ask = Ask("edit_chain", caller.owner, tuple(planning.check_prompt(step) for step in steps), 1, options)
        return await self._make(ask, Operation.EDIT, images, references, caller)

    async def get_status(
        self, job_id: str, wait_s: float = 0, caller: Caller = ANYONE, *, page: int | None = None
    ) -> JobResult:
        """Return a job once it has ended, or as it stands after `wait_s`.

        Without a page, a missed deadline, a failed fetch and an uncertain submit are looked at again; nothing paid is
        sent for it. With one, that page of an ended job's images is read, and nothing else is done.
        Raises: `errors.UnknownHandle`; `errors.OutOfLimits` for a page that is not there.
        """
        row = self._job(job_id, caller)
        if page is None:
            self._resume(row)
        return await self._wait(row.job.id, min(wait_s, caller.left_s()), caller, page or 1)

    async def list_jobs(self, limit: int = 20, status: str | None = None, caller: Caller = ANYONE) -> JobsResult:
        """Return recent jobs, newest first."""
        if not 1 <= limit <= 100:
            raise errors.OutOfLimits(f"limit is 1 to 100; it was {limit}.")
        if status is not None and status not in set(Status):
            raise errors.OutOfLimits(f"status is one of {', '.join(Status)}; it was {errors.quoted(status, 40)}.")
        rows = self.store.jobs(limit, status, caller.owner)
        unfinished = next((r.job.id for r in rows if r.status in (Status.QUEUED, Status.RUNNING)), None)
        return JobsResult(
            jobs=[presenters.job_summary(row, self.store.predictions(row.job.id)) for row in rows],
            next=f'get_status(job_id="{unfinished}", wait_s=50)' if unfinished else None,
        )

    async def cancel_job(self, job_id: str, caller: Caller = ANYONE) -> JobResult:
        """Stop what has not been submitted; say what is still at the provider and will be charged.

        Raises: `errors.UnknownHandle`.
        """
        row = self._job(job_id, caller)
        self.store.cancel(row.job.id, moment(self._clock))
        self._tell(row.job.id)
        self.worker.notifier.notify()
        at_provider = [
            p
            for p in self.store.predictions(row.job.id)
            if p.state in (State.SUBMITTING, State.RUNNING, State.FETCHING)
        ]
        result = self.job(row.job.id, caller)
        if not at_provider:
            return result
        cost = sum((p.quoted_usd for p in at_provider), Decimal(0))
        provider = self.setup.accounts[row.job.provider].provider.title
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

    def owner(self, job_id: str) -> str | None:
        """Return whose job it is; None for the person at the machine.

        Raises: `errors.UnknownHandle`.
        """
        return self._job(job_id, ANYONE).job.owner

    def job(self, job_id: str, caller: Caller = ANYONE, *, page: int = 1, every: bool = False) -> JobResult:
        """Return a job as it stands, with one page of its images once it has ended; with `every`, all that came.

        Raises: `errors.UnknownHandle`, for another owner's job as for none; `errors.OutOfLimits` for a page that is
        not there.
        """
        row = self._job(job_id, caller)
        predictions, frames = self.store.predictions(row.job.id), self.store.frames(row.job.id)
        return presenters.job_result(
            row,
            predictions,
            frames,
            self.store.image_by_sha256,
            page=page,
            page_size=None if every else self._page_size(row, frames),
            findable=any(self._resumed_state(p) is State.SUBMITTING for p in predictions),
            link=self.image_access.link(caller),
        )

    def times(self, job_id: str, caller: Caller = ANYONE) -> tuple[datetime, datetime, datetime]:
        """Return when a job was made, when it last moved, as far as that is kept, and the time now.

        Raises: `errors.UnknownHandle`.
        """
        job = self._job(job_id, caller).job
        moves = [at for p in self.store.predictions(job.id) for at in (p.submitted_at, p.finished_at) if at]
        return job.created_at, max([job.created_at, *moves]), self._clock.now()

    def spend(self, days: int = 7, caller: Caller = ANYONE) -> SpendResult:
        """Return the ledger of so many days (UTC, with today) by day, provider and model, and the budget's state.

        An owner sees its own jobs; the budget is everybody's.

        Raises: `errors.OutOfLimits`.
        """
        if not 1 <= days <= MOST_SPEND_DAYS:
            raise errors.OutOfLimits(f"days is 1 to {MOST_SPEND_DAYS}; it was {days}.")
        now, ledger = moment(self._clock), self.store.ledger
        since = now.at.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days - 1)
        return presenters.spend_result(ledger.spending(since, caller.owner), ledger.balance(now), days)

    def making(self, job_id: str, caller: Caller = ANYONE) -> JobRequest:
        """Return how a job was asked for.

        Raises: `errors.UnknownHandle`.
        """
        row = self._job(job_id, caller)
        return presenters.making(row, self.store.predictions(row.job.id))

    def made_from(self, handle: str, caller: Caller = ANYONE) -> list[str]:
        """Return the handles of what a caller made from an image, oldest first."""
        return [frame.handle for frame in self.store.outputs_made_from(handle, caller.owner)]

    def recent_images(self, limit: int = 20, caller: Caller = ANYONE) -> list[ImageResult]:
        """Return the newest outputs that are home."""
        return [
            presenters.image_of_output(
                frame, self.store.image_by_sha256(frame.sha256 or ""), self.image_access.link(caller)
            )
            for frame in self.store.recent_outputs(limit, caller.owner)
        ]

    def recent_handles(self, limit: int, caller: Caller = ANYONE) -> list[str]:
        """Return the handles of the newest outputs that are home, and after them of the newest uploads."""
        outputs = [frame.handle for frame in self.store.recent_outputs(limit, caller.owner)]
        return outputs + [image.handle for image in self.store.recent_uploads(limit, caller.owner)]

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

    async def _make(
        self, ask: Ask, operation: Operation, images: Sequence[str], references: Sequence[str], caller: Caller
    ) -> JobResult:
        """Return the job that the same request has made already, or make one; `ask` is still without its images."""
        options, refusal = ask.options, None
        offers: list[Offer] = []
        notes: tuple[str, ...] = ()
        try:
            seen = len(images) if operation is not Operation.EDIT else 1 + len(references)
            offers, notes = self._offers(operation, ask.prompts, seen, ask.count, options)
        except errors.BadRequest as error:
            # Its job may be there all the same: made before a key, a model or a default went away.
            if options.again or options.dry_run:
                raise
            refusal = error
        try:
            shared = tuple(await self.image_access.import_images(references, caller))
            ask = replace(ask, references=shared, images=tuple(await self.image_access.import_images(images, caller)))
        except errors.TriptychError as error:
            raise refusal or error from None
        save_to = str(self.image_access.directory(options.save_to, caller)) if options.save_to else None
        if options.dry_run:
            return self._dry_run(planning.plan_for(ask, offers, notes))
        earlier = None if options.again else self.store.same_request(planning.fingerprint(ask))
        if earlier:
            return await self._attached(earlier, options.wait_s, save_to, caller)
        if refusal:
            raise refusal
        return await self._start(ask, planning.plan_for(ask, offers, notes), save_to, caller)

    def _offers(
        self, operation: Operation, prompts: Sequence[str], references: int, count: int, options: Options
    ) -> tuple[list[Offer], tuple[str, ...]]:
        """Return the offers that can do it, the one to use first, and what is said of that choice.

        Raises: what `planning.rank_offers` raises, when none of them can.
        """

        def fits(offer: Offer) -> None:
            for prompt in prompts:
                catalog.check_limits(offer, references=references, count=count, prompt=prompt, format=options.format)
            catalog.resolve_size(offer, options.size, None)

        accounts, today = self.setup.accounts, self._clock.now().date()
        offers = planning.rank_offers(
            accounts, self.setup.default_provider, operation, options, count, references, fits, today
        )
        return offers, planning.notes(accounts, offers[0], operation, options, prompts, count, today)

    async def _start(self, ask: Ask, plan: Plan, save_to: str | None, caller: Caller) -> JobResult:
        """Quote a plan, refuse what was not agreed to, and write it down; nothing of an image leaves before that."""
        options = ask.options
        within_s = min(options.wait_s, caller.left_s())
        end_s = self._clock.monotonic() + within_s  # of the quote, the write and the wait together
        plan = replace(plan, quotes=await self._pricing.quotes(plan, max(within_s / 2, LEAST_QUOTE_S)))
        plan = planning.check_cost(
            plan,
            options.max_cost_usd,
            self.setup.confirm_usd,
            self.store.ledger.balance(moment(self._clock)),
            asks=caller.asks,
            agreed_usd=caller.agreed_usd,
        )
        job, predictions = planning.create_job(
            plan,
            now=moment(self._clock),
            fingerprint=planning.fingerprint(ask),
            save_to=save_to,
            again=options.again,
            owner=caller.owner,
        )
        earlier = await self._written(
            lambda: self.store.add_job(job, predictions, now=moment(self._clock), attach=not options.again),
            end_s - self._clock.monotonic(),
        )
        if earlier:  # another process was quicker
            return await self._attached(earlier, end_s - self._clock.monotonic(), save_to, caller)
        self._tell(job.id)
        self.worker.notifier.notify()
        return await self._wait(job.id, end_s - self._clock.monotonic(), caller)

    async def _written(self, write: Callable[[], T], within_s: float) -> T:
        """Return what a write returns; while another program locks the database it is tried again, so long at most.

        Raises: `errors.Outage`: nothing was written then.
        """
        end_s = self._clock.monotonic() + within_s
        while True:
            try:
                return write()
            except errors.Unusable:
                raise
            except errors.Outage:
                if self._clock.monotonic() >= end_s:
                    raise
            await self._clock.wait(Notifier(), BUSY_PAUSE_S)

    async def _attached(self, job: Job, wait_s: float, save_to: str | None, caller: Caller) -> JobResult:
        """Return a job that was made earlier; it was agreed to then, so nothing is asked, quoted or sent."""
        if save_to:
            self.store.save_also(job.id, save_to)
        result = await self._wait(job.id, min(wait_s, caller.left_s()), caller)
        if save_to:
            await self.image_access.save_copies(job.id)
            result = self.job(job.id, caller)
        made = presenters.ago(self._clock.now() - job.created_at)
        note = (
            f"The same request was made {made}: this is that job, and this call costs nothing. again=true pays for "
            "another variation."
        )
        return result.model_copy(update={"warnings": [*result.warnings, note]})

    def _dry_run(self, plan: Plan) -> JobResult:
        account = self.setup.accounts[plan.offer.provider]
        now = self._clock.now()
        references = []
        for item in plan.lanes[0]:
            known = self.store.copy(item.image.sha256, account.provider.name, now)
            how = "sent along" if account.provider.inline else "uploaded when it is sent"
            url = known[0] if known else f"triptych://images/{item.handle} ({how})"
            references.append(Reference(item.image.sha256, item.image.mime_type, url=url))
        return JobResult(
            job_id=None,
            status="dry_run",
            provider=plan.offer.provider,
            model=plan.offer.family,
            endpoint=plan.offer.endpoint,
            progress=Progress(done=0, total=plan.requested),
            requested=plan.requested,
            returned=0,
            images=[],
            cost=Cost(quoted=plan.quoted_usd),
            warnings=[*plan.warnings, "A dry run: nothing was sent. The quote is the list price."]
            + ([f"This is the first of {plan.requests} requests."] if plan.requests > 1 else []),
            request=first_call(account, account.provider.submit(plan.first_edit(references))),
        )

    async def _wait(self, job_id: str, wait_s: float, caller: Caller, page: int = 1) -> JobResult:
        """Return the job when it has ended, images stored, or when `wait_s` is over; report what changes meanwhile."""
        end_s = self._clock.monotonic() + min(max(wait_s, 0), MAX_WAIT_S)
        told = None
        while True:
            row = self._job(job_id, caller)
            seen = (row.status, row.returned)
            if caller.report and seen != told:
                told = seen
                message = f"{job_id} {row.status}, {row.returned} of {row.job.requested} images"
                await caller.told(row.returned, row.job.requested, message)
            left_s = end_s - self._clock.monotonic()
            if left_s <= 0 or row.status not in (Status.QUEUED, Status.RUNNING):
                return self.job(job_id, caller, page=page)
            await self._clock.wait(self.worker.notifier, min(left_s, LOOK_AGAIN_S))

    def _resume(self, row: JobRow) -> None:
        """Look again at what had ended without its images, where looking costs nothing."""
        if row.status not in (Status.PARTIAL, Status.FAILED, Status.UNCERTAIN):
            return
        now = moment(self._clock)
        for prediction in self.store.predictions(row.job.id):
            to = self._resumed_state(prediction)
            if to:
                # An uncertain submit gets one more look, not the whole patience again.
                attempts = 4 if to is State.SUBMITTING else 0
                self.store.revive(
                    prediction.id, to, now=now, deadline_at=now.mono_s + LOOK_AGAIN_FOR_S, attempts=attempts
                )
        self.worker.notifier.notify()

    def _resumed_state(self, prediction: Prediction) -> State | None:
        account = self.setup.accounts.get(prediction.provider)  # none for one that only a newer Triptych knows
        kind = prediction.fault.kind if prediction.fault else ""
        if prediction.state is State.FAILED and kind == "deadline" and prediction.ticket:
            return State.RUNNING
        if prediction.state is State.FAILED and kind == "fetch_failed":
            return State.FETCHING
        # Its fault stays `uncertain`, so that it is only looked for: sending it again under an id of ours is no look.
        if prediction.state is State.UNCERTAIN and account and account.provider.find:
            return State.SUBMITTING
        return None

    def _page_size(self, row: JobRow, frames: Sequence[Output]) -> int:
        """Return how many images of a job a page lists: what was first said of an ended job that has several pages."""
        size = row.page_size or presenters.page_size(frames, self.store.image_by_sha256)
        if row.page_size is None and len(frames) > size and row.status not in (Status.QUEUED, Status.RUNNING):
            with suppress(errors.Outage):  # another program locks the database: the next listing fixes the same size
                self.store.fix_page_size(row.job.id, size)
        return size

    def _job(self, job_id: str, caller: Caller) -> JobRow:
        row = self.store.job(job_id.strip().partition("/")[0])
        if not row or not caller.sees(row.job.owner):
            raise errors.UnknownHandle(f"There is no job {errors.quoted(job_id, 40)}; list_jobs shows the recent ones.")
        return row

    def _tell(self, job_id: str) -> None:
        for listener in list(self._listeners.values()):
            listener(job_id)
