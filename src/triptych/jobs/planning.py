"""Checks a request, ranks the offers for it, and makes the job: its sizes, its counts, its prices.

Sends and writes nothing. An invalid request is refused here, before it costs anything.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import uuid4

from triptych import catalog
from triptych.catalog import backgrounds
from triptych.core import errors
from triptych.core.clock import Moment
from triptych.core.models import Image, Job, Prediction, ProviderRequest, Reference, Route, State
from triptych.core.offers import Offer, Operation, Quote, Size
from triptych.core.requests import ORIGINAL, Request
from triptych.providers.client import Account

MAX_REQUESTS = 2000
"""The most requests of one job: lanes × steps."""
MAX_STEPS = 10


@dataclass(frozen=True, slots=True)
class Terms:
    """The arguments of a paid call that do not change its images: its wait, its cap, its directory."""

    wait_s: float = 25
    save_to: str | None = None
    max_cost_usd: Decimal | None = None
    dry_run: bool = False
    again: bool = False


def read_arguments(tool: str, given: Mapping[str, Any]) -> tuple[Request, Terms]:
    """Return the request and the terms from a paid tool's arguments."""
    asked: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    prompt = asked.pop("prompt", None)
    prompts = asked.pop("steps", ()) if prompt is None else (prompt,)
    asked["params"] = asked.pop("params", None) or None
    terms = {field.name: asked.pop(field.name) for field in fields(Terms) if field.name in asked}
    return Request(tool, prompts, **asked), Terms(**terms)


@dataclass(frozen=True, slots=True)
class Plan:
    """A job before it is stored: a request, the offer that is used first, and the price of each lane."""

    request: Request
    offer: Offer
    inputs: tuple[tuple[Image, ...], ...]
    """The images that each lane's first request carries: its own, the references, those among its parameters."""
    sizes: tuple[Size | None, ...]
    """One for each lane."""
    quotes: tuple[Quote, ...]
    """The price of the first request of each lane: lanes of different sizes may be in different price tiers."""
    later_quotes: tuple[Quote, ...]
    """The price of each later request of each lane, which may have more or fewer images."""
    words: Offer | None = None
    """The offer for a request without images, in a job that has others with images; else None."""
    routes: tuple[Route, ...] = ()
    warnings: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()
    """The number of pictures of each folder and pattern in the call, in words."""

    @property
    def requests(self) -> int:
        return self.request.requests

    @property
    def requested(self) -> int:
        return self.request.requested

    @property
    def quoted_usd(self) -> Decimal:
        return sum((self.quote_at(lane, step).usd for lane, step in self.request.places()), Decimal(0))

    def offer_at(self, lane: int, step: int) -> Offer:
        """Return the offer of one request."""
        is_first = step == self.request.first_step(lane)
        return self.words if self.words and is_first and self.request.begins_with_words(lane) else self.offer

    def quote_at(self, lane: int, step: int) -> Quote:
        """Return the price of one request."""
        return (self.quotes if step == self.request.first_step(lane) else self.later_quotes)[lane]

    def first_request(self, references: Sequence[Reference], lane: int = 0) -> ProviderRequest:
        """Return a lane's first request to the provider."""
        step = self.request.first_step(lane)
        offer, prompt = self.offer_at(lane, step), self.request.prompt_at(lane, step)
        return provider_request(offer, self.request, prompt, self.sizes[lane], references)


def provider_request(
    offer: Offer,
    request: Request,
    prompt: str,
    size: Size | None,
    references: Sequence[Reference],
    *,
    client_id: str = "",
    variation: str = "",
) -> ProviderRequest:
    """Return one request of a job for an offer's provider.

    `references` are its inputs, and after them the images among its parameters (`catalog.image_params`). The words of
    its look are added to the prompt.
    """
    named = request.with_look(catalog.name_count(offer, prompt, request.count))  # a look's words name no count
    if len(named) > offer.max_prompt_chars:
        named = request.with_look(prompt)
    given, images = request.params or {}, catalog.image_params(offer, request)
    inputs = tuple(references[: len(references) - len(images)])
    by_handle = dict(zip(images, references[len(inputs) :], strict=True))
    params = {
        name: by_handle[value] if name in offer.params and offer.params[name].is_image else value
        for name, value in given.items()
    }
    return ProviderRequest(offer, request, named, size, inputs, params, client_id, variation)


CHEAPEST = "cheapest"


def rank_offers(
    accounts: Mapping[str, Account],
    default_provider: str,
    request: Request,
    fits: Callable[[Offer], None],
    today: date,
) -> list[Offer]:
    """Return the offers that fit, best first: one for each provider, all of one family.

    A named provider gives only its own offer. Without one, the default's best offer comes first, then the same family
    at the other usable providers. "cheapest" takes the preferred family of all, by list price of the whole request.
    `fits` raises the reason why an offer does not fit.
    Raises: `errors.UnknownModel`, `errors.NoKey`, `errors.OutOfLimits`: the first provider's reason.
    """

    def pick(account: Account, model: str | None) -> Offer:
        return _pick(account.provider.offers_by_name(model), replace(request, model=model), fits, today)

    named = (request.provider or "").strip().lower()
    if named and named != CHEAPEST:
        account = accounts.get(named)
        if not account:
            raise errors.UnknownModel(
                f"There is no provider {errors.quoted(request.provider, 40)}; there are: "
                f"{', '.join([*sorted(accounts), CHEAPEST])}."
            )
        _require_key(account)
        return [pick(account, request.model)]
    order = [default_provider, *(name for name in accounts if name != default_provider)]
    usable = [
        accounts[name]
        for name in order
        # The offline preview is used only if it is the default.
        if accounts[name].usable and (name == default_provider or not accounts[name].provider.offline)
    ]
    found: list[Offer] = []
    first_error: errors.BadRequest | None = None
    for account in usable:
        try:
            found.append(pick(account, request.model))
        except errors.BadRequest as error:
            first_error = first_error or error
    if not found:
        if isinstance(first_error, errors.UnknownModel):
            _name_the_key(accounts, request)
        raise first_error or errors.UnknownModel("No provider can be used; `triptych doctor` says why.")
    first = catalog.by_preference(found, request.operation, request.count)[0] if named == CHEAPEST else found[0]
    same = [offer for offer in found if offer.family == first.family]
    if not (request.model or "").strip():
        same = []
        for account in usable:
            with suppress(errors.BadRequest):
                same.append(pick(account, first.family))
    if named == CHEAPEST:
        same.sort(key=lambda offer: _list_price_usd(offer, request))
    return same


def _list_price_usd(offer: Offer, request: Request) -> Decimal:
    size, request = catalog.resolve_size(offer, request.size, None), catalog.fit_look(offer, request)[0]
    return catalog.quote(offer, catalog.most_images(offer, request), size, request.most_inputs, request.params).usd


def _pick(offers: Sequence[Offer], request: Request, fits: Callable[[Offer], None], today: date) -> Offer:
    """Return the named model's offer; with none named, the preferred one of those that fit.

    Raises: `errors.BadRequest`: the reason why the offer with the most references does not fit.
    """
    chosen = catalog.choose(offers, request.operation, request.model, request.count, today=today)
    if request.model and request.model.strip():
        fits(chosen)
        return chosen
    alive = [offer for offer in catalog.for_any(offers, request.count) if not catalog.is_retired(offer, today)]
    preferred = catalog.by_preference(alive, request.operation, request.count)
    for offer in preferred:
        with suppress(errors.BadRequest):
            fits(offer)
            return offer
    widest = max(preferred, key=lambda offer: offer.max_references)
    fits(widest)
    raise AssertionError("an offer that did not fit fits now")


def notes(accounts: Mapping[str, Account], chosen: Offer, request: Request, today: date) -> tuple[str, ...]:
    """Return the warnings about the chosen offer: a retired default, no set, a transparent background."""
    operation = request.operation
    warnings = [chosen.assumed] if chosen.assumed else []
    if not (request.model or "").strip():
        for better in catalog.by_preference(accounts[chosen.provider].provider.offers, operation, request.count):
            if better.family == chosen.family:
                break
            if catalog.is_retired(better, today):
                warnings.append(
                    f"{better.family} on {better.provider} was retired on {better.lifecycle.retired} "
                    f"({better.lifecycle.source}); {chosen.family} is used instead."
                )
    if chosen.independent and request.count > 1:
        warnings.append(
            f"{chosen.family} on {chosen.provider} makes no sets: the {request.count} images are independent "
            "variations of one prompt. For a set that belongs together leave model out."
        )
    hosted = (account for account in accounts.values() if not account.provider.offline)
    usable_first = sorted(hosted, key=lambda account: not account.usable)
    others = [o for account in usable_first for o in account.provider.offers if o.operation.edits == operation.edits]
    keys = {name: a.provider.key_env for name, a in accounts.items() if not a.usable and a.provider.key_env}
    warnings += [text for text in (backgrounds.note(chosen, request, others, keys),) if text]
    return (*warnings, *catalog.params.notes(chosen, request))


def _name_the_key(accounts: Mapping[str, Account], request: Request) -> None:
    """Raise `NoKey` for a model that only a provider without a key has."""
    for account in accounts.values():
        if not account.usable:
            try:
                offers = account.provider.offers_by_name(request.model)
                catalog.choose(offers, request.operation, request.model, request.count)
            except errors.BadRequest:
                continue
            _require_key(account)


def _require_key(account: Account) -> None:
    if not account.usable:
        raise errors.NoKey(
            f"{account.provider.title} needs a key: set {account.provider.key_env} in the server's environment and "
            'restart it. provider="draft" works without one (an offline preview, not Seedream).'
        )


WordsOffer = Callable[[Offer], Offer | None]
"""Returns the offer for the requests of a job without images, beside the offer for those with images."""


def build_plan(
    request: Request,
    offers: Sequence[Offer],
    images: Mapping[str, Image],
    words_offer: WordsOffer,
    warnings: tuple[str, ...] = (),
) -> Plan:
    """Return the plan for the first offer, with the others as routes; sizes are resolved for each of them.

    `images` has the image behind each handle. `warnings` go into the result.
    Raises: `errors.OutOfLimits` if the first offer has no such size.
    """
    request, left_out = catalog.fit_look(offers[0], request)
    also = catalog.image_params(offers[0], request)
    first = [request.first_step(lane) for lane in range(request.lanes)]
    inputs = tuple(
        tuple(images[handle] for handle in (*request.inputs(lane, step), *also)) for lane, step in enumerate(first)
    )

    def planned(offer: Offer) -> Plan:
        words = words_offer(offer)
        count = catalog.most_images(offer, request)

        def offer_of(references: int) -> Offer:
            return words if words and not references else offer

        @functools.cache
        def quote(size: Size | None, references: int) -> Quote:
            return catalog.quote(offer_of(references), count, size, references, request.params)

        @functools.cache
        def size_of(references: int, source: Size | None) -> Size | None:
            return catalog.resolve_size(offer_of(references), request.size, source)

        references = [len(lane) - len(also) for lane in inputs]
        sizes = tuple(size_of(n, lane[0].size if n else None) for n, lane in zip(references, inputs, strict=True))
        quotes = [quote(size, n) for size, n in zip(sizes, references, strict=True)]
        later = [
            quote(size, len(request.inputs(lane, step + 1))) if step + 1 < request.steps else quotes[lane]
            for lane, (size, step) in enumerate(zip(sizes, first, strict=True))
        ]
        return Plan(request, offer, inputs, sizes, tuple(quotes), tuple(later), words)

    routes = []
    for offer in offers[1:]:
        with suppress(errors.OutOfLimits):
            catalog.check_limits(offer, request)
            routes.append(_route(planned(offer)))
    return replace(planned(offers[0]), routes=tuple(routes), warnings=(*warnings, *left_out))


def _route(plan: Plan) -> Route:
    """Return a plan for another provider as a route of a job."""
    offer, words = plan.offer, plan.words
    return Route(
        offer.provider,
        offer.family,
        offer.endpoint,
        offer.operation,
        plan.sizes,
        tuple(quote.usd for quote in plan.quotes),
        tuple(quote.usd for quote in plan.later_quotes) if plan.later_quotes != plan.quotes else (),
        (words.endpoint, words.operation) if words else None,
    )


def words_offer(accounts: Mapping[str, Account], request: Request, offer: Offer) -> Offer | None:
    """Return the offer of the same family and provider for the requests without images; None if there are none.

    Raises: `errors.OutOfLimits` if the model makes no image from words.
    """
    if not request.mixes_words_and_images:
        return None
    same = [one for one in accounts[offer.provider].provider.offers if one.family == offer.family]
    if offer.in_no_table or not any(not one.operation.edits for one in same):
        raise errors.OutOfLimits(
            f"{offer.family} on {offer.provider} only edits images, and a row of the table has none: give each row an "
            "image, or name another model."
        )
    return catalog.choose(same, Operation.GENERATE)


def checked(request: Request) -> Request:
    """Return a request with its prompts trimmed.

    Raises: `errors.OutOfLimits` for an empty prompt, a chain of too many images or steps, or "original" given twice.
    """
    if request.references.count(ORIGINAL) > 1:
        raise errors.OutOfLimits(f'"{ORIGINAL}" stands among the references of a chain once.')
    if request.is_chain:
        if not 1 <= request.steps <= MAX_STEPS:
            raise errors.OutOfLimits(f"edit_chain takes 1 to {MAX_STEPS} steps; {request.steps} were given.")
        if not request.lanes:
            raise errors.OutOfLimits("edit_chain takes at least one image; none was given.")
        if request.lanes * request.steps > MAX_REQUESTS:
            raise errors.OutOfLimits(
                f"{request.lanes} images × {request.steps} steps are {request.lanes * request.steps} requests; one job "
                f"takes at most {MAX_REQUESTS}: split the images, {MAX_REQUESTS // request.steps} at a time."
            )
    prompts = tuple(prompt.strip() for prompt in request.prompts)
    if not all(prompts):
        raise errors.OutOfLimits("The prompt is empty; say what the images should show or what should change.")
    params = dict(request.params or {})
    layers = params.get("layers", False)
    if not isinstance(layers, bool):
        raise errors.OutOfLimits("params.layers is true or false.")
    if layers and (request.tool != "edit_sequence" or len(request.images) != 1 or request.count != 1):
        raise errors.OutOfLimits(
            "params.layers takes one picture apart: use edit_sequence with one image and without count. Each layer "
            "becomes an image of the job."
        )
    if not layers:
        params.pop("layers", None)
    return replace(request, prompts=prompts, params=params or None)


def create_job(
    plan: Plan,
    *,
    now: Moment,
    fingerprint: str,
    save_to: str | None,
    again: bool,
    owner: str | None,
    sources: tuple[str, ...],
) -> tuple[Job, list[Prediction]]:
    """Return the job and its predictions, ready to be stored."""
    request, offer = plan.request, plan.offer
    job_id = f"job_{uuid4().hex[:8]}"
    job = Job(
        id=job_id,
        request=request,
        created_at=now.at,
        fingerprint=fingerprint,
        provider=offer.provider,
        model=offer.family,
        endpoint=offer.endpoint,
        save_to=save_to,
        warnings=plan.warnings,
        routes=plan.routes,
        owner=owner,
        live_offer=offer if offer.in_no_table else None,
        sources=sources,
    )
    predictions = [
        Prediction(
            id=f"{job_id}-{lane}-{step}",
            job_id=job_id,
            request=request,
            lane=lane,
            step=step,
            after_id=None if step == request.first_step(lane) else f"{job_id}-{lane}-{step - 1}",
            first_output=lane * request.steps + step + 1,
            provider=offer.provider,
            endpoint=plan.offer_at(lane, step).endpoint,
            operation=plan.offer_at(lane, step).operation,
            size=plan.sizes[lane],
            client_id=str(uuid4()),
            variation=job_id if again else "",
            quoted_usd=plan.quote_at(lane, step).usd,
            quote_exact=plan.quote_at(lane, step).exact,
            state=State.QUEUED if step == request.first_step(lane) else State.WAITING,
            created_mono=now.mono_s,
            live_offer=offer if offer.in_no_table else None,
        )
        for lane, step in request.places()
    ]
    return job, predictions
