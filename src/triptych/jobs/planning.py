"""Checks a request, and makes the job from it and its offers: its sizes, its counts, its prices.

Sends and writes nothing. An invalid request is refused here, before it costs anything.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from pathlib import PurePath
from typing import Any
from uuid import uuid4

from triptych import catalog
from triptych.core import errors
from triptych.core.clock import Moment
from triptych.core.models import Image, Job, Prediction, ProviderRequest, Reference, Route, State
from triptych.core.offers import Offer, Quote, Size
from triptych.core.requests import ORIGINAL, Request

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
    """The price of each later request of each lane, which may have more or fewer images: that of the most.

    A lane that begins with words has "original" from its third request on."""
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


def build_plan(
    request: Request,
    offers: Sequence[Offer],
    images: Mapping[str, Image],
    words_offer: Callable[[Offer], Offer | None],
    warnings: tuple[str, ...] = (),
) -> Plan:
    """Return the plan for the first offer, with the others as routes; sizes are resolved for each of them.

    `images` has the image behind each handle, and `words_offer` is as in `routing`. `warnings` go into the result.
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
            quote(size, max(len(request.inputs(lane, later)) for later in range(step + 1, request.steps)[:2]))
            if step + 1 < request.steps
            else quotes[lane]
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


def repeats(request: Request, sources: Sequence[str]) -> tuple[str, ...]:
    """Return a warning about lanes that begin with the same picture; `tables` warns of the rows of a table."""
    if not request.is_chain or request.rows is not None:
        return ()
    first: dict[str, str] = {}
    pairs = []
    for handle, source in zip(request.images, sources, strict=True):
        if handle in first:
            name, earlier = (errors.quoted(PurePath(text).name or handle, 60) for text in (source, first[handle]))
            pairs.append(f"{name} (as {earlier})")
        first.setdefault(handle, source)
    listed = ", ".join(pairs[:5]) + (f" and {len(pairs) - 5} more" if len(pairs) > 5 else "")
    return (f"Pictures that are the same as an earlier one are paid again: {listed}.",) if pairs else ()


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
    budget_group: str | None,
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
        budget_group=budget_group,
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
