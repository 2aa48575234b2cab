"""Turns a paid call into a stored job: check, route, quote, confirm, write.

Rules: a refusal costs nothing and stores nothing. No image is sent before the job is stored. The same request gets the
same job.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import anyio

from triptych import catalog
from triptych.core import errors, telemetry
from triptych.core.clock import Clock, moment
from triptych.core.models import Image, Job, Reference
from triptych.core.offers import Offer
from triptych.core.requests import Request
from triptych.jobs import cost_check, live_choice, planning, routing
from triptych.jobs.caller import Caller
from triptych.jobs.catalogues import Catalogues
from triptych.jobs.config import ServiceConfig
from triptych.jobs.expanded import Expanded
from triptych.jobs.image_access import ImageAccess
from triptych.jobs.inputs import Inputs
from triptych.jobs.planning import Plan, Terms
from triptych.jobs.pricing import Pricing
from triptych.jobs.results import Cost, JobResult, Progress
from triptych.providers.accounts import Account
from triptych.providers.client import first_call
from triptych.storage.async_store import AsyncStore

T = TypeVar("T")

_DRY_RUN = "A dry run: nothing was sent. The quote is the list price."
_QUOTED_DRY_RUN = "A dry run: only the price was requested, nothing else was sent. The quote is the provider's."
BUSY_PAUSE_S = 0.25
LEAST_QUOTE_S = 0.8
"""The least time for the provider's quote, for a call that does not wait."""


@dataclass(frozen=True, slots=True)
class CreatedJob:
    """The job of a call: a new one, or the earlier job of the same request.

    The call waits for it until `until_s` (monotonic). Its images are copied into the directory `save_to`.
    """

    job: Job
    is_new: bool
    until_s: float
    save_to: str | None


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A request whose images are stored, with the offers for it; `refusal` is the error if there are none."""

    request: Request
    images: Mapping[str, Image]
    offers: list[Offer]
    warnings: tuple[str, ...]
    refusal: errors.BadRequest | None
    save_to: str | None
    expanded: Expanded

    def plan(self, accounts: Mapping[str, Account]) -> Plan:
        words_offer = functools.partial(routing.words_offer, accounts, self.request)
        plan = planning.build_plan(self.request, self.offers, self.images, words_offer, self.warnings)
        return replace(plan, counts=self.expanded.counts)

    def fingerprint(self, owner: str | None) -> str:
        return self.request.fingerprint(owner, {handle: image.sha256 for handle, image in self.images.items()})


class JobCreation:
    """Makes jobs in one store."""

    def __init__(
        self,
        config: ServiceConfig,
        store: AsyncStore,
        pricing: Pricing,
        catalogues: Catalogues,
        image_access: ImageAccess,
        inputs: Inputs,
        clock: Clock,
    ) -> None:
        self._config = config
        self._store = store
        self._pricing = pricing
        self._catalogues = catalogues
        self._image_access = image_access
        self._inputs = inputs
        self._clock = clock

    async def create(self, request: Request, terms: Terms, caller: Caller) -> CreatedJob:
        """Return the job of the same request, or store a new one.

        Raises: `errors.BadRequest` and below for an invalid request; nothing is sent then.
        """
        end_s = self._clock.monotonic() + terms.wait_s  # of the reading, the quote, the write and the wait
        prepared = await self._prepare(request, terms, caller)
        end_s = min(end_s, self._clock.monotonic() + caller.left_s())
        fingerprint = prepared.fingerprint(caller.owner)
        earlier = None if terms.again else await self._store.same_request(fingerprint, caller.owner, prepared.request)
        if earlier:
            return CreatedJob(earlier, False, end_s, prepared.save_to)
        if prepared.refusal:
            raise prepared.refusal
        plan = await self._confirm_cost(prepared.plan(self._config.accounts), terms, caller, end_s)
        job, predictions = planning.create_job(
            plan,
            now=moment(self._clock),
            fingerprint=fingerprint,
            save_to=prepared.save_to,
            again=terms.again,
            owner=caller.owner,
            budget_group=caller.group,
            sources=prepared.expanded.sources,
        )
        earlier = await self._write_with_retry(
            lambda: self._store.add_job(job, predictions, now=moment(self._clock), attach=not terms.again),
            end_s - self._clock.monotonic(),
        )
        if not earlier:
            with telemetry.span(
                "job", job_id=job.id, provider=job.provider, model=job.model, predictions=len(predictions)
            ):
                pass  # the first span of the job's own trace
        return CreatedJob(earlier or job, not earlier, end_s, prepared.save_to)  # another process may have been quicker

    async def _prepare(self, request: Request, terms: Terms, caller: Caller) -> _Prepared:
        """Return a request with its images stored here.

        A refusal is raised at once if no earlier job can be the result of the call.
        """
        if terms.save_to and terms.save_to.lower().endswith(".zip"):
            raise errors.BadRequest("save_to is a directory; save_images makes a .zip of the job. Nothing was sent.")
        expanded = await self._inputs.expand(request, caller)
        request, refusal = planning.checked(expanded.request), None
        offers: list[Offer] = []
        warnings: tuple[str, ...] = ()
        try:
            offers, warnings = await self._offers(request)
        except errors.BadRequest as error:
            if expanded.counts and isinstance(error, errors.OutOfLimits):
                raise errors.OutOfLimits(f"{error.message} {_counted(expanded)}") from error
            # The same request may have a job from before a key, a model or a default was removed. A table is not read
            # for it: its mistakes are reported first.
            if terms.again or terms.dry_run or (request.rows is not None and isinstance(error, errors.OutOfLimits)):
                raise
            refusal = error
        try:
            wanted = catalog.image_params(offers[0], request) if offers else ()
            named = list(dict.fromkeys((*request.images_named, *wanted)))
            images = await self._image_access.import_images(named, caller, expanded.places)
        except errors.TriptychError as error:
            raise refusal or error from None
        request = request.renamed({text: image.handle for text, image in zip(named, images, strict=True)}, wanted)
        directory = terms.save_to or expanded.save_to
        save_to = str(await self._image_access.directory(directory, caller)) if directory else None
        by_handle = {image.handle: image for image in images}
        warnings = (*expanded.warnings, *planning.repeats(request, expanded.sources), *warnings)
        return _Prepared(request, by_handle, offers, warnings, refusal, save_to, expanded)

    async def dry_run(self, request: Request, terms: Terms, caller: Caller) -> JobResult:
        """Return the quote and the first request to the provider; no job is stored, nothing is sent.

        Raises: as `create`.
        """
        plan = (await self._prepare(request, terms, caller)).plan(self._config.accounts)
        if plan.offer.live:
            quotes = await self._pricing.quotes(plan) if plan.offer.price.unknown else plan.quotes
            plan = cost_check.with_quotes(plan, quotes)
        exact = all(quote.exact for quote in plan.quotes)
        account = self._config.accounts[plan.offer.provider]
        now = self._clock.now()
        references = []
        for image in plan.inputs[0]:
            known = await self._store.copy(image.sha256, account.provider.name, now)
            how = "sent along" if account.provider.inline else "uploaded when the request is sent"
            url = known[0] if known else f"triptych://images/{image.handle} ({how})"
            references.append(Reference(image.sha256, image.mime_type, url=url))
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
            warnings=[*plan.warnings, _QUOTED_DRY_RUN if exact else _DRY_RUN]
            + ([f"This is the first of {plan.requests} requests."] if plan.requests > 1 else []),
            request=first_call(account, account.provider.submit(plan.first_request(references))),
        )

    async def _offers(self, request: Request) -> tuple[list[Offer], tuple[str, ...]]:
        """Return the offers that fit, best first, and the warnings about the first.

        Raises: as `routing.rank_offers` and `live_choice.find_live`, when none of them can.
        """

        def fits(offer: Offer) -> None:
            catalog.check_limits(offer, catalog.fit_look(offer, request)[0])
            catalog.check_params(offer, request)
            catalog.resolve_size(offer, request.size, None)

        accounts, today, default = self._config.accounts, self._clock.now().date(), self._config.default_provider
        try:
            offers = routing.rank_offers(accounts, default, request, fits, today)
        except (errors.UnknownModel, errors.NoKey) as error:
            if not live_choice.may_be_live(accounts, request):
                raise
            known = await self._catalogues.wait()
            offers = [live_choice.find_live(accounts, default, request, known, self._catalogues.providers, fits, error)]
        return offers, routing.notes(accounts, offers[0], request, today)

    async def _confirm_cost(self, plan: Plan, terms: Terms, caller: Caller, end_s: float) -> Plan:
        """Return a plan with its quotes, and the routes within the confirmed cost.

        Raises: as `cost_check.check_cost`.
        """
        within_s = max((end_s - self._clock.monotonic()) / 2, LEAST_QUOTE_S)
        plan = cost_check.with_quotes(plan, await self._pricing.quotes(plan, within_s))
        return cost_check.check_cost(
            plan,
            terms.max_cost_usd,
            self._config.confirm_usd,
            await self._store.tightest_budget(moment(self._clock), caller.owner, caller.group),
            asks=caller.asks,
            agreed_usd=caller.agreed_usd,
        )

    async def _write_with_retry(self, write: Callable[[], Awaitable[T]], within_s: float) -> T:
        """Return the result of a write, tried again for `within_s` while another program locks the database.

        Raises: `errors.Outage` if nothing was written.
        """
        end_s = self._clock.monotonic() + within_s
        while True:
            try:
                return await write()
            except errors.Unusable:
                raise
            except errors.Outage:
                if self._clock.monotonic() >= end_s:
                    raise
            await self._clock.wait(anyio.Event(), BUSY_PAUSE_S)


def _counted(expanded: Expanded) -> str:
    """Return the number of pictures of a call's folders as sentences of a refusal."""
    alone = " edit_chain edits each picture on its own." if expanded.request.tool == "edit_sequence" else ""
    return f"Nothing was read: {', '.join(expanded.counts[: cost_check.MOST_COUNTS])}.{alone}"
