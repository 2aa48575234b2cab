"""The use-cases behind tools and commands: what a person or an assistant can ask for.

Rules: a refusal costs nothing and leaves nothing behind; a paid request is written down (`store.add_job`) before anybody
hears of it, and worked on by the engine, not by the call; every call answers in bounded time. This file must not know
MCP, the command line or the environment.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from triptych import catalog, errors, planning, views
from triptych.assets import Assets, allowed_directory
from triptych.clock import Clock, SystemClock
from triptych.engine import Engine, refer
from triptych.model import Image, Operation, Prediction, Quote, Reference, State, Status
from triptych.planning import MAX_LANES, MAX_STEPS, Input, Options, Plan
from triptych.results import (
    Cost,
    ImageResult,
    JobResult,
    JobsResult,
    ModelRow,
    ModelsResult,
    Preview,
    Progress,
    ProviderRow,
    Saved,
    SaveResult,
    UploadResult,
)
from triptych.rows import JobRow
from triptych.store import Store
from triptych.wire import Account, Wire, first_call

log = logging.getLogger(__name__)

__all__ = ["Caller", "Options", "Setup", "Studio", "open_studio"]

MAX_WAIT_S = 55.0
QUOTE_PATIENCE_S = 8.0
"""How long a call waits for the provider's own quote before it makes do with the list price."""
LISTING_LIFETIME_S = 600.0
LOOK_AGAIN_S = 1.0
MAX_SHEET_IMAGES = 40

Report = Callable[[float, float, str], Awaitable[None]]
"""Told of progress: done, total, one line of text."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a studio is opened with; `config` reads it from the environment.

    `accounts` are all known providers, usable or not, in order of preference. `allowed_dirs` may be read and written by
    every caller; `budget_usd` None is no cap.
    """

    home: Path
    accounts: Mapping[str, Account]
    default_provider: str
    allowed_dirs: tuple[Path, ...] = ()
    budget_usd: Decimal | None = Decimal(10)
    confirm_usd: Decimal = Decimal(1)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: further directories this caller may use, and where to report progress."""

    roots: tuple[Path, ...] = ()
    report: Report | None = None


ANYONE = Caller()
PLAIN = Options()


@asynccontextmanager
async def open_studio(setup: Setup, clock: Clock | None = None) -> AsyncIterator[Studio]:
    """Open the database, take up what was left unfinished, and work until the block ends.

    Raises: `errors.BadRequest` when TRIPTYCH_HOME cannot be used.
    """
    studio = Studio(setup, clock or SystemClock())
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(studio.engine.run)
            yield studio
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # What the block raised, as it raised it.
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from group.exceptions[0].__cause__
        raise
    finally:
        with anyio.CancelScope(shield=True):
            await studio.wire.aclose()
        studio.store.close()


@dataclass(slots=True)
class _Cached:
    at: datetime
    value: Any


class Studio:
    """The ten use-cases, over one store, one engine and one set of connections."""

    def __init__(self, setup: Setup, clock: Clock) -> None:
        self.setup = setup
        self._clock = clock
        self._listeners: dict[object, Callable[[str], None]] = {}
        self._cache: dict[object, _Cached] = {}
        self.wire = Wire()
        self._assets = Assets(setup.home, self.wire.fetch)
        self._assets.sweep(clock.now())
        self.store = Store(setup.home / "triptych.db", self._assets.images_dir)
        self.engine = Engine(self.store, self._assets, self.wire, setup.accounts, clock, self._tell)

    # -- the tools

    async def upload_images(self, images: Sequence[str], caller: Caller = ANYONE) -> UploadResult:
        """Bring images home and to the default provider's storage; return their handles.

        Raises: `errors.BadRequest` for what cannot be read. An upload that fails leaves the handle, with a warning.
        """
        if not 1 <= len(images) <= MAX_LANES:
            raise errors.OutOfLimits(f"upload_images takes 1 to {MAX_LANES} images; {len(images)} were given.")
        inputs = await self._bring_in(images, caller)
        account = self.setup.accounts[self.setup.default_provider]
        shown, warnings = [], []
        for done, item in enumerate(inputs):
            await _report(caller, done, len(inputs), f"uploading {item.handle}")
            hosted = None
            if account.usable and not account.provider.inline:
                try:
                    await refer(self.store, self.wire, self._clock, account, item.image)
                    hosted = self.store.copy(item.image.sha256, account.provider.name, self._clock.now())
                except errors.TriptychError as error:
                    warnings.append(f"{item.handle} is here but not at {account.provider.title} yet: {error.message}")
            shown.append(views.image_of_upload(item.image, hosted))
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
        return await self._one_prediction(
            "edit_sequence", Operation.EDIT_SEQUENTIAL, images, prompt, count, options, caller
        )

    async def generate_sequence(
        self, prompt: str, count: int = 1, options: Options = PLAIN, caller: Caller = ANYONE
    ) -> JobResult:
        """Ask for `count` coherent images from a prompt alone, in one prediction.

        Raises: as `edit_sequence`.
        """
        return await self._one_prediction(
            "generate_sequence", Operation.GENERATE_SEQUENTIAL, (), prompt, count, options, caller
        )

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
        prompts = tuple(planning.check_prompt(step) for step in steps)
        offer = planning.choose(self.setup.accounts, self.setup.default_provider, Operation.EDIT, options, 1)
        for prompt in prompts:
            catalog.check(offer, references=1 + len(references), count=1, prompt=prompt, format=options.format)
        shared = tuple(await self._bring_in(references, caller))
        lanes = [(item, *shared) for item in await self._bring_in(images, caller)]
        return await self._start("edit_chain", offer, tuple(lanes), shared, prompts, 1, options, caller)

    async def get_status(self, job_id: str, wait_s: float = 0, caller: Caller = ANYONE) -> JobResult:
        """Return a job as it stands, after waiting up to `wait_s` for a change worth reporting.

        A missed deadline, a failed fetch and an uncertain submit are looked at again.
        Raises: `errors.UnknownHandle`.
        """
        row = self._job(job_id)
        self._take_up(row)
        return await self._wait(row.job.id, wait_s, caller, any_change=True)

    async def list_jobs(self, limit: int = 20, status: str | None = None) -> JobsResult:
        """Return recent jobs, newest first."""
        if not 1 <= limit <= 100:
            raise errors.OutOfLimits(f"limit is 1 to 100; it was {limit}.")
        if status is not None and status not in set(Status):
            raise errors.OutOfLimits(f"status is one of {', '.join(Status)}; it was {errors.quoted(status, 40)}.")
        rows = self.store.jobs(limit, status)
        unfinished = next((r.job.id for r in rows if r.status in (Status.QUEUED, Status.RUNNING)), None)
        return JobsResult(
            jobs=[views.job_summary(row, self.store.predictions(row.job.id)) for row in rows],
            next=f'get_status(job_id="{unfinished}", wait_s=50)' if unfinished else None,
        )

    async def cancel_job(self, job_id: str) -> JobResult:
        """Stop what has not been submitted; say what is still at the provider and will be charged.

        Raises: `errors.UnknownHandle`.
        """
        row = self._job(job_id)
        self.store.cancel(row.job.id, self._clock.now())
        self._tell(row.job.id)
        self.engine.bell.ring()
        at_provider = [
            p
            for p in self.store.predictions(row.job.id)
            if p.state in (State.SUBMITTING, State.RUNNING, State.FETCHING)
        ]
        result = self.job(row.job.id)
        if not at_provider:
            return result
        cost = sum((p.quoted_usd for p in at_provider), Decimal(0))
        provider = self.setup.accounts[row.job.provider].provider.title
        warning = (
            f"{len(at_provider)} request(s) are already at {provider}, which cannot cancel them: about ${cost:f} will be "
            "charged, and their images still come home."
        )
        return result.model_copy(update={"warnings": [*result.warnings, warning]})

    async def list_models(
        self, query: str = "", operation: str | None = None, provider: str | None = None
    ) -> ModelsResult:
        """Return models × providers with price, limits, lifecycle, and whether each is usable now.

        Raises: `errors.OutOfLimits` for an unknown operation, `errors.UnknownModel` for an unknown provider.
        """
        if operation is not None and operation not in set(Operation):
            raise errors.OutOfLimits(
                f"operation is one of {', '.join(Operation)}; it was {errors.quoted(operation, 40)}."
            )
        if provider is not None and provider not in self.setup.accounts:
            names = ", ".join(self.setup.accounts)
            raise errors.UnknownModel(f"There is no provider {errors.quoted(provider, 40)}; there are: {names}.")
        accounts = [a for name, a in self.setup.accounts.items() if provider in (None, name)]
        live: dict[str, Any] = {}
        balances: dict[str, Any] = {}
        warnings: list[str] = []
        async with anyio.create_task_group() as tasks:
            for account in accounts:
                tasks.start_soon(self._look_at, account, live, balances, warnings)
        rows = []
        for account in accounts:
            for offer in catalog.search(account.provider.offers, query, operation, None):
                prices = live.get(account.provider.name, {})
                gone = bool(prices) and offer.endpoint not in prices
                price = prices.get(offer.endpoint) or offer.price.usd_per_image
                rows.append(
                    ModelRow(
                        model=offer.family,
                        operation=offer.operation,
                        provider=account.provider.name,
                        endpoint=offer.endpoint,
                        usd_per_image=price,
                        price_as_of=offer.price.as_of if price == offer.price.usd_per_image else "live",
                        max_references=offer.max_references,
                        max_outputs=offer.max_outputs,
                        sizes=catalog.sizes_text(offer),
                        formats=list(offer.formats),
                        lifecycle=_lifecycle(offer.lifecycle),
                        usable=account.usable and not gone,
                        why_not=account.why_not or (f"not in {account.provider.title}'s live list" if gone else None),
                    )
                )
        return ModelsResult(
            default_provider=self.setup.default_provider,
            providers=[
                ProviderRow(
                    provider=a.provider.name,
                    usable=a.usable,
                    why_not=a.why_not,
                    balance_usd=balances.get(a.provider.name),
                )
                for a in accounts
            ],
            models=rows,
            warnings=warnings,
        )

    async def view_images(self, images: Sequence[str], caller: Caller = ANYONE) -> Preview:
        """Return one image as a preview, several as a labelled contact sheet; a JPEG either way.

        Raises: `errors.BadRequest` for what cannot be shown.
        """
        if not 1 <= len(images) <= MAX_SHEET_IMAGES:
            raise errors.OutOfLimits(f"view_images shows 1 to {MAX_SHEET_IMAGES} images; {len(images)} were given.")
        inputs = await self._bring_in(images, caller)
        notes = [self._note(item) for item in inputs]
        return await anyio.to_thread.run_sync(_draw, inputs, notes)

    async def save_images(
        self, images: Sequence[str], directory: str, name: str | None = None, caller: Caller = ANYONE
    ) -> SaveResult:
        """Copy images at full resolution into an allowed directory, overwriting nothing.

        Raises: `errors.NotAllowed`, and as `view_images`.
        """
        if not 1 <= len(images) <= MAX_LANES * MAX_STEPS:
            raise errors.OutOfLimits("save_images takes at least one image.")
        target = allowed_directory(directory, self._writable(caller))
        saved = []
        for i, item in enumerate(await self._bring_in(images, caller), 1):
            stem = item.handle.replace("/", "-")
            if name:
                stem = name if len(images) == 1 else f"{name}-{i:02d}"
            path = await anyio.to_thread.run_sync(self._assets.save, item.image, target, stem)
            saved.append(Saved(handle=item.handle, path=str(path)))
        return SaveResult(saved=saved)

    # -- what resources show

    def job(self, job_id: str, *, every: bool = False) -> JobResult:
        """Return a job as it stands; with `every`, all its images.

        Raises: `errors.UnknownHandle`.
        """
        row = self._job(job_id)
        return views.job_result(
            row,
            self.store.predictions(row.job.id),
            self.store.frames(row.job.id),
            self.store.image_by_sha256,
            every=every,
        )

    def recent_images(self, limit: int = 20) -> list[ImageResult]:
        """Return the newest outputs that are home."""
        return [
            views.image_of_frame(frame, self.store.image_by_sha256(frame.sha256 or ""))
            for frame in self.store.recent_frames(limit)
        ]

    async def preview(self, handle: str) -> tuple[bytes, ImageResult]:
        """Return a JPEG of at most 100 KB and the facts of the image behind a handle.

        Raises: `errors.UnknownHandle`.
        """
        image = self._by_handle(handle)
        frame = self.store.frame(handle)
        facts = views.image_of_frame(frame, image) if frame else views.image_of_upload(image)
        return await anyio.to_thread.run_sync(_preview, image.path), facts

    def watch(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Tell `listener` the id of each job that moves, until the returned function is called."""
        token = object()
        self._listeners[token] = listener
        return lambda: self._listeners.pop(token, None) and None

    # -- how a job starts and is waited for

    async def _one_prediction(
        self,
        tool: str,
        operation: Operation,
        images: Sequence[str],
        prompt: str,
        count: int,
        options: Options,
        caller: Caller,
    ) -> JobResult:
        prompt = planning.check_prompt(prompt)
        offer = planning.choose(self.setup.accounts, self.setup.default_provider, operation, options, count)
        catalog.check(offer, references=len(images), count=count, prompt=prompt, format=options.format)
        inputs = tuple(await self._bring_in(images, caller))
        prompts = (catalog.name_count(offer, prompt, count),)
        return await self._start(tool, offer, (inputs,), (), prompts, count, options, caller)

    async def _start(
        self,
        tool: str,
        offer: Any,
        lanes: tuple[tuple[Input, ...], ...],
        references: tuple[Input, ...],
        prompts: tuple[str, ...],
        count: int,
        options: Options,
        caller: Caller,
    ) -> JobResult:
        plan = Plan(
            tool=tool,
            offer=offer,
            lanes=lanes,
            references=references,
            prompts=prompts,
            count=count,
            sizes=tuple(
                catalog.resolve_size(offer, options.size, lane[0].image.size if lane else None) for lane in lanes
            ),
            format=options.format,
            quote=catalog.quote(offer, count),
        )
        save_to = str(allowed_directory(options.save_to, self._writable(caller))) if options.save_to else None
        if options.dry_run:
            return self._dry_run(plan)
        plan = replace(plan, quote=await self._quote(plan))
        planning.check_cost(plan.quoted_usd, options.max_cost_usd, self.setup.confirm_usd)
        job, predictions = planning.write_up(plan, now=self._clock.now(), save_to=save_to, again=options.again)
        attached = self.store.add_job(
            job, predictions, now=self._clock.now(), budget_usd=self.setup.budget_usd, attach=not options.again
        )
        if attached:
            note = "The same request was in flight already: this is that job. again=true pays for another variation."
            result = await self._wait(attached.id, options.wait_s, caller)
            return result.model_copy(update={"warnings": [*result.warnings, note]})
        self._tell(job.id)
        self.engine.bell.ring()
        return await self._wait(job.id, options.wait_s, caller)

    def _dry_run(self, plan: Plan) -> JobResult:
        account = self.setup.accounts[plan.offer.provider]
        now = self._clock.now()
        references = []
        for item in plan.lanes[0]:
            known = self.store.copy(item.image.sha256, account.provider.name, now)
            url = known[0] if known else f"triptych://images/{item.handle} (uploaded when it is sent)"
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
            warnings=["A dry run: nothing was sent. The quote is the list price."]
            + ([f"This is the first of {plan.requests} requests."] if plan.requests > 1 else []),
            request=first_call(account, account.provider.submit(plan.first_edit(references))),
        )

    async def _quote(self, plan: Plan) -> Quote:
        """Return the provider's own quote for one request, or the list price when it does not say in time."""
        account = self.setup.accounts[plan.offer.provider]
        if not account.provider.quote:
            return plan.quote
        key = ("quote", plan.offer.provider, plan.offer.endpoint, plan.count, plan.sizes[0], len(plan.lanes[0]))
        if cached := self._cached(key):
            quote: Quote = cached
            return quote
        with anyio.move_on_after(QUOTE_PATIENCE_S), suppress(errors.Outage, errors.Refused, errors.Failed):
            references = [
                await refer(self.store, self.wire, self._clock, account, item.image) for item in plan.lanes[0]
            ]
            found = await self.wire.run(account, account.provider.quote(plan.first_edit(references)))
            if found:
                self._cache[key] = _Cached(self._clock.now(), found)
                return found
        return plan.quote

    async def _wait(self, job_id: str, wait_s: float, caller: Caller, *, any_change: bool = False) -> JobResult:
        """Return the job when it has ended, when (`any_change`) it has moved, or when `wait_s` is over."""
        end = self._clock.now() + timedelta(seconds=min(max(wait_s, 0), MAX_WAIT_S))
        row = self._job(job_id)
        first = (row.status, row.returned)
        told = None
        while True:
            row = self._job(job_id)
            seen = (row.status, row.returned)
            if caller.report and seen != told:
                told = seen
                message = f"{job_id} {row.status}, {row.returned} of {row.job.requested} images"
                await _report(caller, row.returned, row.job.requested, message)
            left_s = (end - self._clock.now()).total_seconds()
            ended = row.status not in (Status.QUEUED, Status.RUNNING)
            if ended or left_s <= 0 or (any_change and seen != first and row.status is not Status.RUNNING):
                return self.job(job_id)
            if any_change and row.returned != first[1]:
                return self.job(job_id)
            await self._clock.wait(self.engine.bell, min(left_s, LOOK_AGAIN_S))

    def _take_up(self, row: JobRow) -> None:
        """Look again at what had ended without its images, where looking costs nothing."""
        if row.status not in (Status.PARTIAL, Status.FAILED, Status.UNCERTAIN):
            return
        now = self._clock.now()
        for prediction in self.store.predictions(row.job.id):
            to = self._taken_up(prediction)
            if to:
                # An uncertain submit gets one more look, not the whole patience again.
                attempts = 4 if to is State.SUBMITTING else 0
                self.store.revive(
                    prediction.id, to, now=now, deadline_at=now + timedelta(minutes=10), attempts=attempts
                )
        self.engine.bell.ring()

    def _taken_up(self, prediction: Prediction) -> State | None:
        provider = self.setup.accounts[prediction.provider].provider
        kind = prediction.fault.kind if prediction.fault else ""
        if prediction.state is State.FAILED and kind == "deadline" and prediction.ticket:
            return State.RUNNING
        if prediction.state is State.FAILED and kind == "fetch_failed":
            return State.FETCHING
        if prediction.state is State.UNCERTAIN and (provider.find or provider.client_ids):
            return State.SUBMITTING
        return None

    def _job(self, job_id: str) -> JobRow:
        row = self.store.job(job_id.strip().partition("/")[0])
        if not row:
            raise errors.UnknownHandle(f"There is no job {errors.quoted(job_id, 40)}; list_jobs shows the recent ones.")
        return row

    def _tell(self, job_id: str) -> None:
        for listener in list(self._listeners.values()):
            listener(job_id)

    # -- images

    async def _bring_in(self, items: Sequence[str], caller: Caller) -> list[Input]:
        """Return the images behind handles, paths and URLs, in order; outside ones are brought home first."""
        found = []
        for i, item in enumerate(items):
            text = item.strip()
            if text.startswith("triptych://images/"):
                text = text.removeprefix("triptych://images/")
            if text.startswith(("img_", "job_")):
                found.append(Input(text, self._by_handle(text)))
                continue
            if len(items) > 1:
                await _report(caller, i, len(items), f"reading image {i + 1} of {len(items)}")
            if not text:
                raise errors.UnreadableImage(
                    "An image is an empty string; pass a handle, a path, a URL or a data: URI."
                )
            image = await self._assets.bring_in(text, self._writable(caller))
            image = self.store.add_image(image, self._clock.now())
            found.append(Input(image.handle, image))
        return found

    def _by_handle(self, handle: str) -> Image:
        image = self.store.image_by_handle(handle)
        if image and image.path.exists():
            return image
        if image:
            raise errors.UnknownHandle(f"The file of {handle} is gone from TRIPTYCH_HOME; upload or make it again.")
        frame = self.store.frame(handle) if handle.startswith("job_") else None
        if frame or (handle.startswith("job_") and self.store.job(handle.partition("/")[0])):
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

    def _writable(self, caller: Caller) -> tuple[Path, ...]:
        return (*self.setup.allowed_dirs, *caller.roots)

    def _note(self, item: Input) -> str:
        frame = self.store.frame(item.handle)
        size = f"{item.image.width}x{item.image.height}"
        return f"{size} from {', '.join(frame.source)}" if frame and frame.source else size

    # -- what providers say of themselves

    async def _look_at(
        self, account: Account, live: dict[str, Any], balances: dict[str, Any], warnings: list[str]
    ) -> None:
        """Ask a provider for its live prices and the balance; what it does not say stays out."""
        name = account.provider.name
        if not account.usable:
            return
        try:
            with anyio.fail_after(QUOTE_PATIENCE_S):
                if account.provider.listing:
                    listing = self._cached(("listing", name)) or await self.wire.run(
                        account, account.provider.listing()
                    )
                    self._cache.setdefault(("listing", name), _Cached(self._clock.now(), listing))
                    live[name] = listing.prices_usd
                if account.provider.balance:
                    balances[name] = await self.wire.run(account, account.provider.balance())
        except (errors.TriptychError, TimeoutError) as error:
            reason = error.message if isinstance(error, errors.TriptychError) else "no answer in time"
            warnings.append(f"{account.provider.title} was not asked to the end: {reason} The built-in list is shown.")

    def _cached(self, key: object) -> Any:
        entry = self._cache.get(key)
        if entry and self._clock.now() - entry.at < timedelta(seconds=LISTING_LIFETIME_S):
            return entry.value
        self._cache.pop(key, None)
        return None


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


def _lifecycle(lifecycle: Any) -> str:
    said = [f"{word} {day}" for word in ("released", "deprecated", "retired") if (day := getattr(lifecycle, word))]
    return ", ".join(said) + (f" ({lifecycle.source})" if said and lifecycle.source else "")


async def _report(caller: Caller, done: float, total: float, message: str) -> None:
    if caller.report:
        await caller.report(done, total, message)
