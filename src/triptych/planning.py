"""From a request in words to a job that can be written down: which offer, which size, how many, at what price.

Nothing is sent and nothing is written from here. What cannot be right is refused here, before it costs anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from uuid import uuid4

from triptych import catalog, errors
from triptych.clock import Moment
from triptych.errors import plain
from triptych.ledger import Balance
from triptych.model import Edit, Image, Job, Offer, Operation, Prediction, Quote, Reference, Route, Size, State
from triptych.wire import Account

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
    quote: Quote
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
        return self.quote.usd * self.requests

    def first_edit(self, references: Sequence[Reference]) -> Edit:
        """Return the plan's first request."""
        return Edit(self.offer, self.prompts[0], self.count, self.sizes[0], self.format, tuple(references))


CHEAPEST = "cheapest"


def candidates(
    accounts: Mapping[str, Account],
    default_provider: str,
    operation: Operation,
    options: Options,
    count: int,
    fits: Callable[[Offer], None],
    today: date,
) -> list[Offer]:
    """Return the offers that can do it, the one to use first: one for each provider, all of one family.

    With a provider named, only its offer; with none, the default's first and then any other usable one's; with
    "cheapest", by list price. `fits` raises what an offer cannot do.
    Raises: `errors.UnknownModel`, `errors.NoKey`, `errors.OutOfLimits`: what the first provider would have said.
    """
    named = (options.provider or "").strip().lower()
    if named and named != CHEAPEST:
        account = accounts.get(named)
        if not account:
            raise errors.UnknownModel(
                f"There is no provider {errors.quoted(options.provider, 40)}; there are: "
                f"{', '.join([*sorted(accounts), CHEAPEST])}."
            )
        _require_key(account)
        offer = catalog.choose(account.provider.offers, operation, options.model, count, today=today)
        fits(offer)
        return [offer]
    order = [default_provider, *(name for name in accounts if name != default_provider)]
    usable = [accounts[name] for name in order if accounts[name].usable]
    found: list[Offer] = []
    first_error: errors.BadRequest | None = None
    for account in usable:
        if account.provider.offline and account.provider.name != default_provider:
            continue  # a preview is not what was asked for
        try:
            offer = catalog.choose(account.provider.offers, operation, options.model, count, today=today)
            fits(offer)
        except errors.BadRequest as error:
            first_error = first_error or error
        else:
            found.append(offer)
    if not found:
        if isinstance(first_error, errors.UnknownModel):
            _name_the_key(accounts, operation, options, count)
        raise first_error or errors.UnknownModel("No provider can be used; `triptych doctor` says why.")
    if named == CHEAPEST:
        found.sort(key=lambda offer: catalog.quote(offer, count).usd)
    return [offer for offer in found if offer.family == found[0].family]


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


def lay_out(
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

    routes = []
    for offer in offers[1:]:
        with suppress(errors.OutOfLimits):
            quoted = catalog.quote(offer, count).usd
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
        quote=catalog.quote(offers[0], count),
        routes=tuple(routes),
    )


def affordable(plan: Plan, limit_usd: Decimal) -> Plan:
    """Return the plan without the routes that would cost more than was agreed to."""
    return replace(plan, routes=tuple(r for r in plan.routes if r.quoted_usd * plan.requests <= limit_usd))


def check_prompt(prompt: str) -> str:
    """Return the prompt, trimmed.

    Raises: `errors.OutOfLimits` when it is empty.
    """
    if not prompt.strip():
        raise errors.OutOfLimits("The prompt is empty; say what the images should show or what should change.")
    return prompt.strip()


def check_cost(plan: Plan, max_cost_usd: Decimal | None, confirm_usd: Decimal, balance: Balance) -> None:
    """Refuse a quote above the caller's cap or the budget, or a large one that nobody confirmed; asked in that order.

    Raises: `errors.OverBudget`, with the exact argument that mends it.
    """
    asked, images = plain(plan.quoted_usd), "1 image" if plan.requested == 1 else f"{plan.requested} images"
    what = f"{images}, {plan.offer.family} on {plan.offer.provider}"
    if max_cost_usd is not None and plan.quoted_usd > max_cost_usd:
        raise errors.OverBudget(
            f"The quote for {what} is above the cap of this call: cap ${plain(max_cost_usd)} (max_cost_usd), "
            f"asked ${asked}; all calls together: {balance.text()}. Nothing was sent. "
            f"Ask for fewer images, or call again with max_cost_usd={asked}."
        )
    balance.require(plan.quoted_usd)
    if max_cost_usd is None and plan.quoted_usd > confirm_usd:
        raise errors.OverBudget(
            f"The quote for {what} wants a confirmation: cap ${plain(confirm_usd)} without one (TRIPTYCH_CONFIRM_USD), "
            f"asked ${asked}; all calls together: {balance.text()}. Nothing was sent. "
            f"If the user agrees, repeat the call with max_cost_usd={asked}.",
            confirm_usd=Decimal(asked),
            question=f"This will cost ${asked}: {what}.",
        )


def fingerprint(plan: Plan, owner: str | None) -> str:
    """Return a hash of all that makes two requests the same: whose, model, prompts, inputs by content, options."""
    said = [
        owner,
        plan.tool,
        plan.offer.provider,
        plan.offer.endpoint,
        plan.prompts,
        [[i.image.sha256 for i in lane] for lane in plan.lanes],
        plan.count,
        plan.sizes,
        plan.format,
    ]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def write_up(
    plan: Plan, *, now: Moment, save_to: str | None, again: bool, owner: str | None
) -> tuple[Job, list[Prediction]]:
    """Return the job and its predictions, ready to be stored."""
    job_id = f"job_{uuid4().hex[:8]}"
    job = Job(
        id=job_id,
        tool=plan.tool,
        created_at=now.at,
        fingerprint=fingerprint(plan, owner),
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
                    quoted_usd=plan.quote.usd,
                    quote_exact=plan.quote.exact,
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
