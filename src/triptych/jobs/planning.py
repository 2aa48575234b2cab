"""From a request in words to a job that can be written down: which offer, which size, how many, at what price.

Nothing is sent and nothing is written from here. What cannot be right is refused here, before it costs anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import date
from decimal import Decimal
from uuid import uuid4

from triptych import catalog
from triptych.catalog import backgrounds
from triptych.core import errors
from triptych.core.clock import Moment
from triptych.core.errors import format_usd
from triptych.core.models import Edit, Image, Job, Offer, Operation, Prediction, Quote, Reference, Route, Size, State
from triptych.providers.client import Account
from triptych.storage.budget import Balance

MAX_LANES = 200
MAX_STEPS = 10


@dataclass(frozen=True, slots=True)
class Options:
    """The optional arguments that the three paid tools share."""

    model: str | None = None
    provider: str | None = None
    size: str | None = None
    format: str | None = None
    wait_s: float = 25
    save_to: str | None = None
    max_cost_usd: Decimal | None = None
    dry_run: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True)
class Input:
    """An image under the handle that the caller knows it by."""

    handle: str
    image: Image


UNCOUNTED = frozenset({"wait_s", "save_to", "max_cost_usd", "dry_run", "again"})
"""The options that say nothing of what is made; every other field of `Options` tells requests apart."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One paid call in its caller's own arguments: before defaults, routing and prices."""

    tool: str
    owner: str | None
    prompts: tuple[str, ...]
    count: int
    options: Options
    images: tuple[Input, ...] = ()
    references: tuple[Input, ...] = ()


def fingerprint(ask: Ask) -> str:
    """Return a hash of an ask, the same for every call that asks for the same; images count by their content."""
    said = {field.name: getattr(ask, field.name) for field in fields(ask)}
    names = [field.name for field in fields(ask.options) if field.name not in UNCOUNTED]
    said["options"] = {name: getattr(ask.options, name) for name in names}
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=_content).encode()).hexdigest()


def _content(value: object) -> str:
    if isinstance(value, Input):
        return value.image.sha256
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"a request is told apart by plain values, not by {type(value).__name__}")


@dataclass(frozen=True, slots=True)
class Plan:
    """A job before it is written: one offer, and `lanes` of prompts over inputs (just one of one but in a chain)."""

    tool: str
    offer: Offer
    lanes: tuple[tuple[Input, ...], ...]
    """What each lane's first request sees: its image (none to generate) and the references."""
    references: tuple[Input, ...]
    """What every request of every lane sees besides its image."""
    prompts: tuple[str, ...]
    count: int
    sizes: tuple[Size | None, ...]
    """One for each lane."""
    format: str | None
    quotes: tuple[Quote, ...]
    """What one request of each lane costs: lanes of different sizes may be in different price tiers."""
    words: tuple[str, ...] = ()
    """The prompts as the caller wrote them."""
    routes: tuple[Route, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def requests(self) -> int:
        return len(self.lanes) * len(self.prompts)

    @property
    def requested(self) -> int:
        return self.requests * self.count

    @property
    def quoted_usd(self) -> Decimal:
        return sum((quote.usd for quote in self.quotes), Decimal(0)) * len(self.prompts)

    def first_edit(self, references: Sequence[Reference], lane: int = 0) -> Edit:
        """Return a lane's first request."""
        return Edit(self.offer, self.prompts[0], self.count, self.sizes[lane], self.format, tuple(references))


CHEAPEST = "cheapest"


def rank_offers(
    accounts: Mapping[str, Account],
    default_provider: str,
    operation: Operation,
    options: Options,
    count: int,
    references: int,
    fits: Callable[[Offer], None],
    today: date,
) -> list[Offer]:
    """Return the offers that can do it, the one to use first: one for each provider, all of one family.

    With a provider named, only its offer. With none, the default's own best offer first, and then the same family at
    any other usable provider. With "cheapest", the preferred family of all, by the list price of the whole request.
    `fits` raises what an offer cannot do.
    Raises: `errors.UnknownModel`, `errors.NoKey`, `errors.OutOfLimits`: what the first provider would have said.
    """

    def pick(account: Account, model: str | None) -> Offer:
        return _pick(account.provider.offers, operation, model, count, fits, today)

    named = (options.provider or "").strip().lower()
    if named and named != CHEAPEST:
        account = accounts.get(named)
        if not account:
            raise errors.UnknownModel(
                f"There is no provider {errors.quoted(options.provider, 40)}; there are: "
                f"{', '.join([*sorted(accounts), CHEAPEST])}."
            )
        _require_key(account)
        return [pick(account, options.model)]
    order = [default_provider, *(name for name in accounts if name != default_provider)]
    usable = [
        accounts[name]
        for name in order
        # An offline preview is not what was asked for, unless it is the default.
        if accounts[name].usable and (name == default_provider or not accounts[name].provider.offline)
    ]
    found: list[Offer] = []
    first_error: errors.BadRequest | None = None
    for account in usable:
        try:
            found.append(pick(account, options.model))
        except errors.BadRequest as error:
            first_error = first_error or error
    if not found:
        if isinstance(first_error, errors.UnknownModel):
            _name_the_key(accounts, operation, options, count)
        raise first_error or errors.UnknownModel("No provider can be used; `triptych doctor` says why.")
    first = catalog.by_preference(found, operation, count)[0] if named == CHEAPEST else found[0]
    same = [offer for offer in found if offer.family == first.family]
    if not (options.model or "").strip():
        same = []
        for account in usable:
            with suppress(errors.BadRequest):
                same.append(pick(account, first.family))
    if named == CHEAPEST:
        same.sort(key=lambda o: catalog.quote(o, count, catalog.resolve_size(o, options.size, None), references).usd)
    return same


def _pick(
    offers: Sequence[Offer],
    operation: Operation,
    model: str | None,
    count: int,
    fits: Callable[[Offer], None],
    today: date,
) -> Offer:
    """Return the named model's offer; with none named, the preferred one of those that fit.

    Raises: `errors.BadRequest`: what the offer that takes most references cannot do.
    """
    chosen = catalog.choose(offers, operation, model, count, today=today)
    if model and model.strip():
        fits(chosen)
        return chosen
    alive = [offer for offer in offers if not catalog.is_retired(offer, today)]
    preferred = catalog.by_preference(alive, operation, count)
    for offer in preferred:
        with suppress(errors.BadRequest):
            fits(offer)
            return offer
    widest = max(preferred, key=lambda offer: offer.max_references)
    fits(widest)
    raise AssertionError("an offer that did not fit fits now")


def notes(
    accounts: Mapping[str, Account],
    chosen: Offer,
    operation: Operation,
    options: Options,
    prompts: Sequence[str],
    count: int,
    today: date,
) -> tuple[str, ...]:
    """Return what a result says about the offer that was chosen: a retired default, a transparent background."""
    said = []
    if not (options.model or "").strip():
        for better in catalog.by_preference(accounts[chosen.provider].provider.offers, operation, count):
            if better.family == chosen.family:
                break
            if catalog.is_retired(better, today):
                said.append(
                    f"{better.family} on {better.provider} was retired on {better.lifecycle.retired} "
                    f"({better.lifecycle.source}); {chosen.family} is used instead."
                )
    usable_first = sorted(accounts.values(), key=lambda account: not account.usable)
    others = [o for account in usable_first for o in account.provider.offers if o.operation.edits == operation.edits]
    keys = {name: a.provider.key_env for name, a in accounts.items() if not a.usable and a.provider.key_env}
    background = backgrounds.note(chosen, prompts, others, keys)
    return (*said, background) if background else tuple(said)


def _name_the_key(accounts: Mapping[str, Account], operation: Operation, options: Options, count: int) -> None:
    """Raise `NoKey` for a model that exists, but only behind a key that is not set."""
    for account in accounts.values():
        if not account.usable:
            try:
                catalog.choose(account.provider.offers, operation, options.model, count)
            except errors.BadRequest:
                continue
            _require_key(account)


def _require_key(account: Account) -> None:
    if not account.usable:
        raise errors.NoKey(
            f"{account.provider.title} needs a key: set {account.provider.key_env} in the server's environment and "
            'restart it. provider="draft" works without one (an offline preview, not Seedream).'
        )


def build_plan(
    tool: str,
    offers: Sequence[Offer],
    lanes: tuple[tuple[Input, ...], ...],
    references: tuple[Input, ...],
    prompts: tuple[str, ...],
    count: int,
    options: Options,
) -> Plan:
    """Return the plan for the first offer, with the others as routes; sizes are resolved for each of them.

    Raises: `errors.OutOfLimits` when the first offer has no such size.
    """

    def sizes(offer: Offer) -> tuple[Size | None, ...]:
        return tuple(catalog.resolve_size(offer, options.size, lane[0].image.size if lane else None) for lane in lanes)

    def quotes(offer: Offer) -> tuple[Quote, ...]:
        return tuple(
            catalog.quote(offer, count, size, len(lane)) for size, lane in zip(sizes(offer), lanes, strict=True)
        )

    routes = []
    see_through = any(backgrounds.is_sent(offers[0], prompt) for prompt in prompts)
    for offer in offers[1:]:
        if see_through and not offer.transparency:
            continue  # there the picture would come with a background
        with suppress(errors.OutOfLimits):
            quoted = tuple(quote.usd for quote in quotes(offer))
            routes.append(Route(offer.provider, offer.family, offer.endpoint, offer.operation, sizes(offer), quoted))
    return Plan(
        tool=tool,
        offer=offers[0],
        lanes=lanes,
        references=references,
        prompts=prompts,
        count=count,
        sizes=sizes(offers[0]),
        format=options.format,
        quotes=quotes(offers[0]),
        routes=tuple(routes),
    )


def plan_for(ask: Ask, offers: Sequence[Offer], warnings: tuple[str, ...] = ()) -> Plan:
    """Return what an ask comes to at the first of the offers: a lane for each image of a chain, elsewhere just one.

    `warnings` go into its result. Raises: as `build_plan`.
    """
    if ask.tool == "edit_chain":
        lanes = tuple((item, *ask.references) for item in ask.images)
        plan = build_plan(ask.tool, offers, lanes, ask.references, ask.prompts, ask.count, ask.options)
        return replace(plan, warnings=warnings)
    prompts = (catalog.name_count(offers[0], ask.prompts[0], ask.count),)
    plan = build_plan(ask.tool, offers, (ask.images,), (), prompts, ask.count, ask.options)
    return replace(plan, words=ask.prompts, warnings=warnings)


def drop_expensive_routes(plan: Plan, limit_usd: Decimal) -> Plan:
    """Return the plan without the routes that would cost more than was agreed to."""
    steps = len(plan.prompts)
    return replace(plan, routes=tuple(r for r in plan.routes if sum(r.quotes_usd) * steps <= limit_usd))


def check_prompt(prompt: str) -> str:
    """Return the prompt, trimmed.

    Raises: `errors.OutOfLimits` when it is empty.
    """
    if not prompt.strip():
        raise errors.OutOfLimits("The prompt is empty; say what the images should show or what should change.")
    return prompt.strip()


def check_cost(
    plan: Plan,
    max_cost_usd: Decimal | None,
    confirm_usd: Decimal,
    balance: Balance,
    *,
    asks: bool = False,
    agreed_usd: Decimal | None = None,
) -> Plan:
    """Return the plan with the routes that cost no more than was agreed to.

    A quote above `confirm_usd` needs a confirmation: the user's yes to `agreed_usd` where the user can be asked
    (`asks`), elsewhere `max_cost_usd`.
    Raises: `errors.OverBudget` for a quote above the cap, above the budget, or not confirmed; checked in that order.
    """
    asked, images = format_usd(plan.quoted_usd), "1 image" if plan.requested == 1 else f"{plan.requested} images"
    what = f"{images}, {plan.offer.family} on {plan.offer.provider}"
    if max_cost_usd is not None and plan.quoted_usd > max_cost_usd:
        raise errors.OverBudget(
            f"The quote for {what} is above the cap of this call: cap ${format_usd(max_cost_usd)} (max_cost_usd), "
            f"asked ${asked}; all calls together: {balance.text()}. Nothing was sent. "
            f"Ask for fewer images, or call again with max_cost_usd={asked}."
        )
    balance.require(plan.quoted_usd)
    confirmed_usd = (agreed_usd if asks else max_cost_usd) or Decimal(0)
    if plan.quoted_usd > max(confirmed_usd, confirm_usd):
        question, cap = f"This will cost ${asked}: {what}.", format_usd(confirm_usd)
        if asks:  # it names no amount, for an assistant would repeat the call with it, whatever the user said
            raise errors.OverBudget(
                f"The quote for {what} wants the user's yes: cap ${cap} without one (TRIPTYCH_CONFIRM_USD in the "
                "server's environment). Nothing was sent. No argument of the call stands for that yes.",
                confirm_usd=Decimal(asked),
                question=question,
            )
        raise errors.OverBudget(
            f"The quote for {what} wants a confirmation: cap ${cap} without one (TRIPTYCH_CONFIRM_USD), asked "
            f"${asked}; all calls together: {balance.text()}. Nothing was sent. If the user agrees, repeat the call "
            f"with max_cost_usd={asked}.",
            confirm_usd=Decimal(asked),
            question=question,
        )
    limit_usd = max(confirmed_usd or confirm_usd, plan.quoted_usd)
    return drop_expensive_routes(plan, limit_usd if max_cost_usd is None else min(limit_usd, max_cost_usd))


def create_job(
    plan: Plan, *, now: Moment, fingerprint: str, save_to: str | None, again: bool, owner: str | None
) -> tuple[Job, list[Prediction]]:
    """Return the job and its predictions, ready to be stored."""
    job_id = f"job_{uuid4().hex[:8]}"
    job = Job(
        id=job_id,
        tool=plan.tool,
        created_at=now.at,
        fingerprint=fingerprint,
        provider=plan.offer.provider,
        model=plan.offer.family,
        endpoint=plan.offer.endpoint,
        prompt=" → ".join(plan.words or plan.prompts),
        requested=plan.requested,
        lanes=len(plan.lanes),
        steps=len(plan.prompts),
        save_to=save_to,
        warnings=plan.warnings,
        cancel_requested=False,
        routes=plan.routes,
        owner=owner,
    )
    predictions = []
    for lane, inputs in enumerate(plan.lanes):
        for step, prompt in enumerate(plan.prompts):
            place = lane * len(plan.prompts) + step
            handles = tuple(i.handle for i in inputs)
            if step:
                handles = (f"{job_id}/{place}", *(i.handle for i in plan.references))
            predictions.append(
                Prediction(
                    id=f"{job_id}-{lane}-{step}",
                    job_id=job_id,
                    lane=lane,
                    step=step,
                    after=f"{job_id}-{lane}-{step - 1}" if step else None,
                    first_output=place + 1,
                    state=State.WAITING if step else State.QUEUED,
                    provider=plan.offer.provider,
                    endpoint=plan.offer.endpoint,
                    operation=plan.offer.operation,
                    prompt=prompt,
                    count=plan.count,
                    size=plan.sizes[lane],
                    format=plan.format,
                    inputs=handles,
                    client_id=str(uuid4()),
                    variation=job_id if again else "",
                    quoted_usd=plan.quotes[lane].usd,
                    quote_exact=plan.quotes[lane].exact,
                    charged_usd=None,
                    ticket=None,
                    poll_url=None,
                    submitted_at=None,
                    deadline_at=None,
                    finished_at=None,
                    due_at=0.0,
                    attempts=0,
                    fault=None,
                    created_mono=now.mono_s,
                )
            )
    return job, predictions
